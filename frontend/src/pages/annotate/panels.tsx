import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { ComponentChildren, JSX } from "preact";
import { KEYMAP, shown, type Command } from "../../core/keymap";
import type { Parcel } from "../../api/outbox";
import { isSuggestion, type Keypoints, type LabelClass, type Shape } from "../../core/shapes";
import { nameOf } from "../../render/painter";
import { chooseClass, classSearch, dialog, perform, savedness, type App } from "./commands";
import { Icon, type IconName } from "./icons";
import { isMac, stageVersion } from "./state";

const FEW_CLASSES = 9;
const ROW_PX = 34;

export function keysOf(command: Command): string {
  const binding = KEYMAP.find((item) => item.command === command);
  return binding ? shown(binding.keys[0], isMac).join("+") : "";
}

interface CommandButtonProps {
  readonly app: App;
  readonly command: Command;
  readonly label: string;
  readonly icon?: IconName;
  readonly pressed?: boolean;
  readonly disabled?: boolean;
  readonly primary?: boolean;
  readonly wordless?: boolean;
}

/** A button that runs a command, with its key in the tooltip. */
export function CommandButton(props: CommandButtonProps): JSX.Element {
  const { app, command, label, icon, pressed, disabled = false, primary = false, wordless = false } = props;
  return (
    <button
      type="button"
      class={primary ? "button primary" : wordless ? "button quiet square" : "button quiet"}
      data-testid={`command-${command}`}
      title={`${label} (${keysOf(command)})`}
      aria-label={wordless ? label : undefined}
      aria-pressed={pressed}
      disabled={disabled}
      onClick={() => perform(app, command)}
    >
      {icon && <Icon name={icon} />}
      {!wordless && <span>{label}</span>}
      {primary && <kbd>{keysOf(command)}</kbd>}
    </button>
  );
}

export function Toolbar({ app }: { readonly app: App }): JSX.Element {
  const { session, stage } = app;
  void session.version.value;
  void stageVersion.value;
  const editor = session.current?.editor;
  const has = (kind: "box" | "keypoints"): boolean => editor?.classes.some((item) => item.kind === kind) ?? false;
  return (
    <div class="toolbar" role="toolbar" aria-label="Tools">
      <CommandButton app={app} command="tool-select" label="Select" icon="select" pressed={stage.toolId === "select"} disabled={!editor} />
      {has("box") && <CommandButton app={app} command="tool-box" label="Box" icon="box" pressed={stage.toolId === "box"} />}
      {has("keypoints") && (
        <CommandButton app={app} command="tool-keypoints" label="Skeleton" icon="skeleton" pressed={stage.toolId === "keypoints"} />
      )}
      <span class="divider" />
      <CommandButton app={app} command="undo" label="Undo" icon="undo" disabled={!editor?.history.canUndo} wordless />
      <CommandButton app={app} command="redo" label="Redo" icon="redo" disabled={!editor?.history.canRedo} wordless />
      <span class="divider" />
      <CommandButton app={app} command="zoom-out" label="Zoom out" icon="minus" disabled={!editor} wordless />
      <output class="zoom" aria-label="Zoom">{Math.round(stage.view.scale * 100)}%</output>
      <CommandButton app={app} command="zoom-in" label="Zoom in" icon="plus" disabled={!editor} wordless />
      <CommandButton app={app} command="fit" label="Fit the picture" icon="fit" disabled={!editor} wordless />
    </div>
  );
}

/** Tasks in hand: which one is on stage, which are ready behind it. */
export function InHand({ app: { session } }: { readonly app: App }): JSX.Element | null {
  void session.version.value;
  if (!session.works.length) return null;
  const ready = session.works.filter((work) => work.picture).length;
  return (
    <ol class="in-hand" aria-label={`${session.works.length} pictures in hand, ${ready} ready`}>
      {session.works.map((work) => (
        <li key={work.leased.task.id}>
          <button
            type="button"
            class="pip"
            data-testid={`in-hand-${work.leased.task.id}`}
            data-ready={work.picture !== null}
            data-touched={work.touched}
            aria-current={work === session.current ? "true" : undefined}
            aria-label={`${work.leased.task.name}${work.touched ? ", begun" : ""}${work.picture ? "" : ", still loading"}`}
            title={work.leased.task.name}
            onClick={() => session.open(work)}
          />
        </li>
      ))}
    </ol>
  );
}

