/** What keys and buttons do to the document. Each is one step of the history, or answers why it did nothing. */

import {
  boundedMove,
  clippedRect,
  grown,
  imagePoint,
  rectAround,
  rectBetween,
  rectHeight,
  rectWidth,
  type ImagePoint,
  type Rect,
} from "./geometry";
import {
  ABSENT,
  accepted,
  boundsOf,
  edited,
  isLabelled,
  isSuggestion,
  jointPoint,
  movedShape,
  withJoint,
  type Keypoints,
  type LabelClass,
  type Shape,
} from "./shapes";
import { dropped } from "./layout";
import { NOTHING } from "./store";
import type { Editor } from "./editor";

/** Why nothing happened, in words for the status line; null when it did. */
export type Refusal = string | null;

const SELECT_FIRST = "Select an object first: click it, or press Tab";
const LOCKED = "That object is locked: press L to unlock it";

function editable(editor: Editor): Shape[] {
  return editor.selected.filter((shape) => !editor.locked.has(shape.id));
}

function whyNothing(editor: Editor): Refusal {
  return editor.selected.length ? LOCKED : SELECT_FIRST;
}

/** Deletes what is selected; an open suggestion is thereby rejected and the next one comes up. */
export function remove(editor: Editor): Refusal {
  const going = editable(editor);
  if (!going.length) return whyNothing(editor);
  const ids = going.map((shape) => shape.id);
  const after = going.every(isSuggestion) ? nextSuggestion(editor, ids) : null;
  editor.commit(editor.store.deleting(ids), { ids: after ? [after] : [], joint: null });
  return null;
}

function nextSuggestion(editor: Editor, without: readonly string[]): string | null {
  const start = editor.shapes.findIndex((shape) => shape.id === without[0]);
  const around = [...editor.shapes.slice(start + 1), ...editor.shapes.slice(0, Math.max(start, 0))];
  return around.find((shape) => isSuggestion(shape) && !without.includes(shape.id))?.id ?? null;
}

/** Accepts the selected suggestions and goes on to the next; with none selected it brings one up to look at. */
export function accept(editor: Editor): Refusal {
  const open = editable(editor).filter(isSuggestion);
  if (open.length) {
    const ids = open.map((shape) => shape.id);
    const next = nextSuggestion(editor, ids);
    editor.commit(editor.store.updating(...open.map(accepted)), { ids: next ? [next] : ids, joint: null });
    return null;
  }
  const first = editor.suggestions[0];
  if (!first) return "No suggestion is open";
  editor.select(first.id);
  return "Press A again to accept this suggestion";
}

export function acceptAll(editor: Editor): Refusal {
  const open = editor.suggestions;
  if (!open.length) return "No suggestion is open";
  editor.commit(editor.store.updating(...open.map(accepted)), { ids: [], joint: null });
  return null;
}

function fits(shape: Shape, to: LabelClass): boolean {
  if (shape.kind !== to.kind) return false;
  return shape.kind !== "keypoints" || shape.points.length === to.skeleton?.joints.length;
}

/** A class key or button: relabels the selection, toggles a tag, or arms the class for the next object. */
export function chooseClass(editor: Editor, chosen: LabelClass): Refusal {
  if (chosen.kind === "tag") return toggleTag(editor, chosen);
  const selected = editable(editor).filter((shape) => fits(shape, chosen));
  editor.arm(chosen.id);
  if (!editor.selected.length) return null;
  if (!selected.length) return `${chosen.name} is for ${chosen.kind}: it is set for the next object`;
  const relabelled = selected
    .filter((shape) => shape.class_id !== chosen.id)
    .map((shape) => ({ ...edited(shape), class_id: chosen.id }));
  editor.commit(editor.store.updating(...relabelled));
  return null;
}

export function toggleTag(editor: Editor, chosen: LabelClass): Refusal {
  const present = editor.shapes.filter((shape) => shape.kind === "tag" && shape.class_id === chosen.id);
  const open = present.filter(isSuggestion);
  if (open.length) editor.commit(editor.store.updating(...open.map(accepted)));
  else if (present.length) editor.commit(editor.store.deleting(present.map((shape) => shape.id)));
  else {
    const tag: Shape = { id: editor.newId(), kind: "tag", class_id: chosen.id, provenance: "human_drawn" };
    editor.commit(editor.store.creating(tag));
  }
  return null;
}

