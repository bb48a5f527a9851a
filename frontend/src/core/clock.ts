/** How long somebody really worked: time between signs of life, pauses left out. */

const PAUSE_MS = 30_000;

export class ActiveClock {
  #seconds: number;
  #last: number;

  constructor(now: number, seconds = 0) {
    this.#last = now;
    this.#seconds = seconds;
  }

  get seconds(): number {
    return Math.round(this.#seconds * 10) / 10;
  }

  /** A key, a pointer's move: the time since the last one counts unless it was a pause. */
  tick(now: number): void {
    const since = now - this.#last;
    if (since > 0 && since <= PAUSE_MS) this.#seconds += since / 1000;
    this.#last = now;
  }

  /** The hand is elsewhere; what follows until `resume` does not count. */
  resume(now: number): void {
    this.#last = now;
  }
}
