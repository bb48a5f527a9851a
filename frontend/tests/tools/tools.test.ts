import { describe, expect, test } from "vitest";
import { BoxTool } from "../../src/tools/box";
import { KeypointsTool } from "../../src/tools/keypoints";
import { SelectTool } from "../../src/tools/select";
import type { Keypoints } from "../../src/core/shapes";
import { box, click, drag, editorWith, mouse, pointer, suggestion } from "../support";

describe("the box tool", () => {
  test("draws by one drag, stays armed, and selects what it drew", () => {
    const editor = editorWith();
    const tool = new BoxTool(editor);
    drag(tool, [10, 10], [60, 50]);
    expect(editor.shapes).toMatchObject([{ kind: "box", class_id: 1, xyxy: [10, 10, 60, 50] }]);
    expect(editor.focus.ids).toEqual(["new-1"]);
    expect(tool.state).toBe("idle");
    drag(tool, [60, 50], [90, 90]);
    expect(editor.shapes).toHaveLength(2);
  });

  test("draws by two clicks, following the pointer between them", () => {
    const editor = editorWith();
    const tool = new BoxTool(editor);
    click(tool, 60, 50);
    expect(tool.state).toBe("waiting");
    tool.move(pointer(30, 20));
    expect(tool.preview.shapes).toMatchObject([{ xyxy: [30, 20, 60, 50] }]);
    click(tool, 10, 10);
    expect(editor.shapes).toMatchObject([{ xyxy: [10, 10, 60, 50] }]);
  });

  test("draws over a box instead of dragging it", () => {
    const editor = editorWith(box("a", [0, 0, 100, 100]));
    drag(new BoxTool(editor), [20, 20], [40, 40]);
    expect(editor.shapes).toMatchObject([{ xyxy: [0, 0, 100, 100] }, { xyxy: [20, 20, 40, 40] }]);
  });

  test("answers cancel at every stage and leaves nothing behind", () => {
    const editor = editorWith();
    const tool = new BoxTool(editor);
    expect(tool.cancel()).toBe(false);
    tool.down(pointer(10, 10));
    tool.move(pointer(50, 50));
    expect(tool.cancel()).toBe(true);
    tool.up(pointer(50, 50));
    click(tool, 10, 10);
    expect(tool.cancel()).toBe(true);
    expect(editor.shapes).toEqual([]);
    expect(editor.history.canUndo).toBe(false);
  });

  test("says why a box without an area is not made", () => {
    const editor = editorWith();
    const said: (string | null)[] = [];
    const tool = new BoxTool(editor, (why) => said.push(why));
    click(tool, 10, 10);
    click(tool, 10, 40);
    expect(editor.shapes).toEqual([]);
    expect(said[0]).toContain("smaller than a pixel");
  });

  test("keeps to the picture when the pointer leaves it", () => {
    const editor = editorWith();
    drag(new BoxTool(editor), [150, 50], [400, 400]);
    expect(editor.shapes).toMatchObject([{ xyxy: [150, 50, 200, 100] }]);
  });
});

describe("the keypoints tool", () => {
  const points = (editor: ReturnType<typeof editorWith>, index = 0) => (editor.shapes[index] as Keypoints).points;

  test("places joint by joint with the next one's name at the pointer", () => {
    const editor = editorWith();
    const tool = new KeypointsTool(editor);
    const names: (string | undefined)[] = [];
    for (const x of [10, 20, 30, 40]) {
      names.push(tool.preview.hint);
      click(tool, x, 50);
    }
    expect(names).toEqual(["snout", "left ear", "right ear", "tail"]);
    expect(points(editor).map((joint) => joint[0])).toEqual([10, 20, 30, 40]);
    expect(tool.preview.hint).toBe("snout");
  });

  test("begins another skeleton when one is done", () => {
    const editor = editorWith();
    const tool = new KeypointsTool(editor);
    for (const x of [10, 20, 30, 40, 100]) click(tool, x, 50);
    expect(editor.shapes).toHaveLength(2);
    expect(points(editor, 1)[0]).toEqual([100, 50, 2]);
  });

  test("places a joint close to another one while joints are still to come", () => {
    const editor = editorWith();
    const tool = new KeypointsTool(editor);
    click(tool, 10, 50);
    click(tool, 12, 50);
    expect(points(editor).slice(0, 2)).toEqual([[10, 50, 2], [12, 50, 2]]);
  });

  test("drops the whole template by one drag", () => {
    const editor = editorWith();
    drag(new KeypointsTool(editor), [10, 10], [90, 90]);
    expect(points(editor).every((joint) => joint[2] === 2)).toBe(true);
    expect(editor.focus).toEqual({ ids: ["new-1"], joint: null });
  });

  test("drags a joint of the finished skeleton, keeping it hidden if it was", () => {
    const editor = editorWith(mouse("m", [[10, 10, 2], [30, 10, 1], [50, 10, 2], [70, 10, 2]]));
    editor.select("m");
    drag(new KeypointsTool(editor), [31, 10], [31, 40]);
    expect(points(editor)[1]).toEqual([31, 40, 1]);
  });

  test("undo takes back one joint, and the next click places it again", () => {
    const editor = editorWith();
    const tool = new KeypointsTool(editor);
    click(tool, 10, 50);
    click(tool, 20, 50);
    editor.undo();
    expect(tool.preview.hint).toBe("left ear");
    click(tool, 25, 50);
    expect(points(editor).slice(0, 2)).toEqual([[10, 50, 2], [25, 50, 2]]);
  });

  test("cancel leaves the joints placed so far and begins anew", () => {
    const editor = editorWith();
    const tool = new KeypointsTool(editor);
    click(tool, 10, 50);
    expect(tool.cancel()).toBe(true);
    expect(points(editor)[0]).toEqual([10, 50, 2]);
    click(tool, 100, 50);
    expect(editor.shapes).toHaveLength(2);
  });

  test("cancel drops a template half drawn", () => {
    const editor = editorWith();
    const tool = new KeypointsTool(editor);
    tool.down(pointer(10, 10));
    tool.move(pointer(50, 50));
    expect(tool.state).toBe("dropping");
    expect(tool.cancel()).toBe(true);
    tool.up(pointer(50, 50));
    expect(editor.shapes).toEqual([]);
  });
});

