/**
 * Unsent work, written to localStorage while the hand still moves: one entry per person and task, there again
 * after a reload or a crash. It goes only when the server or the outbox has the work.
 *
 * A browser writes localStorage down seconds later, and a browser that is killed loses those seconds. So each
 * entry goes into IndexedDB too, which the operating system has at once, and comes back from there.
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

/** A second place for the same entries, slower to read and quicker to be safe. */
export interface Shelf {
  all(): Promise<[key: string, entry: string][]>;
  put(key: string, entry: string): void;
  remove(key: string): void;
}

const PREFIX = "labelwheel:journal:";

export class Journal {
  constructor(
    readonly cabinet: Cabinet,
    readonly userId: number,
    readonly shelf: Shelf | null = null,
  ) {}

  /** Takes back from the shelf what the cabinet lost, or has in an older state. */
  async restore(): Promise<void> {
    for (const [key, stored] of (await this.shelf?.all()) ?? []) {
      if (!key.startsWith(this.#own)) continue;
      const held = this.cabinet.getItem(key);
      if (held !== null && savedAt(held) >= savedAt(stored)) continue;
      try {
        this.cabinet.setItem(key, stored);
      } catch {
        return; // no room: the server's draft is what is left
      }
    }
  }

  read(taskId: number): Entry | null {
    const stored = this.cabinet.getItem(this.#key(taskId));
    return stored === null ? null : (JSON.parse(stored) as Entry);
  }

  /** False when the browser has no room: then the work is only on the server. */
  write(taskId: number, entry: Entry): boolean {
    const [key, text] = [this.#key(taskId), JSON.stringify(entry)];
    this.shelf?.put(key, text);
    try {
      this.cabinet.setItem(key, text);
      return true;
    } catch {
      return false;
    }
  }

  remove(taskId: number): void {
    this.cabinet.removeItem(this.#key(taskId));
    this.shelf?.remove(this.#key(taskId));
  }

  /** Answers that a closing page did not bring into the outbox any more. */
  strandedParcels(): Parcel[] {
    const keys = Array.from({ length: this.cabinet.length }, (_, index) => this.cabinet.key(index));
    return keys.flatMap((key) => {
      if (!key?.startsWith(this.#own)) return [];
      const entry = JSON.parse(this.cabinet.getItem(key) ?? "null") as Entry | null;
      return entry?.parcel ? [entry.parcel] : [];
    });
  }

  #key(taskId: number): string {
    return `${this.#own}${taskId}`;
  }

  get #own(): string {
    return `${PREFIX}${this.userId}:`;
  }
}

function savedAt(entry: string): number {
  return (JSON.parse(entry) as Entry).saved_at;
}

const DATABASE = "labelwheel-journal";
const STORE = "entries";

/** Entries in IndexedDB. Where the browser has none, nothing is kept and nothing fails. */
export class BrowserShelf implements Shelf {
  readonly #database: Promise<IDBDatabase | null>;

  constructor() {
    this.#database = new Promise<IDBDatabase | null>((resolve) => {
      const opening = indexedDB.open(DATABASE, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = () => resolve(null);
    }).catch(() => null);
  }

  async all(): Promise<[string, string][]> {
    const store = (await this.#database)?.transaction(STORE).objectStore(STORE);
    if (!store) return [];
    const [keys, entries] = [store.getAllKeys(), store.getAll() as IDBRequest<string[]>];
    return new Promise((resolve) => {
      store.transaction.oncomplete = () => resolve(keys.result.map((key, index) => [key as string, entries.result[index] ?? ""]));
      store.transaction.onabort = () => resolve([]);
    });
  }

  put(key: string, entry: string): void {
    void this.#write((store) => store.put(entry, key));
  }

  remove(key: string): void {
    void this.#write((store) => store.delete(key));
  }

  async #write(change: (store: IDBObjectStore) => IDBRequest): Promise<void> {
    const transaction = (await this.#database)?.transaction(STORE, "readwrite");
    if (transaction) change(transaction.objectStore(STORE)).onerror = (event) => event.preventDefault(); // no room: the cabinet tells
  }
}
