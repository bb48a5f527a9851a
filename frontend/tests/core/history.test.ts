import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as actions from "../../src/core/actions";
import { imagePoint, type Rect } from "../../src/core/geometry";
import { applied, inverse } from "../../src/core/store";
import type { Editor } from "../../src/core/editor";
import { box, CLASSES, editorWith, mouse, suggestion } from "../support";

type Step = (editor: Editor) => unknown;

const x = fc.integer({ min: -20, max: 220 });
const y = fc.integer({ min: -20, max: 120 });
const small = fc.integer({ min: -15, max: 15 });

/** Everything an annotator can do, each as one function of the editor. */
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.tuple(x, y, x, y).map(([a, b, c, d]): Step => {
    const rect: Rect = [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
    return (editor) => actions.addBox(editor, rect);
  }),
  fc.tuple(x, y, fc.constantFrom(1, 2)).map(([a, b, v]): Step => (editor) =>
    actions.placeJoint(editor, imagePoint(a, b), v as 1 | 2),
  ),
  fc.constant<Step>((editor) => actions.dropTemplate(editor, [10, 10, 60, 90])),
  fc.constantFrom(...CLASSES).map((item): Step => (editor) => actions.chooseClass(editor, item)),
  fc.tuple(small, small).map(([dx, dy]): Step => (editor) => actions.nudge(editor, dx, dy)),
  fc.tuple(small, small).map(([dx, dy]): Step => (editor) => actions.resize(editor, dx, dy)),
  fc.constantFrom<Step>(
    actions.remove,
    actions.accept,
    actions.acceptAll,
    actions.copy,
    (editor) => actions.paste(editor),
    actions.duplicate,
    actions.setJointAbsent,
    (editor) => actions.toggleJointHidden(editor, imagePoint(30, 30)),
    actions.mirrorJoints,
    actions.toggleSkeletonBox,
    (editor) => actions.cycle(editor, 1),
    (editor) => actions.cycle(editor, -1),
    (editor) => actions.cycleJoint(editor, 1),
    (editor) => editor.select(...editor.shapes.map((shape) => shape.id)),
    (editor) => editor.select(),
  ),
);

const beginning = (): Editor =>
  editorWith(
    box("a", [10, 10, 40, 40]),
    suggestion("s", [50, 10, 80, 40]),
    mouse("m", [
      [10, 60, 2],
      [20, 55, 1],
      [0, 0, 0],
      [60, 70, 2],
    ]),
    suggestion("t", [100, 10, 140, 40]),
  );

describe("any sequence of actions", () => {
  test("undone gives the first document, redone the last", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const editor = beginning();
        const first = structuredClone(editor.shapes);
        for (const run of steps) run(editor);
        const last = structuredClone(editor.shapes);
        while (editor.undo());
        expect(editor.shapes).toEqual(first);
        while (editor.redo());
        expect(editor.shapes).toEqual(last);
      }),
      { numRuns: 300 },
    );
  });

  test("gives the same document whatever was undone and redone between", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(step, fc.nat(4)), { maxLength: 25 }), (steps) => {
        const editor = beginning();
        for (const [run, back] of steps) {
          run(editor);
          const here = structuredClone(editor.shapes);
          const undone = Array.from({ length: back }).filter(() => editor.undo()).length;
          for (let i = 0; i < undone; i++) editor.redo();
          expect(editor.shapes).toEqual(here);
        }
      }),
    );
  });

  test("keeps the grid index in step with the document", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const editor = beginning();
        for (const run of steps) run(editor);
        editor.undo();
        const everywhere = editor.grid.within([-1e5, -1e5, 1e5, 1e5]);
        const placed = editor.shapes.filter((shape) => shape.kind !== "tag").map((shape) => shape.id);
        expect([...everywhere].sort()).toEqual(placed.sort());
      }),
    );
  });

  test("never leaves a suggestion in the answer, nor an answer marked as a model's", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const editor = beginning();
        for (const run of steps) run(editor);
        for (const shape of editor.shapes) {
          if (shape.provenance === "model_only") expect(["s", "t"]).toContain(shape.id);
          else expect(shape.score).toBeUndefined();
        }
      }),
    );
  });
});

test("a change and its inverse cancel, also for several places at once", () => {
  const shapes = ["a", "b", "c", "d"].map((id) => box(id, [0, 0, 1, 1]));
  const change = {
    created: [{ shape: box("e", [0, 0, 2, 2]), at: 1 }],
    updated: [{ old: shapes[1]!, new: box("b", [0, 0, 9, 9]) }],
    deleted: [
      { shape: shapes[0]!, at: 0 },
      { shape: shapes[2]!, at: 2 },
    ],
  };
  const after = applied(shapes, change);
  expect(after.map((shape) => shape.id)).toEqual(["b", "e", "d"]);
  expect(applied(after, inverse(change))).toEqual(shapes);
});

test("a change that changes nothing leaves no step to undo", () => {
  const editor = editorWith(box("a", [0, 0, 10, 10]));
  editor.select("a");
  actions.nudge(editor, -5, 0); // already at the picture's edge
  expect(editor.history.canUndo).toBe(false);
});

test("undo brings back what was selected, and the joint that was next", () => {
  const editor = editorWith();
  editor.arm(3);
  actions.placeJoint(editor, imagePoint(10, 10), 2);
  actions.placeJoint(editor, imagePoint(20, 10), 2);
  expect(editor.focus.joint).toBe(2);
  editor.undo();
  expect(editor.focus.joint).toBe(1);
  editor.undo();
  expect(editor.shapes).toEqual([]);
  expect(editor.focus).toEqual({ ids: [], joint: null });
});
