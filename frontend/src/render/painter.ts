/** Draws shapes on a canvas whose unit is a CSS pixel. Colour is never alone: every line has a dark casing, every
 * object its name, every suggestion dashes and its confidence. */

import {
  handlePoint,
  HANDLES,
  rectWidth,
  toScreen,
  imagePoint,
  type Rect,
  type ScreenPoint,
  type View,
} from "../core/geometry";
import {
  boundsOf,
  isLabelled,
  isSuggestion,
  jointPoint,
  type Keypoints,
  type LabelClass,
  type Shape,
} from "../core/shapes";
import { LabelSprites, type Occupied } from "./labels";

const CASING = "rgb(0 0 0 / 0.72)";
const HALO = "#ffffff";
const DASH = [7, 5];
const HANDLE_PX = 9;
const JOINT_PX = 4;
const NAMED_FROM_PX = 14;
const UNKNOWN: LabelClass = { id: 0, name: "unknown class", kind: "box", color: "#9a9a9a", key: "" };

export interface Emphasis {
  readonly selected: boolean;
  readonly joint: number | null;
  readonly handles: boolean;
}

export const PLAIN: Emphasis = { selected: false, joint: null, handles: false };

export class Painter {
  readonly #labels = new LabelSprites();

  constructor(readonly classOf: (id: number) => LabelClass | undefined) {}

  shape(context: CanvasRenderingContext2D, shape: Shape, view: View, emphasis: Emphasis): void {
    if (shape.kind === "tag") return;
    const labelClass = this.classOf(shape.class_id) ?? UNKNOWN;
    const open = isSuggestion(shape);
    const width = emphasis.selected ? 3 : 2;
    context.setLineDash(open ? DASH : []);
    if (shape.xyxy) this.#rect(context, shape.xyxy, view, labelClass.color, width, emphasis);
    if (shape.kind === "keypoints") this.#skeleton(context, shape, view, labelClass, width, emphasis);
    context.setLineDash([]);
    if (emphasis.handles && shape.xyxy) this.#handles(context, shape.xyxy, view);
  }

  /** The shape's name, to be drawn after all shapes so that no line crosses it; see `LabelSprites.draw`. */
  name(
    context: CanvasRenderingContext2D,
    shape: Shape,
    view: View,
    emphasis: Emphasis,
    ratio: number,
    occupied?: Occupied,
  ): void {
    const bounds = boundsOf(shape);
    if (!bounds) return;
    if (!emphasis.selected && rectWidth(bounds) * view.scale < NAMED_FROM_PX) return;
    const labelClass = this.classOf(shape.class_id) ?? UNKNOWN;
    const at = toScreen(view, imagePoint(bounds[0], bounds[1]));
    const gap = shape.kind === "keypoints" ? JOINT_PX + 6 : 2;
    const above = at.y < 20 + gap ? at.y + 20 : at.y - gap; // at the stage's top edge the name goes inside
    this.#labels.draw(context, nameOf(shape, labelClass), labelClass.color, at.x - 2, above, ratio, occupied);
  }

  marquee(context: CanvasRenderingContext2D, rect: Rect, view: View): void {
    const [x, y, width, height] = onScreen(rect, view);
    context.setLineDash([4, 3]);
    context.fillStyle = "rgb(255 255 255 / 0.12)";
    context.fillRect(x, y, width, height);
    stroke(context, CASING, 3, () => context.strokeRect(x, y, width, height));
    stroke(context, HALO, 1, () => context.strokeRect(x, y, width, height));
    context.setLineDash([]);
  }

  crosshair(context: CanvasRenderingContext2D, at: ScreenPoint, width: number, height: number): void {
    const x = Math.round(at.x) + 0.5;
    const y = Math.round(at.y) + 0.5;
    const lines = (): void => {
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, height);
      context.moveTo(0, y);
      context.lineTo(width, y);
      context.stroke();
    };
    stroke(context, "rgb(0 0 0 / 0.45)", 3, lines);
    stroke(context, "rgb(255 255 255 / 0.85)", 1, lines);
  }

  hint(context: CanvasRenderingContext2D, text: string, at: ScreenPoint, ratio: number): void {
    this.#labels.draw(context, text, "#111418", at.x + 14, at.y - 8, ratio);
  }

  #rect(
    context: CanvasRenderingContext2D,
    rect: Rect,
    view: View,
    color: string,
    width: number,
    emphasis: Emphasis,
  ): void {
    const [x, y, w, h] = onScreen(rect, view);
    if (emphasis.selected) {
      context.fillStyle = "rgb(255 255 255 / 0.1)";
      context.fillRect(x, y, w, h);
    }
    stroke(context, CASING, width + 2, () => context.strokeRect(x, y, w, h));
    stroke(context, color, width, () => context.strokeRect(x, y, w, h));
  }

  #skeleton(
    context: CanvasRenderingContext2D,
    shape: Keypoints,
    view: View,
    labelClass: LabelClass,
    width: number,
    emphasis: Emphasis,
  ): void {
    const bones = (): void => {
      context.beginPath();
      for (const [a, b] of labelClass.skeleton?.edges ?? []) {
        const from = shape.points[a];
        const to = shape.points[b];
        if (!from || !to || !isLabelled(from) || !isLabelled(to)) continue;
        const start = toScreen(view, jointPoint(from));
        const end = toScreen(view, jointPoint(to));
        context.moveTo(start.x, start.y);
        context.lineTo(end.x, end.y);
      }
      context.stroke();
    };
    stroke(context, CASING, width + 2, bones);
    stroke(context, labelClass.color, width, bones);
    context.setLineDash([]);
    shape.points.forEach((joint, index) => {
      if (!isLabelled(joint)) return;
      const at = toScreen(view, jointPoint(joint));
      const active = index === emphasis.joint;
      const radius = (active ? JOINT_PX + 2 : JOINT_PX) + (emphasis.selected ? 1 : 0);
      disc(context, at, radius + 1.5, active ? HALO : CASING);
      disc(context, at, radius, labelClass.color);
      if (joint[2] === 1) disc(context, at, radius - 2, "#111418"); // hidden: hollow
    });
  }

  #handles(context: CanvasRenderingContext2D, rect: Rect, view: View): void {
    for (const handle of HANDLES) {
      const at = toScreen(view, handlePoint(rect, handle));
      const half = HANDLE_PX / 2;
      context.fillStyle = "#111418";
      context.fillRect(at.x - half - 1, at.y - half - 1, HANDLE_PX + 2, HANDLE_PX + 2);
      context.fillStyle = HALO;
      context.fillRect(at.x - half, at.y - half, HANDLE_PX, HANDLE_PX);
    }
  }
}

export function nameOf(shape: Shape, labelClass: LabelClass | undefined): string {
  const name = labelClass?.name ?? UNKNOWN.name;
  return isSuggestion(shape) ? `${name} ${Math.round((shape.score ?? 0) * 100)}%?` : name;
}

function onScreen(rect: Rect, view: View): [number, number, number, number] {
  return [
    rect[0] * view.scale + view.x,
    rect[1] * view.scale + view.y,
    (rect[2] - rect[0]) * view.scale,
    (rect[3] - rect[1]) * view.scale,
  ];
}

function stroke(context: CanvasRenderingContext2D, color: string, width: number, draw: () => void): void {
  context.strokeStyle = color;
  context.lineWidth = width;
  draw();
}

function disc(context: CanvasRenderingContext2D, at: ScreenPoint, radius: number, color: string): void {
  context.fillStyle = color;
  context.beginPath();
  context.arc(at.x, at.y, Math.max(radius, 0.5), 0, 2 * Math.PI);
  context.fill();
}
