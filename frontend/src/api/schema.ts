// Written by `manage.py api_types` from the OpenAPI schema; `make check` fails when it is out of date.

import type { LabelClass, Shape } from "../core/shapes";

export interface Accept {
  readonly base_revision: number;
  readonly as_gold?: boolean;
}

export interface Agreement {
  readonly fit: number | null;
  readonly images: number;
  readonly sampled: number;
  readonly left_out: number;
  readonly alpha: readonly Alpha[];
  readonly by_class: readonly ClassAgreement[];
  readonly pairs: readonly Pair[];
}

export interface Alpha {
  readonly kind: string;
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly images: number;
}

export interface Annotation {
  readonly id: string;
  readonly author: string;
  readonly revision: number;
  readonly shapes: readonly Shape[];
  readonly suggestions_from: string;
  readonly seconds_active: number;
  readonly late: boolean;
  readonly created_at: string;
}

export interface AnnotationPage {
  readonly items: readonly Annotation[];
  readonly next: string | null;
}

export interface Card {
  readonly id: number;
  readonly shape: Shape;
  readonly class_name: string;
  readonly region: readonly number[];
  readonly image: LeasedImage;
}

export interface CardAnswered {
  readonly id: number;
  readonly verdict: string;
}

export interface CardVerdict {
  readonly verdict: VerdictEnum;
  readonly seconds_active?: number;
}

export interface Cards {
  readonly cards: readonly Card[];
  readonly expires_at: string | null;
}

export interface CardsNext {
  readonly count?: number;
}

export interface Causes {
  readonly surplus?: number;
  readonly missed?: number;
  readonly unseen?: number;
  readonly joints?: number;
  readonly place?: number;
  readonly class?: number;
}

export interface ClassAgreement {
  readonly class_id: number;
  readonly class_name: string;
  readonly kind: string;
  readonly alpha: number | null;
  readonly f1: number;
  readonly images: number;
}

export interface ClassShare {
  readonly class_id: number;
  readonly share: number;
}

export interface Consensus {
  readonly revision: number;
  readonly source: string;
  readonly method: string;
  readonly shapes: readonly Shape[];
  readonly rejected: readonly Shape[];
  readonly risk: number;
  readonly answers: number;
  readonly created_at: string;
}

export type ContentEnum = "settled" | "answers";

export interface CorrectBody {
  readonly base_revision: number;
  readonly as_gold?: boolean;
  readonly shapes: readonly Shape[];
}

export interface Curve {
  readonly points: readonly CurvePoint[];
}

export interface CurvePoint {
  readonly round: number;
  readonly labelled: number;
  readonly ap50: number;
  readonly ap50_low: number | null;
  readonly ap50_high: number | null;
  readonly ap: number | null;
  readonly pck: number | null;
  readonly decision: string;
  readonly random_f1: number | null;
  readonly random_pictures: number;
  readonly accepted_share: number | null;
  readonly seconds_per_answer: number | null;
}

export interface DoubtfulPicture {
  readonly id: number;
  readonly task_id: number;
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly revision: number;
  readonly score: number;
  readonly findings: readonly Finding[];
}

export interface DoubtfulPicturePage {
  readonly items: readonly DoubtfulPicture[];
  readonly next: string | null;
}

export interface Draft {
  readonly tab?: string;
  readonly sequence?: number | null;
  readonly schema_version?: number;
  readonly shapes: readonly Shape[];
}

export interface Emptiness {
  readonly code: string;
  readonly message: string;
  readonly held: readonly Holder[];
}

export interface Event {
  readonly id: number;
  readonly actor?: string | null;
  readonly verb: string;
  readonly object_type: string;
  readonly object_id: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly client: string;
  readonly at: string;
}

export interface EventPage {
  readonly items: readonly Event[];
  readonly next: string | null;
}

export interface Evidence {
  readonly empty: number;
  readonly causes: Causes;
  readonly objects: readonly ObjectEvidence[];
}

export interface Export {
  readonly format: FormatEnum;
  readonly content?: ContentEnum;
}

export interface Files {
  readonly files: readonly string[];
  readonly paths?: readonly string[];
}

export interface Finding {
  readonly kind: string;
  readonly class_id: number;
  readonly xyxy: readonly number[];
  readonly probability: number;
  readonly told: string;
  readonly other: readonly number[] | null;
  readonly other_class_id: number | null;
}

