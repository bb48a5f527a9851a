/**
 * An annotator's work on a project: tasks leased ahead with their pictures decoded, everything drawn kept in the
 * journal and as a draft, answers sent through the outbox. Nothing here waits for the network to let the hand go on.
 */

import { signal } from "@preact/signals";
import { Backoff } from "../../api/backoff";
import { ApiError, request } from "../../api/client";
import { uuid } from "../../api/ids";
import { BrowserShelf, Journal } from "../../api/journal";
import { BrowserParcels, Outbox, type Parcel } from "../../api/outbox";
import { ActiveClock } from "../../core/clock";
import { Editor, emptyHand, type Hand } from "../../core/editor";
import { answerOf, type Shape } from "../../core/shapes";
import { Picture } from "../../render/picture";
import type { Answer, Emptiness, LeasedTask, Leases, SavedDraft, Schema, TaskDetail } from "../../api/types";

const AHEAD = 3;
const MOST_LEASES = 10;
const JOURNAL_MS = 150;
const DRAFT_MS = 2_000;
const HEARTBEAT_MS = { least: 3_000, most: 60_000 };
const LOOK_AGAIN_MS = 15_000;
const KEEPALIVE_BYTES = 60_000; // browsers refuse more in one request that outlives its page

/** One leased task in hand. */
export interface Work {
  leased: LeasedTask;
  readonly editor: Editor;
  readonly clock: ActiveClock;
  readonly schemaVersion: number;
  picture: Picture | null;
  /** Why the picture is not there, when loading it failed. */
  pictureProblem: string | null;
  /** Changed by hand, here or before a reload. */
  touched: boolean;
  lost: boolean;
  draftAt: string;
  draftDue: boolean;
  /** How often this tab has saved it: the server drops a saving that arrives after a later one. */
  draftSequence: number;
}

export interface SessionOptions {
  readonly projectId: number;
  readonly userId: number;
  readonly username: string;
  readonly onOpened: (work: Work | null) => void;
  readonly onPicture: (work: Work) => void;
}

