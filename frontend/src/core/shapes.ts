/** What a person draws, as the server stores it (labeling/shapes.py), and the classes it may belong to. */

import { imagePoint, movedRect, rectAround, type ImagePoint, type Rect } from "./geometry";

export type Kind = "box" | "keypoints" | "tag";

export type Provenance =
  | "human_drawn"
  | "human_edited"
  | "human_accepted"
  | "consensus"
  | "imported"
  | "model_only";

/** x, y in image pixels and COCO's visibility: 0 absent (x = y = 0), 1 labelled but hidden, 2 visible. */
export type Joint = readonly [number, number, 0 | 1 | 2];

interface Common {
  readonly id: string;
  readonly class_id: number;
  readonly provenance: Provenance;
  readonly score?: number;
  readonly attributes?: Readonly<Record<string, string | number | boolean>>;
}

export interface Box extends Common {
  readonly kind: "box";
  readonly xyxy: Rect;
}

export interface Keypoints extends Common {
  readonly kind: "keypoints";
  readonly points: readonly Joint[];
  readonly xyxy?: Rect | null;
}

export interface Tag extends Common {
  readonly kind: "tag";
}

export type Shape = Box | Keypoints | Tag;

export interface Skeleton {
  readonly joints: readonly string[];
  readonly edges: readonly (readonly [number, number])[];
  readonly pairs: readonly (readonly [number, number])[];
}

export interface LabelClass {
  readonly id: number;
  readonly name: string;
  readonly kind: Kind;
  readonly color: string;
  readonly key: string;
  readonly skeleton?: Skeleton | null;
}

export const ABSENT: Joint = [0, 0, 0];

/** A suggestion is a model's shape that nobody has accepted; it is never part of an answer. */
export const isSuggestion = (shape: Shape): boolean => shape.provenance === "model_only";

export const isLabelled = (joint: Joint): boolean => joint[2] > 0;

export const jointPoint = (joint: Joint): ImagePoint => imagePoint(joint[0], joint[1]);

/** What the shape covers: its box and every labelled joint; nothing for a tag. */
export function boundsOf(shape: Shape): Rect | null {
  if (shape.kind === "tag") return null;
  if (shape.kind === "box") return shape.xyxy;
  const points = shape.points.filter(isLabelled).map(jointPoint);
  const box = shape.xyxy;
  if (box) points.push(imagePoint(box[0], box[1]), imagePoint(box[2], box[3]));
  return points.length ? rectAround(points) : null;
}

export function movedShape(shape: Shape, dx: number, dy: number): Shape {
  if (shape.kind === "tag") return shape;
  if (shape.kind === "box") return { ...shape, xyxy: movedRect(shape.xyxy, dx, dy) };
  const points = shape.points.map(
    (joint): Joint => (isLabelled(joint) ? [joint[0] + dx, joint[1] + dy, joint[2]] : joint),
  );
  return shape.xyxy ? { ...shape, points, xyxy: movedRect(shape.xyxy, dx, dy) } : { ...shape, points };
}

export function withJoint(shape: Keypoints, index: number, joint: Joint): Keypoints {
  return { ...shape, points: shape.points.map((old, i) => (i === index ? joint : old)) };
}

/**
 * The shape as its author leaves it after a change by hand. What a person drew stays drawn; anything that
 * came from elsewhere, a suggestion too, becomes edited, and a model's confidence no longer describes it.
 */
export function edited<S extends Shape>(shape: S): S {
  if (shape.provenance === "human_drawn") return shape;
  const { score: _, ...rest } = shape;
  return { ...rest, provenance: "human_edited" } as S;
}

/** A suggestion taken as it is. */
export function accepted<S extends Shape>(shape: S): S {
  const { score: _, ...rest } = shape;
  return { ...rest, provenance: "human_accepted" } as S;
}

/** What a person submits: everything but open suggestions. */
export const answerOf = (shapes: readonly Shape[]): Shape[] => shapes.filter((shape) => !isSuggestion(shape));

/** Equal in what is labelled; provenance and score left aside. */
export function sameGeometry(a: Shape, b: Shape): boolean {
  if (a.kind !== b.kind) return false;
  const flat = (shape: Shape): unknown[] =>
    shape.kind === "tag" ? [] : [shape.xyxy ?? null, shape.kind === "keypoints" ? shape.points : null];
  return JSON.stringify(flat(a)) === JSON.stringify(flat(b));
}

/** Digits for the classes: each keeps its own, the others get the first free of 1…9. */
export function classKeys(classes: readonly LabelClass[]): ReadonlyMap<string, LabelClass> {
  const keys = new Map(classes.filter((item) => item.key !== "").map((item) => [item.key, item] as const));
  const free = [..."123456789"].filter((digit) => !keys.has(digit));
  for (const item of classes) {
    if (item.key !== "") continue;
    const digit = free.shift();
    if (digit === undefined) break;
    keys.set(digit, item);
  }
  return keys;
}