export function unionOf(shapes: readonly Shape[]): Rect | null {
  const corners = shapes.flatMap((shape) => {
    const bounds = boundsOf(shape);
    return bounds ? [imagePoint(bounds[0], bounds[1]), imagePoint(bounds[2], bounds[3])] : [];
  });
  return corners.length ? rectAround(corners) : null;
}

/** Moves the active joint, or else everything selected, by whole pixels. */
export function nudge(editor: Editor, dx: number, dy: number): Refusal {
  const joint = activeJoint(editor);
  if (joint) {
    const [x, y, visibility] = joint.value;
    const [byX, byY] = boundedMove([x, y, x, y], dx, dy, editor.picture);
    editor.commit(
      editor.store.updating(edited(withJoint(joint.shape, joint.index, [x + byX, y + byY, visibility]))),
    );
    return null;
  }
  const moving = editable(editor);
  const bounds = unionOf(moving);
  if (!bounds) return whyNothing(editor);
  const [byX, byY] = boundedMove(bounds, dx, dy, editor.picture);
  editor.commit(editor.store.updating(...moving.map((shape) => edited(movedShape(shape, byX, byY)))));
  return null;
}

/** Moves the right and bottom sides of the selected boxes; a side never passes the other. */
export function resize(editor: Editor, dx: number, dy: number): Refusal {
  const boxes = editable(editor).flatMap((shape) => {
    if (shape.kind === "tag" || !shape.xyxy) return [];
    const [x1, y1, x2, y2] = shape.xyxy;
    const rect = clippedRect([x1, y1, Math.max(x1 + 1, x2 + dx), Math.max(y1 + 1, y2 + dy)], editor.picture);
    return rectWidth(rect) > 0 && rectHeight(rect) > 0 ? [edited({ ...shape, xyxy: rect })] : [];
  });
  if (!boxes.length) return whyNothing(editor);
  editor.commit(editor.store.updating(...boxes));
  return null;
}

/** Selects the next (1) or the previous (-1) shown object; tags are no part of the round. */
export function cycle(editor: Editor, step: 1 | -1): Refusal {
  const shown = editor.shapes.filter((shape) => shape.kind !== "tag" && editor.isShown(shape));
  if (!shown.length) return "There is no object yet";
  const current = shown.findIndex((shape) => shape.id === editor.focus.ids[0]);
  const start = current < 0 && step < 0 ? 0 : current;
  const next = shown[(start + step + shown.length) % shown.length];
  if (next) editor.select(next.id);
  return null;
}

/** Makes the next or the previous joint of the selected skeleton the active one. */
export function cycleJoint(editor: Editor, step: 1 | -1): Refusal {
  const count = editor.onlyKeypoints?.points.length ?? editor.armedFor("keypoints")?.skeleton?.joints.length;
  if (!count) return "Select a skeleton first";
  const current = editor.focus.joint ?? (step > 0 ? -1 : editor.onlyKeypoints ? count : 1);
  editor.focusOn({ ids: editor.onlyKeypoints ? editor.focus.ids : [], joint: (current + step + count) % count });
  return null;
}

interface ActiveJoint {
  readonly shape: Keypoints;
  readonly index: number;
  readonly value: Keypoints["points"][number];
}

function activeJoint(editor: Editor): ActiveJoint | null {
  const shape = editor.onlyKeypoints;
  const index = editor.focus.joint;
  if (!shape || index === null || editor.locked.has(shape.id)) return null;
  const value = shape.points[index];
  return value && isLabelled(value) ? { shape, index, value } : null;
}

/** The first unlabelled joint after `index`, or null when there is none. */
export function nextUnplaced(shape: Keypoints, index: number): number | null {
  const next = shape.points.findIndex((joint, i) => i > index && !isLabelled(joint));
  return next < 0 ? null : next;
}

/**
 * Sets one joint and goes on to the next unlabelled one. With no skeleton selected a new one begins.
 */
