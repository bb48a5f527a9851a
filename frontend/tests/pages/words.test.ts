import { describe, expect, test } from "vitest";
import type { Review } from "../../src/api/types";
import { countsOf, doubtsOf, whyHere } from "../../src/pages/review/words";

const step = { what: "reviewer", why: "most_answers", answers: 5, wanted: 5, target_risk: 0.15 } as const;

describe("why a task is before a reviewer", () => {
  test("is told by what comes next and why", () => {
    expect(whyHere(step)).toContain("as many answers as it may get");
    expect(whyHere({ ...step, what: "cards", why: "disputed" })).toContain("cards");
    expect(whyHere({ ...step, what: "nothing", why: "settled" })).toBe("");
  });

  test("names the likeliest error first and leaves out what is next to impossible", () => {
    const doubts = doubtsOf({ unseen: 0.1, missed: 0.4, class: 0.001 });

    expect(doubts.map((doubt) => doubt.errors)).toEqual([0.4, 0.1]);
    expect(doubts[0]?.words).toBe("something rejected may be there");
  });

  test("counts the answers it has, those it wants, and says when they would do", () => {
    const counts = (more: Partial<Review["next_step"]>): string => countsOf({ next_step: { ...step, ...more } } as Review);

    expect(counts({})).toBe("5 answers; enough below 0.15");
    expect(counts({ answers: 1, wanted: 2, target_risk: null })).toBe("1 answer of 2");
  });
});
