/** Redraws the server's progress bar and legend from fresh counts. */

import type { Progress } from "../../api/types";

const STATES = ["settled", "needs_review", "disputed", "in_progress", "queued", "rejected"] as const;

export function redraw(root: ParentNode, progress: Progress): void {
  const total = STATES.reduce((sum, state) => sum + progress[state], 0);
  let left = 0;
  for (const state of STATES) {
    const share = total ? (100 * progress[state]) / total : 0;
    const bar = root.querySelector(`rect.fill-${state}`);
    bar?.setAttribute("x", String(left));
    bar?.setAttribute("width", String(share));
    left += share;
    const count = root.querySelector(`[data-state="${state}"]`);
    if (count) count.textContent = String(progress[state]);
  }
  const words = STATES.filter((state) => progress[state]).map((state) => `${progress[state]} ${state.replace("_", " ")}`);
  root.querySelector("svg")?.setAttribute("aria-label", words.join(", ") || "no tasks yet");
}