function Swatch({ labelClass, open = false }: { readonly labelClass: LabelClass | undefined; readonly open?: boolean }): JSX.Element {
  const color = labelClass?.color ?? "#9a9a9a";
  return <span class={open ? "swatch open" : "swatch"} style={open ? { borderColor: color } : { background: color }} aria-hidden="true" />;
}

export function ClassPanel({ app }: { readonly app: App }): JSX.Element {
  const { session } = app;
  void session.version.value;
  const query = useSignal("");
  const searching = useSignal(false);
  const input = useRef<HTMLInputElement>(null);
  useSignalEffect(() => {
    if (classSearch.value > 0) searching.value = true;
  });
  useEffect(() => {
    if (searching.value) input.current?.focus();
  }, [searching.value, classSearch.value]);
  const editor = session.current?.editor;
  const classes = editor?.classes ?? [];
  const wanted = query.value.trim().toLowerCase();
  const matching = classes.filter((item) => item.name.toLowerCase().includes(wanted));
  const drawn = matching.filter((item) => item.kind !== "tag");
  const tags = matching.filter((item) => item.kind === "tag");
  const digit = (item: LabelClass): string => [...(editor?.keys ?? [])].find(([, other]) => other === item)?.[0] ?? "";
  const close = (): void => {
    query.value = "";
    searching.value = false;
    app.stage.focus();
  };
  const row = (item: LabelClass, pressed: boolean): JSX.Element => (
    <li key={item.id}>
      <button type="button" class="row" data-testid={`class-${item.id}`} aria-pressed={pressed} onClick={() => chooseClass(app, item.id)}>
        <Swatch labelClass={item} />
        <span class="name">{item.name}</span>
        {item.kind === "keypoints" && <Icon name="skeleton" title="Skeleton" />}
        {digit(item) && <kbd>{digit(item)}</kbd>}
      </button>
    </li>
  );
  return (
    <section class="panel" aria-label="Classes">
      <h2>Classes</h2>
      {(searching.value || classes.length > FEW_CLASSES) && (
        <input
          ref={input}
          class="search"
          type="search"
          placeholder="Find a class"
          aria-label="Find a class"
          data-testid="class-search"
          value={query.value}
          onInput={(event) => (query.value = event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Escape") close();
            const first = matching[0];
            if (event.key === "Enter" && first) {
              chooseClass(app, first.id);
              close();
            }
          }}
        />
      )}
      <ul class="rows">{drawn.map((item) => row(item, editor?.hand.classId === item.id))}</ul>
      {tags.length > 0 && <h2>About the whole picture</h2>}
      <ul class="rows">
        {tags.map((item) => row(item, editor?.shapes.some((shape) => shape.class_id === item.id && !isSuggestion(shape)) ?? false))}
      </ul>
      {wanted && !matching.length && <p class="quiet-text">No class is called that.</p>}
    </section>
  );
}

