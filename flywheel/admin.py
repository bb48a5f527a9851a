"""The wheel's half of the admin: rounds, models, trainings and snapshots, with figures that can be read."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.contrib import admin, messages
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from flywheel.models import (
    Evaluation,
    ModelStatus,
    ModelVersion,
    Round,
    RoundStatus,
    Snapshot,
    TrainingRun,
)
from flywheel.services import promotion, rounds
from labeling.admin.base import (
    NOTHING,
    PROJECT_PROSE,
    ReadingAdmin,
    Refusal,
    badge,
    bar,
    each,
    facts,
    figure,
    list_link,
    mark,
    moment,
    person_of,
    pretty,
    row_link,
    table,
)
from labeling.admin.work import JOB_TONES
from labeling.models import JobState

ROUND_TONES: Final = {
    RoundStatus.COLLECTING: "calm",
    RoundStatus.DONE: "good",
    RoundStatus.FAILED: "bad",
    RoundStatus.CANCELLED: "calm",
}
"""The tones of the statuses at which a round rests; it works on all the others."""
MODEL_TONES: Final = {
    ModelStatus.CHALLENGER: "busy",
    ModelStatus.CHAMPION: "good",
    ModelStatus.REJECTED: "bad",
    ModelStatus.RETIRED: "calm",
}
FIGURES: Final = {
    "ap50": "AP50",
    "ap": "AP",
    "oks_ap": "OKS AP",
    "pck": "PCK",
    "ece": "calibration error",
}
CHART_WIDTH, CHART_HEIGHT, CHART_MARGIN = 480, 200, 40


def _line_chart(
    points: Sequence[tuple[float, float]], *, most_x: float, most_y: float, told: str
) -> SafeString:
    """Points joined by a line, from 0 to `most_x` and 0 to `most_y`; both axes name their ends."""
    right, low = CHART_WIDTH - 8, CHART_HEIGHT - 20
    width, height = right - CHART_MARGIN, low - 8
    scaled = " ".join(
        f"{CHART_MARGIN + width * x / most_x:.1f},{low - height * min(y / most_y, 1.0):.1f}"
        for x, y in points
    )
    return format_html(
        '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{told}" style="max-width: {width}px; width: 100%"'
        ' font-size="11" fill="currentColor"><title>{told}</title>'
        '<path d="M{left} 8V{low}H{right}" fill="none" stroke="currentColor" opacity="0.4"/>'
        '<text x="{before}" y="16" text-anchor="end">{most_y}</text>'
        '<text x="{before}" y="{low}" text-anchor="end">0</text>'
        '<text x="{right}" y="{below}" text-anchor="end">{most_x}</text>'
        '<polyline class="text-primary-600 dark:text-primary-500" points="{points}" fill="none" '
        'stroke="currentColor" stroke-width="1.5"/></svg>',
        width=CHART_WIDTH,
        height=CHART_HEIGHT,
        told=told,
        left=CHART_MARGIN,
        low=low,
        right=right,
        before=CHART_MARGIN - 6,
        below=CHART_HEIGHT - 6,
        most_x=f"{most_x:g}",
        most_y=f"{most_y:.3g}",
        points=scaled,
    )


def loss_curve(curve: Sequence[Mapping[str, float]]) -> SafeString | str:
    """The training's loss against its step; nothing before there are two points."""
    points = [(point["step"], point["loss"]) for point in curve]
    if len(points) < 2:
        return NOTHING
    most_y = max(loss for _, loss in points) or 1.0
    told = f"Loss against step: {points[0][1]:.3f} at step {points[0][0]}, {points[-1][1]:.3f} at {points[-1][0]}"
    chart = _line_chart(points, most_x=points[-1][0], most_y=most_y, told=told)
    return format_html("<figure>{}<figcaption>{}</figcaption></figure>", chart, told)


