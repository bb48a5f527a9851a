"""What people answered, what was settled from it, what models saw, and how reliable people are: to be read."""

from typing import Final

from django.contrib import admin
from django.utils.safestring import SafeString

from labeling import shapes as label_shapes
from labeling.admin.base import (
    NOTHING,
    PROJECT_PROSE,
    ReadingAdmin,
    figure,
    mark,
    pretty,
)
from labeling.admin.tasks import drawing
from labeling.models import (
    Annotation,
    Consensus,
    ConsensusFit,
    Prediction,
    Skill,
)

FIT_PROSE: Final = ("fit__parameters", "fit__agreement")
"""The long columns of a fit."""


@admin.register(Annotation)
class AnnotationAdmin(ReadingAdmin):
    list_display = (
        "task", "author", "revision", "newest", "count", "came_late", "seconds", "created",
    )  # fmt: skip
    list_filter = ("is_current", "late", "task__project")
    list_select_related = ("task", "author")
    search_fields = ("author__username",)
    search_help_text = "an author's username, or a task's id"
    number_is = "task_id"
    word_is = "author__username"
    ordering = ("-task", "-author", "-revision")  # an index's order; there is none by time
    heavy = ("response",)
    fields = (
        "drawn", "task", "author", "revision", "newest", "came_late", "seconds", "suggestions_from",
        "schema_version", "created_at", "key", "as_json",
    )  # fmt: skip
    readonly_fields = ("drawn", "newest", "came_late", "seconds", "as_json")

    @admin.display(description="newest", ordering="is_current")
    def newest(self, answer: Annotation) -> SafeString | str:
        return mark(answer.is_current, "newest", "good")

    @admin.display(description="late", ordering="late")
    def came_late(self, answer: Annotation) -> SafeString | str:
        return mark(answer.late, "late", "care")

    @admin.display(description="seconds at work", ordering="seconds_active")
    def seconds(self, answer: Annotation) -> str:
        return figure(answer.seconds_active, 1)

    @admin.display(description="shapes")
    def count(self, answer: Annotation) -> int:
        return len(answer.shapes)

    @admin.display(description="answer")
    def drawn(self, answer: Annotation) -> SafeString:
        return drawing(answer.task, answer.parsed)

    @admin.display(description="shapes")
    def as_json(self, answer: Annotation) -> SafeString:
        return pretty(answer.shapes)


@admin.register(Consensus)
class ConsensusAdmin(ReadingAdmin):
    list_display = ("task", "revision", "source", "method", "count", "answers", "risk_figure", "created")
    list_filter = ("source", "task__project")
    list_select_related = ("task",)
    search_fields = ("task__name",)
    search_help_text = "a task's id, or its whole name"
    number_is = "task_id"
    word_is = "task__name"
    ordering = ("-id",)
    heavy = ("rejected", "evidence")
    fields = (
        "drawn", "task", "revision", "source", "method", "answers", "risk", "schema_version", "created_at",
        "as_json", "rejected_json",
    )  # fmt: skip
    readonly_fields = ("drawn", "as_json", "rejected_json")

    @admin.display(description="shapes")
    def count(self, settled: Consensus) -> int:
        return len(settled.shapes)

    @admin.display(description="risk", ordering="risk")
    def risk_figure(self, settled: Consensus) -> str:
        return figure(settled.risk)

    @admin.display(description="settled answer")
    def drawn(self, settled: Consensus) -> SafeString:
        return drawing(settled.task, settled.parsed)

    @admin.display(description="shapes")
    def as_json(self, settled: Consensus) -> SafeString:
        return pretty(settled.shapes)

    @admin.display(description="not accepted")
    def rejected_json(self, settled: Consensus) -> SafeString | str:
        return pretty(settled.rejected) if settled.rejected else NOTHING


