import { useSignal } from "@preact/signals";
import { render, type JSX } from "preact";
import type { Annotation, ObjectEvidence, Review } from "../../api/types";
import type { Shape } from "../../core/shapes";
import { pageData } from "../page-data";
import { ReviewCanvas } from "./canvas";
import { ReviewState, type Layer } from "./state";
import { countsOf, doubtsOf, whyHere } from "./words";

const CAUSES: Readonly<Record<string, string>> = {
  risk: "Too risky",
  audit: "Drawn for an audit",
  skipped: "People passed it by",
  returned: "Mended by its author",
  asked: "A reviewer asked for it",
};

const data = pageData<{ readonly project_id: number }>();
const state = new ReviewState(data.project_id);

function Decisions(): JSX.Element {
  const review = state.review.value;
  const idle = !review || state.busy.value;
  return (
    <div class="review-actions" role="group" aria-label="Decide">
      <button type="button" class="button primary" data-testid="accept" disabled={idle || !acceptable(review)} onClick={accept}>
        Accept <kbd>A</kbd>
      </button>
      <button type="button" class="button" data-testid="reopen" disabled={idle} onClick={oneMore}>
        One more answer <kbd>M</kbd>
      </button>
      <button type="button" class="button" data-testid="reject" disabled={idle} onClick={reject}>
        Reject picture <kbd>R</kbd>
      </button>
      <button type="button" class="button quiet" data-testid="later" disabled={idle} onClick={() => void state.pass()}>
        Later <kbd>N</kbd>
      </button>
    </div>
  );
}

function Told(): JSX.Element {
  return (
    <>
      <p class="review-said quiet-text" role="status" data-testid="said">{state.said.value}</p>
      {state.trouble.value && <p class="message error" role="alert">{state.trouble.value}</p>}
    </>
  );
}

function Sheet(): JSX.Element {
  const review = state.review.value;
  if (!review) return <Empty />;
  const cause = review.task.state === "disputed" ? "Its cards are out" : (CAUSES[review.cause] ?? "");
  return (
    <>
      <section aria-labelledby="task-name">
        <h2 id="task-name" class="review-name" data-testid="task" data-task={review.task.id}>{review.task.name}</h2>
        <p class="facts">
          {cause && <span class="badge cause">{cause}</span>}
          {review.task.risk !== null && (
            <span title="The expected number of errors in the consensus">
              risk <strong>{review.task.risk.toFixed(2)}</strong>
            </span>
          )}
          <span>{countsOf(review)}</span>
        </p>
        <Why />
      </section>
      {review.skips.length > 0 && (
        <section aria-label="Passed by">
          <h3>Passed by</h3>
          <ul class="plain">
            {review.skips.map((skip) => <li><strong>{skip.username}</strong> {skip.reason || "gave no reason"}</li>)}
          </ul>
        </section>
      )}
      {state.layers.value.map((layer) => <LayerList key={layer.id} layer={layer} />)}
      {review.returns.length > 0 && (
        <section aria-label="With their authors">
          <h3>With their authors</h3>
          <ul class="plain">
            {review.returns.map((sent) => <li><strong>{sent.author}</strong> {sent.comment}</li>)}
          </ul>
        </section>
      )}
    </>
  );
}

