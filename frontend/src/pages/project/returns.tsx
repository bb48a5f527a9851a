import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { ApiError, request } from "../../api/client";
import { watch } from "../live";
import type { Page, Return } from "../../api/types";

/** What reviewers sent back to this person: each with the comment, and a button that opens the picture again. */
export function returnsOf(projectId: number): () => JSX.Element | null {
  const returns = signal<readonly Return[]>([]);
  const more = signal(false);
  const trouble = signal("");
  watch<Page<Return>>(`projects/${projectId}/returns`, (page) => {
    returns.value = page.items;
    more.value = page.next !== null;
  });

  async function open(sent: Return): Promise<void> {
    trouble.value = "";
    try {
      await request({ method: "POST", path: `returns/${sent.id}/lease` });
      location.assign(`/projects/${projectId}/annotate/`); // the queue gives it first
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      trouble.value = error.message;
    }
  }

  return function Returns(): JSX.Element | null {
    if (!returns.value.length) return null;
    return (
      <section class="card" aria-labelledby="returns-title" data-testid="returns">
        <h2 id="returns-title">Returned to you: {returns.value.length}{more.value && " and more"}</h2>
        {trouble.value && <p class="message error" role="alert">{trouble.value}</p>}
        <ul class="jobs">
          {returns.value.map((sent) => (
            <li key={sent.id}>
              <p>“{sent.comment}”</p>
              <p class="facts">
                <span>{sent.task_name}</span>
                {sent.reviewer && <span>from {sent.reviewer}</span>}
                <button type="button" class="button small" data-testid={`open-${sent.id}`} onClick={() => void open(sent)}>
                  Open to mend
                </button>
              </p>
            </li>
          ))}
        </ul>
      </section>
    );
  };
}