describe("the select tool", () => {
  test("moves a box, as one step of the history", () => {
    const editor = editorWith(box("a", [10, 10, 40, 40]));
    drag(new SelectTool(editor), [25, 25], [45, 35]);
    expect(editor.shapes).toMatchObject([{ xyxy: [30, 20, 60, 50] }]);
    editor.undo();
    expect(editor.shapes).toMatchObject([{ xyxy: [10, 10, 40, 40] }]);
    expect(editor.history.canUndo).toBe(false);
  });

  test("resizes the selected box by a handle", () => {
    const editor = editorWith(box("a", [10, 10, 40, 40]));
    editor.select("a");
    const tool = new SelectTool(editor);
    expect(tool.cursor(pointer(40, 40))).toBe("nwse-resize");
    drag(tool, [40, 40], [80, 60]);
    expect(editor.shapes).toMatchObject([{ xyxy: [10, 10, 80, 60] }]);
  });

  test("drags one joint without selecting it first, and marks a suggestion as edited", () => {
    const editor = editorWith(
      mouse("m", [[10, 10, 2], [60, 10, 2], [10, 60, 2], [60, 60, 2]], { provenance: "model_only", score: 0.7 }),
    );
    drag(new SelectTool(editor), [60, 10], [80, 20]);
    expect(editor.shapes[0]).toMatchObject({ provenance: "human_edited" });
    expect((editor.shapes[0] as Keypoints).points[1]).toEqual([80, 20, 2]);
    expect(editor.focus).toEqual({ ids: ["m"], joint: 1 });
  });

  test("a click selects; clicks again go through the pile and come round", () => {
    const editor = editorWith(box("large", [0, 0, 200, 100]), box("small", [40, 40, 60, 60]));
    const tool = new SelectTool(editor);
    const seen = [1, 2, 3].map(() => {
      click(tool, 50, 50);
      return editor.focus.ids[0];
    });
    expect(seen).toEqual(["small", "large", "small"]);
    click(tool, 190, 50, { reach: 1 });
    expect(editor.focus.ids).toEqual(["large"]);
  });

  test("a click beside everything selects nothing", () => {
    const editor = editorWith(box("a", [10, 10, 40, 40]));
    editor.select("a");
    click(new SelectTool(editor), 150, 80);
    expect(editor.focus.ids).toEqual([]);
  });

  test("Shift adds to the selection and takes away; several move together", () => {
    const editor = editorWith(box("a", [10, 10, 20, 20]), suggestion("b", [50, 10, 60, 20]));
    const tool = new SelectTool(editor);
    click(tool, 15, 15);
    click(tool, 55, 15, { shift: true });
    expect(editor.focus.ids).toEqual(["a", "b"]);
    drag(tool, [15, 15], [15, 45]);
    expect(editor.shapes).toMatchObject([
      { xyxy: [10, 40, 20, 50], provenance: "human_drawn" },
      { xyxy: [50, 40, 60, 50], provenance: "human_edited" },
    ]);
    click(tool, 15, 45, { shift: true });
    expect(editor.focus.ids).toEqual(["b"]);
  });

  test("a rectangle selects what lies wholly inside it", () => {
    const editor = editorWith(box("in", [20, 20, 40, 40]), box("half", [50, 20, 120, 40]));
    drag(new SelectTool(editor), [5, 5], [90, 90]);
    expect(editor.focus.ids).toEqual(["in"]);
  });

  test("cancel puts a dragged box back", () => {
    const editor = editorWith(box("a", [10, 10, 40, 40]));
    const tool = new SelectTool(editor);
    tool.down(pointer(25, 25));
    tool.move(pointer(60, 60));
    expect(tool.preview.shapes).toMatchObject([{ xyxy: [45, 45, 75, 75] }]);
    expect(tool.cancel()).toBe(true);
    tool.up(pointer(60, 60));
    expect(editor.shapes).toMatchObject([{ xyxy: [10, 10, 40, 40] }]);
  });

  test("a hand that trembles by less than the threshold does not move anything", () => {
    const editor = editorWith(box("a", [10, 10, 40, 40]));
    drag(new SelectTool(editor), [25, 25], [27, 26]);
    expect(editor.history.canUndo).toBe(false);
  });
});
