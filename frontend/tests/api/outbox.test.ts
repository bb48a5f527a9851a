import { describe, expect, test } from "vitest";
import { Backoff } from "../../src/api/backoff";
import { ApiError, csrfToken, errorOf } from "../../src/api/client";
import { uuid } from "../../src/api/ids";
import { Journal, type Cabinet, type Entry, type Shelf as JournalShelf } from "../../src/api/journal";
import { Outbox, type Parcel, type ParcelStore } from "../../src/api/outbox";

class Shelf implements ParcelStore {
  readonly parcels = new Map<string, Parcel>();

  async all(): Promise<Parcel[]> {
    return [...this.parcels.values()];
  }

  async put(parcel: Parcel): Promise<void> {
    this.parcels.set(parcel.key, parcel);
  }

  async delete(key: string): Promise<void> {
    this.parcels.delete(key);
  }
}

const parcel = (key: string, more: Partial<Parcel> = {}): Parcel => ({
  key,
  user_id: 7,
  task_id: 1,
  task_name: "a.jpg",
  kind: "submit",
  path: `tasks/1/annotations`,
  body: { key },
  queued_at: 0,
  ...more,
});

/** An outbox whose server answers as told, one outcome a request; afterwards it takes everything. */
function outboxWith(outcomes: (ApiError | "taken")[], store = new Shelf()) {
  const sent: unknown[] = [];
  const waits: number[] = [];
  const outbox = new Outbox({
    store,
    userId: 7,
    random: () => 1,
    send: async (call) => {
      sent.push((call.body as { key: string }).key);
      const outcome = outcomes.shift();
      if (outcome instanceof ApiError) throw outcome;
      return {};
    },
    wait: async (ms) => {
      waits.push(ms);
    },
  });
  return { outbox, sent, waits, store };
}

const offline = () => new ApiError(0, "offline", "no network");

describe("the outbox", () => {
  test("sends in order and forgets only what was answered", async () => {
    const { outbox, sent, store } = outboxWith([]);
    await Promise.all([outbox.post(parcel("a")), outbox.post(parcel("b"))]);
    await outbox.drain();
    expect(sent).toEqual(["a", "b"]);
    expect(store.parcels.size).toBe(0);
    expect(outbox.state).toBe("idle");
  });

  test("repeats with waits that double while the server cannot be reached", async () => {
    const { outbox, sent, waits } = outboxWith([offline(), offline(), new ApiError(503, "x", "x"), "taken"]);
    await outbox.post(parcel("a"));
    await outbox.drain();
    expect(sent).toEqual(["a", "a", "a", "a"]);
    expect(waits).toEqual([1000, 2000, 4000]);
  });

  test("loses nothing in a thousand cut connections", async () => {
    let cuts = 0;
    const stored: string[] = [];
    const outbox = new Outbox({
      store: new Shelf(),
      userId: 7,
      wait: async () => {},
      send: async (call) => {
        const key = (call.body as { key: string }).key;
        // every other cut comes after the server stored the answer: the key makes the repetition harmless
        if (cuts < 1000) {
          cuts += 1;
          if (cuts % 2) stored.push(key);
          throw offline();
        }
        stored.push(key);
        return {};
      },
    });
    const keys = Array.from({ length: 20 }, (_, index) => `key-${index}`);
    await Promise.all(keys.map((key) => outbox.post(parcel(key))));
    await outbox.drain();
    expect(new Set(stored)).toEqual(new Set(keys));
    expect(outbox.pending).toEqual([]);
  });

  test("takes up what an earlier page left, but not another person's", async () => {
    const store = new Shelf();
    await store.put(parcel("later", { queued_at: 2 }));
    await store.put(parcel("earlier", { queued_at: 1 }));
    await store.put(parcel("hers", { user_id: 8 }));
    const { outbox, sent } = outboxWith([], store);
    await outbox.open();
    await outbox.drain();
    expect(sent).toEqual(["earlier", "later"]);
    expect([...store.parcels.keys()]).toEqual(["hers"]);
  });

  test("keeps a refused answer for the person and goes on with the next", async () => {
    const refusal = new ApiError(400, "invalid", "is no class of this project's schema", "shapes[0].class_id");
    const { outbox, sent, store } = outboxWith([refusal, "taken"]);
    await Promise.all([outbox.post(parcel("a")), outbox.post(parcel("b"))]);
    await outbox.drain();
    expect(sent).toEqual(["a", "b"]);
    expect(outbox.refused).toMatchObject([{ key: "a", refusal: { code: "invalid" } }]);
    expect(store.parcels.get("a")?.body).toEqual({ key: "a" });
  });

  test("waits for a login without giving anything up", async () => {
    const states: string[] = [];
    const store = new Shelf();
    const outcomes = [new ApiError(401, "not_authenticated", "log in")];
    const outbox: Outbox = new Outbox({
      store,
      userId: 7,
      send: async () => {
        const outcome = outcomes.shift();
        if (outcome) throw outcome;
      },
      wait: async () => {
        states.push(outbox.state);
      },
    });
    await outbox.post(parcel("a"));
    await outbox.drain();
    expect(states).toEqual(["signed-out"]);
    expect(store.parcels.size).toBe(0);
  });

  test("tries at once when told that the network is back", async () => {
    let tries = 0;
    const outbox = new Outbox({
      store: new Shelf(),
      userId: 7,
      wait: () => new Promise(() => {}), // would wait for ever
      send: async () => {
        tries += 1;
        if (tries === 1) throw offline();
      },
    });
    await outbox.post(parcel("a"));
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(outbox.state).toBe("offline");
    outbox.retry();
    await outbox.drain();
    expect(tries).toBe(2);
  });

  test("forgets a skip whose lease had run out", async () => {
    const { outbox, store } = outboxWith([new ApiError(409, "lease_lost", "gone")]);
    await outbox.post(parcel("a", { kind: "skip" }));
    await outbox.drain();
    expect(outbox.refused).toEqual([]);
    expect(store.parcels.size).toBe(0);
  });
});

