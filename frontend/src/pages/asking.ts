/** Buttons of server-drawn pages that ask the API for something, and pages that follow what runs. */

import { ApiError, request } from "../api/client";

const POLL_MS = 3_000;

/** Makes each button with `data-post` post there, with the JSON of `data-body` if it has one, then draws the page anew; what is refused is said in `#said`. */
export function listen(root: ParentNode = document): void {
  for (const button of root.querySelectorAll<HTMLButtonElement>("button[data-post]")) {
    button.addEventListener("click", () => void act(button));
  }
}

/** Makes each form with `data-json` post what is filled in there, as JSON, inside of `data-inside` if it says so; then draws the page anew. */
export function listenToForms(root: ParentNode = document): void {
  for (const form of root.querySelectorAll<HTMLFormElement>("form[data-json]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = filledIn(form);
      const inside = form.dataset["inside"];
      const body = inside === undefined ? given : { [inside]: given };
      void ask(form.querySelector<HTMLButtonElement>("button[type=submit]"), form.dataset["json"] ?? "", body);
    });
  }
}

/** What a form says: numbers of number fields, JSON where a field is marked so, checked boxes of one name as a list. What is empty is left out. */
export function filledIn(form: HTMLFormElement): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  for (const field of form.elements) {
    if (!(field instanceof HTMLInputElement || field instanceof HTMLSelectElement) || field.name === "") continue;
    if (field instanceof HTMLInputElement && field.type === "checkbox") {
      const chosen = (given[field.name] ??= []) as unknown[];
      if (field.checked) chosen.push(field.value);
    } else if (field.value !== "") {
      const isText = field instanceof HTMLSelectElement ? !("jsonValue" in field.dataset) : field.type !== "number";
      given[field.name] = isText ? field.value : (JSON.parse(field.value) as unknown);
    }
  }
  return given;
}

/** Takes the newer state of some parts of the page from a freshly drawn one, again and again; the rest stays. */
export function follow(ids: Iterable<string>, isOver: (page: Document) => boolean = () => false): void {
  const timer = window.setInterval(() => {
    void refresh(ids).then((page) => {
      if (!page || !isOver(page)) return;
      window.clearInterval(timer);
      window.location.reload();
    });
  }, POLL_MS);
}

function act(button: HTMLButtonElement): Promise<void> {
  const body = button.dataset["body"];
  return ask(button, button.dataset["post"] ?? "", body === undefined ? undefined : (JSON.parse(body) as unknown));
}

async function ask(button: HTMLButtonElement | null, path: string, body: unknown): Promise<void> {
  if (button) button.disabled = true;
  try {
    await request({ method: "POST", path, ...(body === undefined ? {} : { body }) });
    window.location.reload();
  } catch (error) {
    if (button) button.disabled = false;
    const said = document.getElementById("said");
    if (said) said.textContent = error instanceof ApiError ? error.message : String(error);
  }
}

async function refresh(ids: Iterable<string>): Promise<Document | null> {
  const response = await fetch(window.location.href, { credentials: "same-origin" }).catch(() => null);
  if (!response?.ok) return null;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ids) {
    const fresh = page.getElementById(id);
    const old = document.getElementById(id);
    if (fresh && old && fresh.innerHTML !== old.innerHTML) {
      const taken = fresh.cloneNode(true) as HTMLElement;
      old.replaceWith(taken);
      listen(taken);
      listenToForms(taken);
    }
  }
  return page;
}
