/** The task before the reviewer, what of it is shown, and the decisions about it. */

import { computed, signal } from "@preact/signals";
import { ApiError, request } from "../../api/client";
import type { Annotation, NextReview, ObjectEvidence, Review, ReviewEmptiness } from "../../api/types";
import type { LabelClass, Shape } from "../../core/shapes";

const RENEW_MS = 120_000;
/** Of people, and unlike the classes' colours; each person is named beside the colour too. */
const COLOURS = ["#ff5fd2", "#b8f53d", "#a58bff", "#2ee6d0", "#ff8f87", "#ffffff"] as const;

/** What is drawn over the picture together: the consensus, what it rejected, or one person's answer. */
export interface Layer {
  readonly id: string;
  readonly name: string;
  /** Nothing: each object has its class's colour. */
  readonly color: string | null;
  readonly shapes: readonly Shape[];
  readonly annotation: Annotation | null;
}

export interface Picked {
  readonly layer: string;
  readonly shape: string;
}

export class ReviewState {
  readonly review = signal<Review | null>(null);
  readonly empty = signal<ReviewEmptiness | null>(null);
  readonly shown = signal<ReadonlySet<string>>(new Set());
  readonly picked = signal<Picked | null>(null);
  readonly busy = signal(false);
  readonly said = signal("");
  readonly trouble = signal("");
  readonly layers = computed(() => (this.review.value ? layersOf(this.review.value) : []));
  /** By the id of a shape of the consensus, or of one that it rejected. */
  readonly evidence = computed(
    () => new Map((this.review.value?.evidence?.objects ?? []).map((item): [string, ObjectEvidence] => [item.id, item])),
  );
  readonly classes = computed(
    () => new Map((this.review.value?.schema.classes ?? []).map((item) => [item.id, item as LabelClass])),
  );
  /** Left for later in this visit. */
  readonly #passed = new Set<number>();
  #withDisputed = false;
  /** The task is looked at without being held: somebody came for it. */
  #visiting = false;

  constructor(readonly projectId: number) {
    window.setInterval(() => void this.#renew(), RENEW_MS);
    window.addEventListener("pagehide", () => this.#release());
  }

  async next(): Promise<void> {
    await this.#attempt(async () => this.#show(await this.#claim()));
  }

  /** Shows one task, whether it waits for a reviewer or is settled; it is not held. */
  async visit(taskId: number): Promise<void> {
    await this.#attempt(async () => {
      const review = await request<Review>({ method: "GET", path: `tasks/${taskId}/review` });
      this.#show({ review, empty: null });
      this.#visiting = true;
    });
  }

  /** Leaves the task to another time, or to another reviewer. */
  async pass(): Promise<void> {
    if (this.review.value) this.#passed.add(this.review.value.task.id);
    this.said.value = "Left for later.";
    await this.next();
  }

  async takeDisputed(): Promise<void> {
    this.#withDisputed = true;
    await this.next();
  }

  async startOver(): Promise<void> {
    this.#passed.clear();
    await this.next();
  }

  async decide(what: "accept" | "reject" | "reopen", said: string, body: object = {}): Promise<void> {
    const review = this.review.value;
    if (!review || this.busy.value) return;
    await this.#attempt(async () => {
      await request({
        method: "POST",
        path: `tasks/${review.task.id}/review/${what}`,
        body: { base_revision: review.base_revision, ...body },
      });
      this.said.value = said;
      this.#show(await this.#claim());
    });
  }

  /** Sends one object of an answer to its author; whether it went. The task then waits for them. */
  async sendBack(annotation: Annotation, shapeId: string, comment: string): Promise<boolean> {
    const review = this.review.value;
    if (!review) return false;
    return this.#attempt(async () => {
      await request({
        method: "POST",
        path: `tasks/${review.task.id}/review/return`,
        body: { base_revision: review.base_revision, annotation: annotation.id, shape_id: shapeId, comment },
      });
      this.said.value = `Sent back to ${annotation.author}. The task comes again when it is mended.`;
      this.#show(await this.#claim());
    });
  }

  toggle(layer: string): void {
    const shown = new Set(this.shown.value);
    if (!shown.delete(layer)) shown.add(layer);
    this.shown.value = shown;
  }

  pick(picked: Picked | null): void {
    this.picked.value = picked;
    if (picked && !this.shown.value.has(picked.layer)) this.toggle(picked.layer);
  }

  #show({ review, empty }: NextReview): void {
    this.#visiting = false;
    this.review.value = review;
    this.empty.value = empty;
    this.picked.value = null;
    const answers = review?.consensus ? [] : (review?.annotations ?? []).map((answer) => answer.id);
    this.shown.value = new Set(["consensus", "rejected", ...answers]);
  }

  #claim(): Promise<NextReview> {
    return request<NextReview>({
      method: "POST",
      path: `projects/${this.projectId}/review/next`,
      body: { passed: [...this.#passed].slice(-200), with_disputed: this.#withDisputed },
    });
  }

  /** Keeps holding the task; shows it anew if it changed meanwhile. */
  async #renew(): Promise<void> {
    const before = this.review.value;
    if (!before || this.#visiting || this.busy.value || document.visibilityState === "hidden") return;
    await this.#attempt(async () => {
      const got = await this.#claim();
      if (this.review.value !== before) return;
      if (got.review?.task.id === before.task.id && got.review.base_revision === before.base_revision) return;
      this.said.value = "This task changed meanwhile; look again.";
      this.#show(got);
    });
  }

  #release(): void {
    const review = this.review.value;
    if (!review || this.#visiting) return;
    void request({ method: "POST", path: `tasks/${review.task.id}/review/release`, keepalive: true }).catch(() => {});
  }

  async #attempt(work: () => Promise<void>): Promise<boolean> {
    this.busy.value = true;
    this.trouble.value = "";
    try {
      await work();
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.trouble.value = error.message;
      if (error.status === 409) this.#show(await this.#claim().catch(() => ({ review: null, empty: null })));
      return false;
    } finally {
      this.busy.value = false;
    }
  }
}

/** In the order of the evidence, which has the disputed objects first and then the riskiest. */
function disputedFirst(shapes: readonly Shape[], review: Review): readonly Shape[] {
  const place = new Map((review.evidence?.objects ?? []).map((item, index) => [item.id, index]));
  return [...shapes].sort((a, b) => (place.get(a.id) ?? Infinity) - (place.get(b.id) ?? Infinity) || 0);
}

export function layersOf(review: Review): Layer[] {
  const layers: Layer[] = review.annotations.map((annotation, index) => ({
    id: annotation.id,
    name: annotation.author,
    color: COLOURS[index % COLOURS.length] ?? COLOURS[0],
    shapes: annotation.shapes,
    annotation,
  }));
  if (review.consensus) {
    const shapes = disputedFirst(review.consensus.shapes, review);
    const rejected = disputedFirst(review.consensus.rejected, review);
    layers.unshift(
      { id: "consensus", name: "Consensus", color: null, shapes, annotation: null },
      {
        id: "rejected",
        name: "Rejected by the vote",
        color: null,
        // dashed and with its confidence, as a suggestion is drawn
        shapes: rejected.map((shape) => ({ ...shape, provenance: "model_only" as const })),
        annotation: null,
      },
    );
  }
  return layers.filter((layer) => layer.id !== "rejected" || layer.shapes.length);
}
