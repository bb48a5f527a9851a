/** What each command of the keymap does; buttons run the same commands. */

import { signal } from "@preact/signals";
import * as actions from "../../core/actions";
import { commandFor, digitOf, type Command } from "../../core/keymap";
import { isSuggestion } from "../../core/shapes";
import type { Editor } from "../../core/editor";
import type { Session } from "./session";
import type { Stage } from "./stage";

export type Dialog = "help" | "skip" | "guide" | null;

export interface App {
  readonly session: Session;
  readonly stage: Stage;
}

export const dialog = signal<Dialog>(null);
/** Bumped when `/` asks for the class search. */
export const classSearch = signal(0);

const FAR = 10;

type Act = (editor: Editor, app: App) => actions.Refusal | void;

const run: Readonly<Record<Command, Act>> = {
  submit: (_, { session }) => session.submit(),
  skip: () => void (dialog.value = "skip"),
  "next-task": (_, { session }) => session.go(1),
  "previous-task": (_, { session }) => session.go(-1),
  save: (_, { session }) => savedness(session),
  undo: (editor) => (editor.undo() ? null : "There is nothing to undo"),
  redo: (editor) => (editor.redo() ? null : "There is nothing to redo"),
  delete: actions.remove,
  copy: actions.copy,
  paste: (editor) => actions.paste(editor),
  duplicate: actions.duplicate,
  "repeat-previous": actions.repeatPrevious,
  cancel: (editor, { stage }) => {
    if (stage.cancel()) return;
    if (editor.focus.ids.length || editor.focus.joint !== null) editor.select();
    else stage.setTool("select");
  },
  "tool-select": (_, { stage }) => stage.setTool("select"),
  "tool-box": (editor, app) => armTool(editor, app, "box"),
  "tool-keypoints": (editor, app) => armTool(editor, app, "keypoints"),
  "repeat-tool": (editor, app) => armTool(editor, app, app.stage.drawing),
  "draw-in-middle": (editor, { stage }) => actions.drawInMiddle(editor, stage.drawing, stage.seen),
  "find-class": () => void (classSearch.value += 1),
  cycle: (editor) => actions.cycle(editor, 1) ?? selectedInWords(editor),
  "cycle-back": (editor) => actions.cycle(editor, -1) ?? selectedInWords(editor),
  "select-all": (editor) =>
    editor.select(...editor.shapes.filter((shape) => shape.kind !== "tag" && editor.isShown(shape)).map((shape) => shape.id)),
  "nudge-left": (editor) => actions.nudge(editor, -1, 0),
  "nudge-right": (editor) => actions.nudge(editor, 1, 0),
  "nudge-up": (editor) => actions.nudge(editor, 0, -1),
  "nudge-down": (editor) => actions.nudge(editor, 0, 1),
  "nudge-left-far": (editor) => actions.nudge(editor, -FAR, 0),
  "nudge-right-far": (editor) => actions.nudge(editor, FAR, 0),
  "nudge-up-far": (editor) => actions.nudge(editor, 0, -FAR),
  "nudge-down-far": (editor) => actions.nudge(editor, 0, FAR),
  narrower: (editor) => actions.resize(editor, -1, 0),
  wider: (editor) => actions.resize(editor, 1, 0),
  shorter: (editor) => actions.resize(editor, 0, -1),
  taller: (editor) => actions.resize(editor, 0, 1),
  "narrower-far": (editor) => actions.resize(editor, -FAR, 0),
  "wider-far": (editor) => actions.resize(editor, FAR, 0),
  "shorter-far": (editor) => actions.resize(editor, 0, -FAR),
  "taller-far": (editor) => actions.resize(editor, 0, FAR),
  hide: (editor) => (editor.focus.ids.length ? editor.toggleHidden(editor.focus.ids) : "Select an object to hide first"),
  "hide-all": (editor) => {
    editor.toggleAllHidden();
    return editor.allHidden ? "All objects are hidden: Shift+H shows them again" : null;
  },
  lock: (editor) => (editor.focus.ids.length ? editor.toggleLocked(editor.focus.ids) : "Select an object to lock first"),
  "next-joint": (editor) => actions.cycleJoint(editor, 1),
  "previous-joint": (editor) => actions.cycleJoint(editor, -1),
  "joint-hidden": (editor, { stage }) => actions.toggleJointHidden(editor, stage.readout),
  "joint-absent": actions.setJointAbsent,
  mirror: actions.mirrorJoints,
  "skeleton-box": actions.toggleSkeletonBox,
  accept: actions.accept,
  "accept-all": actions.acceptAll,
  fit: (_, { stage }) => stage.fit(),
  "zoom-in": (_, { stage }) => stage.zoom(1.25),
  "zoom-out": (_, { stage }) => stage.zoom(0.8),
  help: () => void (dialog.value = "help"),
};