def _calibration(name: str, scores: Sequence[float], precisions: Sequence[float]) -> SafeString:
    """How often a detection of this score is right, as a curve."""
    told = f"{name}: precision (0 to 1) against the model's score (0 to 1)"
    chart = _line_chart(list(zip(scores, precisions, strict=True)), most_x=1.0, most_y=1.0, told=told)
    return format_html("<figure>{}<figcaption>{}</figcaption></figure>", chart, told)


def _evaluation(evaluation: Evaluation) -> SafeString:
    """One evaluation as tables and charts."""
    metrics = evaluation.metrics
    pairs: list[tuple[str, object]] = [
        ("snapshot", row_link(evaluation.snapshot)),
        ("measured on", f"{metrics.get('pictures', NOTHING)} pictures ({metrics.get('split', NOTHING)})"),
        *((name, figure(metrics.get(key))) for key, name in FIGURES.items()),
    ]
    classes = metrics.get("per_class", {})
    rows = [
        (item["name"], item["objects"], figure(item["ap50"]), figure(item["ap"]), figure(item["oks_ap"]))
        for item in classes.values()
    ]
    charts = [
        _calibration(classes.get(class_id, {}).get("name", f"class {class_id}"), *curve)
        for class_id, curve in metrics.get("calibration", {}).items()
    ]
    return format_html(
        '<div class="mb-6">{}{}<div class="flex flex-row flex-wrap gap-6">{}</div></div>',
        facts(pairs),
        table(("class", "objects", "AP50", "AP", "OKS AP"), rows),
        format_html_join("", "{}", ((chart,) for chart in charts)),
    )


