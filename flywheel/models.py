"""The rows of the wheel: rounds, and the data and models that they make."""

from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models
from django.db.models import Q
from django.utils import timezone

from labeling.models import Job, Project, Task

User = settings.AUTH_USER_MODEL


class Snapshot(models.Model):
    """A frozen dataset. `version` is the sha256 of its manifest; manifest and labels lie in the store by hash."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="snapshots")
    version = models.CharField(max_length=64)
    labels_sha256 = models.CharField(max_length=64)
    images = models.PositiveIntegerField()
    gold_images = models.PositiveIntegerField()
    objects_count = models.PositiveIntegerField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "version"], name="snapshot_one_per_version")
        ]

    def __str__(self) -> str:
        return self.version[:12]


class RoundStatus(models.TextChoices):
    COLLECTING = "collecting"
    SNAPSHOTTING = "snapshotting"
    TRAINING = "training"
    EVALUATING = "evaluating"
    DECIDING = "deciding"
    PREDICTING = "predicting"
    SELECTING = "selecting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN_STATUSES = [
    status
    for status in RoundStatus
    if status not in (RoundStatus.DONE, RoundStatus.FAILED, RoundStatus.CANCELLED)
]


class TrainingRun(models.Model):
    """One training: what went in, and how it went. The same key is the same run."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="training_runs")
    snapshot = models.ForeignKey(Snapshot, on_delete=models.PROTECT, related_name="runs")
    key = models.CharField(max_length=64, unique=True)
    config = models.JSONField()
    code_version = models.CharField(max_length=64)
    warm_start = models.ForeignKey(
        "ModelVersion", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    job = models.ForeignKey(Job, on_delete=models.SET_NULL, null=True, related_name="+")
    curve = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.key[:12]


class Search(models.Model):
    """Trainings on one snapshot whose settings are searched for. Its trials are runs like others."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="searches")
    snapshot = models.ForeignKey(Snapshot, on_delete=models.PROTECT, related_name="searches")
    space = models.JSONField()
    """Setting → {"low", "high", "log"} or {"choices"}."""
    metric = models.CharField(max_length=20)
    """Of the validation pictures; larger is better."""
    wanted = models.PositiveIntegerField()
    at_once = models.PositiveIntegerField(default=1)
    reason = models.TextField(blank=True, default="")
    """Why it ended early, if it did."""
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project"], condition=Q(finished_at=None), name="search_one_unfinished"
            ),
        ]

    def __str__(self) -> str:
        return f"search {self.pk} of {self.project}"


class Trial(models.Model):
    """One try of a search. Two tries of the same settings are the same run."""

    search = models.ForeignKey(Search, on_delete=models.CASCADE, related_name="trials")
    number = models.PositiveIntegerField()
    run = models.ForeignKey(TrainingRun, on_delete=models.PROTECT, related_name="trials")
    settings = models.JSONField()
    rungs = models.JSONField(default=dict)
    """Step → the metric there."""
    pruned = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["search", "number"], name="trial_one_per_number"),
        ]

    def __str__(self) -> str:
        return f"trial {self.number} of {self.search}"


class ModelStatus(models.TextChoices):
    CHALLENGER = "challenger"
    CHAMPION = "champion"
    REJECTED = "rejected"
    RETIRED = "retired"


class ModelVersion(models.Model):
    """A trained model. It names the run, and so the snapshot, the code and the configuration that made it."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="model_versions")
    number = models.PositiveIntegerField()
    run = models.OneToOneField(TrainingRun, on_delete=models.PROTECT, related_name="model_version")
    status = models.CharField(max_length=20, choices=ModelStatus.choices, default=ModelStatus.CHALLENGER)
    weights_sha256 = models.CharField(max_length=64)
    card = models.JSONField()
    created_at = models.DateTimeField(default=timezone.now)
    promoted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "number"], name="model_one_per_number"),
            models.UniqueConstraint(
                fields=["project"], condition=Q(status="champion"), name="model_one_champion"
            ),
            models.CheckConstraint(condition=Q(status__in=ModelStatus.values), name="model_status_known"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """What the labeling service calls this model, in predictions and suggestions."""
        return f"p{self.project_id}-v{self.number}"


class Evaluation(models.Model):
    """How a model did on one snapshot's gold. `per_image` is what a paired comparison needs."""

    model_version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="evaluations")
    snapshot = models.ForeignKey(Snapshot, on_delete=models.PROTECT, related_name="evaluations")
    metrics = models.JSONField()
    per_image_sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["model_version", "snapshot"], name="evaluation_one_per_model_and_snapshot"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model_version} on {self.snapshot}"


