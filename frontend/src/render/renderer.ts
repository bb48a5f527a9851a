/**
 * Two stacked canvases: the picture with all that rests, and over it what is selected or under the hand.
 * A frame is painted only when something changed, and only the canvas that it changed on.
 */

import { overlaps, visibleRect, type ScreenPoint, type Size, type View } from "../core/geometry";
import { boundsOf, type Shape } from "../core/shapes";
import type { Editor } from "../core/editor";
import type { Preview } from "../tools/tool";
import { Occupied } from "./labels";
import { Painter, PLAIN, type Emphasis } from "./painter";
import type { Picture } from "./picture";

const CROWD = 60;

/** What is on the stage. */
export interface Scene {
  readonly editor: Editor;
  readonly picture: Picture | null;
  readonly view: View;
  readonly preview: Preview;
  readonly pointer: ScreenPoint | null;
  readonly handles: boolean;
}

export interface Renderer {
  /** Asks for a frame; `everything` repaints what rests too. */
  request(everything: boolean): void;
  resize(size: Size): void;
  /** Paints what is due now instead of in the next frame. */
  flush(): void;
}

export class CanvasRenderer implements Renderer {
  readonly #still: CanvasRenderingContext2D;
  readonly #active: CanvasRenderingContext2D;
  readonly #scene: () => Scene | null;
  readonly #onPainted: () => void;
  readonly #painters = new WeakMap<Editor, Painter>();
  #size: Size = { width: 1, height: 1 };
  #ratio = 1;
  #frame = 0;
  #stillDue = true;
  #lifted = "";

  constructor(
    still: HTMLCanvasElement,
    active: HTMLCanvasElement,
    scene: () => Scene | null,
    onPainted: () => void,
  ) {
    this.#still = contextOf(still);
    this.#active = contextOf(active);
    this.#scene = scene;
    this.#onPainted = onPainted;
  }

  request(everything: boolean): void {
    this.#stillDue ||= everything;
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.flush());
  }

  resize(size: Size): void {
    this.#size = size;
    this.#ratio = globalThis.devicePixelRatio || 1;
    for (const context of [this.#still, this.#active]) {
      context.canvas.width = Math.max(1, Math.round(size.width * this.#ratio));
      context.canvas.height = Math.max(1, Math.round(size.height * this.#ratio));
    }
    this.#stillDue = true;
    this.flush();
  }

  flush(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const scene = this.#scene();
    const lifted = scene ? liftedIds(scene) : new Set<string>();
    const key = [...lifted].join();
    if (this.#stillDue || key !== this.#lifted) this.#paintStill(scene, lifted);
    this.#lifted = key;
    this.#stillDue = false;
    this.#paintActive(scene, lifted);
    this.#onPainted();
  }

  #paintStill(scene: Scene | null, lifted: ReadonlySet<string>): void {
    const context = this.#still;
    this.#clear(context);
    if (!scene) return;
    const { picture, view, editor } = scene;
    const size = editor.picture;
    const bitmap = picture?.levelFor(view.scale * this.#ratio);
    if (bitmap) {
      context.imageSmoothingEnabled = view.scale * this.#ratio < 4; // single pixels stay square when zoomed far in
      context.drawImage(bitmap, view.x, view.y, size.width * view.scale, size.height * view.scale);
    } else {
      context.fillStyle = "rgb(128 128 128 / 0.25)";
      context.fillRect(view.x, view.y, size.width * view.scale, size.height * view.scale);
    }
    if (editor.allHidden) return;
    const painter = this.#painter(editor);
    const drawn = seenShapes(editor, view, this.#size).filter((shape) => !lifted.has(shape.id));
    for (const shape of drawn) painter.shape(context, shape, view, PLAIN);
    const occupied = drawn.length > CROWD ? new Occupied() : undefined; // in a crowd, names must not hide the rest
    for (const shape of drawn) painter.name(context, shape, view, PLAIN, this.#ratio, occupied);
  }

  #paintActive(scene: Scene | null, lifted: ReadonlySet<string>): void {
    const context = this.#active;
    this.#clear(context);
    if (!scene) return;
    const { editor, preview, view, pointer } = scene;
    const painter = this.#painter(editor);
    const previewed = new Map(preview.shapes.map((shape) => [shape.id, shape]));
    const emphasis: Emphasis = {
      selected: true,
      joint: editor.focus.joint,
      handles: scene.handles && editor.focus.ids.length === 1,
    };
    for (const id of lifted) {
      const shape = previewed.get(id) ?? editor.store.get(id);
      if (!shape || !(previewed.has(id) || editor.isShown(shape))) continue;
      painter.shape(context, shape, view, emphasis);
      painter.name(context, shape, view, emphasis, this.#ratio);
    }
    if (preview.marquee) painter.marquee(context, preview.marquee, view);
    if (pointer && preview.crosshair) painter.crosshair(context, pointer, this.#size.width, this.#size.height);
    if (pointer && preview.hint) painter.hint(context, preview.hint, pointer, this.#ratio);
  }

  #clear(context: CanvasRenderingContext2D): void {
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    context.clearRect(0, 0, this.#size.width, this.#size.height);
  }

  #painter(editor: Editor): Painter {
    let painter = this.#painters.get(editor);
    if (!painter) {
      painter = new Painter(editor.classOf);
      this.#painters.set(editor, painter);
    }
    return painter;
  }
}

/** Shapes that the active canvas draws instead of the still one. */
function liftedIds({ editor, preview }: Scene): Set<string> {
  return new Set([...editor.focus.ids, ...preview.shapes.map((shape) => shape.id)]);
}

/** Shown shapes that reach into the view, in drawing order. */
function seenShapes(editor: Editor, view: View, stage: Size): Shape[] {
  const seen = visibleRect(view, stage);
  const whole = overlapsWholly(seen, editor.picture);
  const near = whole ? null : editor.grid.within(seen);
  return editor.shapes.filter((shape) => {
    if (!editor.isShown(shape)) return false;
    if (near) return near.has(shape.id);
    const bounds = boundsOf(shape);
    return bounds !== null && overlaps(bounds, seen);
  });
}

function overlapsWholly(seen: readonly [number, number, number, number], picture: Size): boolean {
  return seen[0] <= 0 && seen[1] <= 0 && seen[2] >= picture.width && seen[3] >= picture.height;
}

function contextOf(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This browser gives no 2D canvas");
  return context;
}
