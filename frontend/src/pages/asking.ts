/** Buttons of server-drawn pages that ask the API for something, and pages that follow what runs. */

import { ApiError, request } from "../api/client";

const POLL_MS = 3_000;

/** Makes each button with `data-post` post there, with the JSON of `data-body` if it has one, then draws the page anew; what is refused is said in `#said`. */
export function listen(root: ParentNode = document): void {
  for (const button of root.querySelectorAll<HTMLButtonElement>("button[data-post]")) {
    button.addEventListener("click", () => void act(button));
  }
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

async function act(button: HTMLButtonElement): Promise<void> {
  button.disabled = true;
  try {
    const body = button.dataset["body"];
    await request({
      method: "POST",
      path: button.dataset["post"] ?? "",
      ...(body === undefined ? {} : { body: JSON.parse(body) as unknown }),
    });
    window.location.reload();
  } catch (error) {
    button.disabled = false;
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
    }
  }
  return page;
}
