"""The rows of the labeling service. Plain data with constraints: what happens to it stands in `services`."""

from typing import ClassVar
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.functional import cached_property

from labeling import schema as label_schema
from labeling import shapes as label_shapes

User = settings.AUTH_USER_MODEL
SHA256_LENGTH = 64


class Role(models.TextChoices):
    """What a member may do in a project; each may all that those below may."""

    OWNER = "owner"
    MANAGER = "manager"
    REVIEWER = "reviewer"
    ANNOTATOR = "annotator"
    VIEWER = "viewer"

    def may(self, needed: "Role") -> bool:
        """
        >>> Role.MANAGER.may(Role.REVIEWER), Role.VIEWER.may(Role.ANNOTATOR)
        (True, False)
        """
        order = list(Role)
        return order.index(self) <= order.index(needed)


class Overlap(models.TextChoices):
    """How many people answer a task: always as many, or as many as its risk asks for."""

    FIXED = "fixed"
    ADAPTIVE = "adaptive"


class ProjectQuerySet(models.QuerySet["Project"]):
    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> "ProjectQuerySet":
        """The projects that this person is a member of; nobody sees another project, not even staff."""
        if not user.is_authenticated:
            return self.none()
        return self.filter(memberships__user_id=user.pk)


class Project(models.Model):
    name = models.CharField(max_length=200)
    guide = models.TextField(blank=True, default="")
    overlap = models.CharField(max_length=20, choices=Overlap.choices, default=Overlap.FIXED)
    answers_per_task = models.PositiveSmallIntegerField(default=1)
    """How many people answer each task where the overlap is fixed."""
    most_answers = models.PositiveSmallIntegerField(default=5)
    """Where it is adaptive: a task that still is risky with so many goes to cards and reviewers."""
    target_risk = models.FloatField(default=0.15)
    """Where it is adaptive: one more answer is asked for while more errors than these are expected in a picture."""
    trusted_from = models.FloatField(default=0.9)
    """Where it is adaptive: one answer will do from whoever's recall and precision surely are at least this."""
    model_counts = models.BooleanField(default=False)
    """Whether a model's prediction, made before people answered, is one more voice in the consensus."""
    consensus_method = models.CharField(max_length=50, default="skill_weighted")
    consensus_fit = models.ForeignKey(
        "ConsensusFit", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    """What is known of the annotators now; nothing before the first refit."""
    suggestions_from = models.CharField(max_length=100, blank=True, default="")
    suggestion_threshold = models.FloatField(default=0.36)
    blind_share = models.FloatField(default=0.1)
    lease_seconds = models.PositiveIntegerField(default=300)
    gold_share = models.FloatField(default=0.03)
    """How many of a person's tasks are gold, hidden among the others."""
    skips_to_review = models.PositiveSmallIntegerField(default=3)
    review_share = models.FloatField(default=0.0)
    review_risk = models.FloatField(null=True, blank=True)
    """From this risk on a consensus goes to a reviewer before it counts; nothing means never."""
    cards_per_dispute = models.PositiveSmallIntegerField(default=0)
    """How many people are asked about a disputed object alone; 0 lets the vote stand."""
    round_settings = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = ProjectQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(answers_per_task__gte=1) & Q(answers_per_task__lte=50),
                name="project_answers_1_to_50",
            ),
            models.CheckConstraint(
                condition=Q(blind_share__gte=0) & Q(blind_share__lte=1), name="project_blind_share_0_to_1"
            ),
            models.CheckConstraint(
                condition=Q(suggestion_threshold__gte=0) & Q(suggestion_threshold__lte=1),
                name="project_suggestion_threshold_0_to_1",
            ),
            models.CheckConstraint(
                condition=Q(gold_share__gte=0) & Q(gold_share__lte=0.5), name="project_gold_share_0_to_half"
            ),
            models.CheckConstraint(
                condition=Q(review_share__gte=0) & Q(review_share__lte=1), name="project_review_share_0_to_1"
            ),
            models.CheckConstraint(
                condition=Q(review_risk=None) | (Q(review_risk__gte=0) & Q(review_risk__lte=1)),
                name="project_review_risk_0_to_1",
            ),
            models.CheckConstraint(condition=Q(skips_to_review__gte=1), name="project_skips_from_1"),
            models.CheckConstraint(condition=Q(overlap__in=Overlap.values), name="project_overlap_known"),
            models.CheckConstraint(
                condition=Q(most_answers__gte=2) & Q(most_answers__lte=50),
                name="project_most_answers_2_to_50",
            ),
            models.CheckConstraint(condition=Q(target_risk__gte=0), name="project_target_risk_from_0"),
            models.CheckConstraint(
                condition=Q(trusted_from__gte=0) & Q(trusted_from__lte=1), name="project_trusted_from_0_to_1"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class SchemaVersion(models.Model):
    """One version of what a project labels; never changed, the highest number is in force."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="schema_versions")
    number = models.PositiveIntegerField()
    definition = models.JSONField()
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "number"], name="schema_one_per_number")
        ]

    def __str__(self) -> str:
        return f"{self.project} schema {self.number}"

    @cached_property
    def schema(self) -> label_schema.Schema:
        return label_schema.parse(self.definition)


class Membership(models.Model):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, choices=Role.choices)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "user"], name="membership_one_per_person"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.project}: {self.role}"


class Image(models.Model):
    """The immutable picture, named by its bytes. `width` and `height` are those of the oriented picture."""

    sha256 = models.CharField(max_length=SHA256_LENGTH, unique=True)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    raw_width = models.PositiveIntegerField()
    raw_height = models.PositiveIntegerField()
    orientation = models.PositiveSmallIntegerField(default=1)
    format = models.CharField(max_length=10)
    size_bytes = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(orientation__gte=1) & Q(orientation__lte=8), name="image_orientation_1_to_8"
            ),
            models.CheckConstraint(condition=Q(width__gt=0) & Q(height__gt=0), name="image_has_an_area"),
        ]

    def __str__(self) -> str:
        return self.sha256[:12]


class TaskState(models.TextChoices):
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    NEEDS_REVIEW = "needs_review"
    DISPUTED = "disputed"
    SETTLED = "settled"
    REJECTED = "rejected"


class Reason(models.TextChoices):
    """Why a task came when it came."""

    AGE = "age"
    RANDOM = "random"
    UNCERTAIN = "uncertain"
    DIVERSE = "diverse"
    DISAGREEMENT = "disagreement"
    GOLD = "gold"
    MANUAL = "manual"


class ReviewCause(models.TextChoices):
    """Why a task waits for a reviewer."""

    NONE = ""
    SKIPPED = "skipped"
    RISK = "risk"
    AUDIT = "audit"
    RETURNED = "returned"
    ASKED = "asked"


class TaskQuerySet(models.QuerySet["Task"]):
    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> "TaskQuerySet":
        if not user.is_authenticated:
            return self.none()
        return self.filter(project__memberships__user_id=user.pk)


class Task(models.Model):
    """One image to label in a project.

    `slots` is how many more people may take it now: a lease takes one, a released or expired lease gives
    it back, a submitted answer keeps it. `fence` grows with each lease, so an old lease's token is known as old.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="tasks")
    image = models.ForeignKey(Image, on_delete=models.PROTECT, related_name="tasks")
    name = models.CharField(max_length=500)
    group = models.CharField(max_length=200, blank=True, default="")
    state = models.CharField(max_length=20, choices=TaskState.choices, default=TaskState.QUEUED)
    is_gold = models.BooleanField(default=False)
    blind = models.BooleanField(default=False)
    priority = models.FloatField(default=0.0)
    reason = models.CharField(max_length=20, choices=Reason.choices, default=Reason.AGE)
    random_probability = models.FloatField(null=True, blank=True)
    slots = models.PositiveSmallIntegerField(default=0)
    answers = models.PositiveIntegerField(default=0)
    extra_answers = models.PositiveSmallIntegerField(default=0)
    """How many answers it wants beyond the project's, because a reviewer asked for them."""
    asked = models.PositiveSmallIntegerField(default=0)
    """How many answers the risk of those that it has asks for, where the overlap is adaptive; 0 if for no more."""
    fence = models.PositiveBigIntegerField(default=0)
    consensus = models.ForeignKey(
        "Consensus", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    consensus_stale = models.BooleanField(default=False)
    risk = models.FloatField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    review_cause = models.CharField(
        max_length=20, choices=ReviewCause.choices, blank=True, default=ReviewCause.NONE
    )
    reviewer = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    review_expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = TaskQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "image"], name="task_one_per_picture"),
            models.CheckConstraint(condition=Q(state__in=TaskState.values), name="task_state_known"),
            models.CheckConstraint(condition=Q(reason__in=Reason.values), name="task_reason_known"),
            models.CheckConstraint(
                condition=Q(review_cause__in=ReviewCause.values), name="task_review_cause_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                F("project"),
                F("priority").desc(),
                F("id"),
                name="task_open_by_priority",
                condition=Q(slots__gt=0),
            ),
            models.Index(
                F("project"),
                F("priority").desc(),
                F("id"),
                name="task_fresh_by_priority",
                condition=Q(slots__gt=0) & Q(answers=0),
            ),
            models.Index(
                F("project"),
                F("state"),
                F("risk").desc(),
                F("id"),
                name="task_review_by_state_and_risk",
                condition=Q(state__in=["needs_review", "disputed"]),
            ),
            models.Index(fields=["project", "id"], name="task_gold", condition=Q(is_gold=True)),
            models.Index(fields=["project", "state", "id"], name="task_by_state"),
            models.Index(fields=["project", "id"], name="task_stale", condition=Q(consensus_stale=True)),
        ]

    def __str__(self) -> str:
        return self.name


