/**
 * A picture ready to be painted: decoded bitmaps, each half the size of the one before, so that a small view
 * of a large picture costs little. Decoding happens before the picture is asked for.
 */

import type { Size } from "../core/geometry";
import { Backoff } from "../api/backoff";
import type { Tier } from "../api/types";

export interface Source extends Size {
  readonly tiers: Readonly<Record<Tier, string>>;
}

const SMALLEST_SIDE = 256;

export class Picture {
  /** Largest first. */
  #levels: ImageBitmap[] = [];
  #fetchingFull = false;
  #notBefore = 0;
  readonly #backoff = new Backoff();
  #closed = false;

  private constructor(readonly source: Source) {}

  /** Fetches and decodes the tier for a whole-picture view. Throws when that fails. */
  static async load(source: Source, signal?: AbortSignal): Promise<Picture> {
    const picture = new Picture(source);
    await picture.#take(await fetchBitmap(source.tiers["2048"], signal));
    return picture;
  }

  /** The bitmap to draw at `scale` device pixels per picture pixel: the smallest that is not blurred by it. */
  levelFor(scale: number): ImageBitmap | null {
    const wanted = this.source.width * scale;
    let best = this.#levels[0] ?? null;
    for (const level of this.#levels) if (level.width >= wanted * 0.9) best = level;
    return best;
  }

  /** Gets the full picture when the view needs more pixels than there are; resolves true when it came. */
  async sharpen(scale: number): Promise<boolean> {
    const sharpest = this.#levels[0]?.width ?? 0;
    const wanted = Math.min(this.source.width * scale, this.source.width);
    if (this.#fetchingFull || this.#closed || sharpest >= wanted * 0.9 || Date.now() < this.#notBefore) return false;
    this.#fetchingFull = true;
    try {
      await this.#take(await fetchBitmap(this.source.tiers.full));
      return true;
    } catch {
      this.#notBefore = Date.now() + this.#backoff.next(); // the smaller tier stays; every zoom may ask again
      return false;
    } finally {
      this.#fetchingFull = false;
    }
  }

  close(): void {
    this.#closed = true;
    for (const level of this.#levels) level.close();
    this.#levels = [];
  }

  async #take(top: ImageBitmap): Promise<void> {
    const levels = [top];
    for (let last = top; Math.min(last.width, last.height) / 2 >= SMALLEST_SIDE; ) {
      last = await createImageBitmap(last, {
        resizeWidth: Math.round(last.width / 2),
        resizeHeight: Math.round(last.height / 2),
        resizeQuality: "medium",
      });
      levels.push(last);
    }
    const replaced = this.#levels;
    this.#levels = this.#closed ? [] : levels;
    for (const level of this.#closed ? levels : replaced) level.close();
  }
}

async function fetchBitmap(url: string, signal?: AbortSignal): Promise<ImageBitmap> {
  const response = await fetch(url, { credentials: "same-origin", ...(signal ? { signal } : {}) });
  if (!response.ok) throw new Error(`The picture could not be loaded (${response.status})`);
  return createImageBitmap(await response.blob());
}