test("waits stay within a minute and never fall under half", () => {
  const soonest = new Backoff(() => 0);
  const waits = Array.from({ length: 10 }, () => soonest.next());
  expect(waits.slice(0, 3)).toEqual([500, 1000, 2000]);
  expect(waits.at(-1)).toBe(30_000);
  soonest.reset();
  expect(soonest.next()).toBe(500);
});

class Drawer implements Cabinet {
  readonly items = new Map<string, string>();

  constructor(readonly room = Infinity) {}

  get length(): number {
    return this.items.size;
  }

  key(index: number): string | null {
    return [...this.items.keys()][index] ?? null;
  }

  getItem(key: string): string | null {
    return this.items.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    if (value.length > this.room) throw new Error("QuotaExceededError");
    this.items.set(key, value);
  }

  removeItem(key: string): void {
    this.items.delete(key);
  }
}

describe("the journal", () => {
  const entry: Entry = { shapes: [], base_revision: 0, seconds_active: 3, saved_at: 1, draft_at: "" };

  test("gives back each person's own work", () => {
    const drawer = new Drawer();
    new Journal(drawer, 7).write(1, entry);
    expect(new Journal(drawer, 7).read(1)).toEqual(entry);
    expect(new Journal(drawer, 8).read(1)).toBeNull();
  });

  test("tells when there is no room", () => {
    expect(new Journal(new Drawer(10), 7).write(1, entry)).toBe(false);
  });

  test("finds the answers that did not reach the outbox", () => {
    const drawer = new Drawer();
    const journal = new Journal(drawer, 7);
    journal.write(1, entry);
    journal.write(2, { ...entry, parcel: parcel("a") });
    new Journal(drawer, 8).write(3, { ...entry, parcel: parcel("hers") });
    drawer.setItem("another app's", "not JSON");
    expect(journal.strandedParcels().map((item) => item.key)).toEqual(["a"]);
  });

  test("takes back from the shelf what a killed browser did not write down", async () => {
    const [killed, shelf] = [new Drawer(), new MemoryShelf()];
    const before = new Journal(killed, 7, shelf);
    for (const task of [1, 2, 3]) before.write(task, { ...entry, saved_at: 20 });
    before.remove(3);
    const drawer = new Drawer();
    const older = new Journal(drawer, 7);
    older.write(1, { ...entry, saved_at: 10 });
    older.write(4, { ...entry, saved_at: 30 });
    shelf.put("labelwheel:journal:7:4", JSON.stringify({ ...entry, saved_at: 29 }));
    shelf.put("labelwheel:journal:8:5", JSON.stringify(entry));

    const journal = new Journal(drawer, 7, shelf);
    await journal.restore();

    expect([1, 2, 3, 4].map((task) => journal.read(task)?.saved_at)).toEqual([20, 20, undefined, 30]);
    expect(new Journal(drawer, 8).read(5)).toBeNull();
  });
});

class MemoryShelf implements JournalShelf {
  readonly entries = new Map<string, string>();

  all(): Promise<[string, string][]> {
    return Promise.resolve([...this.entries]);
  }

  put(key: string, entry: string): void {
    this.entries.set(key, entry);
  }

  remove(key: string): void {
    this.entries.delete(key);
  }
}

describe("the client", () => {
  test("finds its cookie among others", () => {
    expect(csrfToken("sessionid=1; csrftoken=abc123; theme=dark")).toBe("abc123");
    expect(csrfToken("xcsrftoken=no")).toBe("");
  });

  test("gives every refusal the same shape, a proxy's HTML too", async () => {
    const own = await errorOf(
      new Response(JSON.stringify({ type: "conflict", code: "key_reused", message: "make a new key", param: null }), {
        status: 422,
      }),
    );
    expect(own).toMatchObject({ status: 422, code: "key_reused", message: "make a new key", isTransient: false });
    const foreign = await errorOf(new Response("<h1>Bad gateway</h1>", { status: 502 }));
    expect(foreign).toMatchObject({ status: 502, code: "http_502", isTransient: true });
  });

  test("makes UUIDs of version 4", () => {
    expect(uuid()).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(uuid()).not.toBe(uuid());
  });
});