@admin.register(Prediction)
class PredictionAdmin(ReadingAdmin):
    list_display = ("task", "model", "count", "uncertainty_figure", "created")
    list_filter = ("task__project",)
    list_select_related = ("task",)
    search_fields = ("model",)
    search_help_text = "a model's name, or a task's id"
    number_is = "task_id"
    word_is = "model"
    ordering = ("-id",)
    fields = ("drawn", "task", "model", "uncertainty", "created_at", "as_json")
    readonly_fields = ("drawn", "as_json")

    @admin.display(description="shapes")
    def count(self, prediction: Prediction) -> int:
        return len(prediction.shapes)

    @admin.display(description="uncertainty", ordering="uncertainty")
    def uncertainty_figure(self, prediction: Prediction) -> str:
        return figure(prediction.uncertainty)

    @admin.display(description="what the model sees")
    def drawn(self, prediction: Prediction) -> SafeString:
        return drawing(prediction.task, label_shapes.parse_list(prediction.shapes))

    @admin.display(description="shapes")
    def as_json(self, prediction: Prediction) -> SafeString:
        return pretty(prediction.shapes)


@admin.register(ConsensusFit)
class ConsensusFitAdmin(ReadingAdmin):
    """What was learnt of a project's annotators, and when; which one is in force is changed in the app."""

    list_display = ("__str__", "project", "method", "tasks", "answers", "gold", "in_force", "created")
    list_filter = ("project",)
    list_select_related = ("project", "created_by")
    ordering = ("-id",)
    heavy = (*PROJECT_PROSE, "parameters", "agreement")
    fields = (
        "project", "number", "method", "tasks", "answers", "gold", "in_force", "digest", "created_by",
        "created_at", "as_json",
    )  # fmt: skip
    readonly_fields = ("in_force", "as_json")

    @admin.display(description="in force", boolean=True)
    def in_force(self, fit: ConsensusFit) -> bool:
        return fit.project.consensus_fit_id == fit.pk

    @admin.display(description="parameters")
    def as_json(self, fit: ConsensusFit) -> SafeString:
        return pretty(fit.parameters)


@admin.register(Skill)
class SkillAdmin(ReadingAdmin):
    list_display = (
        "annotator",
        "project",
        "fit_number",
        "kind",
        "recall_told",
        "precision_told",
        "spread_told",
        "answers",
        "updated_at",
    )
    list_filter = ("kind", "project")
    list_select_related = ("user", "project", "fit")
    search_fields = ("user__username",)
    search_help_text = "a username"
    word_is = "user__username"
    ordering = ("-id",)
    heavy = (*PROJECT_PROSE, "details", *FIT_PROSE)
    fields = (
        "annotator",
        "project",
        "fit_number",
        "kind",
        "recall_told",
        "precision_told",
        "spread_told",
        "class_accuracy",
        "swap_rate",
        "visibility_accuracy",
        "seconds_per_image",
        "answers",
        "preferred",
        "updated_at",
        "as_json",
    )
    readonly_fields = ("annotator", "fit_number", "recall_told", "precision_told", "spread_told", "as_json")

    @admin.display(description="annotator")
    def annotator(self, skill: Skill) -> str:
        return f"model {skill.model}" if skill.user is None else str(skill.user)

    @admin.display(description="fit", ordering="fit")
    def fit_number(self, skill: Skill) -> int:
        return skill.fit.number

    @admin.display(description="bias, confusion, intervals")
    def as_json(self, skill: Skill) -> SafeString | str:
        return pretty(skill.details) if skill.details else NOTHING

    @admin.display(description="recall (interval)", ordering="recall")
    def recall_told(self, skill: Skill) -> str:
        return f"{skill.recall:.2f} ({skill.recall_low:.2f} to {skill.recall_high:.2f})"

    @admin.display(description="precision (interval)", ordering="precision")
    def precision_told(self, skill: Skill) -> str:
        return f"{skill.precision:.2f} ({skill.precision_low:.2f} to {skill.precision_high:.2f})"

    @admin.display(description="spread", ordering="spread_px")
    def spread_told(self, skill: Skill) -> str:
        return NOTHING if skill.spread_px is None else f"{skill.spread_px:.1f} px"
