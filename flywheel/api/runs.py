"""The experiment record: every training with its settings, its curve and what came out; and the pages that show it."""

from dataclasses import asdict
from typing import Any, Final

from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from flywheel.api import charts, searches
from flywheel.api.serializers import SnapshotSerializer
from flywheel.models import Snapshot, TrainingRun
from flywheel.services import training
from labeling.api import paging
from labeling.api.errors import Refused
from labeling.api.permissions import project_for, require
from labeling.api.request import checked, person
from labeling.api.serializers import JobSerializer
from labeling.models import JobState, Project, Role
from labeling.services import jobs, projects
from ml.training.config import TrainConfig

LISTED: Final = 100
COMPARED: Final = charts.RUN_COLOURS
TRAINED_WITH: Final = {"mosaic": asdict(TrainConfig())["mosaic"]}
"""What a configuration of ours does not name."""
NO_PART: Final = {"step", "lr", "loss"}
"""What a point of a curve has beside the loss's parts."""


class RunSerializer(serializers.Serializer[TrainingRun]):
    id = serializers.IntegerField()
    state = serializers.SerializerMethodField(help_text="Of its job: queued, running, done, failed, …")
    begun_by = serializers.SerializerMethodField(help_text="A person's name, or empty: the wheel itself.")
    rounds = serializers.SerializerMethodField(help_text="Numbers of the rounds that it belongs to.")
    snapshot = SnapshotSerializer()
    config = serializers.DictField(help_text="Its settings, as `round_settings.training` names them.")
    code_version = serializers.CharField()
    warm_start = serializers.CharField(source="warm_start.name", default=None, allow_null=True)
    job = JobSerializer(allow_null=True)
    model = serializers.CharField(source="model_version.name", default=None, allow_null=True)
    metrics = serializers.SerializerMethodField(
        help_text="On the snapshot's validation pictures; never gold."
    )
    warnings = serializers.SerializerMethodField(help_text="What the checks and the curve's diagnosis told.")
    seconds = serializers.SerializerMethodField(
        help_text="Of training, decoding included; null until it ends."
    )
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_state(self, run: TrainingRun) -> str:
        return state_of(run)

    def get_begun_by(self, run: TrainingRun) -> str:
        return begun_by(run)

    def get_rounds(self, run: TrainingRun) -> list[int]:
        return rounds_of(run)

    def get_metrics(self, run: TrainingRun) -> dict[str, Any]:
        return dict(_card(run).get("metrics", {}))

    def get_warnings(self, run: TrainingRun) -> list[str]:
        return list(_card(run).get("warnings", []))

    def get_seconds(self, run: TrainingRun) -> float | None:
        seconds: float | None = _card(run).get("seconds")
        return seconds


class StartRunSerializer(serializers.Serializer[Any]):
    snapshot = serializers.CharField(
        required=False, help_text="Its version; the project's newest if none is named."
    )
    settings = serializers.DictField(
        required=False, help_text="Go before the project's own `round_settings.training`."
    )


class RunCurveSerializer(serializers.Serializer[Any]):
    state = serializers.CharField()
    progress = serializers.FloatField(help_text="0 to 1.")
    points = serializers.ListField(
        child=serializers.DictField(),
        help_text="Means over the last steps: `step`, `loss`, its parts, and the learning rate `lr`. A run that was "
        "resumed goes back to its checkpoint: points of a later step are then no longer there.",
    )


@extend_schema(methods=["GET"], responses=paging.page_of(RunSerializer), parameters=paging.PARAMETERS)
@extend_schema(methods=["POST"], request=StartRunSerializer, responses={202: RunSerializer})
@api_view(["GET", "POST"])
def run_list(request: Request, project_id: int) -> Response:
    """Every training of the project; or one more, outside of any round: its model changes nothing by itself."""
    if request.method == "GET":
        project = project_for(request, project_id, Role.VIEWER)
        return paging.respond(request, _runs(project), RunSerializer, newest_first=True)
    project = project_for(request, project_id, Role.MANAGER)
    asked = checked(StartRunSerializer, request)
    snapshots = Snapshot.objects.filter(project=project)
    if "snapshot" in asked:
        snapshots = snapshots.filter(version=asked["snapshot"])
    snapshot = snapshots.order_by("-pk").first()
    if snapshot is None:
        raise Refused("no_snapshot", "The project has no such snapshot.", param="snapshot")
    try:
        run = training.start(
            project=project,
            snapshot=snapshot,
            actor=person(request),
            title=f"training on {snapshot.images} pictures",
            own=asked.get("settings"),
        )
    except training.BadTrainingSettings as error:
        raise Refused("bad_training_settings", str(error), param="settings") from None
    return Response(RunSerializer(_runs(project).get(pk=run.pk)).data, status=status.HTTP_202_ACCEPTED)


@extend_schema(responses=RunSerializer)
@api_view(["GET"])
def run_detail(request: Request, run_id: int) -> Response:
    return Response(RunSerializer(_run(request, run_id, Role.VIEWER)).data)


@extend_schema(
    responses=RunCurveSerializer,
    parameters=[OpenApiParameter("after", OpenApiTypes.INT, description="A step.")],
)
@api_view(["GET"])
def run_curve(request: Request, run_id: int) -> Response:
    """The curve so far, written every few seconds while the run goes on; with `after`, the points behind it."""
    run = _run(request, run_id, Role.VIEWER)
    try:
        after = int(request.query_params.get("after", 0))
    except ValueError:
        raise Refused("bad_step", "after must be a whole number.", param="after") from None
    points = [point for point in run.curve if point["step"] > after]
    progress = 0.0 if run.job is None else run.job.progress
    return Response(RunCurveSerializer({"state": state_of(run), "progress": progress, "points": points}).data)


