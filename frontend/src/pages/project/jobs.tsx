import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { ApiError, request } from "../../api/client";
import { watch } from "../live";
import type { Job, Page } from "../../api/types";

const SHOWN = 6;
const OLDER = 20;
const EXPORTS = [
  { value: "coco", label: "settled labels as COCO", body: { format: "coco" } },
  { value: "jsonl", label: "settled labels as JSONL, lossless", body: { format: "jsonl" } },
  { value: "answers", label: "everybody's answers as JSONL", body: { format: "jsonl", content: "answers" } },
] as const;
const STATES: Readonly<Record<string, string>> = {
  queued: "waiting",
  running: "running",
  done: "done",
  failed: "failed",
  cancelled: "cancelled",
  parked: "given up",
};

const isOpen = (job: Job): boolean => job.state === "queued" || job.state === "running";

/** When a job began or ended, and how long it took. */
function times(job: Job): string {
  const at = (moment: string): string => new Date(moment).toLocaleString(undefined, { dateStyle: "short", timeStyle: "short" });
  if (!job.started_at) return `since ${at(job.created_at)}`;
  if (!job.finished_at) return `began ${at(job.started_at)}`;
  const seconds = Math.max(0, (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000);
  const took = seconds < 90 ? `${Math.ceil(seconds)} s` : seconds < 5_400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3_600).toFixed(1)} h`;
  return `${at(job.finished_at)}, took ${took}`;
}

/** What came of it, in a few words. */
function summary(job: Job): string {
  const number = (name: string): number => Number(job.result[name] ?? 0);
  if (job.kind === "import" && "created" in job.result) {
    return `${number("created")} new, ${number("existing")} here already, ${number("labelled")} with labels`;
  }
  if (job.kind === "export" && job.has_file) {
    const losses = (job.result["losses"] ?? []) as readonly (readonly [string, number])[];
    const left = losses.map(([what, count]) => `${what} (${count})`).join(", ");
    const what = job.result["name"]?.toString().includes("answers") ? "answer" : "picture";
    return `${number("pictures")} ${what}${number("pictures") === 1 ? "" : "s"}${left && `; left out: ${left}`}`;
  }
  return "";
}

/** The last jobs of a project and a button for a new export. */
export function jobsOf(projectId: number): () => JSX.Element {
  const jobs = signal<readonly Job[]>([]);
  const older = signal<readonly Job[]>([]);
  /** Where the list goes on; null at its end. */
  const next = signal<string | null>(null);
  const wanted = signal<string>("coco");
  const trouble = signal("");
  const watching = watch<Page<Job>>(`projects/${projectId}/jobs?limit=${SHOWN}`, (page) => {
    jobs.value = page.items;
    if (!older.value.length) next.value = page.next;
  });

  async function ask(path: string, body?: unknown): Promise<void> {
    trouble.value = "";
    try {
      await request({ method: "POST", path, body });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      trouble.value = error.message;
    }
    watching.refresh();
  }

  async function showOlder(): Promise<void> {
    const page = await request<Page<Job>>({ method: "GET", path: `projects/${projectId}/jobs?limit=${OLDER}&cursor=${next.value ?? ""}` });
    older.value = [...older.value, ...page.items];
    next.value = page.next;
  }

  function Row({ job }: { readonly job: Job }): JSX.Element {
    const told = job.error || summary(job) || (isOpen(job) ? job.message : "");
    return (
      <li data-testid={`job-${job.id}`} data-state={job.state}>
        <div class="job-head">
          <strong>{job.title}</strong>
          <span class="job-state">{job.cancel_requested && isOpen(job) ? "stopping" : (STATES[job.state] ?? job.state)}</span>
          <span class="quiet-text">{times(job)}</span>
          {job.has_file && <a href={`/api/v1/jobs/${job.id}/file`}>Download</a>}
          {isOpen(job) && !job.cancel_requested && (
            <button type="button" class="link-button" aria-label={`Cancel: ${job.title}`} onClick={() => void ask(`jobs/${job.id}/cancel`)}>
              Cancel
            </button>
          )}
          {["failed", "cancelled", "parked"].includes(job.state) && (
            <button type="button" class="link-button" aria-label={`Try again: ${job.title}`} onClick={() => void ask(`jobs/${job.id}/retry`)}>
              Try again
            </button>
          )}
        </div>
        {isOpen(job) && <progress aria-label={`${job.title}: progress`} max={1} value={job.progress} />}
        {told && <p class={job.error ? "job-error" : "quiet-text"}>{told.split("\n").at(-1)}</p>}
      </li>
    );
  }

  return function Jobs(): JSX.Element {
    const latest = new Set(jobs.value.map((job) => job.id));
    return (
      <>
        <div class="actions">
          <label>
            <span class="visually-hidden">What to export</span>
            <select data-testid="export-what" value={wanted.value} onChange={(event) => (wanted.value = event.currentTarget.value)}>
              {EXPORTS.map((item) => (
                <option key={item.value} value={item.value}>
                  {item.label}
                </option>
              ))}
            </select>
          </label>
          <button
            type="button"
            class="button"
            data-testid="export"
            onClick={() => void ask(`projects/${projectId}/exports`, EXPORTS.find((item) => item.value === wanted.value)?.body)}
          >
            Export
          </button>
        </div>
        {trouble.value && <p class="message error" role="alert">{trouble.value}</p>}
        <ul class="jobs" aria-label="Latest jobs">
          {[...jobs.value, ...older.value.filter((job) => !latest.has(job.id))].map((job) => (
            <Row key={job.id} job={job} />
          ))}
        </ul>
        {next.value && (
          <button type="button" class="link-button" data-testid="older-jobs" onClick={() => void showOlder()}>
            Show older jobs
          </button>
        )}
        {!jobs.value.length && <p class="quiet-text">No job has run yet.</p>}
      </>
    );
  };
}
