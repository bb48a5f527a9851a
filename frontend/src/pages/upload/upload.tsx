import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { ApiError, csrfToken, errorOf } from "../../api/client";
import type { ImportReport } from "../../api/types";
import { batches } from "./batches";

interface Chosen {
  readonly file: File;
  /** With its folder, so that labels that name a path find their picture. */
  readonly name: string;
  readonly size: number;
}

type Problem = ImportReport["problems"][number];

const chosen = signal<readonly Chosen[]>([]);
const over = signal(false);
const labelsAs = signal("settled");
/** Bytes sent of bytes to send; null when nothing is on its way. */
const sending = signal<{ readonly sent: number; readonly total: number } | null>(null);
const outcome = signal("");
const problems = signal<readonly Problem[]>([]);

function choose(files: Iterable<File>): void {
  chosen.value = [...files]
    .filter((file) => !file.name.startsWith("."))
    .map((file) => ({ file, name: file.webkitRelativePath || file.name, size: file.size }));
  outcome.value = "";
  problems.value = [];
}

const isLabels = (item: Chosen): boolean => /\.(json|csv|xml)$/i.test(item.name);

async function upload(projectId: number, onDone: () => void): Promise<void> {
  const total = chosen.value.reduce((sum, item) => sum + item.size, 0);
  const counts = { created: 0, existing: 0, labelled: 0 };
  let before = 0;
  sending.value = { sent: 0, total };
  for (const batch of batches(chosen.value)) {
    const size = batch.reduce((sum, item) => sum + item.size, 0);
    const done = before;
    try {
      const report = await send(projectId, batch, (sent) => (sending.value = { sent: done + Math.min(sent, size), total }));
      counts.created += report.created;
      counts.existing += report.existing;
      counts.labelled += report.labelled;
      problems.value = [...problems.value, ...report.problems];
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const reason = `was not taken: ${error.message}`;
      problems.value = [...problems.value, ...batch.map((item) => ({ file: item.name, line: null, field: "", reason }))];
    }
    before += size;
  }
  sending.value = null;
  chosen.value = [];
  const known = counts.existing ? `, ${counts.existing} were here already` : "";
  const labelled = counts.labelled ? `, ${counts.labelled} with labels` : "";
  const wrong = problems.value.length;
  const told = wrong ? ` ${wrong} ${wrong === 1 ? "problem" : "problems"}:` : "";
  outcome.value = `${counts.created} new ${counts.created === 1 ? "picture" : "pictures"}${known}${labelled}.${told}`;
  onDone();
}

/** XMLHttpRequest, because fetch does not tell how much of a body has gone. */
function send(projectId: number, batch: readonly Chosen[], onProgress: (bytes: number) => void): Promise<ImportReport> {
  const form = new FormData();
  form.append("labels_as", labelsAs.value);
  for (const item of batch) {
    form.append("files", item.file, item.name);
    form.append("paths", item.name); // a file's own name reaches the server without its folder
  }
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open("POST", `/api/v1/projects/${projectId}/images`);
    call.setRequestHeader("X-CSRFToken", csrfToken());
    call.setRequestHeader("Accept", "application/json");
    call.upload.onprogress = (event) => onProgress(event.loaded);
    call.onload = () => {
      if (call.status === 200) resolve(JSON.parse(call.responseText) as ImportReport);
      else void errorOf(new Response(call.responseText, { status: call.status })).then(reject);
    };
    call.onerror = () => reject(new ApiError(0, "offline", "The server cannot be reached"));
    call.send(form);
  });
}

function megabytes(bytes: number): string {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Pictures, and label files beside them, into the project. */
export function Upload({ projectId, onDone }: { readonly projectId: number; readonly onDone: () => void }): JSX.Element {
  const files = chosen.value;
  const pictures = files.filter((item) => item.file.type.startsWith("image/")).length;
  const labels = files.filter(isLabels).length;
  const others = files.length - pictures - labels;
  const busy = sending.value;
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
          choose(event.dataTransfer?.files ?? []);
        }}
      >
        <p>Drop pictures here, with their COCO, Pascal VOC or DeepLabCut files if there are any</p>
        <div class="actions">
          <Picker label="Choose files" testId="files" busy={busy !== null} />
          <Picker label="Choose a folder" testId="folder" busy={busy !== null} folder />
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
            <label>
              Labels are{" "}
              <select data-testid="labels-as" value={labelsAs.value} disabled={busy !== null} onChange={(event) => (labelsAs.value = event.currentTarget.value)}>
                <option value="settled">settled answers, to train on</option>
                <option value="gold">gold, to measure models</option>
                <option value="ignore">left out</option>
              </select>
            </label>
          )}
          <button type="button" class="button primary" data-testid="upload" disabled={busy !== null} onClick={() => void upload(projectId, onDone)}>
            Upload
          </button>
        </div>
      )}
      {busy && <progress class="upload-progress" aria-label="Upload" max={busy.total} value={busy.sent} />}
      <p class="upload-outcome" role="status" data-testid="upload-outcome">
        {busy ? (busy.sent >= busy.total ? "Looking through the files…" : `${megabytes(busy.sent)} of ${megabytes(busy.total)}`) : outcome.value}
      </p>
      {problems.value.length > 0 && (
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
              {problems.value.map((problem, index) => (
                <tr key={index}>
                  <td>{problem.file}</td>
                  <td>{[problem.line !== null && `line ${problem.line}`, problem.field].filter(Boolean).join(", ")}</td>
                  <td>{problem.reason}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
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
