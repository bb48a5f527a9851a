import { describe, expect, test } from "vitest";
import { beginning } from "../../src/pages/annotate/session";
import type { Entry } from "../../src/api/journal";
import type { Parcel } from "../../src/api/outbox";
import type { LeasedTask } from "../../src/api/types";
import { box, suggestion } from "../support";

const leased = (more: Partial<LeasedTask> = {}): LeasedTask => ({
  task: { id: 1, name: "a.jpg", project_id: 1 },
  lease: { token: 1, expires_at: "2026-01-01T00:00:00Z" },
  image: { width: 10, height: 10, tiers: { "512": "", "2048": "", full: "" } },
  reason: "random",
  base_revision: 0,
  suggestions: [],
  suggestions_from: null,
  previous: [],
  draft: null,
  ...more,
});

const entry = (more: Partial<Entry> = {}): Entry => ({
  shapes: [box("journal", [0, 0, 1, 1])],
  base_revision: 0,
  seconds_active: 0,
  saved_at: 0,
  draft_at: "",
  ...more,
});

const draft = (saved_at: string) => ({ shapes: [box("draft", [0, 0, 1, 1])], saved_at });
const ids = (begun: ReturnType<typeof beginning>) => begun.shapes.map((shape) => shape.id);

describe("a task begins with", () => {
  test("its suggestions, open, whatever the server calls their provenance", () => {
    const begun = beginning(leased({ suggestions: [box("s", [0, 0, 1, 1], { score: 0.8 })] }), undefined, null);
    expect(begun).toEqual({ shapes: [{ ...suggestion("s", [0, 0, 1, 1]), score: 0.8 }], touched: false });
  });

  test("one's earlier answer instead of suggestions", () => {
    const task = leased({ previous: [box("mine", [0, 0, 1, 1])], suggestions: [suggestion("s", [0, 0, 1, 1])] });
    expect(ids(beginning(task, undefined, null))).toEqual(["mine"]);
  });

  test("the server's draft, and the suggestions that it has not settled", () => {
    const settled = { shapes: [box("s", [0, 0, 1, 1], { provenance: "human_accepted" })], saved_at: "2026-01-01" };
    const task = leased({ draft: settled, suggestions: [suggestion("s", [0, 0, 1, 1]), suggestion("t", [0, 0, 1, 1])] });
    const begun = beginning(task, undefined, null);
    expect(begun.shapes.map((shape) => [shape.id, shape.provenance])).toEqual([
      ["s", "human_accepted"],
      ["t", "model_only"],
    ]);
    expect(begun.touched).toBe(true);
  });

  test("the journal where the server's draft is no newer, so that a rejected suggestion stays rejected", () => {
    const task = leased({ draft: draft("2026-01-01T10:00:00Z"), suggestions: [suggestion("s", [0, 0, 1, 1])] });
    expect(ids(beginning(task, undefined, entry({ draft_at: "2026-01-01T10:00:00Z" })))).toEqual(["journal"]);
    expect(ids(beginning(task, undefined, entry()))).toEqual(["journal"]);
  });

  test("the server's draft where another machine saved a newer one", () => {
    const task = leased({ draft: draft("2026-01-01T11:00:00Z") });
    expect(ids(beginning(task, undefined, entry({ draft_at: "2026-01-01T10:00:00Z" })))).toEqual(["draft"]);
  });

  test("work that the server refused, before everything else", () => {
    const refused = { kind: "submit", body: { shapes: [box("refused", [0, 0, 1, 1])] } } as unknown as Parcel;
    expect(ids(beginning(leased({ draft: draft("2026") }), refused, entry()))).toEqual(["refused"]);
  });
});
