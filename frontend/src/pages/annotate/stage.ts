/**
 * The picture under the hands: pointer, wheel and Space become tool events and view changes.
 * Framework-free: it owns two canvases in the element it is given and asks the session for everything else.
 */

import {
  fitted,
  panned,
  screenPoint,
  toImage,
  visibleRect,
  zoomedAt,
  type Rect,
  type ScreenPoint,
  type Size,
  type View,
} from "../../core/geometry";
import type { Refusal } from "../../core/actions";
import { BoxTool } from "../../tools/box";
import { KeypointsTool } from "../../tools/keypoints";
import { SelectTool } from "../../tools/select";
import type { Pointer, Tool, ToolId } from "../../tools/tool";
import { CanvasRenderer } from "../../render/renderer";
import type { Session, Work } from "./session";

const REACH_PX = 8;
const TOUCH_REACH_PX = 18;
const ZOOM_PER_PX = 0.0015;

export interface Readout {
  readonly x: number;
  readonly y: number;
}

export interface StageOptions {
  readonly element: HTMLElement;
  readonly session: Session;
  readonly say: (why: Refusal) => void;
  /** The tool, the view or the pointer changed. */
  readonly onChange: () => void;
}

export class Stage {
  readonly #element: HTMLElement;
  readonly #session: Session;
  readonly #options: StageOptions;
  readonly #renderer: CanvasRenderer;
  readonly #canvas: HTMLCanvasElement;
  readonly #views = new WeakMap<Work, View>();
  #tools: Readonly<Record<ToolId, Tool>> | null = null;
  #toolId: ToolId = "select";
  #drawing: Exclude<ToolId, "select"> = "box";
  #work: Work | null = null;
  #unsubscribe: () => void = () => {};
  #size: Size = { width: 1, height: 1 };
  #pointer: ScreenPoint | null = null;
  /** The tool that has the pointer until it is released. */
  #captured: Tool | null = null;
  #panning: ScreenPoint | null = null;
  #spaceHeld = false;

