import { render } from "preact";
import { pageData } from "../page-data";
import { watch } from "../live";
import { Upload } from "../upload/upload";
import { jobsOf } from "./jobs";
import { redraw } from "./progress";
import { returnsOf } from "./returns";
import type { Project } from "../../api/types";

const { project_id: projectId } = pageData<{ readonly project_id: number }>();

const progress = watch<Project>(`projects/${projectId}`, (answer) => {
  redraw(document.getElementById("progress") ?? document, answer.progress);
  const answers = document.getElementById("answer-count");
  if (answers) answers.textContent = String(answer.progress.answers);
});

const upload = document.getElementById("upload");
if (upload) {
  upload.replaceChildren();
  render(<Upload projectId={projectId} onDone={() => progress.refresh()} />, upload);
}

const returns = document.getElementById("returns");
if (returns) {
  const Returns = returnsOf(projectId);
  render(<Returns />, returns);
}

const jobs = document.getElementById("jobs");
if (jobs) {
  const Jobs = jobsOf(projectId);
  render(<Jobs />, jobs);
}
