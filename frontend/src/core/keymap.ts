/** Which keys mean which command: data, from which the page, the help and the tests all read. */

export interface Binding {
  readonly command: string;
  readonly keys: readonly string[];
  readonly label: string;
  readonly group: string;
  /** Commands of one family stand in one line of the help, under this name. */
  readonly family?: string;
}

/** A key press as the browser tells it; the fields of a KeyboardEvent that matter. */
export interface KeyPress {
  readonly key: string;
  readonly code: string;
  readonly ctrlKey: boolean;
  readonly metaKey: boolean;
  readonly shiftKey: boolean;
  readonly altKey: boolean;
}

/** `Mod` is Ctrl, and ⌘ on a Mac; of the keys of one command the first is the one shown. */
export const KEYMAP = [
  { group: "Task", command: "submit", keys: ["Mod+Enter"], label: "Submit and go to the next picture" },
  { group: "Task", command: "skip", keys: ["Mod+Space"], label: "Skip this picture, with a reason" },
  { group: "Task", command: "next-task", keys: ["F", "Mod+ArrowRight"], label: "Next picture in hand" },
  { group: "Task", command: "previous-task", keys: ["D", "Mod+ArrowLeft"], label: "Previous picture in hand" },
  { group: "Task", command: "save", keys: ["Mod+S"], label: "Ask whether all is saved (it is, all the time)" },
  { group: "Edit", command: "undo", keys: ["Mod+Z"], label: "Undo" },
  { group: "Edit", command: "redo", keys: ["Mod+Shift+Z", "Mod+Y"], label: "Redo" },
  { group: "Edit", command: "delete", keys: ["Delete", "Backspace"], label: "Delete the object, or reject the suggestion" },
  { group: "Edit", command: "copy", keys: ["Mod+C"], label: "Copy" },
  { group: "Edit", command: "paste", keys: ["Mod+V"], label: "Paste" },
  { group: "Edit", command: "duplicate", keys: ["Mod+D"], label: "Duplicate" },
  { group: "Edit", command: "repeat-previous", keys: ["Shift+R"], label: "Repeat the previous picture's objects" },
  { group: "Edit", command: "cancel", keys: ["Escape"], label: "Cancel; never saves" },
  { group: "Draw", command: "tool-select", keys: ["V"], label: "Select, move and resize" },
  { group: "Draw", command: "tool-box", keys: ["B", "R"], label: "Draw boxes: drag, or click two corners" },
  { group: "Draw", command: "tool-keypoints", keys: ["K"], label: "Place a skeleton: click each joint, or drag the template" },
  { group: "Draw", command: "repeat-tool", keys: ["N"], label: "Draw again with the last tool and class" },
  { group: "Draw", command: "draw-in-middle", keys: ["Enter"], label: "Draw in the middle of the view, without a pointer" },
  { group: "Draw", command: "find-class", keys: ["/"], label: "Find a class" },
  { group: "Objects", command: "cycle", keys: ["Tab"], label: "Next object" },
  { group: "Objects", command: "cycle-back", keys: ["Shift+Tab"], label: "Previous object" },
  { group: "Objects", command: "select-all", keys: ["Mod+A"], label: "Select all objects" },
  { group: "Objects", command: "nudge-left", keys: ["ArrowLeft"], label: "Move left by 1 pixel", family: "Move by 1 pixel" },
  { group: "Objects", command: "nudge-right", keys: ["ArrowRight"], label: "Move right by 1 pixel", family: "Move by 1 pixel" },
  { group: "Objects", command: "nudge-up", keys: ["ArrowUp"], label: "Move up by 1 pixel", family: "Move by 1 pixel" },
  { group: "Objects", command: "nudge-down", keys: ["ArrowDown"], label: "Move down by 1 pixel", family: "Move by 1 pixel" },
  { group: "Objects", command: "nudge-left-far", keys: ["Shift+ArrowLeft"], label: "Move left by 10 pixels", family: "Move by 10 pixels" },
  { group: "Objects", command: "nudge-right-far", keys: ["Shift+ArrowRight"], label: "Move right by 10 pixels", family: "Move by 10 pixels" },
  { group: "Objects", command: "nudge-up-far", keys: ["Shift+ArrowUp"], label: "Move up by 10 pixels", family: "Move by 10 pixels" },
  { group: "Objects", command: "nudge-down-far", keys: ["Shift+ArrowDown"], label: "Move down by 10 pixels", family: "Move by 10 pixels" },
  { group: "Objects", command: "narrower", keys: ["Alt+ArrowLeft"], label: "Narrower by 1 pixel", family: "Narrower, wider, shorter, taller by 1 pixel" },
  { group: "Objects", command: "wider", keys: ["Alt+ArrowRight"], label: "Wider by 1 pixel", family: "Narrower, wider, shorter, taller by 1 pixel" },
  { group: "Objects", command: "shorter", keys: ["Alt+ArrowUp"], label: "Shorter by 1 pixel", family: "Narrower, wider, shorter, taller by 1 pixel" },
  { group: "Objects", command: "taller", keys: ["Alt+ArrowDown"], label: "Taller by 1 pixel", family: "Narrower, wider, shorter, taller by 1 pixel" },
  { group: "Objects", command: "narrower-far", keys: ["Alt+Shift+ArrowLeft"], label: "Narrower by 10 pixels", family: "Narrower, wider, shorter, taller by 10 pixels" },
  { group: "Objects", command: "wider-far", keys: ["Alt+Shift+ArrowRight"], label: "Wider by 10 pixels", family: "Narrower, wider, shorter, taller by 10 pixels" },
  { group: "Objects", command: "shorter-far", keys: ["Alt+Shift+ArrowUp"], label: "Shorter by 10 pixels", family: "Narrower, wider, shorter, taller by 10 pixels" },
  { group: "Objects", command: "taller-far", keys: ["Alt+Shift+ArrowDown"], label: "Taller by 10 pixels", family: "Narrower, wider, shorter, taller by 10 pixels" },
  { group: "Objects", command: "hide", keys: ["H"], label: "Hide or show the object" },
  { group: "Objects", command: "hide-all", keys: ["Shift+H"], label: "Hide or show all objects" },
  { group: "Objects", command: "lock", keys: ["L"], label: "Lock or unlock the object" },
  { group: "Joints", command: "next-joint", keys: ["]"], label: "Next joint" },
  { group: "Joints", command: "previous-joint", keys: ["["], label: "Previous joint" },
  { group: "Joints", command: "joint-hidden", keys: ["Q"], label: "Joint is hidden (again: visible), and on to the next" },
  { group: "Joints", command: "joint-absent", keys: ["X"], label: "Joint is out of view, and on to the next" },
  { group: "Joints", command: "mirror", keys: ["M"], label: "Swap left and right joints" },
  { group: "Joints", command: "skeleton-box", keys: ["Shift+B"], label: "Give the skeleton a box, or take it away" },
  { group: "Suggestions", command: "accept", keys: ["A"], label: "Accept the suggestion, and on to the next" },
  { group: "Suggestions", command: "accept-all", keys: ["Shift+A"], label: "Accept all suggestions" },
  { group: "View", command: "fit", keys: ["0", "Home"], label: "Fit the picture" },
  { group: "View", command: "zoom-in", keys: ["+", "="], label: "Zoom in (or turn the wheel at the pointer)" },
  { group: "View", command: "zoom-out", keys: ["-"], label: "Zoom out" },
  { group: "View", command: "help", keys: ["?", "F1"], label: "This help" },
] as const satisfies readonly Binding[];

