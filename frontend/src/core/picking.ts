/** Which shape, joint or handle lies under the pointer. */

import {
  contains,
  distance,
  distanceToOutline,
  distanceToSegment,
  HANDLES,
  handlePoint,
  rectArea,
  type Handle,
  type ImagePoint,
  type Rect,
} from "./geometry";
import { boundsOf, isLabelled, jointPoint, type Keypoints, type LabelClass, type Shape } from "./shapes";

/** The joint of a skeleton nearest to a point, within `radius` image pixels. */
export function jointAt(shape: Keypoints, point: ImagePoint, radius: number): number | null {
  let best: number | null = null;
  let nearest = radius;
  shape.points.forEach((joint, index) => {
    if (!isLabelled(joint)) return;
    const away = distance(jointPoint(joint), point);
    if (away <= nearest) [best, nearest] = [index, away];
  });
  return best;
}

export function handleAt(rect: Rect, point: ImagePoint, radius: number): Handle | null {
  let best: Handle | null = null;
  let nearest = radius;
  for (const handle of HANDLES) {
    const away = distance(handlePoint(rect, handle), point);
    if (away <= nearest) [best, nearest] = [handle, away];
  }
  return best;
}

/** How far a point is from what is drawn of a shape, 0 inside a box; null when it is not on the shape. */
function depth(shape: Shape, point: ImagePoint, radius: number, labelClass: LabelClass | undefined): number | null {
  if (shape.kind === "tag") return null;
  if (shape.kind === "keypoints") {
    if (jointAt(shape, point, radius) !== null) return 0;
    for (const [a, b] of labelClass?.skeleton?.edges ?? []) {
      const from = shape.points[a];
      const to = shape.points[b];
      if (!from || !to || !isLabelled(from) || !isLabelled(to)) continue;
      if (distanceToSegment(point, jointPoint(from), jointPoint(to)) <= radius) return 0;
    }
    return shape.xyxy && distanceToOutline(point, shape.xyxy) <= radius ? 0 : null;
  }
  if (!contains(shape.xyxy, point, radius)) return null;
  return distanceToOutline(point, shape.xyxy) <= radius ? 0 : rectArea(shape.xyxy);
}

/**
 * Shapes under the point, the likeliest first: joints, bones and outlines before insides, and among
 * insides the smallest, so that a small box within a large one can always be reached.
 */
export function shapesAt(
  candidates: Iterable<Shape>,
  point: ImagePoint,
  radius: number,
  classOf: (id: number) => LabelClass | undefined,
): Shape[] {
  const hits: { shape: Shape; depth: number; area: number }[] = [];
  for (const shape of candidates) {
    const found = depth(shape, point, radius, classOf(shape.class_id));
    if (found === null) continue;
    const bounds = boundsOf(shape);
    hits.push({ shape, depth: found, area: bounds ? rectArea(bounds) : 0 });
  }
  return hits.sort((a, b) => a.depth - b.depth || a.area - b.area).map((hit) => hit.shape);
}
