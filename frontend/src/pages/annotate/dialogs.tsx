import { useEffect, useRef } from "preact/hooks";
import type { ComponentChildren, JSX } from "preact";
import { GESTURES, helpLines, KEYMAP, shown } from "../../core/keymap";
import { dialog, type App, type Dialog } from "./commands";
import { isMac } from "./state";

interface ModalProps {
  readonly name: Exclude<Dialog, null>;
  readonly title: string;
  readonly app: App;
  readonly children: ComponentChildren;
}

function Modal({ name, title, app, children }: ModalProps): JSX.Element {
  const element = useRef<HTMLDialogElement>(null);
  const open = dialog.value === name;
  useEffect(() => {
    if (open && !element.current?.open) element.current?.showModal();
    if (!open && element.current?.open) element.current.close();
  }, [open]);
  return (
    <dialog
      ref={element}
      class="modal"
      data-testid={`dialog-${name}`}
      aria-labelledby={`dialog-${name}-title`}
      onClose={() => {
        if (dialog.value === name) dialog.value = null;
        app.stage.focus();
      }}
      onClick={(event) => {
        if (event.target === element.current) dialog.value = null; // a click beside it
      }}
    >
      <div class="modal-inner">
        <header>
          <h1 id={`dialog-${name}-title`}>{title}</h1>
          <button type="button" class="button quiet" onClick={() => (dialog.value = null)}>
            Close <kbd>Esc</kbd>
          </button>
        </header>
        {open && children}
      </div>
    </dialog>
  );
}

function Keycaps({ keys }: { readonly keys: readonly string[] }): JSX.Element {
  return (
    <span class="chord">
      {keys.flatMap((key) => shown(key, isMac)).map((part) => (
        <kbd key={part}>{part}</kbd>
      ))}
    </span>
  );
}

export function HelpDialog({ app }: { readonly app: App }): JSX.Element {
  const groups = [...new Set(KEYMAP.map((binding) => binding.group))];
  return (
    <Modal name="help" title="Keys" app={app}>
      <div class="help">
        {groups.map((group) => (
          <section key={group}>
            <h2>{group}</h2>
            <dl>
              {helpLines(KEYMAP.filter((binding) => binding.group === group)).map(({ label, chords }) => (
                <div key={label}>
                  <dt>
                    {chords.map((chord) => (
                      <Keycaps key={chord.join()} keys={chord} />
                    ))}
                  </dt>
                  <dd>{label}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
        <section>
          <h2>Hands</h2>
          <dl>
            {GESTURES.map((gesture) => (
              <div key={gesture.keys}>
                <dt>
                  <span class="chord">
                    <kbd>{gesture.keys}</kbd>
                  </span>
                </dt>
                <dd>{gesture.label}</dd>
              </div>
            ))}
          </dl>
        </section>
      </div>
    </Modal>
  );
}

const SKIP_REASONS = [
  "I cannot tell what is in it",
  "The picture is broken, too dark or too blurred",
  "It does not belong to this project",
  "It needs somebody who knows more",
] as const;

export function SkipDialog({ app }: { readonly app: App }): JSX.Element {
  const other = useRef<HTMLInputElement>(null);
  const skip = (reason: string): void => {
    dialog.value = null;
    app.session.skip(reason);
  };
  return (
    <Modal name="skip" title="Why skip this picture?" app={app}>
      <ul
        class="choices"
        onKeyDown={(event) => {
          const reason = SKIP_REASONS[Number(event.key) - 1];
          if (reason) skip(reason);
        }}
      >
        {SKIP_REASONS.map((reason, index) => (
          <li key={reason}>
            <button type="button" class="button choice" data-testid={`skip-${index + 1}`} autofocus={index === 0} onClick={() => skip(reason)}>
              <kbd>{index + 1}</kbd> {reason}
            </button>
          </li>
        ))}
      </ul>
      <form
        class="pair"
        onSubmit={(event) => {
          event.preventDefault();
          const reason = other.current?.value.trim();
          if (reason) skip(reason);
        }}
      >
        <input ref={other} class="search" maxLength={500} aria-label="Another reason" placeholder="Another reason" required data-testid="skip-other" />
        <button type="submit" class="button primary">
          Skip
        </button>
      </form>
    </Modal>
  );
}

export function GuideDialog({ app, guide }: { readonly app: App; readonly guide: string }): JSX.Element {
  return (
    <Modal name="guide" title="How to label here" app={app}>
      <p class="guide">{guide}</p>
    </Modal>
  );
}