@admin.register(Round)
class RoundAdmin(ReadingAdmin):
    list_display = (
        "number", "project", "status_badge", "job_bar", "target_new_labels", "decision_badge", "ap50", "model_version",
        "created", "finished",
    )  # fmt: skip
    list_display_links = ("number", "project")
    list_filter = ("status", "decision", "project")
    list_select_related = ("project", "job", "model_version")
    search_fields = ("project__name",)
    search_help_text = "the beginning of a project's name"
    word_is = "project__name__istartswith"
    ordering = ("-id",)
    heavy = (
        *PROJECT_PROSE,
        "history",
        "job__params",
        "job__checkpoint",
        "job__result",
        "model_version__card",
    )
    actions = ("start", "cancel")
    fieldsets = (
        (None, {"fields": ("project", "number", "status_badge", "job", "new_labels", "asked_to_start")}),
        ("Made", {"fields": ("snapshot", "run", "model_version")}),
        ("Decided", {"fields": ("decision_badge", "reason", "figures")}),
        ("Times", {"fields": ("created_at", "finished_at", "steps")}),
    )
    readonly_fields = ("status_badge", "new_labels", "asked_to_start", "decision_badge", "figures", "steps")

    @admin.display(description="status", ordering="status")
    def status_badge(self, turn: Round) -> SafeString:
        return badge(turn.status, ROUND_TONES.get(RoundStatus(turn.status), "busy"))

    @admin.display(description="step")
    def job_bar(self, turn: Round) -> SafeString | str:
        """How far the job of an open round is."""
        if turn.job is None or turn.finished_at is not None:
            return NOTHING
        return bar(turn.job.progress)

    @admin.display(description="decision", ordering="decision")
    def decision_badge(self, turn: Round) -> SafeString | str:
        if not turn.decision:
            return NOTHING
        return badge(turn.decision, "good" if turn.decision == "promoted" else "bad")

    @admin.display(description="AP50")
    def ap50(self, turn: Round) -> str:
        return figure(turn.metrics.get("ap50"))

    @admin.display(description="new labels")
    def new_labels(self, turn: Round) -> str:
        if turn.finished_at is not None:
            return NOTHING
        return f"{rounds.new_labels(turn)} of {turn.target_new_labels}"

    @admin.display(description="start asked for")
    def asked_to_start(self, turn: Round) -> SafeString | str:
        return mark(turn.start_requested, "asked for", "busy")

    @admin.display(description="figures")
    def figures(self, turn: Round) -> SafeString | str:
        return pretty(turn.metrics) if turn.metrics else NOTHING

    @admin.display(description="steps")
    def steps(self, turn: Round) -> SafeString:
        return facts((step["status"], moment(datetime.fromisoformat(step["at"]))) for step in turn.history)

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "change")

    @admin.action(description="Start: train now on what is settled", permissions=["steer"])
    def start(self, request: HttpRequest, selected: QuerySet[Round]) -> None:
        def begin(turn: Round) -> None:
            if turn.status != RoundStatus.COLLECTING:
                raise Refusal(f"is {turn.status}; only a round that is collecting can be started")
            rounds.start(project=turn.project, actor=person_of(request), now=timezone.now())

        each(request, selected.select_related("project"), begin, done="started", refusals=(Refusal,))
        rounds.nudge()

    @admin.action(description="Cancel; the champion stays", permissions=["steer"])
    def cancel(self, request: HttpRequest, selected: QuerySet[Round]) -> None:
        each(
            request,
            selected.select_related("project", "job"),
            lambda turn: rounds.cancel(turn=turn, actor=person_of(request), now=timezone.now()),
            done="cancelled",
            refusals=(rounds.NoOpenRound,),
        )


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadingAdmin):
    list_display = (
        "__str__",
        "project",
        "status_badge",
        "ap50",
        "ap",
        "pck",
        "images",
        "created",
        "promoted",
    )
    list_filter = ("status", "project")
    list_select_related = ("project", "run__snapshot")
    search_fields = ("weights_sha256",)
    search_help_text = "an id, or a whole sha256 of weights"
    word_is = "weights_sha256"
    ordering = ("-id",)
    heavy = (*PROJECT_PROSE, "card", "run__curve")
    actions = ("promote", "roll_back")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "project",
                    "number",
                    "status_badge",
                    "run",
                    "snapshot",
                    "weights_sha256",
                    "see_also",
                )
            },
        ),
        ("Measured", {"fields": ("evaluations",)}),
        ("Times", {"fields": ("created_at", "promoted_at")}),
        ("Card", {"fields": ("card_json",)}),
    )
    readonly_fields = ("status_badge", "snapshot", "see_also", "evaluations", "card_json")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        newest_first = Evaluation.objects.select_related("snapshot").order_by("-id")
        return super().get_queryset(request).prefetch_related(Prefetch("evaluations", newest_first))

    @admin.display(description="status", ordering="status")
    def status_badge(self, model: ModelVersion) -> SafeString:
        return badge(model.status, MODEL_TONES[ModelStatus(model.status)])

    @admin.display(description="AP50")
    def ap50(self, model: ModelVersion) -> str:
        return _newest_figure(model, "ap50")

    @admin.display(description="AP")
    def ap(self, model: ModelVersion) -> str:
        return _newest_figure(model, "ap")

    @admin.display(description="PCK")
    def pck(self, model: ModelVersion) -> str:
        return _newest_figure(model, "pck")

    @admin.display(description="pictures learnt from", ordering="run__snapshot__images")
    def images(self, model: ModelVersion) -> int:
        return model.run.snapshot.images

    @admin.display(description="promoted", ordering="promoted_at")
    def promoted(self, model: ModelVersion) -> str:
        return moment(model.promoted_at)

    @admin.display(description="snapshot")
    def snapshot(self, model: ModelVersion) -> SafeString | str:
        return row_link(model.run.snapshot)

    @admin.display(description="see also")
    def see_also(self, model: ModelVersion) -> SafeString:
        return list_link(Round, "rounds", model_version__id__exact=model.pk)

    @admin.display(description="evaluations")
    def evaluations(self, model: ModelVersion) -> SafeString | str:
        rows = model.evaluations.all()
        return format_html_join("", "{}", ((_evaluation(item),) for item in rows)) or NOTHING

    @admin.display(description="card")
    def card_json(self, model: ModelVersion) -> SafeString:
        return pretty(model.card)

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "change")

    @admin.action(description="Promote: make champion, whatever the gate said", permissions=["steer"])
    def promote(self, request: HttpRequest, selected: QuerySet[ModelVersion]) -> None:
        wanted = list(selected)
        if len({model.project_id for model in wanted}) < len(wanted):
            messages.error(request, "A project has one champion: select one model of it.")
            return

        def crown(model: ModelVersion) -> None:
            if model.status == ModelStatus.CHAMPION:
                raise Refusal("is the champion already")
            promotion.promote(model=model, actor=person_of(request), now=timezone.now())

        each(request, wanted, crown, done="champion now", refusals=(Refusal,))

    @admin.action(description="Roll back: the champion before this one returns", permissions=["steer"])
    def roll_back(self, request: HttpRequest, selected: QuerySet[ModelVersion]) -> None:
        def go_back(model: ModelVersion) -> None:
            if model.status != ModelStatus.CHAMPION:
                raise Refusal(f"is {model.status}; select the champion that is to go")
            back = promotion.roll_back(project=model.project, actor=person_of(request), now=timezone.now())
            messages.info(request, f"{back.name} is the champion again.")

        each(
            request,
            selected,
            go_back,
            done="no longer champion",
            refusals=(Refusal, promotion.NothingToGoBackTo),
        )


