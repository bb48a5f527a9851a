/** Calls of the HTTP API: the CSRF token from its cookie, and one shape of error. */

import type { ErrorBody } from "./types";

/** A refusal of the server, or no answer at all (status 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly param: string | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }

  /** Whether the same request may go through later without anybody changing it. */
  get isTransient(): boolean {
    return this.status === 0 || this.status >= 500 || this.status === 429 || this.status === 408;
  }
}

export interface Call {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  readonly path: string;
  readonly body?: unknown;
  readonly keepalive?: boolean;
  readonly signal?: AbortSignal;
}

const TIMEOUT_MS = 30_000;

export function csrfToken(cookies: string = document.cookie): string {
  return /(?:^|;\s*)csrftoken=([^;]+)/.exec(cookies)?.[1] ?? "";
}

/** One request under /api/v1/. Throws `ApiError` for whatever is not a success. */
export async function request<Answer>(call: Call): Promise<Answer> {
  const response = await send(call);
  if (!response.ok) throw await errorOf(response);
  if (response.status === 204) return undefined as Answer;
  return (await response.json()) as Answer;
}

async function send({ method, path, body, keepalive = false, signal }: Call): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRFToken"] = csrfToken();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  try {
    return await fetch(`/api/v1/${path}`, {
      method,
      headers,
      keepalive,
      credentials: "same-origin",
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new ApiError(0, "offline", "The server cannot be reached");
  }
}

/** A proxy's HTML page and other foreign bodies become an error of the same shape. */
export async function errorOf(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => null)) as Partial<ErrorBody> | null;
  return new ApiError(
    response.status,
    body?.code ?? `http_${response.status}`,
    body?.message ?? `The server answered ${response.status}`,
    body?.param ?? null,
  );
}
