import type { JSX } from "preact";

const PATHS = {
  select: "M4 2l9 6-4 .9 2.2 4.3-1.8.9L7.2 9.8 4.5 12.5z",
  box: "M2.5 3.5h11v9h-11z",
  skeleton: "M8 2.6a1.6 1.6 0 110 3.2 1.6 1.6 0 010-3.2zM8 6v4M8 10l-3 4M8 10l3 4M3.5 7.5L8 7l4.5.5",
  undo: "M6 3L2.5 6.5 6 10M3 6.5h6a4 4 0 010 8H7",
  redo: "M10 3l3.5 3.5L10 10M13 6.5H7a4 4 0 000 8h2",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  check: "M3 8.5l3.5 3.5L13 4.5",
  "check-all": "M1.5 8.5L5 12l5-7M8 11l1 1 5.5-7.5",
  hidden: "M2 8s2.2-4 6-4 6 4 6 4-2.2 4-6 4-6-4-6-4zM3 13L13 3",
  locked: "M4 7.5h8v6H4zM5.5 7.5V5a2.5 2.5 0 015 0v2.5",
} as const;

export type IconName = keyof typeof PATHS;

const FILLED: readonly IconName[] = ["select"];

/** A 16 px icon in the text's colour; with a title it says something of its own. */
export function Icon({ name, title }: { readonly name: IconName; readonly title?: string }): JSX.Element {
  return (
    <svg class={FILLED.includes(name) ? "icon filled" : "icon"} viewBox="0 0 16 16" role={title ? "img" : undefined} aria-hidden={title ? undefined : "true"}>
      {title && <title>{title}</title>}
      <path d={PATHS[name]} />
    </svg>
  );
}