export function placeJoint(editor: Editor, at: ImagePoint, visibility: 1 | 2): Refusal {
  const existing = editor.onlyKeypoints;
  const index = editor.focus.joint ?? 0;
  if (existing && editor.locked.has(existing.id)) return LOCKED;
  if (existing && editor.focus.joint !== null) {
    const placed = edited(withJoint(existing, index, [at.x, at.y, visibility]));
    editor.commit(editor.store.updating(placed), { ids: [placed.id], joint: nextUnplaced(placed, index) });
    return null;
  }
  const labelClass = editor.armedFor("keypoints");
  const joints = labelClass?.skeleton?.joints;
  if (!labelClass || !joints) return "This project has no class with a skeleton";
  editor.arm(labelClass.id);
  const empty: Keypoints = {
    id: editor.newId(),
    kind: "keypoints",
    class_id: labelClass.id,
    points: joints.map(() => ABSENT),
    provenance: "human_drawn",
  };
  const begun = withJoint(empty, Math.min(index, joints.length - 1), [at.x, at.y, visibility]);
  editor.commit(editor.store.creating(begun), { ids: [begun.id], joint: nextUnplaced(begun, index) });
  return null;
}

/** Drops the class's template over a rectangle. */
export function dropTemplate(editor: Editor, rect: Rect): Refusal {
  const labelClass = editor.armedFor("keypoints");
  if (!labelClass) return "This project has no class with a skeleton";
  editor.arm(labelClass.id);
  const shape: Keypoints = {
    id: editor.newId(),
    kind: "keypoints",
    class_id: labelClass.id,
    points: dropped(editor.layoutFor(labelClass), rect),
    provenance: "human_drawn",
  };
  editor.commit(editor.store.creating(shape), { ids: [shape.id], joint: null });
  return null;
}

/** The active joint: hidden, or visible again; one not placed yet goes hidden to where the pointer is. */
export function toggleJointHidden(editor: Editor, pointer: ImagePoint | null): Refusal {
  const joint = activeJoint(editor);
  if (!joint) {
    if (editor.focus.joint === null && editor.onlyKeypoints) return "Choose a joint first: click it, or press ] or [";
    return pointer ? placeJoint(editor, pointer, 1) : "Put the pointer where the hidden joint is, then press Q";
  }
  const [x, y, visibility] = joint.value;
  const changed = edited(withJoint(joint.shape, joint.index, [x, y, visibility === 1 ? 2 : 1]));
  editor.commit(editor.store.updating(changed), { ids: [changed.id], joint: following(changed, joint.index) });
  return null;
}

function following(shape: Keypoints, index: number): number | null {
  return index + 1 < shape.points.length ? index + 1 : null;
}

/** The active joint is out of view; on to the next. A skeleton left without joints or box is deleted. */
export function setJointAbsent(editor: Editor): Refusal {
  const shape = editor.onlyKeypoints;
  const joint = editor.focus.joint;
  if (!shape) {
    const count = editor.armedFor("keypoints")?.skeleton?.joints.length;
    if (!count) return "This project has no class with a skeleton";
    editor.focusOn({ ids: [], joint: Math.min((joint ?? 0) + 1, count - 1) });
    return null;
  }
  if (joint === null) return "Choose a joint first: click it, or press ] or [";
  if (editor.locked.has(shape.id)) return LOCKED;
  const changed = edited(withJoint(shape, joint, ABSENT));
  const next = following(changed, joint);
  if (!boundsOf(changed)) editor.commit(editor.store.deleting([shape.id]), { ids: [], joint: null });
  else if (shape.points[joint]?.[2] === 0) editor.focusOn({ ids: [shape.id], joint: next });
  else editor.commit(editor.store.updating(changed), { ids: [shape.id], joint: next });
  return null;
}

/** Swaps the left and right joints of the selected skeleton. */
export function mirrorJoints(editor: Editor): Refusal {
  const shape = editor.onlyKeypoints;
  const pairs = shape ? editor.classOf(shape.class_id)?.skeleton?.pairs : undefined;
  if (!shape || !pairs?.length) return "Select a skeleton with left and right joints first";
  if (editor.locked.has(shape.id)) return LOCKED;
  const points = [...shape.points];
  for (const [left, right] of pairs) [points[left], points[right]] = [points[right] ?? ABSENT, points[left] ?? ABSENT];
  editor.commit(editor.store.updating(edited({ ...shape, points })));
  return null;
}