class Tally(models.Model):
    """How many tasks and answers a project has, by state: kept by triggers on the tasks, summed to be read.

    On PostgreSQL each change adds a row, so that no two people wait for one counter; the sweeper sums them up.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, db_constraint=False, related_name="+")
    state = models.CharField(max_length=20)
    is_gold = models.BooleanField()
    tasks = models.BigIntegerField(default=0)
    answers = models.BigIntegerField(default=0)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["project", "state", "is_gold"], name="tally_by_project")]

    def __str__(self) -> str:
        return f"{self.tasks} {self.state} in project {self.project_id}"


class Lease(models.Model):
    """A task held by one annotator until a time. The row goes when the lease does.

    `reason` is what the holder is told: gold has that of the task whose place it took.
    """

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="leases")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="leases")
    token = models.PositiveBigIntegerField()
    reason = models.CharField(max_length=20, choices=Reason.choices, default=Reason.AGE)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["task", "user"], name="lease_one_per_person_and_task")
        ]
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="lease_by_expiry")]

    def __str__(self) -> str:
        return f"{self.task} held by {self.user}"


class Skip(models.Model):
    """A person passed a task by; it does not come to them again."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="skips")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="skips")
    reason = models.CharField(max_length=500, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["task", "user"], name="skip_one_per_person_and_task")
        ]

    def __str__(self) -> str:
        return f"{self.task} skipped by {self.user}"


