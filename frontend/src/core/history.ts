/** Undo and redo: a stack of changes, each with what was selected before and after it. */

import { inverse, isEmpty, type Change, type DocumentStore } from "./store";

/** What the keys act on: selected shapes and, in one of them, a joint. */
export interface Focus {
  readonly ids: readonly string[];
  readonly joint: number | null;
}

export const NO_FOCUS: Focus = { ids: [], joint: null };

interface Step {
  readonly change: Change;
  readonly before: Focus;
  readonly after: Focus;
}

export class History {
  readonly #store: DocumentStore;
  #done: Step[] = [];
  #undone: Step[] = [];

  constructor(store: DocumentStore) {
    this.#store = store;
  }

  get canUndo(): boolean {
    return this.#done.length > 0;
  }

  get canRedo(): boolean {
    return this.#undone.length > 0;
  }

  /** Applies a change and makes it undoable; an empty one leaves no step. */
  commit(change: Change, before: Focus, after: Focus): boolean {
    if (isEmpty(change)) return false;
    this.#store.apply(change);
    this.#done.push({ change, before, after });
    this.#undone = [];
    return true;
  }

  /** Takes the last change back and answers the focus before it. */
  undo(): Focus | null {
    const step = this.#done.pop();
    if (!step) return null;
    this.#store.apply(inverse(step.change));
    this.#undone.push(step);
    return step.before;
  }

  redo(): Focus | null {
    const step = this.#undone.pop();
    if (!step) return null;
    this.#store.apply(step.change);
    this.#done.push(step);
    return step.after;
  }
}
