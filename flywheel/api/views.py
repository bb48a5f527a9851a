"""The wheel's operations: rounds, models, the curve; and the page that shows them."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from flywheel import selectors
from flywheel.api import charts
from flywheel.api import serializers as s
from flywheel.models import OPEN_STATUSES, ModelVersion, Round, RoundStatus
from flywheel.services import promotion, rounds
from labeling.api import paging
from labeling.api.errors import Refused
from labeling.api.permissions import project_for, require
from labeling.models import Project, Role
from labeling.services import projects


@extend_schema(responses=paging.page_of(s.RoundSerializer), parameters=paging.PARAMETERS)
@api_view(["GET"])
def round_list(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.VIEWER)
    rows = Round.objects.filter(project=project).select_related("project", "snapshot", "job", "model_version")
    return paging.respond(request, rows, s.RoundSerializer, newest_first=True)


@extend_schema(request=None, responses=s.RoundSerializer)
@api_view(["POST"])
def round_start(request: Request, project_id: int) -> Response:
    """Trains now on what is settled, instead of waiting for more labels."""
    project = project_for(request, project_id, Role.MANAGER)
    turn = rounds.start(project=project, actor=_person(request), now=timezone.now())
    rounds.nudge()
    return Response(s.RoundSerializer(turn).data)


@extend_schema(request=None, responses=s.RoundSerializer)
@api_view(["POST"])
def round_cancel(request: Request, round_id: int) -> Response:
    turn = get_object_or_404(
        Round.objects.visible_to(request.user).select_related("project", "job"), pk=round_id
    )
    require(request, turn.project, Role.MANAGER)
    try:
        rounds.cancel(turn=turn, actor=_person(request), now=timezone.now())
    except rounds.NoOpenRound as error:
        raise Refused("round_ended", str(error), http_status=409) from None
    turn.refresh_from_db()
    return Response(s.RoundSerializer(turn).data)


@extend_schema(responses=paging.page_of(s.ModelSerializer), parameters=paging.PARAMETERS)
@api_view(["GET"])
def model_list(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.VIEWER)
    rows = ModelVersion.objects.filter(project=project).select_related("run__snapshot")
    return paging.respond(request, rows, s.ModelSerializer, newest_first=True)


@extend_schema(request=None, responses=s.ModelSerializer)
@api_view(["POST"])
def model_promote(request: Request, model_id: int) -> Response:
    """Makes a model the champion by decree, whatever the gate said."""
    model = get_object_or_404(
        ModelVersion.objects.select_related("project", "run__snapshot"),
        pk=model_id,
        project__in=Project.objects.visible_to(request.user),
    )
    require(request, model.project, Role.MANAGER)
    promotion.promote(model=model, actor=_person(request), now=timezone.now())
    model.refresh_from_db()
    return Response(s.ModelSerializer(model).data)


@extend_schema(request=s.RollBackSerializer, responses=s.ModelSerializer)
@api_view(["POST"])
def roll_back(request: Request, project_id: int) -> Response:
    """Brings the previous champion and its suggestions back.

    With `champion`, the id of the model to be rid of, a second click answers 409 instead of going back twice.
    """
    project = project_for(request, project_id, Role.MANAGER)
    asked = s.RollBackSerializer(data=request.data)
    asked.is_valid(raise_exception=True)
    try:
        model = promotion.roll_back(
            project=project,
            actor=_person(request),
            now=timezone.now(),
            seen=asked.validated_data.get("champion"),
        )
    except promotion.ChampionChanged as error:
        raise Refused("champion_changed", str(error), param="champion", http_status=409) from None
    except promotion.NothingToGoBackTo as error:
        raise Refused("no_earlier_champion", str(error), http_status=409) from None
    return Response(s.ModelSerializer(model).data)


@extend_schema(responses=s.CurveSerializer)
@api_view(["GET"])
def curve(request: Request, project_id: int) -> Response:
    """Quality on gold against labelled pictures, round by round, with the random slice beside it."""
    project = project_for(request, project_id, Role.VIEWER)
    return Response(s.CurveSerializer({"points": selectors.curve(project)}).data)


@login_required
@require_GET
@ensure_csrf_cookie
def rounds_page(request: HttpRequest, project_id: int) -> HttpResponse:
    project = get_object_or_404(Project.objects.visible_to(request.user), pk=project_id)
    role = projects.role_of(project=project, user=request.user)  # type: ignore[arg-type]  # login_required
    turns = Round.objects.filter(project=project).select_related(
        "project", "snapshot", "job", "model_version"
    )
    rows = [_row(turn) for turn in turns.order_by("-number")[:50]]
    current = rows[0] if rows and rows[0]["round"].status in OPEN_STATUSES else None
    collecting = current is None or current["round"].status == RoundStatus.COLLECTING
    models = ModelVersion.objects.filter(project=project).select_related("run__snapshot")
    champion = selectors.champion(project)
    evaluation = None if champion is None else selectors.latest_evaluation(champion)
    context = {
        "project": project,
        "may_manage": role is not None and role.may(Role.MANAGER),
        "may_review": role is not None and role.may(Role.REVIEWER),
        "chart": charts.quality_against_labels(selectors.curve(project)),
        "on_gold": evaluation is None or evaluation.metrics.get("split") == "gold",
        "current": current,
        "collecting": collecting,
        "automatic": project.round_settings.get("automatic", True),
        "rounds": rows,
        "models": models.order_by("-number")[:50],
        "champion": champion,
        "may_roll_back": selectors.previous_champion(project) is not None,
        "page_data": {"project_id": project.pk, "running": not collecting},
    }
    return render(request, "flywheel/rounds.html", context)


def _row(turn: Round) -> dict[str, Any]:
    share = turn.metrics.get("collection", {}).get("accepted_share")
    return {
        "round": turn,
        "new_labels": rounds.new_labels(turn),
        "metrics": turn.metrics,
        "accepted_percent": "" if share is None else f"{100 * share:.0f} %",
    }


def _person(request: Request) -> Any:
    """The logged-in user: every view here needs one (the default permission)."""
    return request.user
