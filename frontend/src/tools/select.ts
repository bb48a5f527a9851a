import { unionOf } from "../core/actions";
import {
  boundedMove,
  clippedPoint,
  contains,
  imagePoint,
  rectBetween,
  rectHeight,
  rectWidth,
  resizedRect,
  type Handle,
  type ImagePoint,
  type ScreenPoint,
} from "../core/geometry";
import { handleAt, jointAt } from "../core/picking";
import { boundsOf, edited, movedShape, withJoint, type Box, type Joint, type Keypoints, type Shape } from "../core/shapes";
import type { Editor } from "../core/editor";
import { isDrag, NO_PREVIEW, type Pointer, type Preview, type Tool } from "./tool";

type Grip =
  | { name: "handle"; shape: Box | Keypoints; handle: Handle }
  | { name: "joint"; shape: Keypoints; joint: number }
  | { name: "shapes"; shapes: readonly Shape[]; under: readonly Shape[] }
  | { name: "nothing" };

type State =
  | { name: "idle" }
  | { name: "pressed"; grip: Grip; from: ImagePoint; screen: ScreenPoint; wasSelected: boolean }
  | { name: "dragging"; grip: Grip; from: ImagePoint; to: ImagePoint };

const CURSORS: Readonly<Record<Handle, string>> = {
  nw: "nwse-resize",
  se: "nwse-resize",
  ne: "nesw-resize",
  sw: "nesw-resize",
  n: "ns-resize",
  s: "ns-resize",
  e: "ew-resize",
  w: "ew-resize",
};

/** Selects, moves, resizes by eight handles, and drags joints. */
export class SelectTool implements Tool {
  readonly id = "select";
  #state: State = { name: "idle" };

  constructor(readonly editor: Editor) {}

  get state(): State["name"] {
    return this.#state.name;
  }

  get preview(): Preview {
    const state = this.#state;
    if (state.name !== "dragging") return NO_PREVIEW;
    if (state.grip.name === "nothing") return { shapes: [], marquee: rectBetween(state.from, state.to) };
    return { shapes: this.#dragged(state.grip, state.from, state.to) };
  }

  down(pointer: Pointer): void {
    const { editor } = this;
    const grip = this.#gripAt(pointer);
    let wasSelected = false;
    if (grip.name === "joint") editor.focusOn({ ids: [grip.shape.id], joint: grip.joint });
    if (grip.name === "shapes") {
      const top = grip.under[0];
      if (top && (pointer.shift || pointer.additive)) {
        const ids = editor.focus.ids;
        editor.select(...(ids.includes(top.id) ? ids.filter((id) => id !== top.id) : [...ids, top.id]));
        this.#state = { name: "idle" };
        return;
      }
      wasSelected = grip.shapes.some((shape) => editor.focus.ids.includes(shape.id));
      if (!wasSelected) editor.select(...grip.shapes.map((shape) => shape.id));
    }
    this.#state = { name: "pressed", grip, from: pointer.at, screen: pointer.screen, wasSelected };
  }

  move({ at, screen }: Pointer): void {
    const state = this.#state;
    if (state.name === "pressed" && isDrag(state.screen, screen)) {
      this.#state = { name: "dragging", grip: state.grip, from: state.from, to: at };
    } else if (state.name === "dragging") {
      this.#state = { ...state, to: at };
    }
  }

  up(pointer: Pointer): void {
    this.move(pointer);
    const state = this.#state;
    this.#state = { name: "idle" };
    if (state.name === "pressed") this.#clicked(state.grip, state.wasSelected, pointer.shift);
    if (state.name !== "dragging") return;
    if (state.grip.name === "nothing") this.#selectWithin(state.from, state.to, pointer.shift);
    else {
      const shapes = this.#dragged(state.grip, state.from, state.to);
      this.editor.commit(this.editor.store.updating(...shapes));
    }
  }

  cancel(): boolean {
    const busy = this.#state.name === "dragging";
    this.#state = { name: "idle" };
    return busy;
  }

  cursor(pointer: Pointer): string {
    const state = this.#state;
    const grip = state.name === "idle" ? this.#gripAt(pointer) : state.grip;
    if (grip.name === "handle") return CURSORS[grip.handle];
    if (grip.name === "joint") return "grab";
    if (grip.name === "nothing") return "default";
    return grip.shapes.some((shape) => this.editor.focus.ids.includes(shape.id)) ? "move" : "pointer";
  }

  #gripAt({ at, reach }: Pointer): Grip {
    const { editor } = this;
    const only = editor.only;
    if (only && only.kind !== "tag" && only.xyxy && !editor.locked.has(only.id) && editor.isShown(only)) {
      const handle = handleAt(only.xyxy, at, reach);
      if (handle) return { name: "handle", shape: only, handle };
    }
    const under = editor.under(at, reach);
    const selected = under.filter((shape) => editor.focus.ids.includes(shape.id));
    for (const shape of [...selected, ...under]) {
      if (shape.kind !== "keypoints") continue;
      const joint = jointAt(shape, at, reach);
      if (joint !== null) return { name: "joint", shape, joint };
    }
    if (selected.length) return { name: "shapes", shapes: this.#movable(), under };
    const top = under[0];
    return top ? { name: "shapes", shapes: [top], under } : { name: "nothing" };
  }

  #movable(): Shape[] {
    return this.editor.selected.filter((shape) => !this.editor.locked.has(shape.id));
  }

  /** A click on a pile of objects goes through it, one deeper each time. */
  #clicked(grip: Grip, wasSelected: boolean, keep: boolean): void {
    const { editor } = this;
    if (grip.name === "nothing" && !keep) editor.select();
    if (grip.name !== "shapes" || !wasSelected) return;
    const current = editor.only ? grip.under.findIndex((shape) => shape.id === editor.focus.ids[0]) : -1;
    const next = grip.under[(current + 1) % grip.under.length];
    if (next) editor.select(next.id);
  }

  #selectWithin(from: ImagePoint, to: ImagePoint, add: boolean): void {
    const rect = rectBetween(from, to);
    const inside = this.editor.shapes.filter((shape) => {
      const bounds = boundsOf(shape);
      if (!bounds || !this.editor.isShown(shape) || this.editor.locked.has(shape.id)) return false;
      return contains(rect, imagePoint(bounds[0], bounds[1])) && contains(rect, imagePoint(bounds[2], bounds[3]));
    });
    const kept = add ? this.editor.focus.ids : [];
    this.editor.select(...new Set([...kept, ...inside.map((shape) => shape.id)]));
  }

  #dragged(grip: Grip, from: ImagePoint, to: ImagePoint): Shape[] {
    const { picture } = this.editor;
    if (grip.name === "handle") {
      const rect = grip.shape.xyxy;
      if (!rect) return [];
      const xyxy = resizedRect(rect, grip.handle, clippedPoint(to, picture));
      return rectWidth(xyxy) >= 1 && rectHeight(xyxy) >= 1 ? [edited({ ...grip.shape, xyxy })] : [grip.shape];
    }
    if (grip.name === "joint") {
      const point = clippedPoint(to, picture);
      const joint: Joint = [point.x, point.y, grip.shape.points[grip.joint]?.[2] === 1 ? 1 : 2];
      return [edited(withJoint(grip.shape, grip.joint, joint))];
    }
    if (grip.name === "nothing") return [];
    const bounds = unionOf(grip.shapes);
    if (!bounds) return [];
    const [dx, dy] = boundedMove(bounds, to.x - from.x, to.y - from.y, picture);
    return grip.shapes.map((shape) => edited(movedShape(shape, dx, dy)));
  }
}
