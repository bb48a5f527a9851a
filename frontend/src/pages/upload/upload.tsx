import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { ApiError } from "../../api/client";
import type { ImportReport, JobDetail, Upload as Stored } from "../../api/types";
import { begin, cancel, discard, follow, isOpen, retry, send, startImport, unfinished, type Chosen } from "./sending";

type Problem = ImportReport["problems"][number];

const chosen = signal<readonly Chosen[]>([]);
const over = signal(false);
const labelsAs = signal("settled");
const addClasses = signal(false);
/** What the server holds of an upload whose import has not ended well; null when there is none. */
const stored = signal<Stored | null>(null);
/** Bytes sent of bytes to send; null when nothing is on its way. */
const sending = signal<{ readonly sent: number; readonly total: number } | null>(null);
const job = signal<JobDetail | null>(null);
const outcome = signal("");
const trouble = signal("");
const refused = signal<readonly Problem[]>([]);
let stopping = new AbortController();

function choose(files: Iterable<File>): void {
  chosen.value = [...files]
    .filter((file) => !file.name.startsWith("."))
    .map((file) => ({ file, name: file.webkitRelativePath || file.name, size: file.size }));
  outcome.value = trouble.value = "";
  refused.value = [];
  if (job.value && !isOpen(job.value)) job.value = null;
}

const isLabels = (item: Chosen): boolean => /\.(json|jsonl|csv|xml)$/i.test(item.name);
const count = (number: number, one: string): string => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;

/** Runs what a button asks for; what the server refuses is told below it. */
async function doing(work: () => Promise<void>): Promise<void> {
  trouble.value = "";
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    trouble.value = error.message;
  } finally {
    sending.value = null;
  }
}

async function upload(projectId: number, onDone: () => void): Promise<void> {
  stopping = new AbortController();
  outcome.value = "";
  const files = chosen.value;
  sending.value = { sent: 0, total: files.reduce((sum, item) => sum + item.size, 0) };
  stored.value = stored.value && !stored.value.job ? stored.value : await begin(projectId);
  try {
    refused.value = await send(stored.value, files, (sent, total) => (sending.value = { sent, total }), stopping.signal);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    await look(projectId, onDone);
    trouble.value = error.code === "stopped" ? "Stopped. What was sent is kept: go on whenever you like." : `${error.message}. What was sent is kept: go on whenever you like.`;
    return;
  }
  sending.value = null;
  chosen.value = [];
  await importing(stored.value, onDone);
}

async function importing(upload: Stored, onDone: () => void): Promise<void> {
  await watching(await startImport(upload, { labels_as: labelsAs.value, add_classes: addClasses.value }), onDone);
}

async function watching(begun: JobDetail, onDone: () => void): Promise<void> {
  outcome.value = "";
  const ended = await follow(begun, (latest) => (job.value = latest));
  if (ended.state === "done") stored.value = null;
  outcome.value = told(ended);
  onDone();
}

function told(ended: JobDetail): string {
  if (ended.state !== "done") return "";
  const report = ended.report;
  if (!report) return "Done.";
  const known = report.existing ? `, ${report.existing.toLocaleString("en")} were here already` : "";
  const labelled = report.labelled ? `, ${report.labelled.toLocaleString("en")} with labels` : "";
  const wrong = report.problems.length + report.more_problems + refused.value.length;
  return `${count(report.created, "new picture")}${known}${labelled}.${wrong ? ` ${count(wrong, "problem")}:` : ""}`;
}

/** Finds what an earlier visit of this page left. */
async function look(projectId: number, onDone: () => void): Promise<void> {
  const [latest] = await unfinished(projectId);
  stored.value = latest ?? null;
  if (latest?.job) {
    job.value = latest.job;
    if (isOpen(latest.job)) await watching(latest.job, onDone);
  }
}

async function forget(): Promise<void> {
  if (stored.value) await discard(stored.value);
  stored.value = job.value = null;
  outcome.value = "";
}

