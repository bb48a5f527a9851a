/** What every tool is: a tiny state machine fed with pointer events, whose half-done work can be cancelled. */

import { distance, type ImagePoint, type Rect, type ScreenPoint } from "../core/geometry";
import type { Shape } from "../core/shapes";

export type ToolId = "select" | "box" | "keypoints";

export interface Pointer {
  readonly at: ImagePoint;
  readonly screen: ScreenPoint;
  /** How near counts as on it, in image pixels. */
  readonly reach: number;
  readonly shift: boolean;
  /** Ctrl or ⌘. */
  readonly additive: boolean;
}

/** What the tool shows over the document while it works. */
export interface Preview {
  /** Drawn instead of the document's shapes with the same ids. */
  readonly shapes: readonly Shape[];
  readonly marquee?: Rect;
  readonly crosshair?: boolean;
  /** Words at the pointer, such as the joint that comes next. */
  readonly hint?: string;
}

export const NO_PREVIEW: Preview = { shapes: [] };

export interface Tool {
  readonly id: ToolId;
  readonly preview: Preview;
  down(pointer: Pointer): void;
  move(pointer: Pointer): void;
  up(pointer: Pointer): void;
  /** Drops half-done work; false when there was none. */
  cancel(): boolean;
  /** A CSS cursor for the pointer's place. */
  cursor(pointer: Pointer): string;
}

/** Below this many CSS pixels a press and release is a click. */
export const DRAG_THRESHOLD = 4;

export const isDrag = (from: ScreenPoint, to: ScreenPoint): boolean => distance(from, to) >= DRAG_THRESHOLD;