class Draft(models.Model):
    """Work that is not submitted yet, kept so that a lost browser loses none of it: one for each of its tabs.

    `sequence` counts a tab's savings, so that one which arrives late does not undo a later one.
    """

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="drafts")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="drafts")
    shapes = models.JSONField()
    tab = models.CharField(max_length=64, blank=True, default="")
    sequence = models.PositiveBigIntegerField(default=0)
    saved_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["task", "user", "tab"], name="draft_one_per_tab")
        ]
        indexes: ClassVar = [models.Index(fields=["saved_at"], name="draft_by_age")]

    def __str__(self) -> str:
        return f"draft of {self.user} for {self.task}"


class Annotation(models.Model):
    """One annotator's whole answer for a task: a revision that never changes.

    `is_current` alone moves, to the newest revision; a withdrawn answer has `withdrawn_at` instead. `key` was
    made by the browser; `digest` and `response` are what lets the same submit be answered in the same way again.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="annotations")
    author = models.ForeignKey(User, on_delete=models.PROTECT, related_name="annotations")
    revision = models.PositiveIntegerField()
    is_current = models.BooleanField(default=True)
    key = models.UUIDField()
    digest = models.CharField(max_length=SHA256_LENGTH)
    response = models.JSONField()
    schema_version = models.ForeignKey(SchemaVersion, on_delete=models.PROTECT, related_name="+")
    shapes = models.JSONField()
    suggestions_from = models.CharField(max_length=100, blank=True, default="")
    seconds_active = models.FloatField(default=0.0)
    late = models.BooleanField(default=False)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["author", "key"], name="annotation_once_per_key"),
            models.UniqueConstraint(
                fields=["task", "author", "revision"], name="annotation_one_per_revision"
            ),
            models.UniqueConstraint(
                fields=["task", "author"],
                condition=Q(is_current=True),
                name="annotation_one_current_per_person",
            ),
            models.CheckConstraint(condition=Q(revision__gte=1), name="annotation_revision_from_1"),
        ]

    def __str__(self) -> str:
        return f"{self.author} on {self.task}, revision {self.revision}"

    @property
    def parsed(self) -> tuple[label_shapes.Shape, ...]:
        return label_shapes.parse_list(self.shapes)


class ConsensusSource(models.TextChoices):
    ANSWERS = "answers"
    EXPERT = "expert"
    IMPORTED = "imported"


class Consensus(models.Model):
    """The settled answer for a task: a revision that never changes; `Task.consensus` is the one in force."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="consensus_revisions")
    revision = models.PositiveIntegerField()
    source = models.CharField(max_length=20, choices=ConsensusSource.choices, default=ConsensusSource.ANSWERS)
    method = models.CharField(max_length=50)
    schema_version = models.ForeignKey(SchemaVersion, on_delete=models.PROTECT, related_name="+")
    shapes = models.JSONField()
    rejected = models.JSONField(default=list)
    risk = models.FloatField(default=0.0)
    answers = models.PositiveIntegerField(default=0)
    digest = models.CharField(max_length=SHA256_LENGTH)
    evidence = models.JSONField(default=dict)
    """How sure it is and from whom it came, as the last settling saw it: beside the content, not part of it."""
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "consensus"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["task", "revision"], name="consensus_one_per_revision"),
            models.CheckConstraint(
                condition=Q(source__in=ConsensusSource.values), name="consensus_source_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task}, consensus {self.revision}"

    @property
    def parsed(self) -> tuple[label_shapes.Shape, ...]:
        return label_shapes.parse_list(self.shapes)


class Return(models.Model):
    """One object of an answer, sent back to its author with a comment; answered by the author's next revision."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="returns")
    annotation = models.ForeignKey(Annotation, on_delete=models.CASCADE, related_name="returns")
    shape_id = models.CharField(max_length=200)
    comment = models.CharField(max_length=2000)
    author = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    reviewer = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    answered_by = models.ForeignKey(
        Annotation, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["annotation", "shape_id"],
                condition=Q(answered_at=None),
                name="return_one_open_per_object",
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["author", "id"], name="return_open", condition=Q(answered_at=None))
        ]

    def __str__(self) -> str:
        return f"{self.shape_id} of {self.annotation}: {self.comment}"


class CardVerdict(models.TextChoices):
    KEEP = "keep"
    DROP = "drop"


class Card(models.Model):
    """A question about one disputed object: is it there? Asked of people who have not answered the task.

    `slots` gates it like a task's; `verdict` is nothing until enough people have answered.
    """

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="cards")
    shape = models.JSONField()
    digest = models.CharField(max_length=SHA256_LENGTH)
    confidence = models.FloatField()
    slots = models.PositiveSmallIntegerField()
    keeps = models.PositiveSmallIntegerField(default=0)
    drops = models.PositiveSmallIntegerField(default=0)
    verdict = models.CharField(max_length=20, choices=CardVerdict.choices, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["task", "digest"], name="card_one_per_object"),
            models.CheckConstraint(
                condition=Q(verdict__in=["", *CardVerdict.values]), name="card_verdict_known"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["id"], name="card_open", condition=Q(slots__gt=0))]

    def __str__(self) -> str:
        return f"card {self.pk} of {self.task}"


class CardAnswer(models.Model):
    """One person's say on a card: held until `expires_at` while there is no verdict."""

    card = models.ForeignKey(Card, on_delete=models.CASCADE, related_name="answers")
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="card_answers")
    verdict = models.CharField(max_length=20, choices=CardVerdict.choices, blank=True, default="")
    seconds_active = models.FloatField(default=0.0)
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["card", "user"], name="card_answer_one_per_person"),
            models.CheckConstraint(
                condition=Q(verdict__in=["", *CardVerdict.values]), name="card_answer_verdict_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], name="card_answer_held", condition=Q(verdict=""))
        ]

    def __str__(self) -> str:
        return f"{self.user} on {self.card}"