/** Commands that make sense with no task on stage. */
const ALWAYS: readonly Command[] = ["help", "save", "next-task", "previous-task"];
/** Commands that a key held down does not repeat. */
const ONCE: readonly Command[] = ["submit", "skip", "accept-all", "help", "paste", "duplicate", "repeat-previous"];

export function perform(app: App, command: Command): void {
  const { current } = app.session;
  if (!current) {
    if (ALWAYS.includes(command)) app.session.say(run[command](undefined as never, app) ?? "");
    return;
  }
  current.clock.tick(Date.now());
  const said = run[command](current.editor, app);
  if (said !== undefined) app.session.say(said ?? "");
}

export function chooseClass(app: App, classId: number): void {
  const editor = app.session.current?.editor;
  const chosen = editor?.classOf(classId);
  if (!editor || !chosen) return;
  app.session.say(actions.chooseClass(editor, chosen) ?? "");
  if (chosen.kind === "tag") return;
  app.stage.followClass();
  // with nothing selected the class is meant for the next object: its tool is armed too
  if (!editor.focus.ids.length && app.stage.toolId === "select") app.stage.setTool(app.stage.drawing);
}

/** For ears: which object the keys act on now. */
function selectedInWords(editor: Editor): string {
  const shape = editor.only;
  if (!shape) return "";
  const number = editor.shapes.indexOf(shape) + 1;
  const kind = isSuggestion(shape) ? "suggestion" : "object";
  return `${editor.classOf(shape.class_id)?.name ?? "unknown class"}, ${kind} ${number} of ${editor.shapes.length}`;
}

function armTool(editor: Editor, { stage }: App, tool: "box" | "keypoints"): actions.Refusal {
  const labelClass = editor.armedFor(tool);
  if (!labelClass) return tool === "box" ? "This project has no class for boxes" : "This project has no class with a skeleton";
  editor.arm(labelClass.id);
  stage.setTool(tool);
  // a skeleton half placed goes on; anything else makes room for the next object
  if (editor.focus.joint === null) editor.select();
  return null;
}

export function savedness(session: Session): string {
  const open = session.current?.editor.shapes.filter(isSuggestion).length ?? 0;
  const kept = session.draftsDue ? "Saved in this browser; the server gets it in a moment" : "Saved";
  return open ? `${kept}. ${open} open ${open === 1 ? "suggestion is" : "suggestions are"} no part of the answer` : kept;
}

const TYPING = "input, textarea, select, [contenteditable]";
/** Outside the picture these belong to the control that has the focus. */
const CONTROL_KEYS: readonly string[] = ["Enter", " ", "Tab", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"];

/** Keys of the whole page. Tab moves between objects only on the stage, and Esc before it lets the focus leave. */
export function listenForKeys(app: App): void {
  let leaving = false;
  document.addEventListener("keydown", (event) => {
    if (dialog.value !== null) return;
    const target = event.target instanceof Element ? event.target : document.body;
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (target.closest(TYPING) && !(event.key === "Enter" && !plain)) return;
    const onPicture = target === document.body || app.stage.contains(target);
    if (!onPicture && plain && CONTROL_KEYS.includes(event.key)) return;
    if (event.key === "Tab" && (leaving || !app.session.current?.editor.shapes.length)) {
      leaving = false;
      return;
    }
    const digit = digitOf(event);
    const labelClass = digit ? app.session.current?.editor.keys.get(digit) : undefined;
    const command = labelClass ? null : commandFor(event);
    if (!labelClass && !command) return;
    event.preventDefault();
    if (labelClass) {
      if (!event.repeat) chooseClass(app, labelClass.id);
      return;
    }
    if (!command || (event.repeat && ONCE.includes(command))) return;
    leaving = command === "cancel";
    perform(app, command);
  });
}
