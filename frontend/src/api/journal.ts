/**
 * Unsent work, written to localStorage while the hand still moves: one entry per person and task, there again
 * after a reload or a crash. It goes only when the server or the outbox has the work.
 */

import type { Shape } from "../core/shapes";
import type { Parcel } from "./outbox";

export interface Entry {
  /** The whole document, open suggestions too. */
  readonly shapes: readonly Shape[];
  readonly base_revision: number;
  readonly seconds_active: number;
  readonly saved_at: number;
  /** When the server last took this work as a draft, in its own words; "" when it never did. */
  readonly draft_at: string;
  /** The answer on its way into the outbox, until that has it. */
  readonly parcel?: Parcel;
}

/** The part of the Storage interface that the journal needs. */
export interface Cabinet {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

const PREFIX = "labelwheel:journal:";

export class Journal {
  constructor(
    readonly cabinet: Cabinet,
    readonly userId: number,
  ) {}

  read(taskId: number): Entry | null {
    const stored = this.cabinet.getItem(this.#key(taskId));
    return stored === null ? null : (JSON.parse(stored) as Entry);
  }

  /** False when the browser has no room: then the work is only on the server. */
  write(taskId: number, entry: Entry): boolean {
    try {
      this.cabinet.setItem(this.#key(taskId), JSON.stringify(entry));
      return true;
    } catch {
      return false;
    }
  }

  remove(taskId: number): void {
    this.cabinet.removeItem(this.#key(taskId));
  }

  /** Answers that a closing page did not bring into the outbox any more. */
  strandedParcels(): Parcel[] {
    const own = `${PREFIX}${this.userId}:`;
    const keys = Array.from({ length: this.cabinet.length }, (_, index) => this.cabinet.key(index));
    return keys.flatMap((key) => {
      if (!key?.startsWith(own)) return [];
      const entry = JSON.parse(this.cabinet.getItem(key) ?? "null") as Entry | null;
      return entry?.parcel ? [entry.parcel] : [];
    });
  }

  #key(taskId: number): string {
    return `${PREFIX}${this.userId}:${taskId}`;
  }
}