/** Gives the selected skeleton a box a little wider than its joints, or takes its box away. */
export function toggleSkeletonBox(editor: Editor): Refusal {
  const shape = editor.onlyKeypoints;
  if (!shape) return "Select a skeleton first";
  if (editor.locked.has(shape.id)) return LOCKED;
  const points = shape.points.filter(isLabelled).map(jointPoint);
  if (shape.xyxy) {
    if (!points.length) return "This skeleton has only its box: delete the object instead";
    const { xyxy: _, ...bare } = shape;
    editor.commit(editor.store.updating(edited(bare)));
    return null;
  }
  const around = rectAround(points);
  const margin = Math.max(rectWidth(around), rectHeight(around), 10) * 0.1;
  editor.commit(editor.store.updating(edited({ ...shape, xyxy: clippedRect(grown(around, margin), editor.picture) })));
  return null;
}

export function copy(editor: Editor): Refusal {
  const copied = editor.selected.filter((shape) => shape.kind !== "tag");
  if (!copied.length) return SELECT_FIRST;
  editor.hand.clipboard = copied;
  return null;
}

/** Puts shapes into the document, a little aside where they would cover the same shape exactly. */
export function paste(editor: Editor, shapes: readonly Shape[] = editor.hand.clipboard): Refusal {
  const usable = shapes.filter((shape) => {
    const labelClass = editor.classOf(shape.class_id);
    return labelClass && fits(shape, labelClass);
  });
  if (!usable.length) return "There is nothing to paste";
  const present = new Set(editor.shapes.map((shape) => JSON.stringify(boundsOf(shape))));
  const covers = usable.some((shape) => present.has(JSON.stringify(boundsOf(shape))));
  const bounds = unionOf(usable);
  const aside = Math.max(4, Math.round(Math.max(editor.picture.width, editor.picture.height) / 100));
  const shift = covers && bounds ? Math.min(...boundedMove(bounds, aside, aside, editor.picture)) : 0;
  const pasted = editor.copies(usable, shift).flatMap((shape) => withinPicture(editor, shape));
  if (!pasted.length) return "That would lie outside this picture";
  editor.commit(editor.store.creating(...pasted), { ids: pasted.map((shape) => shape.id), joint: null });
  return null;
}

/** A shape of another picture may reach over this one's edge: a box is cut, what is wholly outside is left out. */
function withinPicture(editor: Editor, shape: Shape): Shape[] {
  const { width, height } = editor.picture;
  if (shape.kind === "box") {
    const xyxy = clippedRect(shape.xyxy, editor.picture);
    return rectWidth(xyxy) > 0 && rectHeight(xyxy) > 0 ? [{ ...shape, xyxy }] : [];
  }
  const bounds = boundsOf(shape);
  return bounds && (bounds[0] >= width || bounds[1] >= height) ? [] : [shape];
}

export function duplicate(editor: Editor): Refusal {
  const selected = editor.selected.filter((shape) => shape.kind !== "tag");
  return selected.length ? paste(editor, selected) : SELECT_FIRST;
}

/** The previous picture's objects, drawn again here. */
export function repeatPrevious(editor: Editor): Refusal {
  const previous = editor.hand.previous.filter((shape) => shape.kind !== "tag");
  return previous.length ? paste(editor, previous) : "There is no earlier picture to repeat from";
}

/** An object of the armed class in the middle of what is seen, to be moved and resized by keys. */
export function drawInMiddle(editor: Editor, kind: "box" | "keypoints", seen: Rect): Refusal {
  const shown = clippedRect(seen, editor.picture);
  const middle = imagePoint((shown[0] + shown[2]) / 2, (shown[1] + shown[3]) / 2);
  const half = Math.max(Math.min(rectWidth(shown), rectHeight(shown)) / 8, 1);
  const rect = rectBetween(imagePoint(middle.x - half, middle.y - half), imagePoint(middle.x + half, middle.y + half));
  if (kind === "keypoints") return dropTemplate(editor, rect);
  return addBox(editor, rect);
}

/** A new box of the armed class, selected, cut to the picture; one without an area is not made. */
export function addBox(editor: Editor, rect: Rect): Refusal {
  const labelClass = editor.armedFor("box");
  if (!labelClass) return "This project has no class for boxes";
  const xyxy = clippedRect(rect, editor.picture);
  if (rectWidth(xyxy) < 1 || rectHeight(xyxy) < 1) {
    editor.commit(NOTHING);
    return "That box is smaller than a pixel: zoom in to draw it";
  }
  editor.arm(labelClass.id);
  const id = editor.newId();
  editor.commit(
    editor.store.creating({ id, kind: "box", class_id: labelClass.id, xyxy, provenance: "human_drawn" }),
    { ids: [id], joint: null },
  );
  return null;
}
