/** The picture with the layers that are shown, to be zoomed, moved and pointed at; nothing here changes a shape. */

import { effect } from "@preact/signals";
import {
  contains,
  fitted,
  panned,
  rectArea,
  screenPoint,
  toImage,
  zoomedAt,
  type ScreenPoint,
  type Size,
  type View,
} from "../../core/geometry";
import { boundsOf, type LabelClass, type Shape } from "../../core/shapes";
import { Painter, PLAIN } from "../../render/painter";
import { Picture } from "../../render/picture";
import type { Layer, Picked, ReviewState } from "./state";

const ZOOM_PER_PX = 0.0015;
const CLICK_PX = 4;

export class ReviewCanvas {
  readonly #element: HTMLElement;
  readonly #state: ReviewState;
  readonly #context: CanvasRenderingContext2D;
  readonly #painters = new Map<string, Painter>();
  #picture: Picture | null = null;
  #taskId = 0;
  #view: View | null = null;
  #size: Size = { width: 1, height: 1 };
  #down: ScreenPoint | null = null;
  #moved = false;
  #frame = 0;

  constructor(element: HTMLElement, state: ReviewState) {
    this.#element = element;
    this.#state = state;
    const canvas = document.createElement("canvas");
    element.append(canvas);
    const context = canvas.getContext("2d");
    if (!context) throw new Error("This browser gives no 2D canvas");
    this.#context = context;
    new ResizeObserver(() => this.#resized()).observe(element);
    this.#listen();
    effect(() => {
      void [state.shown.value, state.picked.value, state.layers.value];
      this.#painters.clear();
      this.#request();
    });
    effect(() => void this.#load(state.review.value?.task.id ?? 0));
  }

  fit(): void {
    this.#view = null;
    this.#request();
  }

  async #load(taskId: number): Promise<void> {
    if (taskId === this.#taskId) return;
    this.#taskId = taskId;
    this.#picture?.close();
    this.#picture = null;
    this.#view = null;
    const image = this.#state.review.peek()?.image;
    if (!image) return;
    try {
      const picture = await Picture.load(image);
      if (this.#taskId !== taskId) return picture.close();
      this.#picture = picture;
      this.#element.dataset["paintedTask"] = String(taskId);
    } catch {
      if (this.#taskId === taskId) this.#state.trouble.value = "The picture could not be loaded; reload the page.";
    }
    this.#request();
  }

  get #current(): View {
    const image = this.#state.review.peek()?.image ?? { width: 1, height: 1 };
    return this.#view ?? fitted(image, this.#size);
  }

  #request(): void {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#paint());
  }

  #resized(): void {
    this.#size = { width: this.#element.clientWidth, height: this.#element.clientHeight };
    const ratio = globalThis.devicePixelRatio || 1;
    this.#context.canvas.width = Math.max(1, Math.round(this.#size.width * ratio));
    this.#context.canvas.height = Math.max(1, Math.round(this.#size.height * ratio));
    this.#request();
  }

  #paint(): void {
    this.#frame = 0;
    const context = this.#context;
    const ratio = globalThis.devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.#size.width, this.#size.height);
    const review = this.#state.review.peek();
    if (!review) return;
    const view = this.#current;
    const bitmap = this.#picture?.levelFor(view.scale * ratio);
    if (bitmap) {
      context.imageSmoothingEnabled = view.scale * ratio < 4;
      context.drawImage(bitmap, view.x, view.y, review.image.width * view.scale, review.image.height * view.scale);
    }
    void this.#picture?.sharpen(view.scale * ratio).then((sharper) => sharper && this.#request());
    const drawn = [...this.#shown()].reverse(); // the consensus on top
    const picked = this.#state.picked.peek();
    const isPicked = (layer: Layer, shape: Shape): boolean =>
      picked?.layer === layer.id && picked.shape === shape.id;
    const objects = drawn.flatMap((layer) => layer.shapes.map((shape) => ({ layer, shape })));
    const rest = objects.filter(({ layer, shape }) => !isPicked(layer, shape));
    for (const { layer, shape } of rest) this.#painter(layer).shape(context, shape, view, PLAIN);
    for (const { layer, shape } of rest) {
      // Several people's names on one object would hide it: their colours stand in the list.
      if (layer.color === null) this.#painter(layer).name(context, shape, view, PLAIN, ratio);
    }
    for (const { layer, shape } of objects.filter((item) => isPicked(item.layer, item.shape))) {
      const emphasis = { ...PLAIN, selected: true };
      this.#painter(layer).shape(context, shape, view, emphasis);
      this.#painter(layer).name(context, shape, view, emphasis, ratio);
    }
  }

  #shown(): Layer[] {
    return this.#state.layers.peek().filter((layer) => this.#state.shown.peek().has(layer.id));
  }

  #painter(layer: Layer): Painter {
    let painter = this.#painters.get(layer.id);
    if (!painter) {
      const classes = this.#state.classes.peek();
      painter = new Painter((id): LabelClass | undefined => {
        const found = classes.get(id);
        return found && layer.color !== null
          ? { ...found, color: layer.color, name: `${found.name} · ${layer.name}` }
          : found;
      });
      this.#painters.set(layer.id, painter);
    }
    return painter;
  }

  #listen(): void {
    const element = this.#element;
    element.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      this.#down = this.#at(event);
      this.#moved = false;
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      if (!this.#down) return;
      const at = this.#at(event);
      const [dx, dy] = [at.x - this.#down.x, at.y - this.#down.y];
      if (!this.#moved && Math.hypot(dx, dy) < CLICK_PX) return;
      this.#moved = true;
      this.#view = panned(this.#current, dx, dy);
      this.#down = at;
      this.#request();
    });
    element.addEventListener("pointerup", (event) => {
      if (this.#down && !this.#moved) this.#state.pick(this.#under(this.#at(event)));
      this.#down = null;
    });
    element.addEventListener("pointercancel", () => (this.#down = null));
    element.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
        const delta = Math.max(-300, Math.min(300, event.deltaY * lines));
        this.#view = zoomedAt(this.#current, this.#at(event), Math.exp(-delta * ZOOM_PER_PX));
        this.#request();
      },
      { passive: false },
    );
  }

  #at(event: MouseEvent): ScreenPoint {
    const frame = this.#element.getBoundingClientRect();
    return screenPoint(event.clientX - frame.left, event.clientY - frame.top);
  }

  /** The smallest object of those shown under a point; pointing again at it lets it go. */
  #under(at: ScreenPoint): Picked | null {
    const point = toImage(this.#current, at);
    const slack = 4 / this.#current.scale;
    const found = this.#shown()
      .flatMap((layer) => layer.shapes.map((shape) => ({ layer, shape, bounds: boundsOf(shape) })))
      .filter((item) => item.bounds && contains(item.bounds, point, slack))
      .sort((a, b) => rectArea(a.bounds ?? [0, 0, 0, 0]) - rectArea(b.bounds ?? [0, 0, 0, 0]))[0];
    return found ? { layer: found.layer.id, shape: found.shape.id } : null;
  }
}
