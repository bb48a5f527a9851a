import { signal } from "@preact/signals";

/** Bumped when the tool, the view or the pointer changes: often, so only small parts listen. */
export const stageVersion = signal(0);

export const isMac = /Mac|iP(hone|ad)/.test(navigator.platform);
