import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  boundedMove,
  distanceToOutline,
  fitted,
  HANDLES,
  handlePoint,
  imagePoint,
  movedRect,
  rectHeight,
  rectWidth,
  resizedRect,
  screenPoint,
  toImage,
  toScreen,
  visibleRect,
  zoomedAt,
  type Rect,
} from "../../src/core/geometry";

const coordinate = fc.double({ min: -5000, max: 5000, noNaN: true });
const view = fc.record({
  scale: fc.double({ min: 0.02, max: 60, noNaN: true }),
  x: coordinate,
  y: coordinate,
});
const rect = fc
  .tuple(coordinate, coordinate, fc.double({ min: 1, max: 900, noNaN: true }), fc.double({ min: 1, max: 900, noNaN: true }))
  .map(([x, y, width, height]): Rect => [x, y, x + width, y + height]);

describe("the view", () => {
  test("takes a point to the screen and back", () => {
    fc.assert(
      fc.property(view, coordinate, coordinate, (current, x, y) => {
        const back = toImage(current, toScreen(current, imagePoint(x, y)));
        expect(back.x).toBeCloseTo(x, 4);
        expect(back.y).toBeCloseTo(y, 4);
      }),
    );
  });

  test("keeps the picture's point under the pointer while zooming", () => {
    fc.assert(
      fc.property(view, coordinate, coordinate, fc.double({ min: 0.2, max: 5, noNaN: true }), (current, x, y, factor) => {
        const at = screenPoint(x, y);
        const before = toImage(current, at);
        const after = toScreen(zoomedAt(current, at, factor), before);
        expect(after.x).toBeCloseTo(x, 2);
        expect(after.y).toBeCloseTo(y, 2);
      }),
    );
  });

  test("fits the whole picture, centred", () => {
    const current = fitted({ width: 200, height: 100 }, { width: 432, height: 432 });
    expect(current).toEqual({ scale: 2, x: 16, y: 116 });
    expect(visibleRect(current, { width: 432, height: 432 })).toEqual([-8, -58, 208, 158]);
  });
});

describe("resizing", () => {
  test.each([
    ["nw", [5, 5], [5, 5, 40, 30]],
    ["n", [5, 5], [10, 5, 40, 30]],
    ["ne", [50, 5], [10, 5, 50, 30]],
    ["e", [50, 5], [10, 20, 50, 30]],
    ["se", [50, 50], [10, 20, 50, 50]],
    ["s", [50, 50], [10, 20, 40, 50]],
    ["sw", [5, 50], [5, 20, 40, 50]],
    ["w", [5, 50], [5, 20, 40, 30]],
  ] as const)("by %s moves only its own sides", (handle, [x, y], expected) => {
    expect(resizedRect([10, 20, 40, 30], handle, imagePoint(x, y))).toEqual(expected);
  });

  test("past the other side turns the box over", () => {
    expect(resizedRect([10, 20, 40, 30], "se", imagePoint(0, 0))).toEqual([0, 0, 10, 20]);
  });

  test("to where a handle already is changes nothing", () => {
    fc.assert(
      fc.property(rect, fc.constantFrom(...HANDLES), (shape, handle) => {
        expect(resizedRect(shape, handle, handlePoint(shape, handle))).toEqual(shape);
      }),
    );
  });
});

describe("moving", () => {
  const picture = { width: 1000, height: 800 };

  test("keeps a box that is inside the picture inside, and its size", () => {
    const inside = fc
      .tuple(fc.nat(900), fc.nat(700), fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 100 }))
      .map(([x, y, width, height]): Rect => [x, y, x + width, y + height]);
    fc.assert(
      fc.property(inside, coordinate, coordinate, (shape, dx, dy) => {
        const [x1, y1, x2, y2] = movedRect(shape, ...boundedMove(shape, dx, dy, picture));
        expect(Math.min(x1, y1)).toBeGreaterThanOrEqual(0);
        expect(x2).toBeLessThanOrEqual(1000);
        expect(y2).toBeLessThanOrEqual(800);
        expect(rectWidth([x1, y1, x2, y2])).toBeCloseTo(rectWidth(shape), 6);
        expect(rectHeight([x1, y1, x2, y2])).toBeCloseTo(rectHeight(shape), 6);
      }),
    );
  });

  test("lets a box that reaches outside come back, but not leave further", () => {
    expect(boundedMove([-10, 0, 20, 20], 5, 0, picture)).toEqual([5, 0]);
    expect(boundedMove([-10, 0, 20, 20], -5, 0, picture)).toEqual([0, 0]);
  });
});

test("the outline's distance counts from inside and outside", () => {
  expect(distanceToOutline(imagePoint(5, 1), [0, 0, 10, 10])).toBe(1);
  expect(distanceToOutline(imagePoint(13, 14), [0, 0, 10, 10])).toBe(5);
});