@extend_schema(request=None, responses=RunSerializer)
@api_view(["POST"])
def run_cancel(request: Request, run_id: int) -> Response:
    """Stops a training at its next report; its checkpoint stays. One that has ended stays as it is."""
    run = _run(request, run_id, Role.MANAGER)
    if run.job is not None:
        jobs.cancel(job=run.job, actor=person(request))
    return Response(RunSerializer(_run(request, run_id, Role.MANAGER)).data)


@login_required
@require_GET
@ensure_csrf_cookie
def runs_page(request: HttpRequest, project_id: int) -> HttpResponse:
    """All trainings; `compare`, given again for each, chooses those whose curves lie in the chart."""
    project = get_object_or_404(Project.objects.visible_to(request.user), pk=project_id)
    rows = [_row(run) for run in _runs(project).order_by("-pk")[:LISTED]]
    asked = {int(item) for item in request.GET.getlist("compare") if item.isdecimal()}
    with_curve = [row for row in rows if row["run"].curve]
    chosen = [row for row in with_curve if row["run"].pk in asked] or with_curve
    chosen = chosen[:COMPARED]
    for place, row in enumerate(chosen):
        row["colour"] = place
    context = {
        **_common(request, project),
        "rows": rows,
        "chosen": chosen,
        "compared": COMPARED,
        "chart": charts.training_curves([(row["name"], row["run"].curve) for row in chosen], "loss"),
        **_to_start(project),
        **searches.context(project),
    }
    is_running = context["search_open"] or any(row["is_open"] for row in rows)
    context["page_data"] = {"project_id": project.pk, "running": is_running}
    return render(request, "flywheel/runs.html", context)


@login_required
@require_GET
@ensure_csrf_cookie
def run_page(request: HttpRequest, project_id: int, run_id: int) -> HttpResponse:
    """One training: its curve while it goes on, its settings, what was told of it, and its figures."""
    project = get_object_or_404(Project.objects.visible_to(request.user), pk=project_id)
    run = get_object_or_404(_runs(project), pk=run_id)
    parts = sorted({name for point in run.curve for name in point} - NO_PART)
    card = _card(run)
    context = {
        **_common(request, project),
        "row": _row(run),
        "card": card,
        "config": sorted(run.config.items()),
        "chart": charts.training_curves(
            [
                (part, [{"step": p["step"], "loss": p[part]} for p in run.curve if part in p])
                for part in ("loss", *parts)
            ],
            "loss",
        ),
        "parts": [("loss", 0), *((part, place % charts.RUN_COLOURS) for place, part in enumerate(parts, 1))],
        "last": run.curve[-1] if run.curve else None,
        "points": [[point.get(name) for name in ("step", "lr", "loss", *parts)] for point in run.curve][
            -1::-20
        ][::-1],
        "page_data": {"project_id": project.pk, "running": state_of(run) in OPEN},
    }
    return render(request, "flywheel/run.html", context)


def _to_start(project: Project) -> dict[str, Any]:
    """What a training started now would have, if there is anything to train on."""
    snapshot = Snapshot.objects.filter(project=project).order_by("-pk").first()
    if snapshot is None:
        return {"can_start": False}
    try:
        usual = TRAINED_WITH | training.config_of(project, images=snapshot.images)
    except training.BadTrainingSettings:  # said where a training is asked for
        usual = TRAINED_WITH
    return {"can_start": True, "usual": usual}


OPEN: Final = {JobState.QUEUED.value, JobState.RUNNING.value}


def state_of(run: TrainingRun) -> str:
    return "" if run.job is None else run.job.state


def begun_by(run: TrainingRun) -> str:
    return "" if run.job is None or run.job.created_by is None else run.job.created_by.get_username()


def rounds_of(run: TrainingRun) -> list[int]:
    return sorted({turn.number for turn in [*run.rounds.all(), *run.controlled_rounds.all()]})


def _card(run: TrainingRun) -> dict[str, Any]:
    made = getattr(run, "model_version", None)
    return {} if made is None else dict(made.card)


def _runs(project: Project) -> "QuerySet[TrainingRun]":
    return _with_all(TrainingRun.objects.filter(project=project))


def _with_all(runs: "QuerySet[TrainingRun]") -> "QuerySet[TrainingRun]":
    return runs.select_related(
        "project", "snapshot", "job__created_by", "warm_start__project", "model_version"
    ).prefetch_related("rounds", "controlled_rounds")


def _run(request: Request, run_id: int, role: Role) -> TrainingRun:
    visible = TrainingRun.objects.filter(project__in=Project.objects.visible_to(request.user))
    run = get_object_or_404(_with_all(visible), pk=run_id)
    require(request, run.project, role)
    return run


def _row(run: TrainingRun) -> dict[str, Any]:
    card = _card(run)
    return {
        "run": run,
        "name": f"run {run.pk}",
        "state": state_of(run),
        "is_open": state_of(run) in OPEN,
        "begun_by": begun_by(run),
        "rounds": rounds_of(run),
        "is_control": bool(run.controlled_rounds.all()),
        "metrics": card.get("metrics", {}),
        "seconds": card.get("seconds"),
        "model": getattr(run, "model_version", None),
    }


def _common(request: HttpRequest, project: Project) -> dict[str, Any]:
    role = projects.role_of(project=project, user=request.user)  # type: ignore[arg-type]  # login_required
    return {
        "project": project,
        "may_manage": role is not None and role.may(Role.MANAGER),
        "may_review": role is not None and role.may(Role.REVIEWER),
    }
