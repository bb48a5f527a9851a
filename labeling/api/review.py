"""Reviews, objects sent back to their authors, cards about disputed objects, and the time that it all took."""

from datetime import date, timedelta
from typing import Any, Final

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from labeling import selectors
from labeling import shapes as label_shapes
from labeling.api import paging
from labeling.api import review_serializers as r
from labeling.api.errors import Refused
from labeling.api.permissions import card_for, project_for, require, return_for, task_for
from labeling.api.request import checked, person
from labeling.models import Annotation, Card, CardVerdict, Role, Task
from labeling.services import cards, clock, projects, reviews

DEFAULT_DAYS: Final = 30
MAX_DAYS: Final = 92


@extend_schema(request=r.ReviewNextSerializer, responses=r.NextReviewSerializer)
@api_view(["POST"])
def review_next(request: Request, project_id: int) -> Response:
    """Claims the riskiest task that waits for a reviewer; says why when there is none."""
    project = project_for(request, project_id, Role.REVIEWER)
    wanted = checked(r.ReviewNextSerializer, request)
    now, reviewer = clock.now(), person(request)
    task = reviews.claim_next(
        project=project,
        reviewer=reviewer,
        now=now,
        passed=wanted["passed"],
        with_disputed=wanted["with_disputed"],
    )
    empty = None if task else reviews.why_empty(project=project, reviewer=reviewer, now=now)
    return Response(
        {
            "review": None if task is None else r.ReviewSerializer(task).data,
            "empty": None if empty is None else r.ReviewEmptinessSerializer(empty).data,
        }
    )


@extend_schema(responses=r.ReviewSerializer)
@api_view(["GET"])
def task_review(request: Request, task_id: int) -> Response:
    """All that a reviewer looks at for one task, claimed or not."""
    return _sheet(task_for(request, task_id, Role.REVIEWER))


@extend_schema(request=r.AcceptSerializer, responses=r.ReviewSerializer)
@api_view(["POST"])
def review_accept(request: Request, task_id: int) -> Response:
    """Settles the task with its consensus as it is."""
    task = task_for(request, task_id, Role.REVIEWER)
    wanted = checked(r.AcceptSerializer, request)
    _require_for_gold(request, task, as_gold=wanted["as_gold"])
    reviews.accept(task=task, reviewer=person(request), now=clock.now(), **wanted)
    return _sheet(task)


@extend_schema(request=r.CorrectBodySerializer, responses=r.ReviewSerializer)
@api_view(["POST"])
def review_correct(request: Request, task_id: int) -> Response:
    """Settles the task with the reviewer's own shapes."""
    task = task_for(request, task_id, Role.REVIEWER)
    wanted = checked(r.CorrectSerializer, request)
    _require_for_gold(request, task, as_gold=wanted["as_gold"])
    shapes = label_shapes.parse_list(request.data.get("shapes"))
    reviews.correct(task=task, reviewer=person(request), shapes=shapes, now=clock.now(), **wanted)
    return _sheet(task)


@extend_schema(request=r.SendBackSerializer, responses={201: r.ReturnSerializer})
@api_view(["POST"])
def review_return(request: Request, task_id: int) -> Response:
    """Sends one object of one answer back to its author, with a comment."""
    task = task_for(request, task_id, Role.REVIEWER)
    wanted = checked(r.SendBackSerializer, request)
    annotation = get_object_or_404(Annotation, pk=wanted.pop("annotation"), task=task)
    sent = reviews.send_back(
        task=task, reviewer=person(request), annotation=annotation, now=clock.now(), **wanted
    )
    return Response(r.ReturnSerializer(sent).data, status=201)


@extend_schema(request=r.RejectSerializer, responses=r.ReviewSerializer)
@api_view(["POST"])
def review_reject(request: Request, task_id: int) -> Response:
    """Takes a picture that is of no use out of the work; its answers stay."""
    task = task_for(request, task_id, Role.REVIEWER)
    wanted = checked(r.RejectSerializer, request)
    _require_for_gold(request, task)
    reviews.reject(task=task, reviewer=person(request), now=clock.now(), **wanted)
    return _sheet(task)


@extend_schema(request=r.ReopenSerializer, responses=r.ReviewSerializer)
@api_view(["POST"])
def review_reopen(request: Request, task_id: int) -> Response:
    """Puts the task before the reviewers again, or back into the queue for one more answer or several."""
    task = task_for(request, task_id, Role.REVIEWER)
    wanted = checked(r.ReopenSerializer, request)
    reviews.reopen(task=task, reviewer=person(request), now=clock.now(), **wanted)
    return _sheet(task)


@extend_schema(request=None, responses={204: None})
@api_view(["POST"])
def review_release(request: Request, task_id: int) -> Response:
    """Gives a claimed task back undecided."""
    reviews.release(task=task_for(request, task_id, Role.REVIEWER), reviewer=person(request))
    return Response(status=204)


