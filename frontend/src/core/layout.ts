/** Where a skeleton's joints stand when its template is dropped in a rectangle. */

import { clamp, imagePoint, rectHeight, rectWidth, type ImagePoint, type Rect } from "./geometry";
import { isLabelled, type Joint, type Skeleton } from "./shapes";

/** One place per joint in the unit square, y down. */
export type Layout = readonly (readonly [number, number])[];

const PERSON: Readonly<Record<string, readonly [number, number]>> = {
  nose: [0.5, 0.08],
  "left eye": [0.54, 0.05],
  "right eye": [0.46, 0.05],
  "left ear": [0.6, 0.07],
  "right ear": [0.4, 0.07],
  "left shoulder": [0.72, 0.22],
  "right shoulder": [0.28, 0.22],
  "left elbow": [0.86, 0.38],
  "right elbow": [0.14, 0.38],
  "left wrist": [0.94, 0.53],
  "right wrist": [0.06, 0.53],
  "left hip": [0.64, 0.53],
  "right hip": [0.36, 0.53],
  "left knee": [0.66, 0.75],
  "right knee": [0.34, 0.75],
  "left ankle": [0.67, 0.97],
  "right ankle": [0.33, 0.97],
};

/** A standing person for a person's joint names, else the skeleton's longest chain from top to bottom. */
export function defaultLayout(skeleton: Skeleton): Layout {
  const known = skeleton.joints.map((name) => PERSON[name.toLowerCase().replaceAll("_", " ")]);
  if (known.every((place) => place !== undefined)) return known as Layout;
  return chainLayout(skeleton);
}

/** Steps along edges from `start`; unreachable joints get none. */
function depthsFrom(skeleton: Skeleton, start: number): Map<number, number> {
  const depths = new Map([[start, 0]]);
  for (const [joint, depth] of depths) {
    for (const [a, b] of skeleton.edges) {
      const other = a === joint ? b : b === joint ? a : null;
      if (other !== null && !depths.has(other)) depths.set(other, depth + 1);
    }
  }
  return depths;
}

const farthest = (depths: Map<number, number>): number =>
  [...depths].reduce((best, next) => (next[1] > best[1] ? next : best))[0];

function chainLayout(skeleton: Skeleton): Layout {
  const depths = depthsFrom(skeleton, farthest(depthsFrom(skeleton, 0)));
  const deepest = Math.max(...depths.values());
  const rows = new Map<number, number[]>();
  skeleton.joints.forEach((_, joint) => {
    const row = depths.get(joint) ?? deepest + 1;
    rows.set(row, [...(rows.get(row) ?? []), joint]);
  });
  const last = Math.max(...rows.keys(), 1);
  const left = new Set(skeleton.pairs.map((pair) => pair[0]));
  const places: [number, number][] = skeleton.joints.map(() => [0.5, 0.5]);
  for (const [row, joints] of rows) {
    // as a picture shows someone facing us, the left joint of a pair stands on the right
    const ordered = [...joints].sort((a, b) => Number(left.has(a)) - Number(left.has(b)));
    ordered.forEach((joint, index) => {
      places[joint] = [(index + 1) / (ordered.length + 1), row / last];
    });
  }
  return places;
}

/** All joints visible, the layout stretched over `rect`. */
export function dropped(layout: Layout, rect: Rect): Joint[] {
  return layout.map(([x, y]) => [rect[0] + x * rectWidth(rect), rect[1] + y * rectHeight(rect), 2]);
}

/** The layout of a skeleton that somebody placed whole, to be the next one's template; else nothing. */
export function layoutOf(points: readonly Joint[]): Layout | null {
  if (!points.every(isLabelled) || points.length < 2) return null;
  const xs = points.map((joint) => joint[0]);
  const ys = points.map((joint) => joint[1]);
  const from: ImagePoint = imagePoint(Math.min(...xs), Math.min(...ys));
  const width = Math.max(...xs) - from.x;
  const height = Math.max(...ys) - from.y;
  if (width <= 0 || height <= 0) return null;
  return points.map((joint) => [clamp((joint[0] - from.x) / width, 0, 1), clamp((joint[1] - from.y) / height, 0, 1)]);
}