export type Command = (typeof KEYMAP)[number]["command"];

/** What the hands also do, for the help. */
export const GESTURES: readonly { readonly keys: string; readonly label: string }[] = [
  { keys: "1 – 9", label: "Class of the selected object, else of the next one; tags on and off" },
  { keys: "Wheel", label: "Zoom at the pointer" },
  { keys: "Space + drag, middle drag", label: "Move the picture" },
  { keys: "Ctrl + drag", label: "Select and move while another tool is armed" },
];

/** Keys whose glyph needs Shift on some layouts, so that Shift is part of the glyph already. */
const isGlyph = (key: string): boolean => key.length === 1 && !/[a-z]/i.test(key);

/** The chords a press may mean: by its glyph first, then by the key's place on a Latin keyboard. */
export function chordsOf(press: KeyPress): string[] {
  const key = press.key === " " ? "Space" : press.key.length === 1 ? press.key.toUpperCase() : press.key;
  const chord = (name: string, shift: boolean): string =>
    [press.ctrlKey || press.metaKey ? "Mod" : "", press.altKey ? "Alt" : "", shift ? "Shift" : "", name]
      .filter(Boolean)
      .join("+");
  const chords = [chord(key, press.shiftKey && !(isGlyph(key) && key !== " "))];
  const place = /^(?:Key([A-Z])|Digit(\d)|Numpad(\d))$/.exec(press.code);
  const name = place?.[1] ?? place?.[2] ?? place?.[3];
  // a Cyrillic or AZERTY keyboard has other glyphs at the place where the hand expects the key
  if (name && !/^[A-Z]$/.test(key)) chords.push(chord(name, press.shiftKey));
  return chords;
}

export type Bindings = readonly (Omit<Binding, "command"> & { readonly command: Command })[];

export function commandFor(press: KeyPress, bindings: Bindings = KEYMAP): Command | null {
  for (const chord of chordsOf(press)) {
    const found = bindings.find((binding) => binding.keys.includes(chord));
    if (found) return found.command;
  }
  return null;
}

/** The digit of a class key, when nothing but the digit is pressed. */
export function digitOf(press: KeyPress): string | null {
  return chordsOf(press).find((chord) => /^\d$/.test(chord)) ?? null;
}

/** Chords that more than one command wants. */
export function conflicts(bindings: readonly Binding[]): Map<string, string[]> {
  const wanted = new Map<string, string[]>();
  for (const binding of bindings) {
    for (const key of binding.keys) wanted.set(key, [...(wanted.get(key) ?? []), binding.command]);
  }
  return new Map([...wanted].filter(([, commands]) => commands.length > 1));
}

/** The lines of the help: families as one, with what their chords share written once. */
export function helpLines(bindings: readonly Binding[]): { label: string; chords: string[][] }[] {
  const lines = new Map<string, string[]>();
  for (const { label, family = label, keys } of bindings) lines.set(family, [...(lines.get(family) ?? []), ...keys]);
  const families = new Set(bindings.flatMap((binding) => binding.family ?? []));
  return [...lines].map(([label, keys]) => {
    if (!families.has(label)) return { label, chords: keys.map((key) => [key]) };
    const shared = (keys[0] ?? "").replace(/[^+]+$/, "");
    return { label, chords: [keys.map((key, index) => (index ? key.slice(shared.length) : key))] };
  });
}

const NAMES: Readonly<Record<string, string>> = {
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
  Escape: "Esc",
};

/** A chord as keycaps show it. */
export function shown(chord: string, isMac: boolean): string[] {
  const parts = chord === "+" ? ["+"] : chord.split("+");
  return parts.map((part) => (part === "Mod" ? (isMac ? "⌘" : "Ctrl") : (NAMES[part] ?? part)));
}
