/**
 * The document being labelled: shapes in drawing order, and changes to it that know their own inverse.
 */

import type { Shape } from "./shapes";

/** A shape with its place in the drawing order: of the document after (created) or before (deleted). */
export interface Placed {
  readonly shape: Shape;
  readonly at: number;
}

export interface Change {
  readonly created: readonly Placed[];
  readonly updated: readonly { readonly old: Shape; readonly new: Shape }[];
  readonly deleted: readonly Placed[];
}

export const NOTHING: Change = { created: [], updated: [], deleted: [] };

export const isEmpty = (change: Change): boolean =>
  !change.created.length && !change.updated.length && !change.deleted.length;

export function inverse(change: Change): Change {
  return {
    created: change.deleted,
    updated: change.updated.map((item) => ({ old: item.new, new: item.old })),
    deleted: change.created,
  };
}

export function applied(shapes: readonly Shape[], change: Change): readonly Shape[] {
  const gone = new Set(change.deleted.map((item) => item.shape.id));
  const replaced = new Map(change.updated.map((item) => [item.old.id, item.new]));
  const next = shapes.filter((shape) => !gone.has(shape.id)).map((shape) => replaced.get(shape.id) ?? shape);
  for (const item of [...change.created].sort((a, b) => a.at - b.at)) next.splice(item.at, 0, item.shape);
  return next;
}

export type ChangeListener = (change: Change) => void;

/** Holds the shapes, tells listeners of every change. Only `History` should call `apply`. */
export class DocumentStore {
  #shapes: readonly Shape[] = [];
  #byId = new Map<string, Shape>();
  readonly #listeners = new Set<ChangeListener>();

  constructor(shapes: readonly Shape[] = []) {
    this.#index(shapes);
  }

  get shapes(): readonly Shape[] {
    return this.#shapes;
  }

  get(id: string): Shape | undefined {
    return this.#byId.get(id);
  }

  subscribe(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  apply(change: Change): void {
    this.#index(applied(this.#shapes, change));
    for (const listener of this.#listeners) listener(change);
  }

  creating(...shapes: readonly Shape[]): Change {
    return { ...NOTHING, created: shapes.map((shape, index) => ({ shape, at: this.#shapes.length + index })) };
  }

  /** Replaces shapes of the same id; those that stay equal are left out. */
  updating(...shapes: readonly Shape[]): Change {
    const updated = shapes.flatMap((shape) => {
      const old = this.#byId.get(shape.id);
      return old && old !== shape && JSON.stringify(old) !== JSON.stringify(shape) ? [{ old, new: shape }] : [];
    });
    return { ...NOTHING, updated };
  }

  deleting(ids: Iterable<string>): Change {
    const wanted = new Set(ids);
    const deleted = this.#shapes.flatMap((shape, at) => (wanted.has(shape.id) ? [{ shape, at }] : []));
    return { ...NOTHING, deleted };
  }

  #index(shapes: readonly Shape[]): void {
    this.#shapes = shapes;
    this.#byId = new Map(shapes.map((shape) => [shape.id, shape]));
  }
}
