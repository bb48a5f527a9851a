/** Buttons that ask the wheel for something, and a page that follows a round while one runs. */

import { ApiError, request } from "../../api/client";
import { pageData } from "../page-data";

const POLL_MS = 3_000;

interface PageData {
  readonly project_id: number;
  readonly running: boolean;
}

const { running } = pageData<PageData>();
const said = document.getElementById("said");

for (const button of document.querySelectorAll<HTMLButtonElement>("button[data-post]")) {
  button.addEventListener("click", () => void act(button));
}
if (running) window.setInterval(() => void refresh(), POLL_MS);

async function act(button: HTMLButtonElement): Promise<void> {
  button.disabled = true;
  try {
    await request({ method: "POST", path: button.dataset["post"] ?? "" });
    window.location.reload();
  } catch (error) {
    button.disabled = false;
    if (said) said.textContent = error instanceof ApiError ? error.message : String(error);
  }
}

/** Takes the newer state of the round from a freshly drawn page; the rest stays as it is. */
async function refresh(): Promise<void> {
  const response = await fetch(window.location.href, { credentials: "same-origin" }).catch(() => null);
  if (!response?.ok) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ["now", "curve", "rounds"]) {
    const fresh = page.getElementById(id);
    const old = document.getElementById(id);
    if (fresh && old && fresh.innerHTML !== old.innerHTML) {
      old.replaceWith(fresh);
      for (const button of fresh.querySelectorAll<HTMLButtonElement>("button[data-post]")) {
        button.addEventListener("click", () => void act(button));
      }
    }
  }
}