export interface Fit {
  readonly id: number;
  readonly number: number;
  readonly in_force: boolean;
  readonly method: string;
  readonly digest: string;
  readonly tasks: number;
  readonly answers: number;
  readonly gold: number;
  readonly created_by?: string | null;
  readonly created_at: string;
}

export interface FitPage {
  readonly items: readonly Fit[];
  readonly next: string | null;
}

export type FormatEnum = "coco" | "jsonl";

export interface HeldTask {
  readonly id: number;
  readonly username: string;
  readonly task_id: number;
  readonly task_name: string;
  readonly created_at: string;
  readonly expires_at: string;
}

export interface HeldTaskPage {
  readonly items: readonly HeldTask[];
  readonly next: string | null;
}

export interface Holder {
  readonly username: string;
  readonly count: number;
  readonly names: readonly string[];
  readonly expires_at: string;
}

export interface Import {
  readonly files: readonly string[];
  readonly paths?: readonly string[];
  readonly labels_as?: LabelsAsEnum;
  readonly add_classes?: boolean;
  readonly test_as_gold?: boolean;
}

export interface ImportOptions {
  readonly labels_as?: LabelsAsEnum;
  readonly add_classes?: boolean;
  readonly test_as_gold?: boolean;
}

export interface ImportReport {
  readonly created: number;
  readonly existing: number;
  readonly labelled: number;
  readonly gold: number;
  readonly problems: readonly Problem[];
  readonly more_problems: number;
}

export interface Interval {
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly trials: number;
}

export interface Job {
  readonly id: number;
  readonly kind: string;
  readonly title: string;
  readonly state: string;
  readonly progress: number;
  readonly message: string;
  readonly error: string;
  readonly attempts: number;
  readonly crashes: number;
  readonly cancel_requested: boolean;
  readonly has_file: boolean;
  readonly result: Readonly<Record<string, unknown>>;
  readonly created_by?: string | null;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
}

export interface JobDetail {
  readonly id: number;
  readonly kind: string;
  readonly title: string;
  readonly state: string;
  readonly progress: number;
  readonly message: string;
  readonly error: string;
  readonly attempts: number;
  readonly crashes: number;
  readonly cancel_requested: boolean;
  readonly has_file: boolean;
  readonly result: Readonly<Record<string, unknown>>;
  readonly created_by?: string | null;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly report: ImportReport | null;
}

export interface JobPage {
  readonly items: readonly Job[];
  readonly next: string | null;
}

export type KindEnum = "box" | "keypoints" | "tag";

export interface LabelAudit {
  readonly id: number;
  readonly snapshot?: string | null;
  readonly pictures: number;
  readonly doubtful: number;
  readonly job: Job | null;
  readonly created_by?: string | null;
  readonly created_at: string;
  readonly finished_at: string | null;
}

export type LabelsAsEnum = "settled" | "gold" | "ignore";

export interface LatestAudit {
  readonly audit: LabelAudit | null;
}

export interface Lease {
  readonly token: number;
  readonly expires_at: string;
}

export interface LeaseToken {
  readonly token: number;
}

export interface LeasedAgain {
  readonly task_id: number;
  readonly shape_id: string;
  readonly lease: Lease;
}

export interface LeasedImage {
  readonly width: number;
  readonly height: number;
  readonly tiers: Tiers;
}

export interface LeasedTask {
  readonly task: LeasedTaskName;
  readonly lease: Lease;
  readonly image: LeasedImage;
  readonly reason: string;
  readonly base_revision: number;
  readonly suggestions: readonly Shape[];
  readonly suggestions_from: string | null;
  readonly previous: readonly Shape[];
  readonly draft: StoredDraft | null;
}

export interface LeasedTaskName {
  readonly id: number;
  readonly name: string;
  readonly project_id: number;
}

export interface Leases {
  readonly leases: readonly LeasedTask[];
  readonly empty: Emptiness | null;
  readonly schema_version: number;
  readonly schema: Schema;
}

export interface MadeToken {
  readonly id: number;
  readonly name: string;
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly token: string;
}

export interface Me {
  readonly id: number;
  readonly username: string;
  readonly is_staff: boolean;
}

export interface Member {
  readonly user_id: number;
  readonly username: string;
  readonly role: RoleEnum;
}

export interface MemberPage {
  readonly items: readonly Member[];
  readonly next: string | null;
}

export interface Model {
  readonly id: number;
  readonly name: string;
  readonly number: number;
  readonly status: ModelStatusEnum;
  readonly snapshot: string;
  readonly code_version: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly weights_sha256: string;
  readonly metrics: Readonly<Record<string, unknown>> | null;
  readonly created_at: string;
  readonly promoted_at: string | null;
}

