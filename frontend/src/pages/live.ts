/** Keeps what the page shows about progress and jobs up to date, gently and only while somebody looks. */

import { Backoff } from "../api/backoff";
import { ApiError, request } from "../api/client";

const EVERY_MS = 5_000;

export interface Watch {
  /** Asks now instead of at the next turn. */
  refresh(): void;
}

/** Asks for a path again and again; hands on every answer, and silently waits longer when there is none. */
export function watch<Answer>(path: string, onAnswer: (answer: Answer) => void): Watch {
  const backoff = new Backoff();
  let timer = 0;
  const ask = async (): Promise<void> => {
    clearTimeout(timer);
    let wait = EVERY_MS;
    if (document.visibilityState === "visible") {
      try {
        onAnswer(await request<Answer>({ method: "GET", path }));
        backoff.reset();
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        wait += backoff.next();
      }
    }
    timer = window.setTimeout(() => void ask(), wait);
  };
  document.addEventListener("visibilitychange", () => void ask());
  void ask();
  return { refresh: () => void ask() };
}
