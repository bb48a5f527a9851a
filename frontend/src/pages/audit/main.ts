/** Asking for an audit, following it, and dismissing what it doubts wrongly, without losing one's place in the list. */

import { ApiError, request } from "../../api/client";
import { follow, listen } from "../asking";
import { pageData } from "../page-data";

interface PageData {
  readonly project_id: number;
  readonly running: boolean;
}

for (const button of document.querySelectorAll<HTMLButtonElement>("button[data-dismiss]")) {
  const path = button.dataset["post"] ?? "";
  button.removeAttribute("data-post"); // a dismissal does not draw the page anew
  button.addEventListener("click", () => void dismiss(button, path));
}
listen();
if (pageData<PageData>().running) follow(["work"], (page) => !page.querySelector("#work progress"));

async function dismiss(button: HTMLButtonElement, path: string): Promise<void> {
  const said = document.getElementById("said");
  button.disabled = true;
  try {
    await request({ method: "POST", path });
  } catch (error) {
    button.disabled = false;
    if (said) said.textContent = error instanceof ApiError ? error.message : String(error);
    return;
  }
  const item = button.closest("li");
  const next = item?.nextElementSibling ?? item?.previousElementSibling;
  const name = item?.querySelector("h2")?.textContent ?? "";
  item?.remove();
  if (said) said.textContent = `Dismissed: ${name}. It comes again only when its labels change.`;
  const focus = next?.querySelector<HTMLElement>("a.button");
  if (focus) focus.focus();
  else window.location.reload();
}
