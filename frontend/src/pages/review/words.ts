/** Why a task is before a reviewer, in words. */

import type { Causes, NextStep, Review } from "../../api/types";

const WHY: Readonly<Record<string, string>> = {
  "reviewer/most_answers": "It has as many answers as it may get, and too many errors are still expected.",
  "reviewer/nobody_free": "Too many errors are expected, and nobody is left to ask for another answer.",
  "reviewer/risk": "More errors are expected in it than the project takes without a look.",
  "reviewer/cards_divided": "People who were asked about single objects stayed divided.",
  "reviewer/audit": "It was drawn for an audit: nothing is known to be wrong.",
  "reviewer/skipped": "People passed it by.",
  "reviewer/returned": "An object was sent back to its author.",
  "reviewer/asked": "A reviewer asked for it.",
  "cards/disputed": "People are being asked about its disputed objects on cards.",
  "answer/risk": "It waits for one more answer, because too many errors are expected.",
  "answer/first_answers": "It waits for answers.",
};

const CAUSES: readonly (readonly [keyof Causes, string])[] = [
  ["surplus", "something accepted may not be there"],
  ["missed", "something rejected may be there"],
  ["unseen", "there may be something that nobody drew"],
  ["class", "a class may be another"],
  ["place", "a box may be off"],
  ["joints", "joints may be off or exchanged"],
];
const LEAST_TOLD = 0.005;

export interface Doubt {
  readonly words: string;
  readonly errors: number;
}

export function whyHere(step: NextStep): string {
  return WHY[`${step.what}/${step.why}`] ?? "";
}

/** What may be wrong, the likeliest first; what is next to impossible is left out. */
export function doubtsOf(causes: Causes): Doubt[] {
  return CAUSES.map(([name, words]) => ({ words, errors: causes[name] ?? 0 }))
    .filter((doubt) => doubt.errors >= LEAST_TOLD)
    .sort((a, b) => b.errors - a.errors);
}

/** How many answers it has of how many, and from where on no more would be asked for. */
export function countsOf(review: Review): string {
  const { answers, wanted, target_risk: target } = review.next_step;
  const has = `${answers} answer${answers === 1 ? "" : "s"}${wanted > answers ? ` of ${wanted}` : ""}`;
  return target === null ? has : `${has}; enough below ${target.toFixed(2)}`;
}
