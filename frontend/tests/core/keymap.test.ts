import { describe, expect, test } from "vitest";
import { chordsOf, commandFor, conflicts, digitOf, helpLines, KEYMAP, shown, type KeyPress } from "../../src/core/keymap";

const press = (key: string, more: Partial<KeyPress> = {}): KeyPress => ({
  key,
  code: "",
  ctrlKey: false,
  metaKey: false,
  shiftKey: false,
  altKey: false,
  ...more,
});

test("no two commands want the same keys", () => {
  expect(conflicts(KEYMAP)).toEqual(new Map());
});

test("a conflict is told with both commands", () => {
  const twice = [...KEYMAP, { command: "other", keys: ["B"], label: "", group: "" }];
  expect(conflicts(twice)).toEqual(new Map([["B", ["tool-box", "other"]]]));
});

test("no class digit is a tool's key, but for 0 when no class has it", () => {
  const digits = KEYMAP.flatMap((binding) => binding.keys.filter((key) => /^\d$/.test(key)).map((key) => [binding.command, key]));
  expect(digits).toEqual([["fit", "0"]]);
});

describe("a press means", () => {
  test.each([
    ["Ctrl+Enter", press("Enter", { ctrlKey: true }), "submit"],
    ["⌘+Enter", press("Enter", { metaKey: true }), "submit"],
    ["Ctrl+Space", press(" ", { ctrlKey: true, code: "Space" }), "skip"],
    ["Ctrl+Shift+Z", press("Z", { ctrlKey: true, shiftKey: true, code: "KeyZ" }), "redo"],
    ["Ctrl+Y", press("y", { ctrlKey: true, code: "KeyY" }), "redo"],
    ["? with its Shift", press("?", { shiftKey: true, code: "Slash" }), "help"],
    ["/ as Shift+7 on a German keyboard", press("/", { shiftKey: true, code: "Digit7" }), "find-class"],
    ["Shift+Tab", press("Tab", { shiftKey: true }), "cycle-back"],
    ["Shift+A", press("A", { shiftKey: true, code: "KeyA" }), "accept-all"],
    ["b with Caps Lock", press("B", { code: "KeyB" }), "tool-box"],
    ["a Cyrillic letter at B's place", press("и", { code: "KeyB" }), "tool-box"],
    ["Alt+Shift+arrow", press("ArrowUp", { altKey: true, shiftKey: true }), "shorter-far"],
  ] as const)("%s", (_, key, command) => {
    expect(commandFor(key)).toBe(command);
  });

  test("Z on a German keyboard undoes, though it stands where Y does", () => {
    expect(commandFor(press("z", { ctrlKey: true, code: "KeyY" }))).toBe("undo");
  });

  test("nothing for a browser's own key", () => {
    expect(commandFor(press("r", { ctrlKey: true, code: "KeyR" }))).toBeNull();
  });
});

test("a class digit is read from a French keyboard and the number pad too", () => {
  expect(digitOf(press("&", { code: "Digit1" }))).toBe("1");
  expect(digitOf(press("7", { code: "Numpad7" }))).toBe("7");
  expect(digitOf(press("1", { code: "Digit1", ctrlKey: true }))).toBeNull();
});

test("keycaps are shown as the keyboard names them", () => {
  expect(shown("Mod+Shift+Z", false)).toEqual(["Ctrl", "Shift", "Z"]);
  expect(shown("Mod+Z", true)).toEqual(["⌘", "Z"]);
  expect(shown("+", false)).toEqual(["+"]);
  expect(chordsOf(press("+", { shiftKey: true, code: "Equal" }))).toEqual(["+"]);
});

test("the help names every command once, arrows of one kind in one line", () => {
  const lines = helpLines(KEYMAP);
  expect(lines.find((line) => line.label === "Move by 10 pixels")?.chords).toEqual([
    ["Shift+ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"],
  ]);
  expect(lines.find((line) => line.label === "Redo")?.chords).toEqual([["Mod+Shift+Z"], ["Mod+Y"]]);
  expect(lines).toHaveLength(KEYMAP.length - 12);
});