def _newest_figure(model: ModelVersion, name: str) -> str:
    newest = next(iter(model.evaluations.all()), None)  # prefetched, newest first
    return NOTHING if newest is None else figure(newest.metrics.get(name))


@admin.register(TrainingRun)
class TrainingRunAdmin(ReadingAdmin):
    list_display = ("__str__", "project", "snapshot", "job_badge", "job_bar", "created", "finished")
    list_filter = ("project",)
    list_select_related = ("project", "snapshot", "job")
    search_fields = ("key",)
    search_help_text = "an id, or a whole key"
    word_is = "key"
    ordering = ("-id",)
    heavy = (*PROJECT_PROSE, "curve", "config", "job__params", "job__checkpoint", "job__result")
    fieldsets = (
        (None, {"fields": ("project", "snapshot", "job", "job_bar", "made", "warm_start")}),
        ("Loss", {"fields": ("loss",)}),
        ("Configuration", {"fields": ("config_table", "code_version", "key")}),
        ("Times", {"fields": ("created_at", "finished_at")}),
    )
    readonly_fields = ("job_bar", "made", "loss", "config_table")

    @admin.display(description="job")
    def job_badge(self, run: TrainingRun) -> SafeString | str:
        return NOTHING if run.job is None else badge(run.job.state, JOB_TONES[JobState(run.job.state)])

    @admin.display(description="progress")
    def job_bar(self, run: TrainingRun) -> SafeString | str:
        return NOTHING if run.job is None else bar(run.job.progress)

    @admin.display(description="model")
    def made(self, run: TrainingRun) -> SafeString | str:
        return row_link(ModelVersion.objects.filter(run=run).first())

    @admin.display(description="loss")
    def loss(self, run: TrainingRun) -> SafeString | str:
        return loss_curve(run.curve)

    @admin.display(description="configuration")
    def config_table(self, run: TrainingRun) -> SafeString:
        return facts(sorted(run.config.items()))


@admin.register(Snapshot)
class SnapshotAdmin(ReadingAdmin):
    list_display = ("__str__", "project", "images", "gold_images", "objects_count", "created")
    list_filter = ("project",)
    list_select_related = ("project",)
    search_fields = ("version",)
    search_help_text = "an id, or a whole version"
    word_is = "version"
    ordering = ("-id",)
    heavy = PROJECT_PROSE
    fields = (
        "project", "version", "labels_sha256", "images", "gold_images", "objects_count", "created_at", "see_also",
    )  # fmt: skip
    readonly_fields = ("see_also",)

    @admin.display(description="see also")
    def see_also(self, snapshot: Snapshot) -> SafeString:
        kinds = ((TrainingRun, "training runs"), (Round, "rounds"))
        links = [list_link(model, text, snapshot__id__exact=snapshot.pk) for model, text in kinds]
        return format_html_join(" · ", "{}", ((link,) for link in links))
