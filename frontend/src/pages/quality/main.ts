/** Learning again and going back, and a page that follows that work and shows what came of it. */

import { follow, listen } from "../asking";
import { pageData } from "../page-data";

interface PageData {
  readonly project_id: number;
  readonly running: boolean;
}

listen();
if (pageData<PageData>().running) follow(["fits"], (page) => !page.querySelector("#fits progress"));
