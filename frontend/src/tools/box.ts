import { addBox, type Refusal } from "../core/actions";
import { clippedPoint, rectBetween, type ImagePoint, type Rect, type ScreenPoint } from "../core/geometry";
import type { Editor } from "../core/editor";
import type { Shape } from "../core/shapes";
import { isDrag, type Pointer, type Preview, type Tool } from "./tool";

type State =
  | { name: "idle" }
  | { name: "pressed"; from: ImagePoint; screen: ScreenPoint }
  | { name: "dragging"; from: ImagePoint; to: ImagePoint }
  /** The first corner was clicked; the second is awaited. */
  | { name: "waiting"; from: ImagePoint; to: ImagePoint };

/** Draws a box by one drag or by two clicks, also over other objects. */
export class BoxTool implements Tool {
  readonly id = "box";
  #state: State = { name: "idle" };

  constructor(
    readonly editor: Editor,
    readonly onRefusal: (why: Refusal) => void = () => {},
  ) {}

  get state(): State["name"] {
    return this.#state.name;
  }

  get preview(): Preview {
    const rect = this.#rect();
    const labelClass = this.editor.armedFor("box");
    if (!rect || !labelClass) return { shapes: [], crosshair: true };
    const ghost: Shape = { id: "ghost", kind: "box", class_id: labelClass.id, xyxy: rect, provenance: "human_drawn" };
    return { shapes: [ghost], crosshair: true };
  }

  down({ at, screen }: Pointer): void {
    const point = clippedPoint(at, this.editor.picture);
    if (this.#state.name === "waiting") this.#state = { ...this.#state, to: point };
    else this.#state = { name: "pressed", from: point, screen };
  }

  move({ at, screen }: Pointer): void {
    const state = this.#state;
    const to = clippedPoint(at, this.editor.picture);
    if (state.name === "pressed" && isDrag(state.screen, screen)) {
      this.#state = { name: "dragging", from: state.from, to };
    } else if (state.name === "dragging" || state.name === "waiting") {
      this.#state = { ...state, to };
    }
  }

  up(pointer: Pointer): void {
    this.move(pointer);
    if (this.#state.name === "pressed") {
      this.#state = { name: "waiting", from: this.#state.from, to: this.#state.from };
      return;
    }
    const rect = this.#rect();
    if (!rect) return;
    this.#state = { name: "idle" };
    this.onRefusal(addBox(this.editor, rect));
  }

  cancel(): boolean {
    const busy = this.#state.name !== "idle";
    this.#state = { name: "idle" };
    return busy;
  }

  cursor(): string {
    return "crosshair";
  }

  #rect(): Rect | null {
    const state = this.#state;
    return state.name === "dragging" || state.name === "waiting" ? rectBetween(state.from, state.to) : null;
  }
}
