import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { ApiError, request } from "../../api/client";
import { watch } from "../live";
import type { Job, Page } from "../../api/types";

const SHOWN = 6;
const RUNNING = ["queued", "running", "pending"];

/** The last jobs of a project and a button for a new export. */
export function jobsOf(projectId: number): () => JSX.Element {
  const jobs = signal<readonly Job[]>([]);
  const trouble = signal("");
  const watching = watch<Page<Job>>(`projects/${projectId}/jobs?limit=${SHOWN}`, (page) => (jobs.value = page.items));

  async function startExport(): Promise<void> {
    trouble.value = "";
    try {
      await request({ method: "POST", path: `projects/${projectId}/exports`, body: { format: "coco", what: "consensus" } });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      trouble.value = error.message;
    }
    watching.refresh();
  }

  return function Jobs(): JSX.Element {
    return (
      <>
        <button type="button" class="button" data-testid="export" onClick={() => void startExport()}>
          Export settled labels as COCO
        </button>
        {trouble.value && <p class="message error" role="alert">{trouble.value}</p>}
        <ul class="jobs" aria-label="Latest jobs">
          {jobs.value.map((job) => (
            <li key={job.id} data-testid={`job-${job.id}`} data-state={job.state}>
              <span class="facts">
                <strong>{job.kind.replaceAll("_", " ")}</strong> {job.state}
                {job.kind.includes("export") && job.state === "done" && <a href={`/api/v1/jobs/${job.id}/file`}>Download</a>}
              </span>
              {RUNNING.includes(job.state) && <progress aria-label={`${job.kind} progress`} max={1} value={job.progress} />}
              {(job.error || job.message) && <p class={job.error ? "job-error" : "quiet-text"}>{(job.error || job.message).split("\n").at(-1)}</p>}
            </li>
          ))}
        </ul>
        {!jobs.value.length && <p class="quiet-text">No job has run yet.</p>}
      </>
    );
  };
}