@extend_schema(responses=paging.page_of(r.ReturnSerializer), parameters=paging.PARAMETERS)
@api_view(["GET"])
def project_returns(request: Request, project_id: int) -> Response:
    """The objects that were sent back to the caller and wait for their correction."""
    project = project_for(request, project_id, Role.ANNOTATOR)
    rows = reviews.returned_to(project=project, author=person(request))
    return paging.respond(request, rows, r.ReturnSerializer)


@extend_schema(request=None, responses=r.LeasedAgainSerializer)
@api_view(["POST"])
def return_lease(request: Request, return_id: int) -> Response:
    """Leases the task of a returned object to its author again; `queue/next` then gives it with the others."""
    sent = return_for(request, return_id, Role.ANNOTATOR)
    lease = reviews.lease_again(sent=sent, now=clock.now())
    return Response(
        {
            "task_id": sent.task_id,
            "shape_id": sent.shape_id,
            "lease": {"token": lease.token, "expires_at": lease.expires_at.isoformat()},
        }
    )


@extend_schema(request=r.CardsNextSerializer, responses=r.CardsSerializer)
@api_view(["POST"])
def cards_next(request: Request, project_id: int) -> Response:
    """Claims a handful of yes-or-no questions about disputed objects of tasks that the caller has not answered."""
    project = project_for(request, project_id, Role.ANNOTATOR)
    count = checked(r.CardsNextSerializer, request)["count"]
    now = clock.now()
    asked = cards.claim(project=project, user=person(request), count=count, now=now)
    names = {item.id: item.name for item in projects.current_schema(project).schema.classes}
    until = now + timedelta(seconds=project.lease_seconds)
    return Response(
        {
            "cards": [r.card_as_asked(card, names) for card in asked],
            "expires_at": until.isoformat() if asked else None,
        }
    )


@extend_schema(request=r.CardVerdictSerializer, responses=r.CardAnsweredSerializer)
@api_view(["POST"])
def card_answer(request: Request, card_id: int) -> Response:
    """Says whether the object is there; the same again is no error."""
    card = card_for(request, card_id, Role.ANNOTATOR)
    wanted = checked(r.CardVerdictSerializer, request)
    given = cards.answer(
        card=card,
        user=person(request),
        verdict=CardVerdict(wanted["verdict"]),
        seconds_active=wanted["seconds_active"],
        now=clock.now(),
    )
    return Response({"id": card.pk, "verdict": given.verdict})


@extend_schema(responses=paging.page_of(r.ReviewedCardSerializer), parameters=paging.PARAMETERS)
@api_view(["GET"])
def task_cards(request: Request, task_id: int) -> Response:
    """The disputed objects of a task, and what people said about them."""
    task = task_for(request, task_id, Role.REVIEWER)
    return paging.respond(request, Card.objects.filter(task=task), r.ReviewedCardSerializer)


@extend_schema(
    responses=r.TimeSerializer,
    parameters=[
        OpenApiParameter("until", date, description="The last day, UTC; today by default."),
        OpenApiParameter("days", int, description=f"1 to {MAX_DAYS}, {DEFAULT_DAYS} by default."),
    ],
)
@api_view(["GET"])
def project_time(request: Request, project_id: int) -> Response:
    """How long each person worked on each day, newest first."""
    project = project_for(request, project_id, Role.MANAGER)
    last, days = _until(request), _days(request)
    first = last - timedelta(days=days - 1)
    items = selectors.time_spent(project, first=first, last=last)
    before = first - timedelta(days=1)
    more = before >= project.created_at.date()
    body = {"items": items, "next": before if more else None}
    return Response(r.TimeSerializer(body).data)


def _until(request: Request) -> date:
    asked = request.query_params.get("until", "")
    if not asked:
        return clock.now().date()
    try:
        day = date.fromisoformat(asked)
    except ValueError:
        raise Refused("invalid", "must be a day like 2026-03-01", param="until") from None
    if not 2000 <= day.year <= 9000:
        raise Refused("invalid", "must be a day of this millennium", param="until")
    return day


def _days(request: Request) -> int:
    asked = request.query_params.get("days", "")
    number = asked.isascii() and asked.isdecimal() and len(asked) < 10
    return min(max(int(asked), 1), MAX_DAYS) if number else DEFAULT_DAYS


def _require_for_gold(request: Request, task: Task, *, as_gold: bool = False) -> None:
    """Gold measures everybody: making it and changing it takes a manager."""
    if as_gold or task.is_gold:
        require(request, task.project, Role.MANAGER)


def _sheet(task: Task) -> Response:
    task = Task.objects.select_related("project", "image", "consensus", "reviewer").get(pk=task.pk)
    data: Any = r.ReviewSerializer(task).data
    return Response(data)
