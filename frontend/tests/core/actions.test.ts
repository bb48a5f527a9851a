import { describe, expect, test } from "vitest";
import * as actions from "../../src/core/actions";
import { imagePoint } from "../../src/core/geometry";
import { answerOf, classKeys, type Keypoints } from "../../src/core/shapes";
import { box, CLASSES, editorWith, mouse, suggestion } from "../support";

describe("provenance", () => {
  test("a suggestion accepted untouched is human_accepted, and loses the model's score", () => {
    const editor = editorWith(suggestion("s", [10, 10, 20, 20]));
    editor.select("s");
    actions.accept(editor);
    expect(editor.shapes).toEqual([box("s", [10, 10, 20, 20], { provenance: "human_accepted" })]);
  });

  test("a suggestion changed by hand is human_edited, whether accepted first or not", () => {
    const editor = editorWith(suggestion("s", [10, 10, 20, 20]), suggestion("t", [30, 10, 40, 20]));
    editor.select("s");
    actions.nudge(editor, 1, 0);
    actions.acceptAll(editor);
    editor.select("t");
    actions.nudge(editor, 1, 0);
    expect(editor.shapes.map((shape) => shape.provenance)).toEqual(["human_edited", "human_edited"]);
  });

  test("what a person drew stays drawn", () => {
    const editor = editorWith(box("a", [10, 10, 20, 20]));
    editor.select("a");
    actions.nudge(editor, 1, 0);
    expect(editor.shapes[0]?.provenance).toBe("human_drawn");
  });

  test("open suggestions are no part of the answer", () => {
    const editor = editorWith(box("a", [10, 10, 20, 20]), suggestion("s", [10, 10, 20, 20]));
    expect(answerOf(editor.shapes).map((shape) => shape.id)).toEqual(["a"]);
  });
});

describe("suggestions", () => {
  test("accepting goes on to the next, and comes round to those before", () => {
    const editor = editorWith(suggestion("s", [1, 1, 9, 9]), suggestion("t", [1, 1, 9, 9]), suggestion("u", [1, 1, 9, 9]));
    editor.select("t");
    actions.accept(editor);
    expect(editor.focus.ids).toEqual(["u"]);
    actions.accept(editor);
    expect(editor.focus.ids).toEqual(["s"]);
  });

  test("nothing is accepted unseen: with none selected the first press only shows one", () => {
    const editor = editorWith(suggestion("s", [1, 1, 9, 9]));
    expect(actions.accept(editor)).toContain("again");
    expect(editor.suggestions).toHaveLength(1);
    expect(editor.focus.ids).toEqual(["s"]);
  });

  test("rejecting deletes it and goes on; undo brings it back", () => {
    const editor = editorWith(suggestion("s", [1, 1, 9, 9]), suggestion("t", [1, 1, 9, 9]));
    editor.select("s");
    actions.remove(editor);
    expect(editor.focus.ids).toEqual(["t"]);
    editor.undo();
    expect(editor.suggestions).toHaveLength(2);
  });
});

describe("classes", () => {
  const byName = (name: string) => CLASSES.find((item) => item.name === name)!;

  test("a class without a key gets the first free digit", () => {
    const keys = classKeys(CLASSES);
    expect([...keys].map(([key, item]) => [key, item.name])).toEqual([
      ["1", "person"],
      ["2", "bicycle"],
      ["3", "mouse"],
      ["4", "blurred"],
    ]);
  });

  test("choosing relabels the selection and is the class of the next object", () => {
    const editor = editorWith(box("a", [1, 1, 9, 9]));
    editor.select("a");
    expect(actions.chooseClass(editor, byName("bicycle"))).toBeNull();
    expect(editor.shapes[0]?.class_id).toBe(2);
    editor.undo();
    expect(editor.shapes[0]?.class_id).toBe(1);
    expect(editor.armed?.name).toBe("bicycle");
  });

  test("a box does not become a skeleton", () => {
    const editor = editorWith(box("a", [1, 1, 9, 9]));
    editor.select("a");
    expect(actions.chooseClass(editor, byName("mouse"))).toContain("next object");
    expect(editor.shapes[0]?.class_id).toBe(1);
  });

  test("a tag's key puts it on and takes it off", () => {
    const editor = editorWith();
    actions.chooseClass(editor, byName("blurred"));
    expect(editor.shapes).toMatchObject([{ kind: "tag", class_id: 4, provenance: "human_drawn" }]);
    actions.chooseClass(editor, byName("blurred"));
    expect(editor.shapes).toEqual([]);
  });
});

