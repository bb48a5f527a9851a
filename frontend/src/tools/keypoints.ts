import { dropTemplate, placeJoint, type Refusal } from "../core/actions";
import { clippedPoint, rectBetween, type ImagePoint, type ScreenPoint } from "../core/geometry";
import { dropped } from "../core/layout";
import { jointAt } from "../core/picking";
import { edited, withJoint, type Keypoints } from "../core/shapes";
import type { Editor } from "../core/editor";
import { isDrag, NO_PREVIEW, type Pointer, type Preview, type Tool } from "./tool";

type State =
  | { name: "idle" }
  /** Pressed where a joint goes; it is placed on release. */
  | { name: "placing"; from: ImagePoint; at: ImagePoint; screen: ScreenPoint }
  /** Dragging out the rectangle of a whole template. */
  | { name: "dropping"; from: ImagePoint; at: ImagePoint }
  /** Dragging a joint that is already there. */
  | { name: "moving"; shape: Keypoints; joint: number; at: ImagePoint; moved: boolean };

/**
 * Places a skeleton joint by joint, one click each, or whole by one drag.
 *
 * Which joint comes next is the editor's focus, so undo steps back through it.
 */
export class KeypointsTool implements Tool {
  readonly id = "keypoints";
  #state: State = { name: "idle" };

  constructor(
    readonly editor: Editor,
    readonly onRefusal: (why: Refusal) => void = () => {},
  ) {}

  get state(): State["name"] {
    return this.#state.name;
  }

  /** The name of the joint that the next click places. */
  get nextJoint(): string | null {
    const shape = this.editor.onlyKeypoints;
    const labelClass =
      shape && this.editor.focus.joint !== null
        ? this.editor.classOf(shape.class_id)
        : this.editor.armedFor("keypoints");
    return labelClass?.skeleton?.joints[this.editor.focus.joint ?? 0] ?? null;
  }

  get preview(): Preview {
    const state = this.#state;
    if (state.name === "moving") {
      return { shapes: [withJoint(state.shape, state.joint, this.#at(state))], hint: this.#name(state.shape, state.joint) };
    }
    if (state.name === "dropping") {
      const ghost = this.#template(state.from, state.at);
      return ghost ? { shapes: [ghost] } : NO_PREVIEW;
    }
    const hint = this.nextJoint;
    return hint ? { shapes: [], hint } : NO_PREVIEW;
  }

  down({ at, screen, reach }: Pointer): void {
    const point = clippedPoint(at, this.editor.picture);
    const shape = this.editor.onlyKeypoints;
    // While joints are still to be placed a click near another joint places: eyes stand close to a nose.
    if (shape && this.editor.focus.joint === null && !this.editor.locked.has(shape.id)) {
      const joint = jointAt(shape, point, reach);
      if (joint !== null) {
        this.#state = { name: "moving", shape, joint, at: point, moved: false };
        return;
      }
    }
    this.#state = { name: "placing", from: point, at: point, screen };
  }

  move({ at, screen }: Pointer): void {
    const state = this.#state;
    const point = clippedPoint(at, this.editor.picture);
    if (state.name === "placing") {
      const begins = !this.editor.onlyKeypoints || this.editor.focus.joint === null;
      if (begins && isDrag(state.screen, screen)) this.#state = { name: "dropping", from: state.from, at: point };
      else this.#state = { ...state, at: point };
    } else if (state.name === "dropping") {
      this.#state = { ...state, at: point };
    } else if (state.name === "moving") {
      this.#state = { ...state, at: point, moved: true };
    }
  }

  up(pointer: Pointer): void {
    if (this.#state.name !== "idle") this.move(pointer);
    const state = this.#state;
    this.#state = { name: "idle" };
    if (state.name === "placing") this.onRefusal(placeJoint(this.editor, state.at, 2));
    if (state.name === "dropping") this.onRefusal(dropTemplate(this.editor, rectBetween(state.from, state.at)));
    if (state.name === "moving" && state.moved) {
      const changed = edited(withJoint(state.shape, state.joint, this.#at(state)));
      this.editor.commit(this.editor.store.updating(changed), { ids: [changed.id], joint: null });
    }
  }

  cancel(): boolean {
    const busy = this.#state.name !== "idle";
    this.#state = { name: "idle" };
    if (busy) return true;
    if (this.editor.focus.joint === null) return false;
    this.editor.focusOn({ ids: this.editor.focus.ids, joint: null }); // the skeleton is done as far as it got
    return true;
  }

  cursor(): string {
    return "crosshair";
  }

  #at(state: { shape: Keypoints; joint: number; at: ImagePoint }): readonly [number, number, 1 | 2] {
    return [state.at.x, state.at.y, state.shape.points[state.joint]?.[2] === 1 ? 1 : 2];
  }

  #name(shape: Keypoints, joint: number): string {
    return this.editor.classOf(shape.class_id)?.skeleton?.joints[joint] ?? `joint ${joint + 1}`;
  }

  #template(from: ImagePoint, to: ImagePoint): Keypoints | null {
    const labelClass = this.editor.armedFor("keypoints");
    if (!labelClass) return null;
    const points = dropped(this.editor.layoutFor(labelClass), rectBetween(from, to));
    return { id: "ghost", kind: "keypoints", class_id: labelClass.id, points, provenance: "human_drawn" };
  }
}