export interface ModelPage {
  readonly items: readonly Model[];
  readonly next: string | null;
}

export type ModelStatusEnum = "challenger" | "champion" | "rejected" | "retired";

export interface NewProject {
  readonly name: string;
  readonly guide?: string;
  readonly overlap?: OverlapEnum;
  readonly answers_per_task?: number;
  readonly most_answers?: number;
  readonly target_risk?: number;
  readonly trusted_from?: number;
  readonly model_counts?: boolean;
  readonly consensus_method?: string;
  readonly blind_share?: number;
  readonly lease_seconds?: number;
  readonly gold_share?: number;
  readonly skips_to_review?: number;
  readonly review_share?: number;
  readonly review_risk?: number | null;
  readonly cards_per_dispute?: number;
  readonly round_settings?: Readonly<Record<string, unknown>>;
  readonly schema: Schema;
}

export interface NewToken {
  readonly name: string;
}

export interface NewerDraft {
  readonly tab: string;
  readonly saved_at: string;
}

export interface Next {
  readonly count?: number;
}

export interface NextReview {
  readonly review: Review | null;
  readonly empty: ReviewEmptiness | null;
}

export interface NextStep {
  readonly what: WhatEnum;
  readonly why: string;
  readonly answers: number;
  readonly wanted: number;
  readonly target_risk: number | null;
}

export interface ObjectEvidence {
  readonly id: string;
  readonly accepted: boolean;
  readonly disputed: boolean;
  readonly existence: number;
  readonly confidence: number;
  readonly drawn_by: readonly string[];
  readonly seen_by: number;
  readonly classes: readonly ClassShare[];
  readonly class_tie: boolean;
  readonly risk: number;
  readonly causes: Causes;
}

export type OverlapEnum = "fixed" | "adaptive";

export interface Pair {
  readonly one: string;
  readonly other: string;
  readonly f1: number;
  readonly images: number;
}

export interface PatchedProjectSettings {
  readonly name?: string;
  readonly guide?: string;
  readonly overlap?: OverlapEnum;
  readonly answers_per_task?: number;
  readonly most_answers?: number;
  readonly target_risk?: number;
  readonly trusted_from?: number;
  readonly model_counts?: boolean;
  readonly consensus_method?: string;
  readonly blind_share?: number;
  readonly lease_seconds?: number;
  readonly gold_share?: number;
  readonly skips_to_review?: number;
  readonly review_share?: number;
  readonly review_risk?: number | null;
  readonly cards_per_dispute?: number;
  readonly round_settings?: Readonly<Record<string, unknown>>;
}

export interface Prioritise {
  readonly task_ids: readonly number[];
  readonly priority?: number;
}

export interface Prioritised {
  readonly moved: number;
}

export interface Problem {
  readonly file: string;
  readonly line: number | null;
  readonly field: string;
  readonly reason: string;
}

export interface Progress {
  readonly tasks: number;
  readonly gold: number;
  readonly queued: number;
  readonly in_progress: number;
  readonly needs_review: number;
  readonly disputed: number;
  readonly settled: number;
  readonly rejected: number;
  readonly answers: number;
}

export interface Project {
  readonly id: number;
  readonly name: string;
  readonly guide: string;
  readonly role: RoleEnum;
  readonly schema_version: number;
  readonly schema: Schema;
  readonly overlap: OverlapEnum;
  readonly answers_per_task: number;
  readonly most_answers: number;
  readonly target_risk: number;
  readonly trusted_from: number;
  readonly model_counts: boolean;
  readonly consensus_method: string;
  readonly blind_share: number;
  readonly gold_share: number;
  readonly skips_to_review: number;
  readonly review_share: number;
  readonly review_risk: number | null;
  readonly cards_per_dispute: number;
  readonly suggestions_from: string | null;
  readonly suggestion_threshold: number;
  readonly round_settings: Readonly<Record<string, unknown>>;
  readonly progress: Progress;
}

export interface ProjectPage {
  readonly items: readonly Project[];
  readonly next: string | null;
}

export interface Reject {
  readonly base_revision: number;
  readonly reason?: string;
}

export interface Reopen {
  readonly base_revision: number;
  readonly to: ToEnum;
  readonly more_answers?: number;
}

export interface Return {
  readonly id: number;
  readonly task_id: number;
  readonly task_name: string;
  readonly annotation: string;
  readonly shape_id: string;
  readonly comment: string;
  readonly author: string;
  readonly reviewer?: string | null;
  readonly created_at: string;
}

