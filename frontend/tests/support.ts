import { Editor } from "../src/core/editor";
import { imagePoint, screenPoint } from "../src/core/geometry";
import type { Box, Keypoints, LabelClass, Shape } from "../src/core/shapes";
import type { Pointer, Tool } from "../src/tools/tool";

export const CLASSES: LabelClass[] = [
  { id: 1, name: "person", kind: "box", color: "#E69F00", key: "1" },
  { id: 2, name: "bicycle", kind: "box", color: "#56B4E9", key: "" },
  {
    id: 3,
    name: "mouse",
    kind: "keypoints",
    color: "#009E73",
    key: "",
    skeleton: {
      joints: ["snout", "left ear", "right ear", "tail"],
      edges: [
        [0, 1],
        [0, 2],
        [0, 3],
      ],
      pairs: [[1, 2]],
    },
  },
  { id: 4, name: "blurred", kind: "tag", color: "#CC79A7", key: "" },
];

export const PICTURE = { width: 200, height: 100 };

export const box = (id: string, xyxy: Box["xyxy"], more: Partial<Box> = {}): Box => ({
  id,
  kind: "box",
  class_id: 1,
  xyxy,
  provenance: "human_drawn",
  ...more,
});

export const mouse = (id: string, points: Keypoints["points"], more: Partial<Keypoints> = {}): Keypoints => ({
  id,
  kind: "keypoints",
  class_id: 3,
  points,
  provenance: "human_drawn",
  ...more,
});

export const suggestion = (id: string, xyxy: Box["xyxy"]): Box =>
  box(id, xyxy, { provenance: "model_only", score: 0.9 });

export function editorWith(...shapes: Shape[]): Editor {
  let count = 0;
  return new Editor({ picture: PICTURE, classes: CLASSES, shapes, newId: () => `new-${++count}` });
}

/** A pointer at an image coordinate, with one screen pixel to the image pixel. */
export const pointer = (x: number, y: number, more: Partial<Pointer> = {}): Pointer => ({
  at: imagePoint(x, y),
  screen: screenPoint(x, y),
  reach: 6,
  shift: false,
  additive: false,
  ...more,
});

export function click(tool: Tool, x: number, y: number, more: Partial<Pointer> = {}): void {
  tool.down(pointer(x, y, more));
  tool.up(pointer(x, y, more));
}

export function drag(tool: Tool, from: [number, number], to: [number, number]): void {
  tool.down(pointer(...from));
  tool.move(pointer((from[0] + to[0]) / 2, (from[1] + to[1]) / 2));
  tool.move(pointer(...to));
  tool.up(pointer(...to));
}
