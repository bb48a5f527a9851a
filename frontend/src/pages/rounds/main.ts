/** Buttons that ask the wheel for something, and a page that follows a round while one runs. */

import { follow, listen } from "../asking";
import { pageData } from "../page-data";

interface PageData {
  readonly project_id: number;
  readonly running: boolean;
}

listen();
if (pageData<PageData>().running) follow(["now", "curve", "rounds"]);