class Prediction(models.Model):
    """What a model sees in a task's picture; `model` names the model, the labeling service knows no more of it."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="predictions")
    model = models.CharField(max_length=100)
    shapes = models.JSONField()
    uncertainty = models.FloatField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["task", "model"], name="prediction_one_per_model")
        ]

    def __str__(self) -> str:
        return f"{self.model} on {self.task}"


class ConsensusFit(models.Model):
    """What a project's answers told about its annotators, once learnt; never changed. `Project.consensus_fit` is the
    one in force. The same answers give the same digest."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="fits")
    number = models.PositiveIntegerField()
    method = models.CharField(max_length=50)
    parameters = models.JSONField()
    digest = models.CharField(max_length=SHA256_LENGTH)
    agreement = models.JSONField(default=dict)
    """How well people agreed in the tasks it was learnt from."""
    tasks = models.PositiveIntegerField(default=0)
    answers = models.PositiveIntegerField(default=0)
    """People's answers that it was learnt from."""
    gold = models.PositiveIntegerField(default=0)
    """How many of these tasks an expert had answered."""
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "number"], name="fit_one_per_number")
        ]

    def __str__(self) -> str:
        return f"fit {self.number} of project {self.project_id}"


class Skill(models.Model):
    """How reliable an annotator is at one kind of shape, as one fit estimates it. Derived; can be rebuilt.

    The annotator is a person, or the model of this name. Figures that this kind does not have are nothing.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="skills")
    fit = models.ForeignKey(ConsensusFit, on_delete=models.CASCADE, related_name="skills")
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, blank=True, related_name="skills")
    model = models.CharField(max_length=100, blank=True, default="")
    kind = models.CharField(max_length=20)
    recall = models.FloatField()
    recall_low = models.FloatField()
    recall_high = models.FloatField()
    precision = models.FloatField()
    precision_low = models.FloatField()
    precision_high = models.FloatField()
    spread_px = models.FloatField(null=True, blank=True)
    spread = models.FloatField(null=True, blank=True)
    """How far a side or joint tends to be off, in sizes of the object."""
    class_accuracy = models.FloatField(null=True, blank=True)
    swap_rate = models.FloatField(null=True, blank=True)
    visibility_accuracy = models.FloatField(null=True, blank=True)
    seconds_per_image = models.FloatField(null=True, blank=True)
    details = models.JSONField(default=dict, blank=True)
    """Bias, confusion of classes, and the intervals of the shares above."""
    answers = models.PositiveIntegerField()
    preferred = models.BooleanField(default=False)
    """Better than half of the people: what asks for one more answer goes to these first."""
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["fit", "user", "kind"],
                condition=Q(user__isnull=False),
                name="skill_one_per_person_and_kind",
            ),
            models.UniqueConstraint(
                fields=["fit", "model", "kind"],
                condition=Q(user__isnull=True),
                name="skill_one_per_model_and_kind",
            ),
            models.CheckConstraint(
                condition=Q(user__isnull=False, model="") | (Q(user__isnull=True) & ~Q(model="")),
                name="skill_of_a_person_or_a_model",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.model}: {self.kind} in {self.project}"


class JobState(models.TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PARKED = "parked"


class Job(models.Model):
    """A long piece of work: the record of it. A Celery message only says "run job N".

    `key` names the work, so asking twice makes one job. `token` grows with each claim: a worker that was
    thought dead holds an old token, and what it writes is refused. `crashes` counts leases that ran out.
    """

    kind = models.CharField(max_length=50)
    key = models.CharField(max_length=200, unique=True)
    queue = models.CharField(max_length=50, default="default")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True, blank=True, related_name="jobs")
    params = models.JSONField(default=dict)
    state = models.CharField(max_length=20, choices=JobState.choices, default=JobState.QUEUED)
    token = models.PositiveBigIntegerField(default=0)
    attempts = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    crashes = models.PositiveIntegerField(default=0)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    hinted_at = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    checkpoint = models.JSONField(default=dict)
    progress = models.FloatField(default=0.0)
    message = models.CharField(max_length=500, blank=True, default="")
    error = models.TextField(blank=True, default="")
    result = models.JSONField(default=dict)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(state__in=JobState.values), name="job_state_known"),
            models.CheckConstraint(
                condition=Q(progress__gte=0) & Q(progress__lte=1), name="job_progress_0_to_1"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["state", "id"], name="job_open", condition=Q(state__in=["queued", "running"])
            ),
            models.Index(fields=["project", "-id"], name="job_by_project"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class Upload(models.Model):
    """Files that a person has sent and that no import has taken yet; their bytes are in the store."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="uploads")
    created_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    job = models.ForeignKey(Job, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    def __str__(self) -> str:
        return f"upload {self.pk}"


class UploadedFile(models.Model):
    """One file of an upload, under its path inside the folder it came from."""

    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="files")
    path = models.CharField(max_length=1000)
    sha256 = models.CharField(max_length=SHA256_LENGTH)
    size_bytes = models.PositiveBigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["upload", "path"], name="uploaded_file_one_per_path")
        ]

    def __str__(self) -> str:
        return self.path


class Event(models.Model):
    """Who did what to which object, when. Written in the transaction of what it describes; never changed."""

    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, null=True, blank=True, related_name="events"
    )
    actor = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    verb = models.CharField(max_length=50)
    object_type = models.CharField(max_length=50)
    object_id = models.CharField(max_length=64)
    data = models.JSONField(default=dict)
    client = models.CharField(max_length=200, blank=True, default="")
    """The browser or program that asked, or the worker's job."""
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["project", "-id"], name="event_by_project"),
            models.Index(fields=["project", "at"], name="event_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.object_type} {self.object_id}"


class ApiToken(models.Model):
    """A program's key; only its sha256 is kept. It ends when its owner's password changes."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=SHA256_LENGTH, unique=True)
    password_mark = models.CharField(max_length=SHA256_LENGTH)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.user}: {self.name}"