function megabytes(bytes: number): string {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function Waiting({ onDone }: { readonly onDone: () => void }): JSX.Element | null {
  const upload = stored.value;
  const last = job.value;
  if (sending.value || (last && isOpen(last)) || !upload) return null;
  if (last) {
    return (
      <div class="upload-waiting" data-testid="upload-ended">
        <p class="job-error">{last.error || "The import ended."}</p>
        <div class="actions">
          <button type="button" class="button" data-testid="upload-retry" onClick={() => void doing(async () => watching(await retry(last), onDone))}>
            Import again
          </button>
          <button type="button" class="button" onClick={() => void doing(forget)}>
            Discard these files
          </button>
        </div>
      </div>
    );
  }
  if (!upload.files) return null;
  return (
    <div class="upload-waiting" data-testid="upload-waiting">
      <p>
        {count(upload.files, "file")} ({megabytes(upload.size_bytes)}) from before are here. Choose the same files again to send the rest, or take what is here.
      </p>
      <div class="actions">
        <button type="button" class="button" data-testid="upload-import" onClick={() => void doing(() => importing(upload, onDone))}>
          Import these files
        </button>
        <button type="button" class="button" data-testid="upload-discard" onClick={() => void doing(forget)}>
          Discard them
        </button>
      </div>
    </div>
  );
}

function UnderWay(): JSX.Element | null {
  const bytes = sending.value;
  const running = job.value && isOpen(job.value) ? job.value : null;
  if (bytes) {
    return (
      <div class="upload-waiting">
        <progress class="upload-progress" aria-label="Sending" max={bytes.total || 1} value={bytes.sent} />
        <div class="actions">
          <span>{`Sending ${megabytes(bytes.sent)} of ${megabytes(bytes.total)}`}</span>
          <button type="button" class="button" data-testid="upload-stop" onClick={() => stopping.abort()}>
            Stop
          </button>
        </div>
      </div>
    );
  }
  if (!running) return null;
  return (
    <div class="upload-waiting">
      <progress class="upload-progress" aria-label="Importing" max={1} value={running.progress} />
      <div class="actions">
        <span>{running.state === "queued" ? "The import waits for a worker" : `Importing: ${running.message}`}</span>
        <button
          type="button"
          class="button"
          data-testid="upload-cancel"
          disabled={running.cancel_requested}
          onClick={() => void doing(async () => void (await cancel(running)))}
        >
          {running.cancel_requested ? "Stopping…" : "Cancel"}
        </button>
      </div>
    </div>
  );
}

/** Pictures, and label files beside them, into the project. */
export function Upload({ projectId, onDone }: { readonly projectId: number; readonly onDone: () => void }): JSX.Element {
  useEffect(() => void doing(() => look(projectId, onDone)), [projectId]);
  const files = chosen.value;
  const pictures = files.filter((item) => item.file.type.startsWith("image/")).length;
  const labels = files.filter(isLabels).length;
  const others = files.length - pictures - labels;
  const busy = sending.value !== null || (job.value !== null && isOpen(job.value));
  const report = job.value && !isOpen(job.value) ? job.value.report : null;
  const problems = [...refused.value, ...(report?.problems ?? [])];
  return (
    <div>
      <div
        class={over.value ? "drop over" : "drop"}
        data-testid="drop"
        onDragOver={(event) => {
          event.preventDefault();
          over.value = true;
        }}
        onDragLeave={() => (over.value = false)}
        onDrop={(event) => {
          event.preventDefault();
          over.value = false;
          if (!busy) choose(event.dataTransfer?.files ?? []);
        }}
      >
        <p>Drop pictures here, with their COCO, JSONL, Pascal VOC or DeepLabCut files if there are any</p>
        <div class="actions">
          <Picker label="Choose files" testId="files" busy={busy} />
          <Picker label="Choose a folder" testId="folder" busy={busy} folder />
        </div>
      </div>
      {files.length > 0 && (
        <div class="upload-options">
          <span data-testid="chosen">
            {pictures} {pictures === 1 ? "picture" : "pictures"}
            {labels > 0 && `, ${labels} label ${labels === 1 ? "file" : "files"}`}
            {others > 0 && `, ${others} other ${others === 1 ? "file" : "files"}`}, {megabytes(files.reduce((sum, item) => sum + item.size, 0))}
          </span>
          {labels > 0 && (
            <>
              <label>
                Labels are{" "}
                <select data-testid="labels-as" value={labelsAs.value} disabled={busy} onChange={(event) => (labelsAs.value = event.currentTarget.value)}>
                  <option value="settled">settled answers, to train on</option>
                  <option value="gold">gold, to measure models</option>
                  <option value="ignore">left out</option>
                </select>
              </label>
              <label>
                <input type="checkbox" data-testid="add-classes" checked={addClasses.value} disabled={busy} onChange={(event) => (addClasses.value = event.currentTarget.checked)} />{" "}
                add classes that the project lacks
              </label>
            </>
          )}
          <button type="button" class="button primary" data-testid="upload" disabled={busy} onClick={() => void doing(() => upload(projectId, onDone))}>
            {stored.value && !stored.value.job && stored.value.files ? "Go on" : "Upload"}
          </button>
        </div>
      )}
      <UnderWay />
      <Waiting onDone={onDone} />
      {trouble.value && (
        <p class="message error" role="alert">
          {trouble.value}
        </p>
      )}
      <p class="upload-outcome" role="status" data-testid="upload-outcome">
        {outcome.value}
      </p>
      {problems.length > 0 && <Problems problems={problems} more={report?.more_problems ?? 0} />}
    </div>
  );
}

function Problems({ problems, more }: { readonly problems: readonly Problem[]; readonly more: number }): JSX.Element {
  return (
    <div class="problems" tabindex={0} role="region" aria-label="Files with problems">
      <table data-testid="upload-problems">
        <caption class="visually-hidden">Files with problems</caption>
        <thead>
          <tr>
            <th scope="col">File</th>
            <th scope="col">Where</th>
            <th scope="col">What is wrong</th>
          </tr>
        </thead>
        <tbody>
          {problems.map((problem, index) => (
            <tr key={index}>
              <td>{problem.file}</td>
              <td>{[problem.line !== null && `line ${problem.line}`, problem.field].filter(Boolean).join(", ")}</td>
              <td>{problem.reason}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {more > 0 && <p>And {count(more, "problem")} more.</p>}
    </div>
  );
}

interface PickerProps {
  readonly label: string;
  readonly testId: string;
  readonly busy: boolean;
  readonly folder?: boolean;
}

function Picker({ label, testId, busy, folder = false }: PickerProps): JSX.Element {
  return (
    <label class="button file-button">
      {label}
      <input
        type="file"
        class="visually-hidden"
        data-testid={testId}
        multiple
        disabled={busy}
        {...(folder ? { webkitdirectory: true } : {})}
        onChange={(event) => choose(event.currentTarget.files ?? [])}
      />
    </label>
  );
}