class Trigger(models.TextChoices):
    """Why a round stopped collecting."""

    LABELS = "labels", "enough new labels"
    SCHEDULE = "schedule", "the schedule"
    DRIFT = "drift", "suggestions are accepted less than before"
    SCHEMA = "schema", "the classes changed"
    PERSON = "person", "a person"


class RoundQuerySet(models.QuerySet["Round"]):
    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> "RoundQuerySet":
        if not user.is_authenticated:
            return self.none()
        return self.filter(project__memberships__user_id=user.pk)


class Round(models.Model):
    """One turn of the wheel: a status that one periodic job moves on, step by step."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="rounds")
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=20, choices=RoundStatus.choices, default=RoundStatus.COLLECTING)
    start_requested = models.BooleanField(default=False)
    trigger = models.CharField(max_length=20, blank=True, default="", choices=Trigger.choices)
    target_new_labels = models.PositiveIntegerField()
    settled_before = models.PositiveIntegerField(default=0)
    snapshot = models.ForeignKey(
        Snapshot, on_delete=models.PROTECT, null=True, blank=True, related_name="rounds"
    )
    run = models.ForeignKey(
        TrainingRun, on_delete=models.PROTECT, null=True, blank=True, related_name="rounds"
    )
    control_run = models.ForeignKey(
        TrainingRun, on_delete=models.PROTECT, null=True, blank=True, related_name="controlled_rounds"
    )
    model_version = models.ForeignKey(
        ModelVersion, on_delete=models.SET_NULL, null=True, blank=True, related_name="rounds"
    )
    job = models.ForeignKey(Job, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    decision = models.CharField(
        max_length=20, blank=True, default="", choices=[("promoted", "promoted"), ("rejected", "rejected")]
    )
    reason = models.TextField(blank=True, default="")
    metrics = models.JSONField(default=dict)
    history = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = RoundQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "number"], name="round_one_per_number"),
            models.UniqueConstraint(
                fields=["project"],
                condition=Q(status__in=[status.value for status in OPEN_STATUSES]),
                name="round_one_open_per_project",
            ),
            models.CheckConstraint(condition=Q(status__in=RoundStatus.values), name="round_status_known"),
            models.CheckConstraint(
                condition=Q(trigger__in=["", *Trigger.values]), name="round_trigger_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.project}, round {self.number}"


class LabelAudit(models.Model):
    """One look for mistakes in a snapshot's labels. The snapshot is frozen when its job begins."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="label_audits")
    snapshot = models.ForeignKey(
        Snapshot, on_delete=models.CASCADE, null=True, blank=True, related_name="label_audits"
    )
    job = models.ForeignKey(Job, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    pictures = models.PositiveIntegerField(default=0)
    """How many were looked at."""
    doubtful = models.PositiveIntegerField(default=0)
    """How many of them had a finding, also those beyond the end of the list that is kept."""
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project"], condition=Q(finished_at=None), name="label_audit_one_unfinished"
            ),
        ]

    def __str__(self) -> str:
        return f"label audit of {self.project}"


class DoubtfulPicture(models.Model):
    """A picture of an audit's review list; ids rise down the list. `revision` is that of the labels in doubt."""

    audit = models.ForeignKey(LabelAudit, on_delete=models.CASCADE, related_name="doubtful_pictures")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="+")
    revision = models.PositiveIntegerField()
    score = models.FloatField()
    """By which the list is ordered: the sum of its findings' squared probabilities."""
    findings = models.JSONField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["audit", "task"], name="doubtful_picture_once_per_audit"),
        ]

    def __str__(self) -> str:
        return f"{self.task}: {self.score:.1f}"


class Dismissal(models.Model):
    """A person's word that this revision of a picture's labels is right; no later audit doubts it again."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="+")
    revision = models.PositiveIntegerField()
    dismissed_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    dismissed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["task", "revision"], name="dismissal_one_per_revision"),
        ]

    def __str__(self) -> str:
        return f"{self.task}, labels {self.revision}"
