/** What the HTTP API takes and gives: the generated types by the names that the pages use. */

import type { SubmitBody, Tiers } from "./schema";

export type {
  Annotation,
  Causes,
  Emptiness,
  ImportReport,
  Job,
  JobDetail,
  Lease,
  LeasedTask,
  Leases,
  NextReview,
  NextStep,
  ObjectEvidence,
  Progress,
  Project,
  Return,
  Review,
  ReviewEmptiness,
  Round,
  SavedDraft,
  Schema,
  Submitted,
  Taken,
  TaskDetail,
  Upload,
  UploadedFile,
} from "./schema";

export interface ErrorBody {
  readonly type: string;
  readonly code: string;
  readonly message: string;
  readonly param: string | null;
}

export interface Page<Item> {
  readonly items: readonly Item[];
  readonly next: string | null;
}

export type Tier = keyof Tiers;

/** An answer as the page sends it: with its lease, and the schema that it was drawn under. */
export type Answer = Required<SubmitBody>;