export class Session {
  readonly hand: Hand = emptyHand();
  readonly journal: Journal;
  readonly outbox: Outbox;
  /** Bumped on every change that the panels show. */
  readonly version = signal(0);
  readonly notice = signal("");
  works: Work[] = [];
  current: Work | null = null;
  empty: Emptiness | null = null;
  /** Why the queue could not be asked, in words; "" when it could. */
  trouble = "";
  loading = true;
  answered = 0;
  journalFull = false;
  readonly #options: SessionOptions;
  readonly #tab = uuid();
  readonly #backoff = new Backoff();
  readonly #drafts = new Backoff();
  readonly #beats = new Backoff();
  #savingDrafts = false;
  #asking = false;
  #askAgain = false;
  #closing = false;
  #askTimer = 0;
  #journalTimer = 0;
  #draftTimer = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.journal = new Journal(localStorage, options.userId, new BrowserShelf());
    this.outbox = new Outbox({
      store: new BrowserParcels(),
      userId: options.userId,
      send: request,
      onChange: () => this.#outboxChanged(),
      onSent: (parcel, answer) => this.#sent(parcel, answer),
    });
  }

  async start(): Promise<void> {
    await this.journal.restore();
    const stranded = this.journal.strandedParcels();
    await this.outbox.open().catch(() => this.say("This browser keeps nothing for later: submit before you close the page"));
    const known = new Set([...this.outbox.pending, ...this.outbox.refused].map((parcel) => parcel.key));
    for (const parcel of stranded) {
      if (known.has(parcel.key)) this.journal.remove(parcel.task_id);
      else void this.#post(parcel);
    }
    await this.topUp();
    this.#beat();
  }

  say(text: string): void {
    this.notice.value = text;
  }

  changed(): void {
    this.version.value += 1;
  }

  // --- the queue -----------------------------------------------------------------------------------------

  /** Leases up to three tasks ahead of the current one. */
  async topUp(): Promise<void> {
    if (this.#closing) return;
    if (this.#asking) {
      this.#askAgain = true;
      return;
    }
    this.#asking = true;
    clearTimeout(this.#askTimer);
    const count = Math.min(1 + AHEAD + this.outbox.pending.length, MOST_LEASES);
    const heldBefore = new Set([...this.#taskIds(), ...this.outbox.pending.map((parcel) => parcel.task_id)]);
    try {
      const answer = await request<Leases>({
        method: "POST",
        path: `projects/${this.#options.projectId}/queue/next`,
        body: { count },
      });
      this.#backoff.reset();
      this.trouble = "";
      this.#take(answer, heldBefore);
      if (!this.works.length) this.#askIn(LOOK_AGAIN_MS);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.trouble = error.status === 401 ? "You are logged out" : error.message;
      if (error.isTransient || error.status === 401) this.#askIn(this.#backoff.next());
    } finally {
      this.#asking = false;
      this.loading = false;
      this.changed();
    }
    if (this.#askAgain) {
      this.#askAgain = false;
      await this.topUp();
    }
  }

  #askIn(ms: number): void {
    clearTimeout(this.#askTimer);
    this.#askTimer = window.setTimeout(() => void this.topUp(), ms);
  }

  #taskIds(): number[] {
    return this.works.map((work) => work.leased.task.id);
  }

  /** `heldBefore`: tasks in hand or on their way when the queue was asked; what has left since is not new. */
  #take(answer: Leases, heldBefore: ReadonlySet<number>): void {
    const offered = new Map(answer.leases.map((item) => [item.task.id, item]));
    for (const work of this.works) {
      const again = offered.get(work.leased.task.id);
      if (again) work.leased = { ...work.leased, lease: again.lease };
      work.lost = !again;
    }
    this.works = this.works.filter((work) => !work.lost || work.touched || work === this.current);
    const inHand = new Set([...this.#taskIds(), ...this.outbox.pending.map((parcel) => parcel.task_id)]);
    for (const leased of answer.leases) {
      if (inHand.has(leased.task.id) || heldBefore.has(leased.task.id)) continue;
      this.works.push(this.#begin(leased, answer.schema, answer.schema_version));
    }
    this.empty = answer.empty;
    if (!this.current) this.open(this.works[0] ?? null);
    void this.#fetchPictures();
  }

  #begin(leased: LeasedTask, schema: Schema, schemaVersion: number): Work {
    const refused = this.outbox.refused.find((parcel) => parcel.task_id === leased.task.id);
    const entry = this.journal.read(leased.task.id);
    const begun = beginning(leased, refused, entry);
    const work: Work = {
      leased,
      schemaVersion,
      editor: new Editor({
        picture: leased.image,
        classes: schema.classes,
        shapes: begun.shapes,
        newId: uuid,
        hand: this.hand,
      }),
      clock: new ActiveClock(Date.now(), entry?.seconds_active ?? 0),
      picture: null,
      pictureProblem: null,
      touched: begun.touched,
      lost: false,
      draftAt: entry?.draft_at ?? "",
      draftDue: false,
      draftSequence: 0,
    };
    work.editor.subscribe((aspect) => {
      if (aspect === "document") this.#touched(work);
      this.changed();
    });
    return work;
  }

  /** Brings a task in hand to the stage. */
  open(work: Work | null): void {
    this.current = work;
    work?.clock.resume(Date.now());
    this.#options.onOpened(work);
    this.changed();
    void this.#fetchPictures();
  }

  /** The next (1) or the previous (-1) task in hand, without submitting. */
  go(step: 1 | -1): void {
    const index = this.works.findIndex((work) => work === this.current);
    const next = this.works[index + step];
    if (next) this.open(next);
    else this.say(step > 0 ? "That is the last picture in hand: submit or skip to get more" : "That is the first picture in hand");
  }

  // --- pictures ------------------------------------------------------------------------------------------

  #fetching = false;

  /** Fetches and decodes the pictures in hand, the current one first, one at a time. */
  async #fetchPictures(): Promise<void> {
    if (this.#fetching) return;
    this.#fetching = true;
    const backoff = new Backoff();
    for (let work = this.#wanting(); work && !this.#closing; work = this.#wanting()) {
      try {
        const picture = await Picture.load({ ...work.leased.image });
        if (this.works.includes(work)) work.picture = picture;
        else picture.close();
        work.pictureProblem = null;
        backoff.reset();
        this.#options.onPicture(work);
      } catch {
        work.pictureProblem = "The picture could not be loaded yet; trying again";
        this.changed();
        await new Promise((resolve) => setTimeout(resolve, backoff.next()));
      }
      this.changed();
    }
    this.#fetching = false;
  }

  #wanting(): Work | undefined {
    if (this.current && !this.current.picture) return this.current;
    return this.works.find((work) => !work.picture);
  }

  // --- answers -------------------------------------------------------------------------------------------

  /** Sends the current answer on its way and opens the next task at once. */
  submit(): void {
    const work = this.current;
    if (!work) return;
    if (!work.picture) return this.say("Wait for the picture before you submit");
    const shapes = answerOf(work.editor.shapes);
    const key = uuid();
    const answer: Answer = {
      key,
      lease_token: work.leased.lease.token,
      base_revision: work.leased.base_revision,
      schema_version: work.schemaVersion,
      shapes,
      seconds_active: work.clock.seconds,
      suggestions_from: work.leased.suggestions_from,
      tab: this.#tab,
    };
    this.hand.previous = shapes;
    this.#finish(work, { key, kind: "submit", path: `tasks/${work.leased.task.id}/annotations`, body: answer });
  }

  skip(reason: string): void {
    const work = this.current;
    if (!work) return;
    const body = { token: work.leased.lease.token, reason };
    this.#finish(work, { key: uuid(), kind: "skip", path: `tasks/${work.leased.task.id}/skip`, body });
  }

  #finish(work: Work, parcel: Pick<Parcel, "key" | "kind" | "path" | "body">): void {
    const { id, name } = work.leased.task;
    const index = this.works.indexOf(work);
    this.works = this.works.filter((item) => item !== work);
    this.open(this.works[index] ?? this.works[0] ?? null);
    const whole: Parcel = { ...parcel, user_id: this.#options.userId, task_id: id, task_name: name, queued_at: Date.now() };
    // Until the outbox has it the answer stands in the journal: the page may be closed in this very moment.
    if (parcel.kind === "submit") this.journal.write(id, { ...entryOf(work), parcel: whole });
    for (const old of this.outbox.refused) if (old.task_id === id) void this.outbox.discard(old.key);
    void this.#post(whole);
    // The answer frees its lease when it arrives (`#sent`); until then more are taken only when hands would be empty.
    if (this.works.length < 2) void this.topUp();
    window.setTimeout(() => work.picture?.close(), 0); // not before the next picture is painted
  }

  /** Hands in refused work once more, now as a correction of one's answer that got in between. */
  async correct(parcel: Parcel): Promise<void> {
    try {
      const detail = await request<TaskDetail>({ method: "GET", path: `tasks/${parcel.task_id}` });
      const own = detail.annotations.find((item) => item.author === this.#options.username);
      const key = uuid();
      const body = { ...(parcel.body as Answer), key, base_revision: own?.revision ?? 0 };
      const { refusal: _, ...again } = parcel;
      await this.outbox.post({ ...again, key, body });
      await this.outbox.discard(parcel.key);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.say(error.message);
    }
  }

  async #post(parcel: Parcel): Promise<void> {
    try {
      await this.outbox.post(parcel);
      this.journal.remove(parcel.task_id);
    } catch {
      // The outbox could not store it: the journal keeps it until the server has answered.
      this.say("This browser's storage is full: keep the page open until everything is sent");
    }
  }

  #sent(parcel: Parcel, answer: unknown): void {
    const inHand = this.works.some((work) => work.leased.task.id === parcel.task_id);
    if (!inHand) this.journal.remove(parcel.task_id);
    void this.topUp();
    if (parcel.kind !== "submit") return;
    this.answered += 1;
    if ((answer as { late?: boolean }).late) this.say(`${parcel.task_name} was handed in after its time, and kept`);
  }

  #refusals = 0;

  #outboxChanged(): void {
    const refusals = this.outbox.refused.length;
    if (refusals > this.#refusals) void this.topUp(); // its task comes back, with the work that was refused
    this.#refusals = refusals;
    this.changed();
  }

  // --- keeping -------------------------------------------------------------------------------------------

  #touched(work: Work): void {
    work.touched = true;
    work.draftDue = true;
    // Not put off by the next change: a hand that never rests would write nothing down.
    this.#journalTimer ||= window.setTimeout(() => this.#writeJournal(), JOURNAL_MS);
    this.#saveDraftsIn(DRAFT_MS);
  }

  #writeJournal(): void {
    clearTimeout(this.#journalTimer);
    this.#journalTimer = 0;
    this.journalFull = false;
    for (const work of this.works) {
      if (work.draftDue && !this.journal.write(work.leased.task.id, entryOf(work))) this.journalFull = true;
    }
  }

  get draftsDue(): boolean {
    return this.works.some((work) => work.draftDue);
  }

  async #saveDrafts(): Promise<void> {
    this.#writeJournal();
    if (this.#savingDrafts) return this.#saveDraftsIn(DRAFT_MS); // one at a time: an older draft never comes last
    this.#savingDrafts = true;
    for (const work of this.works.filter((item) => item.draftDue)) {
      const shapes = work.editor.shapes;
      try {
        const draft = await request<SavedDraft>(this.#draftCall(work));
        this.#drafts.reset();
        work.draftAt = draft.saved_at;
        work.draftDue = work.editor.shapes !== shapes;
        if (draft.newer) this.say(newerDraft(work.leased.task.name, draft.newer.saved_at));
        if (this.works.includes(work)) this.journal.write(work.leased.task.id, entryOf(work));
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        // A draft refused for good is left alone: the submit will tell what is wrong, the journal has the work.
        if (!error.isTransient) work.draftDue = false;
        else this.#saveDraftsIn(this.#drafts.next());
      }
    }
    this.#savingDrafts = false;
    this.changed();
  }

  #saveDraftsIn(ms: number): void {
    clearTimeout(this.#draftTimer);
    this.#draftTimer = window.setTimeout(() => void this.#saveDrafts(), ms);
  }

  #draftCall(work: Work): { method: "PUT"; path: string; body: unknown } {
    work.draftSequence += 1;
    const body = {
      shapes: answerOf(work.editor.shapes),
      tab: this.#tab,
      sequence: work.draftSequence,
      schema_version: work.schemaVersion,
    };
    return { method: "PUT", path: `tasks/${work.leased.task.id}/draft`, body };
  }

  /** Renews the leases three times as often as they run out; less often while nobody answers. */
  #beat(): void {
    const soonest = Math.min(...this.works.map((work) => Date.parse(work.leased.lease.expires_at) - Date.now()));
    const due = Math.min(Math.max(soonest / 3, HEARTBEAT_MS.least), HEARTBEAT_MS.most);
    const wait = this.#beats.failures ? Math.max(due, this.#beats.next()) : due;
    window.setTimeout(() => void this.#renew().then(() => this.#beat()), wait);
  }

  async #renew(): Promise<void> {
    for (const work of this.works.filter((item) => !item.lost)) {
      if (this.#closing) return;
      const { task, lease } = work.leased;
      try {
        const renewed = await request<{ expires_at: string }>({
          method: "POST",
          path: `tasks/${task.id}/heartbeat`,
          body: { token: lease.token },
        });
        this.#beats.reset();
        work.leased = { ...work.leased, lease: { ...lease, expires_at: renewed.expires_at } };
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.isTransient) {
          if (!this.#beats.failures) this.#beats.next();
          return;
        }
        if (error.status !== 409 || !this.works.includes(work)) continue;
        work.lost = true;
        if (work.touched || work === this.current) continue;
        this.works = this.works.filter((item) => item !== work);
        void this.topUp();
      }
    }
    this.changed();
  }

  /** The page goes away: keeps what was drawn, gives back what nobody has touched. */
  close(): void {
    this.#closing = true;
    this.keep();
    for (const work of this.works) {
      if (work.touched || work.lost) continue;
      const { task, lease } = work.leased;
      const body = { token: lease.token };
      request({ method: "POST", path: `tasks/${task.id}/release`, body, keepalive: true }).catch(() => {
        // nobody is left to tell; the lease runs out by itself
      });
    }
  }

  /** The page may go away: writes down what is not yet. */
  keep(): void {
    this.#writeJournal();
    for (const work of this.works) {
      if (!work.draftDue) continue;
      const call = this.#draftCall(work);
      if (JSON.stringify(call.body).length > KEEPALIVE_BYTES) continue;
      request({ ...call, keepalive: true }).catch(() => {
        // the journal has it
      });
    }
  }
}

