/**
 * Points, rectangles and the view between the picture and the screen.
 *
 * Image coordinates are continuous pixels of the oriented picture: (0, 0) is the top-left corner of the
 * top-left pixel. Screen coordinates are CSS pixels from the stage's top-left corner.
 */

declare const space: unique symbol;

export interface ImagePoint {
  readonly x: number;
  readonly y: number;
  readonly [space]?: "image";
}

export interface ScreenPoint {
  readonly x: number;
  readonly y: number;
  readonly [space]?: "screen";
}

/** [x1, y1, x2, y2] in image pixels, x1 <= x2 and y1 <= y2. */
export type Rect = readonly [number, number, number, number];

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** screen = image * scale + offset. */
export interface View {
  readonly scale: number;
  readonly x: number;
  readonly y: number;
}

export const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"] as const;
export type Handle = (typeof HANDLES)[number];

export const MIN_SCALE = 0.01;
export const MAX_SCALE = 64;

export const imagePoint = (x: number, y: number): ImagePoint => ({ x, y }) as ImagePoint;
export const screenPoint = (x: number, y: number): ScreenPoint => ({ x, y }) as ScreenPoint;

export const clamp = (value: number, low: number, high: number): number =>
  Math.min(Math.max(value, low), high);

export function toScreen(view: View, point: ImagePoint): ScreenPoint {
  return screenPoint(point.x * view.scale + view.x, point.y * view.scale + view.y);
}

export function toImage(view: View, point: ScreenPoint): ImagePoint {
  return imagePoint((point.x - view.x) / view.scale, (point.y - view.y) / view.scale);
}

/** The view with another scale in which the picture's point under `at` stays there. */
export function zoomedAt(view: View, at: ScreenPoint, factor: number): View {
  const scale = clamp(view.scale * factor, MIN_SCALE, MAX_SCALE);
  const ratio = scale / view.scale;
  return { scale, x: at.x - (at.x - view.x) * ratio, y: at.y - (at.y - view.y) * ratio };
}

export function panned(view: View, dx: number, dy: number): View {
  return { ...view, x: view.x + dx, y: view.y + dy };
}

/** The whole picture, centred, with a margin in CSS pixels. */
export function fitted(picture: Size, stage: Size, margin = 16): View {
  const scale = clamp(
    Math.min(
      Math.max(stage.width - 2 * margin, 1) / picture.width,
      Math.max(stage.height - 2 * margin, 1) / picture.height,
    ),
    MIN_SCALE,
    MAX_SCALE,
  );
  return {
    scale,
    x: (stage.width - picture.width * scale) / 2,
    y: (stage.height - picture.height * scale) / 2,
  };
}

/** The part of the picture that the stage shows. */
export function visibleRect(view: View, stage: Size): Rect {
  const from = toImage(view, screenPoint(0, 0));
  const to = toImage(view, screenPoint(stage.width, stage.height));
  return [from.x, from.y, to.x, to.y];
}

/** The rectangle with two opposite corners. */
export function rectBetween(a: ImagePoint, b: ImagePoint): Rect {
  return [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];
}

export function rectAround(points: readonly ImagePoint[]): Rect {
  const xs = points.map((point) => point.x);
  const ys = points.map((point) => point.y);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

export const rectWidth = (rect: Rect): number => rect[2] - rect[0];
export const rectHeight = (rect: Rect): number => rect[3] - rect[1];
export const rectArea = (rect: Rect): number => rectWidth(rect) * rectHeight(rect);
export const rectCentre = (rect: Rect): ImagePoint =>
  imagePoint((rect[0] + rect[2]) / 2, (rect[1] + rect[3]) / 2);

export function contains(rect: Rect, point: ImagePoint, slack = 0): boolean {
  return (
    point.x >= rect[0] - slack &&
    point.x <= rect[2] + slack &&
    point.y >= rect[1] - slack &&
    point.y <= rect[3] + slack
  );
}

export function overlaps(a: Rect, b: Rect): boolean {
  return a[0] <= b[2] && b[0] <= a[2] && a[1] <= b[3] && b[1] <= a[3];
}

export function grown(rect: Rect, by: number): Rect {
  return [rect[0] - by, rect[1] - by, rect[2] + by, rect[3] + by];
}

export function clippedPoint(point: ImagePoint, picture: Size): ImagePoint {
  return imagePoint(clamp(point.x, 0, picture.width), clamp(point.y, 0, picture.height));
}

export function clippedRect(rect: Rect, picture: Size): Rect {
  return [
    clamp(rect[0], 0, picture.width),
    clamp(rect[1], 0, picture.height),
    clamp(rect[2], 0, picture.width),
    clamp(rect[3], 0, picture.height),
  ];
}

/** How far a rectangle may move by (dx, dy) without leaving the picture further than it already has. */
export function boundedMove(rect: Rect, dx: number, dy: number, picture: Size): readonly [number, number] {
  const along = (delta: number, low: number, high: number, limit: number): number =>
    clamp(delta, Math.min(0, -low), Math.max(0, limit - high));
  return [along(dx, rect[0], rect[2], picture.width), along(dy, rect[1], rect[3], picture.height)];
}

export function movedRect(rect: Rect, dx: number, dy: number): Rect {
  return [rect[0] + dx, rect[1] + dy, rect[2] + dx, rect[3] + dy];
}

export function handlePoint(rect: Rect, handle: Handle): ImagePoint {
  const centre = rectCentre(rect);
  return imagePoint(
    handle.includes("w") ? rect[0] : handle.includes("e") ? rect[2] : centre.x,
    handle.includes("n") ? rect[1] : handle.includes("s") ? rect[3] : centre.y,
  );
}

/** The rectangle with one handle dragged to a point; crossing the other side turns it over. */
export function resizedRect(rect: Rect, handle: Handle, to: ImagePoint): Rect {
  const fixed = imagePoint(handle.includes("w") ? rect[2] : rect[0], handle.includes("n") ? rect[3] : rect[1]);
  const free = imagePoint(
    handle === "n" || handle === "s" ? rect[2] : to.x,
    handle === "e" || handle === "w" ? rect[3] : to.y,
  );
  return rectBetween(fixed, free);
}

export function distance(a: { x: number; y: number }, b: { x: number; y: number }): number {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

export function distanceToSegment(point: ImagePoint, a: ImagePoint, b: ImagePoint): number {
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const length = dx * dx + dy * dy;
  if (length === 0) return distance(point, a);
  const along = clamp(((point.x - a.x) * dx + (point.y - a.y) * dy) / length, 0, 1);
  return distance(point, { x: a.x + along * dx, y: a.y + along * dy });
}

/** From a point to the nearest edge of a rectangle, inside or outside. */
export function distanceToOutline(point: ImagePoint, rect: Rect): number {
  const [x1, y1, x2, y2] = rect;
  const corners = [imagePoint(x1, y1), imagePoint(x2, y1), imagePoint(x2, y2), imagePoint(x1, y2)];
  return Math.min(
    ...corners.map((corner, index) => distanceToSegment(point, corner, corners[(index + 1) % 4] ?? corner)),
  );
}
