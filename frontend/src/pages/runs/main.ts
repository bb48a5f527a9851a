/** Trainings whose curves grow while one looks, the buttons that stop one, and the forms that start one. */

import { follow, listen, listenToForms } from "../asking";
import { pageData } from "../page-data";

interface PageData {
  readonly project_id: number;
  readonly running: boolean;
}

listen();
listenToForms();

// A choice that is being made is not taken back by the next drawing of the table.
const parts = new Set(["now", "curve", "runs", "searches"]);
document.addEventListener("change", (event) => {
  const part = (event.target as Element).closest("[id='runs'], [id='searches']");
  if (part) parts.delete(part.id);
});
if (pageData<PageData>().running) follow(parts);