export interface ReturnPage {
  readonly items: readonly Return[];
  readonly next: string | null;
}

export interface Review {
  readonly task: Task;
  readonly cause: string;
  readonly expires_at: string | null;
  readonly reviewer: string | null;
  readonly image: LeasedImage;
  readonly schema: Schema;
  readonly base_revision: number;
  readonly consensus: Consensus | null;
  readonly evidence: Evidence | null;
  readonly next_step: NextStep;
  readonly annotations: readonly Annotation[];
  readonly skips: readonly SkipReason[];
  readonly returns: readonly Return[];
  readonly cards: readonly ReviewedCard[];
}

export interface ReviewEmptiness {
  readonly code: string;
  readonly message: string;
  readonly held: readonly Reviewing[];
  readonly returned: number;
  readonly disputed: number;
}

export interface ReviewNext {
  readonly passed?: readonly number[];
  readonly with_disputed?: boolean;
}

export interface ReviewedCard {
  readonly id: number;
  readonly shape: Shape;
  readonly confidence: number;
  readonly slots: number;
  readonly keeps: number;
  readonly drops: number;
  readonly verdict: string;
  readonly decided_at: string | null;
}

export interface ReviewedCardPage {
  readonly items: readonly ReviewedCard[];
  readonly next: string | null;
}

export interface Reviewing {
  readonly username: string;
  readonly task_id: number;
  readonly expires_at: string;
}

export type RoleEnum = "owner" | "manager" | "reviewer" | "annotator" | "viewer";

export interface RollBack {
  readonly champion?: number;
}

export interface Round {
  readonly id: number;
  readonly number: number;
  readonly status: RoundStatus;
  readonly trigger: string;
  readonly target_new_labels: number;
  readonly new_labels: number;
  readonly snapshot: Snapshot | null;
  readonly job: Job | null;
  readonly model?: string | null;
  readonly decision: string;
  readonly reason: string;
  readonly metrics: Readonly<Record<string, unknown>>;
  readonly history: readonly Step[];
  readonly created_at: string;
  readonly finished_at: string | null;
}

export interface RoundPage {
  readonly items: readonly Round[];
  readonly next: string | null;
}

export type RoundStatus = "collecting" | "snapshotting" | "training" | "evaluating" | "deciding" | "predicting" | "selecting" | "done" | "failed" | "cancelled";

export interface Run {
  readonly id: number;
  readonly state: string;
  readonly begun_by: string;
  readonly rounds: readonly number[];
  readonly snapshot: Snapshot;
  readonly config: Readonly<Record<string, unknown>>;
  readonly code_version: string;
  readonly warm_start?: string | null;
  readonly job: Job | null;
  readonly model?: string | null;
  readonly metrics: Readonly<Record<string, unknown>>;
  readonly warnings: readonly string[];
  readonly seconds: number | null;
  readonly created_at: string;
  readonly finished_at: string | null;
}

export interface RunCurve {
  readonly state: string;
  readonly progress: number;
  readonly points: readonly (Readonly<Record<string, unknown>>)[];
}

export interface RunPage {
  readonly items: readonly Run[];
  readonly next: string | null;
}

export interface SaveSchema {
  readonly schema: Schema;
  readonly base_version: number;
}

export interface SavedDraft {
  readonly shapes: readonly Shape[];
  readonly saved_at: string;
  readonly newer: NewerDraft | null;
}

export interface Schema {
  readonly classes: readonly LabelClass[];
}

export interface Search {
  readonly id: number;
  readonly snapshot: string;
  readonly metric: string;
  readonly space: Readonly<Record<string, unknown>>;
  readonly wanted: number;
  readonly at_once: number;
  readonly reason: string;
  readonly trials: readonly Trial[];
  readonly best: number | null;
  readonly created_at: string;
  readonly finished_at: string | null;
}

export interface SearchPage {
  readonly items: readonly Search[];
  readonly next: string | null;
}

export interface SendBack {
  readonly base_revision: number;
  readonly annotation: string;
  readonly shape_id: string;
  readonly comment: string;
}

export interface Skeleton {
  readonly joints: readonly string[];
  readonly edges: readonly (readonly number[])[];
  readonly pairs: readonly (readonly number[])[];
}

