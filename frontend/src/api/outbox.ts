/**
 * Requests that must arrive: kept in IndexedDB until the server has answered, sent in the background in their
 * order, repeated with back-off. A submit carries an idempotency key, so a repetition stores nothing twice.
 */

import { ApiError, type Call } from "./client";
import { Backoff } from "./backoff";

export interface Parcel {
  readonly key: string;
  readonly user_id: number;
  readonly task_id: number;
  readonly task_name: string;
  readonly kind: "submit" | "skip";
  readonly path: string;
  readonly body: unknown;
  readonly queued_at: number;
  /** Why the server refused it; a refused parcel waits for the person, it is not sent again by itself. */
  readonly refusal?: {
    readonly status: number;
    readonly code: string;
    readonly message: string;
    readonly param: string | null;
  };
}

/** Where parcels wait. */
export interface ParcelStore {
  all(): Promise<Parcel[]>;
  put(parcel: Parcel): Promise<void>;
  delete(key: string): Promise<void>;
}

export type OutboxState = "idle" | "sending" | "offline" | "signed-out";

export interface OutboxOptions {
  readonly store: ParcelStore;
  readonly userId: number;
  readonly send: (call: Call) => Promise<unknown>;
  readonly onChange?: () => void;
  readonly onSent?: (parcel: Parcel, answer: unknown) => void;
  readonly wait?: (ms: number) => Promise<void>;
  readonly random?: () => number;
}

export class Outbox {
  readonly #options: OutboxOptions;
  readonly #backoff: Backoff;
  #parcels: Parcel[] = [];
  #state: OutboxState = "idle";
  #draining: Promise<void> | null = null;
  #wake: () => void = () => {};

  constructor(options: OutboxOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random);
  }

  get state(): OutboxState {
    return this.#state;
  }

  get pending(): readonly Parcel[] {
    return this.#parcels.filter((parcel) => !parcel.refusal);
  }

  get refused(): readonly Parcel[] {
    return this.#parcels.filter((parcel) => parcel.refusal);
  }

  /** Takes up what an earlier page left behind and begins to send it. */
  async open(): Promise<void> {
    const stored = await this.#options.store.all();
    const known = new Set(this.#parcels.map((parcel) => parcel.key));
    const left = stored.filter((parcel) => parcel.user_id === this.#options.userId && !known.has(parcel.key));
    this.#parcels = [...left.sort((a, b) => a.queued_at - b.queued_at), ...this.#parcels];
    this.#changed();
    void this.drain();
  }

  /** Begins to send at once; resolves when the parcel is stored. */
  async post(parcel: Parcel): Promise<void> {
    this.#parcels.push(parcel);
    this.#changed();
    const stored = this.#options.store.put(parcel);
    void this.drain();
    await stored;
  }

  /** Drops a parcel for good; only ever what the person asked for. */
  async discard(key: string): Promise<void> {
    this.#parcels = this.#parcels.filter((parcel) => parcel.key !== key);
    this.#changed();
    await this.#options.store.delete(key);
  }

  /** Tries again now instead of when the wait is over: the network is back, or somebody logged in. */
  retry(): void {
    this.#wake();
    void this.drain();
  }

  drain(): Promise<void> {
    this.#draining ??= this.#sendAll().finally(() => {
      this.#draining = null;
    });
    return this.#draining;
  }

  async #sendAll(): Promise<void> {
    for (let parcel = this.pending[0]; parcel; parcel = this.pending[0]) {
      if (this.#state === "idle") this.#set("sending");
      try {
        const answer = await this.#options.send({ method: "POST", path: parcel.path, body: parcel.body });
        this.#backoff.reset();
        this.#set("sending");
        await this.#arrived(parcel.key);
        this.#options.onSent?.(parcel, answer);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.status === 401) this.#set("signed-out");
        else if (error.isTransient) this.#set("offline");
        else {
          await this.#refuse(parcel, error);
          continue;
        }
        await this.#pause(this.#backoff.next());
      }
    }
    this.#set("idle");
  }

  async #refuse(parcel: Parcel, { status, code, message, param }: ApiError): Promise<void> {
    if (parcel.kind === "skip" && status === 409) {
      await this.#arrived(parcel.key); // the lease had run out: somebody else has the task, nothing is lost
      return;
    }
    const refused: Parcel = { ...parcel, refusal: { status, code, message, param } };
    this.#parcels = this.#parcels.map((item) => (item.key === parcel.key ? refused : item));
    this.#changed();
    await this.#options.store.put(refused);
  }

  async #arrived(key: string): Promise<void> {
    // A parcel that cannot be deleted is sent once more by the next page, which its key makes harmless.
    await this.discard(key).catch(() => {});
  }

  async #pause(ms: number): Promise<void> {
    const wait = this.#options.wait ?? ((delay: number) => new Promise((resolve) => setTimeout(resolve, delay)));
    await Promise.race([wait(ms), new Promise<void>((resolve) => (this.#wake = resolve))]);
  }

  #set(state: OutboxState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#changed();
  }

  #changed(): void {
    this.#options.onChange?.();
  }
}

const DATABASE = "labelwheel";
const STORE = "outbox";

/** Parcels in IndexedDB. */
export class BrowserParcels implements ParcelStore {
  readonly #database: Promise<IDBDatabase>;

  constructor() {
    const opening = indexedDB.open(DATABASE, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "key" });
    this.#database = settled(opening);
  }

  async all(): Promise<Parcel[]> {
    return settled((await this.#store("readonly")).getAll() as IDBRequest<Parcel[]>);
  }

  async put(parcel: Parcel): Promise<void> {
    await committed(await this.#store("readwrite"), (store) => store.put(parcel));
  }

  async delete(key: string): Promise<void> {
    await committed(await this.#store("readwrite"), (store) => store.delete(key));
  }

  async #store(mode: IDBTransactionMode): Promise<IDBObjectStore> {
    return (await this.#database).transaction(STORE, mode).objectStore(STORE);
  }
}

function settled<Value>(request: IDBRequest<Value>): Promise<Value> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function committed(store: IDBObjectStore, write: (store: IDBObjectStore) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    store.transaction.oncomplete = () => resolve();
    store.transaction.onabort = () => reject(store.transaction.error);
    write(store);
  });
}