export function ObjectPanel({ app }: { readonly app: App }): JSX.Element {
  const { session } = app;
  void session.version.value;
  const top = useSignal(0);
  const height = useSignal(600);
  const list = useRef<HTMLUListElement>(null);
  const editor = session.current?.editor;
  const shapes = editor?.shapes ?? [];
  const focused = editor?.focus.ids[0];
  const open = editor?.suggestions.length ?? 0;

  useEffect(() => {
    const index = shapes.findIndex((shape) => shape.id === focused);
    const element = list.current;
    if (index < 0 || !element) return;
    height.value = element.clientHeight;
    if (index * ROW_PX < element.scrollTop) element.scrollTop = index * ROW_PX;
    else if ((index + 1) * ROW_PX > element.scrollTop + element.clientHeight) {
      element.scrollTop = (index + 1) * ROW_PX - element.clientHeight;
    }
  }, [focused]);

  // thousands of rows would cost more than the picture: only those in sight are there
  const first = Math.max(0, Math.floor(top.value / ROW_PX) - 5);
  const seen = shapes.slice(first, first + Math.ceil(height.value / ROW_PX) + 10);
  return (
    <section class="panel grow" aria-label="Objects">
      <h2>
        Objects <span class="count" data-testid="object-count">{shapes.length - open}</span>
      </h2>
      {open > 0 && (
        <div class="suggestions">
          <p>
            <strong data-testid="suggestion-count">{open}</strong> open {open === 1 ? "suggestion" : "suggestions"}
            {session.current?.leased.suggestions_from && <span class="quiet-text"> from {session.current.leased.suggestions_from}</span>}
          </p>
          <div class="pair">
            <CommandButton app={app} command="accept" label="Accept" icon="check" />
            <CommandButton app={app} command="accept-all" label="Accept all" icon="check-all" />
          </div>
        </div>
      )}
      {shapes.length === 0 && editor && <p class="quiet-text">Nothing yet. Draw, or submit it empty if there is nothing to label.</p>}
      <ul
        ref={list}
        class="rows objects"
        onScroll={(event) => {
          top.value = event.currentTarget.scrollTop;
          height.value = event.currentTarget.clientHeight;
        }}
      >
        <li class="spacer" aria-hidden="true" style={{ height: `${first * ROW_PX}px` }} />
        {seen.map((shape, index) => (
          <ObjectRow key={shape.id} app={app} shape={shape} number={first + index + 1} total={shapes.length} />
        ))}
        <li class="spacer" aria-hidden="true" style={{ height: `${Math.max(0, shapes.length - first - seen.length) * ROW_PX}px` }} />
      </ul>
    </section>
  );
}

interface ObjectRowProps {
  readonly app: App;
  readonly shape: Shape;
  readonly number: number;
  readonly total: number;
}

function ObjectRow({ app, shape, number, total }: ObjectRowProps): JSX.Element | null {
  const editor = app.session.current?.editor;
  if (!editor) return null;
  const labelClass = editor.classOf(shape.class_id);
  const open = isSuggestion(shape);
  const hidden = editor.hidden.has(shape.id);
  const locked = editor.locked.has(shape.id);
  const name = nameOf(shape, labelClass);
  return (
    <li aria-setsize={total} aria-posinset={number}>
      <button
        type="button"
        class="row"
        data-testid="object-row"
        data-shape-id={shape.id}
        data-provenance={shape.provenance}
        aria-pressed={editor.focus.ids.includes(shape.id)}
        onClick={(event) => {
          const ids = editor.focus.ids;
          if (event.shiftKey || event.ctrlKey || event.metaKey) editor.select(...(ids.includes(shape.id) ? ids.filter((id) => id !== shape.id) : [...ids, shape.id]));
          else editor.select(shape.id);
        }}
      >
        <Swatch labelClass={labelClass} open={open} />
        <span class="name">{name}</span>
        {open && <span class="visually-hidden">, suggestion</span>}
        {hidden && <Icon name="hidden" title="hidden" />}
        {locked && <Icon name="locked" title="locked" />}
        <span class="number">{number}</span>
      </button>
    </li>
  );
}

