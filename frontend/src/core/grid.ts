/** A uniform grid over the picture that answers which shapes may touch a rectangle. */

import { grown, overlaps, type ImagePoint, type Rect, type Size } from "./geometry";
import { boundsOf, type Shape } from "./shapes";
import type { Change } from "./store";

const CELLS_ALONG = 32;

export class GridIndex {
  readonly #cell: number;
  readonly #cells = new Map<number, Set<string>>();
  readonly #bounds = new Map<string, Rect>();

  constructor(picture: Size, shapes: readonly Shape[] = []) {
    this.#cell = Math.max(picture.width, picture.height, 1) / CELLS_ALONG;
    for (const shape of shapes) this.#add(shape);
  }

  update(change: Change): void {
    for (const { shape } of change.deleted) this.#remove(shape.id);
    for (const { old, new: next } of change.updated) {
      this.#remove(old.id);
      this.#add(next);
    }
    for (const { shape } of change.created) this.#add(shape);
  }

  /** Ids of the shapes whose bounds overlap `rect`. */
  within(rect: Rect): Set<string> {
    const found = new Set<string>();
    for (const key of this.#keys(rect)) {
      for (const id of this.#cells.get(key) ?? []) {
        const bounds = this.#bounds.get(id);
        if (bounds && overlaps(bounds, rect)) found.add(id);
      }
    }
    return found;
  }

  near(point: ImagePoint, radius: number): Set<string> {
    return this.within(grown([point.x, point.y, point.x, point.y], radius));
  }

  #add(shape: Shape): void {
    const bounds = boundsOf(shape);
    if (!bounds) return;
    this.#bounds.set(shape.id, bounds);
    for (const key of this.#keys(bounds)) {
      const cell = this.#cells.get(key);
      if (cell) cell.add(shape.id);
      else this.#cells.set(key, new Set([shape.id]));
    }
  }

  #remove(id: string): void {
    const bounds = this.#bounds.get(id);
    if (!bounds) return;
    this.#bounds.delete(id);
    for (const key of this.#keys(bounds)) this.#cells.get(key)?.delete(id);
  }

  /** Cells beyond the picture's edge count as the edge's, so that a query always ends. */
  *#keys([x1, y1, x2, y2]: Rect): Generator<number> {
    const cell = (value: number): number => Math.min(Math.max(Math.floor(value / this.#cell), -1), CELLS_ALONG);
    for (let row = cell(y1); row <= cell(y2); row++) {
      for (let column = cell(x1); column <= cell(x2); column++) yield row * (CELLS_ALONG + 4) + column;
    }
  }
}