describe("joints", () => {
  const skeleton = (editor: ReturnType<typeof editorWith>): Keypoints => editor.shapes[0] as Keypoints;

  test("are placed in order; hidden and absent ones with one key each", () => {
    const editor = editorWith();
    editor.arm(3);
    actions.placeJoint(editor, imagePoint(10, 10), 2);
    actions.toggleJointHidden(editor, imagePoint(20, 10));
    actions.setJointAbsent(editor);
    actions.placeJoint(editor, imagePoint(40, 50), 2);
    expect(skeleton(editor).points).toEqual([
      [10, 10, 2],
      [20, 10, 1],
      [0, 0, 0],
      [40, 50, 2],
    ]);
    expect(editor.focus.joint).toBeNull();
  });

  test("the first joint can be absent", () => {
    const editor = editorWith();
    editor.arm(3);
    actions.setJointAbsent(editor);
    actions.placeJoint(editor, imagePoint(20, 10), 2);
    expect(skeleton(editor).points.map((joint) => joint[2])).toEqual([0, 2, 0, 0]);
  });

  test("a placed joint turns hidden and visible again", () => {
    const editor = editorWith(mouse("m", [[1, 1, 2], [2, 2, 2], [3, 3, 2], [4, 4, 2]]));
    editor.focusOn({ ids: ["m"], joint: 1 });
    actions.toggleJointHidden(editor, null);
    expect(skeleton(editor).points[1]).toEqual([2, 2, 1]);
    expect(editor.focus.joint).toBe(2);
    editor.focusOn({ ids: ["m"], joint: 1 });
    actions.toggleJointHidden(editor, null);
    expect(skeleton(editor).points[1]).toEqual([2, 2, 2]);
  });

  test("a skeleton left without any joint is gone, and undo brings it back", () => {
    const editor = editorWith(mouse("m", [[1, 1, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]]));
    editor.focusOn({ ids: ["m"], joint: 0 });
    actions.setJointAbsent(editor);
    expect(editor.shapes).toEqual([]);
    editor.undo();
    expect(editor.shapes).toHaveLength(1);
  });

  test("mirroring swaps the pairs and leaves the rest", () => {
    const editor = editorWith(mouse("m", [[1, 1, 2], [2, 2, 2], [3, 3, 1], [4, 4, 2]]));
    editor.select("m");
    actions.mirrorJoints(editor);
    expect(skeleton(editor).points).toEqual([[1, 1, 2], [3, 3, 1], [2, 2, 2], [4, 4, 2]]);
  });

  test("the skeleton's box is its own: it stays when a joint moves", () => {
    const editor = editorWith(mouse("m", [[10, 10, 2], [20, 20, 2], [30, 30, 2], [40, 40, 2]]));
    editor.select("m");
    actions.toggleSkeletonBox(editor);
    expect(skeleton(editor).xyxy).toEqual([7, 7, 43, 43]);
    editor.focusOn({ ids: ["m"], joint: 0 });
    actions.nudge(editor, -10, 0);
    expect(skeleton(editor).xyxy).toEqual([7, 7, 43, 43]);
  });

  test("a skeleton mended whole is the template of the next", () => {
    const editor = editorWith();
    editor.arm(3);
    actions.dropTemplate(editor, [0, 0, 100, 50]);
    editor.focusOn({ ids: editor.focus.ids, joint: 3 });
    actions.nudge(editor, 10, 10);
    const mended = skeleton(editor).points;
    const xs = mended.map((joint) => joint[0]);
    const ys = mended.map((joint) => joint[1]);
    actions.dropTemplate(editor, [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]);
    const next = (editor.shapes[1] as Keypoints).points;
    next.forEach((joint, index) => {
      expect(joint[0]).toBeCloseTo(mended[index]![0], 6);
      expect(joint[1]).toBeCloseTo(mended[index]![1], 6);
    });
  });
});

describe("the picture's edge", () => {
  test("cuts a box drawn over it", () => {
    const editor = editorWith();
    actions.addBox(editor, [-20, -20, 30, 30]);
    expect(editor.shapes[0]).toMatchObject({ xyxy: [0, 0, 30, 30] });
  });

  test("leaves out what lies wholly outside when it is pasted from a larger picture", () => {
    const editor = editorWith();
    const refusal = actions.paste(editor, [box("far", [500, 500, 600, 600])]);
    expect(refusal).toContain("outside");
    expect(editor.shapes).toEqual([]);
  });

  test("stops a selection of several as one", () => {
    const editor = editorWith(box("a", [5, 10, 20, 20]), box("b", [50, 10, 60, 20]));
    editor.select("a", "b");
    actions.nudge(editor, -10, 0);
    expect(editor.shapes).toMatchObject([{ xyxy: [0, 10, 15, 20] }, { xyxy: [45, 10, 55, 20] }]);
  });
});

test("a locked object is neither deleted nor moved", () => {
  const editor = editorWith(box("a", [5, 10, 20, 20]));
  editor.select("a");
  editor.toggleLocked(["a"]);
  expect(actions.remove(editor)).toContain("locked");
  expect(actions.nudge(editor, 5, 0)).toContain("locked");
  expect(editor.shapes).toHaveLength(1);
});