export function JointPanel({ app }: { readonly app: App }): JSX.Element | null {
  const { session, stage } = app;
  void session.version.value;
  void stageVersion.value;
  const editor = session.current?.editor;
  const shape: Keypoints | null = editor?.onlyKeypoints ?? null;
  const placing = stage.toolId === "keypoints" && (!shape || editor?.focus.joint !== null);
  const labelClass = shape ? editor?.classOf(shape.class_id) : editor?.armedFor("keypoints");
  if (!editor || !labelClass?.skeleton || (!shape && stage.toolId !== "keypoints")) return null;
  const active = editor.focus.joint ?? (placing ? 0 : null);
  return (
    <section class="panel joints" aria-label="Joints">
      <h2>Joints of {labelClass.name}</h2>
      <ol class="rows">
        {labelClass.skeleton.joints.map((name, index) => {
          const visibility = shape?.points[index]?.[2] ?? 0;
          const state = visibility === 2 ? "visible" : visibility === 1 ? "hidden" : "not placed";
          return (
            <li key={name}>
              <button
                type="button"
                class="row compact"
                data-testid={`joint-${index}`}
                data-visibility={visibility}
                aria-pressed={index === active}
                onClick={() => editor.focusOn({ ids: shape ? [shape.id] : [], joint: index })}
              >
                <span class={`joint v${visibility}`} aria-hidden="true" />
                <span class="name">{name}</span>
                <span class="quiet-text">{state}</span>
              </button>
            </li>
          );
        })}
      </ol>
      <div class="pair">
        <CommandButton app={app} command="joint-hidden" label="Hidden" />
        <CommandButton app={app} command="joint-absent" label="Out of view" />
      </div>
    </section>
  );
}

/** Answers that the server refused: they are kept here until the person decides. */
export function Recovery({ app: { session } }: { readonly app: App }): JSX.Element | null {
  void session.version.value;
  const refused = session.outbox.refused;
  if (!refused.length) return null;
  return (
    <section class="panel recovery" aria-label="Work that was refused" data-testid="recovery">
      <h2>Not taken yet</h2>
      {refused.map((parcel) => (
        <div key={parcel.key} class="refusal">
          <p>
            <strong>{parcel.task_name}</strong>: {refusalInWords(parcel)}
          </p>
          <div class="pair">
            {session.works
              .filter((work) => work.leased.task.id === parcel.task_id && work !== session.current)
              .map((work) => (
                <button key="mend" type="button" class="button" data-testid="mend" onClick={() => session.open(work)}>
                  Mend it now
                </button>
              ))}
            {parcel.refusal?.code === "stale_revision" && (
              <button type="button" class="button" data-testid="correct" onClick={() => void session.correct(parcel)}>
                Hand in as a correction
              </button>
            )}
            <button type="button" class="button quiet" onClick={() => download(`${parcel.task_name}.json`, parcel.body)}>
              Download
            </button>
            <button
              type="button"
              class="button quiet"
              onClick={() => {
                if (confirm(`Throw away the work on ${parcel.task_name}?`)) void session.outbox.discard(parcel.key);
              }}
            >
              Throw away
            </button>
          </div>
        </div>
      ))}
    </section>
  );
}

/** The server's words, with the object's number as the list shows it. */
function refusalInWords({ refusal }: Parcel): string {
  if (!refusal) return "";
  const place = /^shapes\[(\d+)\]\.?(\w*)/.exec(refusal.param ?? "");
  const where = place ? `object ${Number(place[1]) + 1}${place[2] ? `, ${place[2].replace("class_id", "class")}` : ""}: ` : "";
  return `${where}${refusal.message}. The work is kept.`;
}