function Why(): JSX.Element | null {
  const review = state.review.value;
  if (!review) return null;
  const doubts = review.evidence ? doubtsOf(review.evidence.causes) : [];
  return (
    <div class="why" data-testid="why">
      <p>{whyHere(review.next_step)}</p>
      {doubts.length > 0 && (
        <ul class="plain doubts" aria-label="Expected errors by cause">
          {doubts.map((doubt) => (
            <li key={doubt.words}>
              <strong>{doubt.errors.toFixed(2)}</strong> {doubt.words}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

function LayerList({ layer }: { readonly layer: Layer }): JSX.Element {
  const shown = state.shown.value.has(layer.id);
  return (
    <section class="layer" data-testid={`layer-${layer.name}`}>
      <h3>
        <label>
          <input type="checkbox" checked={shown} onChange={() => state.toggle(layer.id)} />
          {layer.color && <Swatch color={layer.color} />}
          {layer.name} <span class="quiet-text">{layer.shapes.length}</span>
        </label>
      </h3>
      <ul class="plain objects">
        {layer.shapes.map((shape) => <ObjectRow key={shape.id} layer={layer} shape={shape} />)}
      </ul>
      {!layer.shapes.length && <p class="quiet-text">Nothing in the picture.</p>}
    </section>
  );
}

function ObjectRow({ layer, shape }: { readonly layer: Layer; readonly shape: Shape }): JSX.Element {
  const label = state.classes.value.get(shape.class_id);
  const picked = state.picked.value?.layer === layer.id && state.picked.value.shape === shape.id;
  const evidence = layer.annotation ? undefined : state.evidence.value.get(shape.id);
  return (
    <li class={picked ? "picked" : ""}>
      <button type="button" class="object" aria-pressed={picked} onClick={() => state.pick(picked ? null : { layer: layer.id, shape: shape.id })}>
        {label && <Swatch color={layer.color ?? label.color} />}
        <span>{label?.name ?? "removed class"}</span>
        {evidence?.disputed && <span class="badge cause">disputed</span>}
        {evidence && <Support evidence={evidence} />}
        {shape.score !== undefined && <Score value={shape.score} />}
      </button>
      {picked && evidence && <ObjectDoubts evidence={evidence} />}
      {picked && layer.annotation && <SendBack annotation={layer.annotation} shapeId={shape.id} />}
    </li>
  );
}

function Support({ evidence }: { readonly evidence: ObjectEvidence }): JSX.Element {
  const [drew, saw] = [evidence.drawn_by.length, evidence.seen_by];
  return <span class="support" title={`Drawn by ${evidence.drawn_by.join(", ")}`}>{drew} of {saw}</span>;
}

/** Of a picked object: who drew it, what else it may be, and what may be wrong with it. */
function ObjectDoubts({ evidence }: { readonly evidence: ObjectEvidence }): JSX.Element {
  const others = evidence.classes.slice(1).filter((item) => item.share >= 0.05);
  return (
    <div class="object-doubts" data-testid="object-doubts">
      <p>Drawn by {evidence.drawn_by.join(", ") || "nobody"}; {percent(evidence.existence)} likely to be there.</p>
      {evidence.class_tie && <p>Two classes are equally likely.</p>}
      {others.length > 0 && (
        <p>Or: {others.map((item) => `${state.classes.value.get(item.class_id)?.name ?? "removed class"} ${percent(item.share)}`).join(", ")}</p>
      )}
      <ul class="plain doubts">
        {doubtsOf(evidence.causes).map((doubt) => <li key={doubt.words}><strong>{doubt.errors.toFixed(2)}</strong> {doubt.words}</li>)}
      </ul>
    </div>
  );
}

function Score({ value }: { readonly value: number }): JSX.Element {
  return <span class="score" title="How likely it is there and of this class">{percent(value)}</span>;
}

function Swatch({ color }: { readonly color: string }): JSX.Element {
  // an attribute of SVG, because the page's policy allows no inline style
  return <svg class="swatch" viewBox="0 0 12 12" aria-hidden="true"><rect width="12" height="12" rx="2" fill={color} /></svg>;
}

function SendBack({ annotation, shapeId }: { readonly annotation: Annotation; readonly shapeId: string }): JSX.Element {
  const comment = useSignal("");
  const send = (event: Event): void => {
    event.preventDefault();
    if (comment.value.trim()) void state.sendBack(annotation, shapeId, comment.value.trim());
  };
  return (
    <form class="send-back" onSubmit={send}>
      <label>
        What should {annotation.author} mend?
        <textarea
          rows={2}
          maxLength={2000}
          data-testid="comment"
          value={comment.value}
          onInput={(event) => (comment.value = event.currentTarget.value)}
        />
      </label>
      <button type="submit" class="button small" data-testid="send-back" disabled={!comment.value.trim() || state.busy.value}>
        Send back to {annotation.author}
      </button>
    </form>
  );
}

function Empty(): JSX.Element {
  const empty = state.empty.value;
  if (!empty) return <p class="quiet-text">Looking for what waits…</p>;
  return (
    <section data-testid="empty" data-code={empty.code}>
      <h2>{empty.message}</h2>
      <ul class="plain">
        {empty.held.map((item) => <li><strong>{item.username}</strong> holds task {item.task_id} until {time(item.expires_at)}</li>)}
        {empty.returned > 0 && <li><strong>{empty.returned}</strong> with their authors</li>}
        {empty.disputed > 0 && <li><strong>{empty.disputed}</strong> asked about on cards</li>}
      </ul>
      <p class="actions">
        <button type="button" class="button" onClick={() => void state.startOver()}>Look again</button>
        {empty.disputed > 0 && (
          <button type="button" class="button" onClick={() => void state.takeDisputed()}>Take disputed ones</button>
        )}
      </p>
    </section>
  );
}

const percent = (share: number): string => `${Math.round(share * 100)}%`;
const time = (iso: string): string => new Date(iso).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
/** What is settled is accepted already. */
const acceptable = (review: Review): boolean => review.consensus !== null && review.task.state !== "settled";
const accept = (): void => {
  if (state.review.value && acceptable(state.review.value)) void state.decide("accept", "Accepted.");
};
const reject = (): void => void state.decide("reject", "Rejected; its answers are kept.");
const oneMore = (): void => void state.decide("reopen", "Back in the queue for one more answer.", { to: "queue" });

const stage = element("review-stage");
const canvas = new ReviewCanvas(stage, state);
render(<Decisions />, element("decisions"));
render(<Told />, element("told"));
render(<Sheet />, element("sheet"));

const KEYS: Readonly<Record<string, () => void>> = {
  a: accept,
  r: reject,
  m: oneMore,
  n: () => void state.pass(),
  f: () => canvas.fit(),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || state.busy.value) return;
  if (event.target instanceof HTMLTextAreaElement || event.target instanceof HTMLInputElement) return;
  const act = KEYS[event.key.toLowerCase()];
  if (!act || (!state.review.value && event.key !== "f")) return;
  event.preventDefault();
  act();
});
const asked = Number(new URLSearchParams(window.location.search).get("task"));
void (Number.isSafeInteger(asked) && asked > 0 ? state.visit(asked) : state.next());

function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no #${id}`);
  return found;
}
