/** Files on their way: an upload on the server, batches sent to it, and the job that imports it. */

import { Backoff } from "../../api/backoff";
import { ApiError, csrfToken, errorOf, request } from "../../api/client";
import type { JobDetail, Page, Taken, Upload, UploadedFile } from "../../api/types";
import { batches, missing, type Named } from "./batches";

const TRIES = 5;
const EVERY_MS = 1_000;
const PAGE = 500;

export interface Chosen extends Named {
  readonly file: File;
}

export interface Options {
  readonly labels_as: string;
  readonly add_classes: boolean;
}

/** The caller's uploads that are not imported yet, the newest first. */
export const unfinished = (projectId: number): Promise<readonly Upload[]> =>
  request({ method: "GET", path: `projects/${projectId}/uploads` });

export const begin = (projectId: number): Promise<Upload> => request({ method: "POST", path: `projects/${projectId}/uploads` });

export const discard = (upload: Upload): Promise<void> => request({ method: "DELETE", path: `uploads/${upload.id}` });

export const startImport = (upload: Upload, options: Options): Promise<JobDetail> =>
  request({ method: "POST", path: `uploads/${upload.id}/import`, body: options });

export const cancel = (job: JobDetail): Promise<JobDetail> => request({ method: "POST", path: `jobs/${job.id}/cancel` });

export const retry = (job: JobDetail): Promise<JobDetail> => request({ method: "POST", path: `jobs/${job.id}/retry` });

export const isOpen = (job: { readonly state: string }): boolean => job.state === "queued" || job.state === "running";

/** Sends what the upload lacks of the files; what could not be taken is given back. Throws `ApiError`. */
export async function send(
  upload: Upload,
  files: readonly Chosen[],
  onProgress: (sent: number, total: number) => void,
  signal: AbortSignal,
): Promise<Taken["problems"]> {
  const there = upload.files ? await whatIsThere(upload) : new Map<string, number>();
  const left = missing(files, there);
  const total = files.reduce((sum, item) => sum + item.size, 0);
  let sent = total - left.reduce((sum, item) => sum + item.size, 0);
  const problems: Taken["problems"][number][] = [];
  onProgress(sent, total);
  for (const batch of batches(left)) {
    const size = batch.reduce((sum, item) => sum + item.size, 0);
    const taken = await patiently(() => sendBatch(upload, batch, (bytes) => onProgress(sent + Math.min(bytes, size), total), signal), signal);
    problems.push(...taken.problems);
    sent += size;
    onProgress(sent, total);
  }
  return problems;
}

/** Asks for the job until it has ended. */
export async function follow(job: JobDetail, onChange: (job: JobDetail) => void): Promise<JobDetail> {
  const backoff = new Backoff();
  let latest = job;
  for (onChange(latest); isOpen(latest); onChange(latest)) {
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    try {
      latest = await request<JobDetail>({ method: "GET", path: `jobs/${job.id}` });
      backoff.reset();
    } catch (error) {
      if (!(error instanceof ApiError) || !error.isTransient) throw error;
      await new Promise((resolve) => setTimeout(resolve, backoff.next()));
    }
  }
  return latest;
}

async function whatIsThere(upload: Upload): Promise<Map<string, number>> {
  const there = new Map<string, number>();
  let cursor: string | null = "";
  while (cursor !== null) {
    const page: Page<UploadedFile> = await request({ method: "GET", path: `uploads/${upload.id}/files?limit=${PAGE}&cursor=${cursor}` });
    for (const file of page.items) there.set(file.path, file.size_bytes);
    cursor = page.next;
  }
  return there;
}

async function patiently<Answer>(call: () => Promise<Answer>, signal: AbortSignal): Promise<Answer> {
  const backoff = new Backoff();
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof ApiError) || !error.isTransient || attempt >= TRIES || signal.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, backoff.next()));
    }
  }
}

/** XMLHttpRequest, because fetch does not tell how much of a body has gone. */
function sendBatch(upload: Upload, batch: readonly Chosen[], onProgress: (bytes: number) => void, signal: AbortSignal): Promise<Taken> {
  const form = new FormData();
  for (const item of batch) {
    form.append("files", item.file, item.name);
    form.append("paths", item.name); // a file's own name reaches the server without its folder
  }
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new ApiError(0, "stopped", "Stopped"));
    const call = new XMLHttpRequest();
    const stop = (): void => call.abort();
    signal.addEventListener("abort", stop);
    call.open("POST", `/api/v1/uploads/${upload.id}/files`);
    call.setRequestHeader("X-CSRFToken", csrfToken());
    call.setRequestHeader("Accept", "application/json");
    call.upload.onprogress = (event) => onProgress(event.loaded);
    call.onload = () => {
      if (call.status === 200) resolve(JSON.parse(call.responseText) as Taken);
      else void errorOf(new Response(call.responseText, { status: call.status })).then(reject);
    };
    call.onerror = () => reject(new ApiError(0, "offline", "The server cannot be reached"));
    call.onabort = () => reject(new ApiError(0, "stopped", "Stopped"));
    call.onloadend = () => signal.removeEventListener("abort", stop);
    call.send(form);
  });
}
