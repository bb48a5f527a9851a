/** Waits that double from 1 s to a minute, each shortened at random so that many pages do not come back at once. */

export const FIRST_MS = 1_000;
export const LONGEST_MS = 60_000;

export class Backoff {
  #failures = 0;

  constructor(readonly random: () => number = Math.random) {}

  get failures(): number {
    return this.#failures;
  }

  /** How long to wait after one more failure, in milliseconds. */
  next(): number {
    const full = Math.min(FIRST_MS * 2 ** this.#failures, LONGEST_MS);
    this.#failures += 1;
    return full * (0.5 + this.random() / 2);
  }

  reset(): void {
    this.#failures = 0;
  }
}