function download(name: string, body: unknown): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(body, null, 2)], { type: "application/json" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** Why a task came. Gold is hidden among the rest, so it reads like an ordinary turn. */
const REASONS: Readonly<Record<string, string>> = {
  random: "drawn at random, to measure fairly",
  uncertain: "the model is unsure here",
  diverse: "unlike the pictures labelled so far",
  disagreement: "earlier answers differ",
  manual: "somebody asked for it",
};
const NEXT_IN_LINE = "next in line";

export function StatusLine({ app }: { readonly app: App }): JSX.Element {
  const { session, stage } = app;
  void session.version.value;
  const current = session.current;
  return (
    <footer class="status">
      <span class="transfer">
        <Transfer app={app} />
      </span>
      <span class="notice" role="status" data-testid="notice">
        {session.notice.value}
      </span>
      {current?.lost && <span class="warning">Your time for this picture ran out. You can still submit it.</span>}
      {current && (
        <span class="why" data-testid="reason" data-reason={current.leased.reason}>
          Why this one: {REASONS[current.leased.reason] ?? NEXT_IN_LINE}
        </span>
      )}
      <PointerReadout stage={stage} />
      <button type="button" class="button quiet small" data-testid="command-help" onClick={() => (dialog.value = "help")}>
        Keys <kbd>?</kbd>
      </button>
    </footer>
  );
}

function PointerReadout({ stage }: { readonly stage: App["stage"] }): JSX.Element {
  void stageVersion.value;
  const at = stage.readout;
  return <span class="readout">{at ? `${Math.floor(at.x)}, ${Math.floor(at.y)}` : ""}</span>;
}

function Transfer({ app: { session } }: { readonly app: App }): JSX.Element {
  const waiting = session.outbox.pending.length;
  const answers = `${waiting} ${waiting === 1 ? "answer" : "answers"}`;
  const show = (kind: string, text: ComponentChildren): JSX.Element => (
    <span class={`transfer-state ${kind}`} data-testid="transfer" data-state={kind}>
      <span class="dot" aria-hidden="true" />
      {text}
    </span>
  );
  if (session.outbox.state === "signed-out" || session.trouble === "You are logged out") {
    return show(
      "signed-out",
      <>
        Logged out; {waiting ? `${answers} kept here. ` : "nothing is lost. "}
        <a href="/login/" target="_blank" rel="noopener">
          Log in
        </a>
      </>,
    );
  }
  if (session.outbox.state === "offline") return show("offline", `Offline: ${answers} kept here, sent when the server is back`);
  if (waiting) return show("sending", `Sending ${answers}`);
  if (session.trouble) return show("offline", session.trouble);
  if (session.journalFull) return show("offline", "This browser's storage is full: submit soon");
  return show(session.draftsDue ? "sending" : "saved", session.draftsDue ? "Saving" : savedness(session).split(".")[0]);
}

export function Stagehand({ app }: { readonly app: App }): JSX.Element | null {
  const { session } = app;
  void session.version.value;
  const { current, empty } = session;
  if (current) {
    if (current.picture) return null;
    return (
      <div class="cover">
        <p class="loading" role="status">{current.pictureProblem ?? "Loading the picture…"}</p>
      </div>
    );
  }
  if (session.loading) return <div class="cover"><p class="loading" role="status">Getting your pictures…</p></div>;
  const waiting = session.outbox.pending.length;
  return (
    <div class="cover">
      <div class="card empty" data-testid="empty-queue" data-code={empty?.code}>
        <h1>{session.trouble ? "The queue cannot be reached" : "Nothing to label right now"}</h1>
        <p>{session.trouble || empty?.message || "Your last answers are still on their way."}</p>
        {waiting > 0 && <p>{waiting} of your answers are still on their way; they are kept until they arrive.</p>}
        {empty && empty.held.length > 0 && (
          <>
            <h2>Who holds what</h2>
            <table>
              <thead>
                <tr>
                  <th scope="col">Who</th>
                  <th scope="col">Pictures</th>
                  <th scope="col">At most until</th>
                </tr>
              </thead>
              <tbody>
                {empty.held.map((holder) => (
                  <tr key={holder.username}>
                    <td>{holder.username}</td>
                    <td title={holder.names.join(", ")}>{holder.count}</td>
                    <td>{new Date(holder.expires_at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </>
        )}
        {session.answered > 0 && <p>You answered {session.answered} in this sitting.</p>}
        <div class="pair">
          <button type="button" class="button primary" onClick={() => void session.topUp()}>
            Look again
          </button>
          <a class="button quiet" href="/">
            My projects
          </a>
        </div>
        <p class="quiet-text">This page looks by itself every few seconds.</p>
      </div>
    </div>
  );
}
