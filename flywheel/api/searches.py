"""Searches for better training settings: started, followed, stopped, and their best trial's settings taken over."""

from typing import Any, Final

from django.db.models import Prefetch, QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from flywheel.models import Search, Snapshot, Trial
from flywheel.services import promotion, rounds, searches
from labeling.api import paging
from labeling.api.errors import Refused
from labeling.api.permissions import project_for, require
from labeling.api.request import checked, person
from labeling.models import Project, Role

LISTED: Final = 3
"""Searches on the page, the newest first."""
ROWS: Final = 30
"""Trials of each on the page, the best first."""


class TrialSerializer(serializers.Serializer[Trial]):
    id = serializers.IntegerField()
    number = serializers.IntegerField()
    run = serializers.IntegerField(source="run_id")
    state = serializers.SerializerMethodField(help_text="Of its run's job, or `stopped` on a rung.")
    settings = serializers.DictField()
    rungs = serializers.DictField(help_text="Step → the metric there.")
    value = serializers.SerializerMethodField(
        "measured", help_text="The metric of the finished model, or null."
    )

    def get_state(self, trial: Trial) -> str:
        return state_of(trial)

    def measured(self, trial: Trial) -> float | None:
        return searches.value_of(trial)


class SearchSerializer(serializers.Serializer[Search]):
    id = serializers.IntegerField()
    snapshot = serializers.CharField(source="snapshot.version")
    metric = serializers.CharField(help_text="Of the snapshot's validation pictures; larger is better.")
    space = serializers.DictField()
    wanted = serializers.IntegerField(help_text="How many trials.")
    at_once = serializers.IntegerField()
    reason = serializers.CharField(help_text="Why it ended early, or empty.")
    trials = TrialSerializer(many=True)
    best = serializers.SerializerMethodField(help_text="The id of the best finished trial, or null.")
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_best(self, search: Search) -> int | None:
        found = searches.best(list(search.trials.all()))
        return None if found is None else found.pk


@extend_schema_field({"oneOf": [{"type": "array", "items": {"type": "string"}}, {"type": "object"}]})
class SpaceField(serializers.Field[Any, Any, Any, Any]):
    """Names of settings, or an object of each with its own bounds or choices."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, list) and all(isinstance(name, str) for name in data):
            return {name: {} for name in data}
        if isinstance(data, dict):
            return data
        raise serializers.ValidationError("must be a list of settings, or an object of them")


class StartSearchSerializer(serializers.Serializer[Any]):
    trials = serializers.IntegerField(min_value=1, max_value=searches.MOST_TRIALS)
    at_once = serializers.IntegerField(min_value=1, max_value=searches.MOST_AT_ONCE, default=1)
    space = SpaceField(required=False)
    snapshot = serializers.CharField(
        required=False, help_text="Its version; the project's newest if none is named."
    )


@extend_schema(methods=["GET"], responses=paging.page_of(SearchSerializer), parameters=paging.PARAMETERS)
@extend_schema(methods=["POST"], request=StartSearchSerializer, responses={202: SearchSerializer})
@api_view(["GET", "POST"])
def search_list(request: Request, project_id: int) -> Response:
    """The project's searches; or a new one, of which one at a time goes on."""
    if request.method == "GET":
        project = project_for(request, project_id, Role.VIEWER)
        return paging.respond(request, _with_all(project.searches.all()), SearchSerializer, newest_first=True)
    project = project_for(request, project_id, Role.MANAGER)
    asked = checked(StartSearchSerializer, request)
    snapshots = Snapshot.objects.filter(project=project)
    if "snapshot" in asked:
        snapshots = snapshots.filter(version=asked["snapshot"])
    snapshot = snapshots.order_by("-pk").first()
    if snapshot is None:
        raise Refused("no_snapshot", "The project has no such snapshot.", param="snapshot")
    try:
        search = searches.start(
            project=project,
            snapshot=snapshot,
            trials=asked["trials"],
            at_once=asked["at_once"],
            space=asked.get("space"),
            actor=person(request),
        )
    except searches.CannotSearch as error:
        raise Refused("cannot_search", str(error)) from None
    rounds.nudge()
    return Response(SearchSerializer(search).data, status=status.HTTP_202_ACCEPTED)


@extend_schema(responses=SearchSerializer)
@api_view(["GET"])
def search_detail(request: Request, search_id: int) -> Response:
    return Response(SearchSerializer(_search(request, search_id, Role.VIEWER)).data)


@extend_schema(request=None, responses=SearchSerializer)
@api_view(["POST"])
def search_cancel(request: Request, search_id: int) -> Response:
    """Ends a search and the trials that go on. One that has ended stays as it is."""
    search = _search(request, search_id, Role.MANAGER)
    searches.cancel(search=search, now=timezone.now(), actor=person(request))
    return Response(SearchSerializer(_search(request, search_id, Role.MANAGER)).data)


@extend_schema(request=None, responses=TrialSerializer)
@api_view(["POST"])
def trial_use(request: Request, trial_id: int) -> Response:
    """Makes the trial's settings the project's own: the next round trains with them, and its gate decides."""
    visible = Trial.objects.filter(search__project__in=Project.objects.visible_to(request.user))
    trial = get_object_or_404(_full(visible), pk=trial_id)
    require(request, trial.search.project, Role.MANAGER)
    searches.use(trial=trial, actor=person(request))
    return Response(TrialSerializer(trial).data)


def state_of(trial: Trial) -> str:
    if trial.pruned:
        return "stopped"
    return "" if trial.run.job is None else trial.run.job.state


def context(project: Project) -> dict[str, Any]:
    """What the Runs page shows of the project's searches."""
    shown = [_shown(search) for search in _with_all(project.searches.all()).order_by("-pk")[:LISTED]]
    return {
        "searches": shown,
        "search_open": any(item["search"].finished_at is None for item in shown),
        "searchable": [(name, name in searches.USUAL) for name in searches.SPACE],
    }


def _shown(search: Search) -> dict[str, Any]:
    trials = list(search.trials.all())
    best = searches.best(trials)
    names = list(search.space)
    rows = [
        {
            "trial": trial,
            "state": state_of(trial),
            "is_best": trial == best,
            "value": value,
            "values": [_written(trial.settings[name]) for name in names],
            "usable": value is not None,
        }
        for trial in sorted(trials, key=_place)
        for value in [searches.value_of(trial)]
    ]
    return {
        "search": search,
        "names": names,
        "metric": promotion.METRICS[search.metric],  # type: ignore[index]  # written by `searches.start`
        "ended": sum(not searches.is_open(trial) for trial in trials),
        "rows": rows[:ROWS],
        "left": len(rows[ROWS:]),
    }


def _place(trial: Trial) -> tuple[bool, float, int]:
    """The best first, then those without a figure; each in their order."""
    value = searches.value_of(trial)
    return value is None, -(value or 0.0), trial.number


def _written(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _search(request: Request, search_id: int, role: Role) -> Search:
    visible = Search.objects.filter(project__in=Project.objects.visible_to(request.user))
    search = get_object_or_404(_with_all(visible), pk=search_id)
    require(request, search.project, role)
    return search


def _with_all(found: "QuerySet[Search]") -> "QuerySet[Search]":
    trials = _full(Trial.objects.order_by("number"))
    return found.select_related("project", "snapshot").prefetch_related(Prefetch("trials", queryset=trials))


def _full(trials: "QuerySet[Trial]") -> "QuerySet[Trial]":
    return trials.select_related("search__project", "run__job", "run__model_version")