export interface Skill {
  readonly id: number;
  readonly username: string | null;
  readonly model: string;
  readonly kind: string;
  readonly recall: number;
  readonly recall_low: number;
  readonly recall_high: number;
  readonly precision: number;
  readonly precision_low: number;
  readonly precision_high: number;
  readonly spread_px: number | null;
  readonly spread: number | null;
  readonly bias: readonly number[] | null;
  readonly class_accuracy: Interval | null;
  readonly swap_rate: Interval | null;
  readonly visibility_accuracy: Interval | null;
  readonly confusion: Readonly<Record<string, unknown>>;
  readonly seconds_per_image: number | null;
  readonly answers: number;
  readonly preferred: boolean;
}

export interface SkillPage {
  readonly items: readonly Skill[];
  readonly next: string | null;
}

export interface Skip {
  readonly token: number;
  readonly reason?: string;
}

export interface SkipReason {
  readonly username: string;
  readonly reason: string;
  readonly created_at: string;
}

export interface Snapshot {
  readonly version: string;
  readonly images: number;
  readonly gold_images: number;
  readonly objects: number;
  readonly created_at: string;
}

export interface StartRun {
  readonly snapshot?: string;
  readonly settings?: Readonly<Record<string, unknown>>;
}

export interface StartSearch {
  readonly trials: number;
  readonly at_once?: number;
  readonly space?: readonly string[] | Readonly<Record<string, unknown>>;
  readonly snapshot?: string;
}

export interface Step {
  readonly status: RoundStatus;
  readonly at: string;
}

export interface StoredDraft {
  readonly shapes: readonly Shape[];
  readonly saved_at: string;
}

export interface SubmitBody {
  readonly key: string;
  readonly lease_token?: number | null;
  readonly base_revision?: number;
  readonly schema_version?: number;
  readonly seconds_active?: number;
  readonly suggestions_from?: string | null;
  readonly tab?: string | null;
  readonly shapes: readonly Shape[];
}

export interface Submitted {
  readonly id: string;
  readonly task_id: number;
  readonly revision: number;
  readonly state: string;
  readonly late: boolean;
}

export interface Taken {
  readonly files: number;
  readonly size_bytes: number;
  readonly problems: readonly Problem[];
}

export interface Task {
  readonly id: number;
  readonly name: string;
  readonly state: string;
  readonly is_gold: boolean;
  readonly reason: string;
  readonly priority: number;
  readonly answers: number;
  readonly slots: number;
  readonly risk: number | null;
  readonly width: number;
  readonly height: number;
  readonly sha256: string;
  readonly thumbnail_url: string;
}

export interface TaskDetail {
  readonly id: number;
  readonly name: string;
  readonly state: string;
  readonly is_gold: boolean;
  readonly reason: string;
  readonly priority: number;
  readonly answers: number;
  readonly slots: number;
  readonly risk: number | null;
  readonly width: number;
  readonly height: number;
  readonly sha256: string;
  readonly thumbnail_url: string;
  readonly annotations: readonly Annotation[];
  readonly consensus: Consensus | null;
}

export interface TaskPage {
  readonly items: readonly Task[];
  readonly next: string | null;
}

export interface Tiers {
  readonly "512": string;
  readonly "2048": string;
  readonly full: string;
}

export interface Time {
  readonly items: readonly TimeSpent[];
  readonly next: string | null;
}

export interface TimeSpent {
  readonly day: string;
  readonly user_id: number;
  readonly username: string;
  readonly answers: number;
  readonly cards: number;
  readonly seconds_active: number;
}

export type ToEnum = "review" | "queue";

export interface Token {
  readonly id: number;
  readonly name: string;
  readonly created_at: string;
  readonly expires_at: string | null;
}

export interface TokenPage {
  readonly items: readonly Token[];
  readonly next: string | null;
}

export interface Trial {
  readonly id: number;
  readonly number: number;
  readonly run: number;
  readonly state: string;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly rungs: Readonly<Record<string, unknown>>;
  readonly value: number | null;
}

export interface Upload {
  readonly id: string;
  readonly project_id: number;
  readonly created_at: string;
  readonly files: number;
  readonly size_bytes: number;
  readonly job: JobDetail | null;
}

export interface UploadedFile {
  readonly path: string;
  readonly sha256: string;
  readonly size_bytes: number;
}

export interface UploadedFilePage {
  readonly items: readonly UploadedFile[];
  readonly next: string | null;
}

export type VerdictEnum = "keep" | "drop";

export type WhatEnum = "answer" | "cards" | "reviewer" | "nothing";

export interface Withdraw {
  readonly base_revision: number;
}

export interface Withdrawn {
  readonly task_id: number;
  readonly revision: number;
}