  constructor(options: StageOptions) {
    this.#options = options;
    this.#element = options.element;
    this.#session = options.session;
    const still = document.createElement("canvas");
    this.#canvas = document.createElement("canvas");
    for (const canvas of [still, this.#canvas]) {
      canvas.className = "stage-canvas";
      this.#element.append(canvas);
    }
    this.#canvas.dataset["testid"] = "canvas";
    this.#renderer = new CanvasRenderer(still, this.#canvas, () => this.#scene(), () => this.#painted());
    new ResizeObserver(() => this.#resized()).observe(this.#element);
    this.#listen();
    this.#resized();
  }

  get toolId(): ToolId {
    return this.#toolId;
  }

  get drawing(): "box" | "keypoints" {
    return this.#drawing;
  }

  get view(): View {
    const work = this.#work;
    if (!work) return { scale: 1, x: 0, y: 0 };
    return this.#views.get(work) ?? fitted(work.leased.image, this.#size);
  }

  /** Where the pointer is on the picture, in image pixels; null when it is not over it. */
  get readout(): Readout | null {
    if (!this.#pointer || !this.#work) return null;
    const at = toImage(this.view, this.#pointer);
    const { width, height } = this.#work.leased.image;
    return at.x >= 0 && at.y >= 0 && at.x < width && at.y < height ? at : null;
  }

  get seen(): Rect {
    return visibleRect(this.view, this.#size);
  }

  /** Shows a task and paints it before returning. */
  show(work: Work | null): void {
    this.#cancelTool();
    this.#unsubscribe();
    this.#work = work;
    this.#tools = null;
    if (work) {
      const { editor } = work;
      this.#tools = {
        select: new SelectTool(editor),
        box: new BoxTool(editor, this.#options.say),
        keypoints: new KeypointsTool(editor, this.#options.say),
      };
      this.#unsubscribe = editor.subscribe((aspect) => {
        if (this.#work === work) this.#renderer.request(aspect !== "class");
      });
      this.#armForClass();
    }
    this.#renderer.request(true);
    this.#renderer.flush();
    this.#viewChanged();
  }

  /** A picture came: paints it if it is the one on stage. */
  pictureArrived(work: Work): void {
    if (work !== this.#work) return;
    this.#renderer.request(true);
    this.#renderer.flush();
    this.#viewChanged();
  }

  setTool(id: ToolId): void {
    this.#cancelTool();
    this.#toolId = id;
    if (id !== "select") this.#drawing = id;
    this.#renderer.request(true);
    this.#options.onChange();
    this.#showCursor();
  }

  /** Arms the tool that draws the armed class, when a drawing tool is armed at all. */
  followClass(): void {
    const kind = this.#work?.editor.armed?.kind;
    if (kind === "box" || kind === "keypoints") {
      this.#drawing = kind;
      if (this.#toolId !== "select" && this.#toolId !== kind) this.setTool(kind);
    }
  }

  /** Esc: half-done work first. Answers whether there was any. */
  cancel(): boolean {
    const busy = this.#tool()?.cancel() ?? false;
    if (busy) this.#captured = null;
    this.#renderer.request(true);
    return busy;
  }

  fit(): void {
    if (this.#work) this.#setView(fitted(this.#work.leased.image, this.#size));
  }

  zoom(factor: number): void {
    const at = this.#pointer ?? screenPoint(this.#size.width / 2, this.#size.height / 2);
    this.#setView(zoomedAt(this.view, at, factor));
  }

  contains(node: Node): boolean {
    return this.#element.contains(node);
  }

  focus(): void {
    this.#element.focus({ preventScroll: true });
  }

  #armForClass(): void {
    const editor = this.#work?.editor;
    const kind = editor?.armed?.kind;
    if (kind === "box" || kind === "keypoints") this.#drawing = kind;
    const usable = editor?.classes.some((item) => item.kind === this.#toolId);
    if (this.#toolId !== "select" && !usable) this.#toolId = "select";
  }

  #tool(): Tool | null {
    return this.#captured ?? this.#tools?.[this.#toolId] ?? null;
  }

  #cancelTool(): void {
    this.#tool()?.cancel();
    this.#captured = null;
  }

  #scene() {
    const work = this.#work;
    const tool = this.#tool();
    if (!work || !tool) return null;
    return {
      editor: work.editor,
      picture: work.picture,
      view: this.view,
      preview: tool.preview,
      pointer: this.#panning || this.#spaceHeld ? null : this.#pointer,
      handles: this.#toolId === "select",
    };
  }

  #resized(): void {
    const { clientWidth: width, clientHeight: height } = this.#element;
    this.#size = { width, height };
    this.#renderer.resize(this.#size);
    this.#viewChanged();
  }

  #setView(view: View): void {
    if (!this.#work) return;
    this.#views.set(this.#work, view);
    this.#renderer.request(true);
    this.#viewChanged();
  }

  #viewChanged(): void {
    const { scale, x, y } = this.view;
    this.#canvas.dataset["imageToScreen"] = JSON.stringify({ scale, x, y });
    this.#options.onChange();
    const work = this.#work;
    const ratio = globalThis.devicePixelRatio || 1;
    void work?.picture?.sharpen(scale * ratio).then((sharper) => {
      if (sharper && work === this.#work) this.#renderer.request(true);
    });
  }

  #painted(): void {
    const painted = this.#work?.picture ? String(this.#work.leased.task.id) : "";
    if (this.#canvas.dataset["paintedTask"] !== painted) this.#canvas.dataset["paintedTask"] = painted;
  }

  // --- hands ---------------------------------------------------------------------------------------------

  #listen(): void {
    const element = this.#element;
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    element.addEventListener("pointerup", (event) => this.#up(event));
    element.addEventListener("pointercancel", () => this.#abandoned());
    element.addEventListener("pointerleave", () => {
      this.#pointer = null;
      this.#renderer.request(false);
      this.#options.onChange();
    });
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    document.addEventListener("keydown", (event) => {
      if (event.code !== "Space" || event.ctrlKey || event.metaKey || !this.#ownsKeys(event)) return;
      event.preventDefault();
      this.#holdSpace(true);
    });
    document.addEventListener("keyup", (event) => {
      if (event.code === "Space") this.#holdSpace(false);
    });
    window.addEventListener("blur", () => this.#holdSpace(false));
  }

  #ownsKeys(event: Event): boolean {
    return event.target === document.body || this.contains(event.target as Node);
  }

  #holdSpace(held: boolean): void {
    if (this.#spaceHeld === held) return;
    this.#spaceHeld = held;
    this.#showCursor();
    this.#renderer.request(false);
  }

  #at(event: MouseEvent): ScreenPoint {
    const frame = this.#element.getBoundingClientRect();
    return screenPoint(event.clientX - frame.left, event.clientY - frame.top);
  }

  #pointerOf(event: PointerEvent): Pointer {
    const screen = this.#at(event);
    const reach = event.pointerType === "touch" ? TOUCH_REACH_PX : REACH_PX;
    return {
      at: toImage(this.view, screen),
      screen,
      reach: reach / this.view.scale,
      shift: event.shiftKey,
      // with another tool armed Ctrl means "select for now", not "add to the selection"
      additive: (event.ctrlKey || event.metaKey) && this.#toolId === "select",
    };
  }

  #down(event: PointerEvent): void {
    this.focus();
    this.#pointer = this.#at(event);
    if (event.button === 1 || (event.button === 0 && this.#spaceHeld)) {
      event.preventDefault();
      this.#panning = this.#pointer;
      this.#element.setPointerCapture(event.pointerId);
      this.#showCursor();
      return;
    }
    if (event.button !== 0 || !this.#tools || !this.#work?.picture) return;
    event.preventDefault();
    this.#element.setPointerCapture(event.pointerId);
    const borrowed = (event.ctrlKey || event.metaKey) && this.#toolId !== "select";
    this.#captured = borrowed ? this.#tools.select : this.#tools[this.#toolId];
    this.#captured.down(this.#pointerOf(event));
    this.#session.current?.clock.tick(Date.now());
    this.#renderer.request(false);
  }

  #move(event: PointerEvent): void {
    const at = this.#at(event);
    this.#pointer = at;
    this.#session.current?.clock.tick(Date.now());
    if (this.#panning) {
      this.#setView(panned(this.view, at.x - this.#panning.x, at.y - this.#panning.y));
      this.#panning = at;
      return;
    }
    this.#tool()?.move(this.#pointerOf(event));
    this.#showCursor(event);
    this.#renderer.request(false);
    this.#options.onChange();
  }

  #up(event: PointerEvent): void {
    this.#pointer = this.#at(event);
    if (this.#panning) {
      this.#panning = null;
      this.#showCursor();
      return;
    }
    if (event.button !== 0 || !this.#captured) return;
    const tool = this.#captured;
    tool.up(this.#pointerOf(event));
    this.#captured = null;
    this.#renderer.request(false);
    this.#options.onChange();
  }

  /** The system took the pointer away: what was half done is not done. */
  #abandoned(): void {
    this.#panning = null;
    this.#cancelTool();
    this.#renderer.request(true);
  }

  #wheel(event: WheelEvent): void {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const delta = Math.max(-300, Math.min(300, event.deltaY * lines));
    this.#pointer = this.#at(event);
    this.#setView(zoomedAt(this.view, this.#pointer, Math.exp(-delta * ZOOM_PER_PX * (event.ctrlKey ? 4 : 1))));
  }

  #showCursor(event?: PointerEvent): void {
    const tool = this.#tool();
    if (this.#panning || this.#spaceHeld) this.#element.style.cursor = this.#panning ? "grabbing" : "grab";
    else if (tool && event) this.#element.style.cursor = tool.cursor(this.#pointerOf(event));
    else if (tool) this.#element.style.cursor = tool.id === "select" ? "default" : "crosshair";
  }
}
