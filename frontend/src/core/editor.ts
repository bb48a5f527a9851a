/**
 * One task being labelled: its document, what is selected, which class comes next.
 *
 * Everything that changes the document goes through `commit`, so that undo covers it.
 */

import { movedShape, classKeys, isSuggestion, type Keypoints, type LabelClass, type Shape } from "./shapes";
import { GridIndex } from "./grid";
import { History, NO_FOCUS, type Focus } from "./history";
import { defaultLayout, layoutOf, type Layout } from "./layout";
import { shapesAt } from "./picking";
import { DocumentStore, type Change } from "./store";
import type { ImagePoint, Size } from "./geometry";

export type Aspect = "document" | "focus" | "appearance" | "class";
export type EditorListener = (aspect: Aspect) => void;

export interface EditorOptions {
  readonly picture: Size;
  readonly classes: readonly LabelClass[];
  readonly shapes?: readonly Shape[];
  readonly newId: () => string;
  /** What carries over from one picture to the next: the armed class, the clipboard, templates. */
  readonly hand?: Hand;
}

/** What an annotator keeps in hand from one picture to the next. */
export interface Hand {
  classId: number | null;
  clipboard: readonly Shape[];
  previous: readonly Shape[];
  readonly layouts: Map<number, Layout>;
}

export const emptyHand = (): Hand => ({ classId: null, clipboard: [], previous: [], layouts: new Map() });

export class Editor {
  readonly picture: Size;
  readonly classes: readonly LabelClass[];
  readonly keys: ReadonlyMap<string, LabelClass>;
  readonly store: DocumentStore;
  readonly history: History;
  readonly grid: GridIndex;
  readonly hand: Hand;
  readonly newId: () => string;
  readonly hidden = new Set<string>();
  readonly locked = new Set<string>();
  allHidden = false;
  #focus: Focus = NO_FOCUS;
  #byId: ReadonlyMap<number, LabelClass>;
  readonly #listeners = new Set<EditorListener>();

  constructor(options: EditorOptions) {
    this.picture = options.picture;
    this.classes = options.classes;
    this.newId = options.newId;
    this.hand = options.hand ?? emptyHand();
    this.#byId = new Map(options.classes.map((item) => [item.id, item]));
    this.keys = classKeys(options.classes);
    this.store = new DocumentStore(options.shapes ?? []);
    this.history = new History(this.store);
    this.grid = new GridIndex(options.picture, this.store.shapes);
    this.store.subscribe((change) => {
      this.grid.update(change);
      this.#tell("document");
    });
    if (this.hand.classId === null || !this.drawable(this.hand.classId)) {
      this.hand.classId = options.classes.find((item) => item.kind !== "tag")?.id ?? null;
    }
  }

  subscribe(listener: EditorListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get shapes(): readonly Shape[] {
    return this.store.shapes;
  }

  get focus(): Focus {
    return this.#focus;
  }

  get selected(): Shape[] {
    return this.#focus.ids.flatMap((id) => this.store.get(id) ?? []);
  }

  /** The only selected shape, if there is exactly one. */
  get only(): Shape | null {
    const selected = this.selected;
    return selected.length === 1 ? (selected[0] ?? null) : null;
  }

  get onlyKeypoints(): Keypoints | null {
    const only = this.only;
    return only?.kind === "keypoints" ? only : null;
  }

  get suggestions(): Shape[] {
    return this.shapes.filter(isSuggestion);
  }

  classOf = (id: number): LabelClass | undefined => this.#byId.get(id);

  get armed(): LabelClass | null {
    return this.hand.classId === null ? null : (this.#byId.get(this.hand.classId) ?? null);
  }

  /** The armed class if it has this kind, else the first class that does. */
  armedFor(kind: "box" | "keypoints"): LabelClass | null {
    const armed = this.armed;
    return armed?.kind === kind ? armed : (this.classes.find((item) => item.kind === kind) ?? null);
  }

  drawable(classId: number): boolean {
    const found = this.#byId.get(classId);
    return found !== undefined && found.kind !== "tag";
  }

  arm(classId: number): void {
    if (!this.drawable(classId) || this.hand.classId === classId) return;
    this.hand.classId = classId;
    this.#tell("class");
  }

  focusOn(focus: Focus): void {
    this.#focus = focus;
    this.#tell("focus");
  }

  select(...ids: string[]): void {
    this.focusOn({ ids, joint: null });
  }

  commit(change: Change, after: Focus = this.#focus): void {
    const before = this.#focus;
    this.#focus = after; // listeners of the document already see what is selected after it
    if (this.history.commit(change, before, after)) this.#learnLayouts(change);
    this.#tell("focus");
  }

  undo(): boolean {
    const focus = this.history.undo();
    if (focus) this.focusOn(this.#existing(focus));
    return focus !== null;
  }

  redo(): boolean {
    const focus = this.history.redo();
    if (focus) this.focusOn(this.#existing(focus));
    return focus !== null;
  }

  isShown(shape: Shape): boolean {
    return !this.allHidden && !this.hidden.has(shape.id);
  }

  toggleHidden(ids: readonly string[]): void {
    toggle(this.hidden, ids);
    this.#tell("appearance");
  }

  toggleLocked(ids: readonly string[]): void {
    toggle(this.locked, ids);
    this.#tell("appearance");
  }

  toggleAllHidden(): void {
    this.allHidden = !this.allHidden;
    this.#tell("appearance");
  }

  /** Shapes under a point that can be worked on, the likeliest first. */
  under(point: ImagePoint, radius: number): Shape[] {
    const candidates = [...this.grid.near(point, radius)].flatMap((id) => this.store.get(id) ?? []);
    const free = candidates.filter((shape) => this.isShown(shape) && !this.locked.has(shape.id));
    return shapesAt(free, point, radius, this.classOf);
  }

  layoutFor(labelClass: LabelClass): Layout {
    return (
      this.hand.layouts.get(labelClass.id) ??
      defaultLayout(labelClass.skeleton ?? { joints: [], edges: [], pairs: [] })
    );
  }

  /** Copies with new ids, drawn by whoever pastes them. */
  copies(shapes: readonly Shape[], shift: number): Shape[] {
    return shapes.map((shape) => {
      const { score: _, ...rest } = movedShape(shape, shift, shift);
      return { ...rest, id: this.newId(), provenance: "human_drawn" } as Shape;
    });
  }

  /** A skeleton placed whole becomes the template of the next one of its class. */
  #learnLayouts(change: Change): void {
    for (const { new: shape } of change.updated) {
      if (shape.kind !== "keypoints") continue;
      const layout = layoutOf(shape.points);
      if (layout) this.hand.layouts.set(shape.class_id, layout);
    }
  }

  #existing(focus: Focus): Focus {
    const ids = focus.ids.filter((id) => this.store.get(id));
    return ids.length === focus.ids.length ? focus : { ids, joint: null };
  }

  #tell(aspect: Aspect): void {
    for (const listener of this.#listeners) listener(aspect);
  }
}

function toggle(set: Set<string>, ids: readonly string[]): void {
  const on = ids.some((id) => !set.has(id));
  for (const id of ids) {
    if (on) set.add(id);
    else set.delete(id);
  }
}
