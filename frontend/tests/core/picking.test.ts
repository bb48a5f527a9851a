import fc from "fast-check";
import { expect, test } from "vitest";
import { overlaps, type Rect } from "../../src/core/geometry";
import { GridIndex } from "../../src/core/grid";
import { imagePoint } from "../../src/core/geometry";
import { defaultLayout, dropped } from "../../src/core/layout";
import { handleAt } from "../../src/core/picking";
import { box, CLASSES, editorWith, mouse } from "../support";

const rect = fc
  .tuple(fc.integer({ min: -50, max: 250 }), fc.integer({ min: -50, max: 150 }), fc.nat(80), fc.nat(80))
  .map(([x, y, width, height]): Rect => [x, y, x + width, y + height]);

test("the grid finds exactly the shapes whose bounds overlap", () => {
  fc.assert(
    fc.property(fc.array(rect, { maxLength: 30 }), rect, (rects, query) => {
      const shapes = rects.map((xyxy, index) => box(`${index}`, xyxy));
      const found = new GridIndex({ width: 200, height: 100 }, shapes).within(query);
      const expected = shapes.filter((shape) => overlaps(shape.xyxy, query)).map((shape) => shape.id);
      expect([...found].sort()).toEqual(expected.sort());
    }),
  );
});

test("a small box inside a large one is reached first", () => {
  const editor = editorWith(box("small", [40, 40, 60, 60]), box("large", [0, 0, 200, 100]));
  expect(editor.under(imagePoint(50, 50), 3).map((shape) => shape.id)).toEqual(["small", "large"]);
});

test("an outline under the pointer comes before the inside of a smaller box", () => {
  const editor = editorWith(box("small", [40, 40, 60, 60]), box("edge", [50, 0, 200, 100]));
  expect(editor.under(imagePoint(50, 50), 3).map((shape) => shape.id)).toEqual(["edge", "small"]);
});

test("a skeleton is picked by its joints and bones, not by the air between", () => {
  const editor = editorWith(mouse("m", [[10, 10, 2], [60, 10, 2], [10, 60, 2], [0, 0, 0]]));
  expect(editor.under(imagePoint(35, 11), 3)).toHaveLength(1);
  expect(editor.under(imagePoint(40, 40), 3)).toHaveLength(0);
});

test("hidden and locked objects are not under the pointer", () => {
  const editor = editorWith(box("a", [0, 0, 50, 50]));
  editor.toggleLocked(["a"]);
  expect(editor.under(imagePoint(20, 20), 3)).toEqual([]);
  editor.toggleLocked(["a"]);
  editor.toggleHidden(["a"]);
  expect(editor.under(imagePoint(20, 20), 3)).toEqual([]);
});

test("of two handles in reach the nearer one is taken", () => {
  expect(handleAt([0, 0, 10, 10], imagePoint(1, 4), 6)).toBe("w");
  expect(handleAt([0, 0, 10, 10], imagePoint(30, 4), 6)).toBeNull();
});

test("a template keeps within its rectangle and gives every joint its own place", () => {
  const skeleton = CLASSES[2]!.skeleton!;
  const joints = dropped(defaultLayout(skeleton), [10, 20, 110, 70]);
  expect(new Set(joints.map(String)).size).toBe(4);
  for (const [x, y] of joints) {
    expect(x).toBeGreaterThanOrEqual(10);
    expect(x).toBeLessThanOrEqual(110);
    expect(y).toBeGreaterThanOrEqual(20);
    expect(y).toBeLessThanOrEqual(70);
  }
});

test("a person's template has the head up and the left hand on the picture's right", () => {
  const layout = defaultLayout({ joints: ["nose", "left_wrist", "right_wrist", "left_ankle"], edges: [], pairs: [] });
  expect(layout[0]![1]).toBeLessThan(layout[3]![1]);
  expect(layout[1]![0]).toBeGreaterThan(layout[2]![0]);
});