function entryOf(work: Work): Parameters<Journal["write"]>[1] {
  return {
    shapes: work.editor.shapes,
    base_revision: work.leased.base_revision,
    seconds_active: work.clock.seconds,
    saved_at: Date.now(),
    draft_at: work.draftAt,
  };
}

/** What to tell a person who draws the same picture in two tabs. */
export function newerDraft(name: string, savedAt: string): string {
  const time = new Date(savedAt).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return `Another tab of yours saved ${name} at ${time}: both are kept, go on in one of them`;
}

/** What a task begins with: refused work, the journal, the server's draft, one's earlier answer, suggestions. */
export function beginning(
  leased: LeasedTask,
  refused: Parcel | undefined,
  entry: ReturnType<Journal["read"]>,
): { shapes: readonly Shape[]; touched: boolean } {
  if (refused?.kind === "submit") return { shapes: (refused.body as Answer).shapes, touched: true };
  const { draft, previous, suggestions } = leased;
  const draftIsNewer = draft !== null && entry !== null && entry.draft_at !== "" && draft.saved_at > entry.draft_at;
  if (entry && !draftIsNewer) return { shapes: entry.shapes, touched: true };
  const open = suggestions.map((shape): Shape => ({ ...shape, provenance: "model_only" }));
  if (draft) {
    const kept = new Set(draft.shapes.map((shape) => shape.id));
    return { shapes: [...draft.shapes, ...open.filter((shape) => !kept.has(shape.id))], touched: true };
  }
  if (previous.length) return { shapes: previous, touched: false };
  return { shapes: open, touched: false };
}
