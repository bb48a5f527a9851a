/** Trainings whose curves grow while one looks, and the button that stops one. */

import { follow, listen } from "../asking";
import { pageData } from "../page-data";

interface PageData {
  readonly project_id: number;
  readonly running: boolean;
}

listen();

// A choice that is being made is not taken back by the next drawing of the table.
const parts = new Set(["now", "curve", "runs"]);
document.addEventListener("change", () => parts.delete("runs"));
if (pageData<PageData>().running) follow(parts);
