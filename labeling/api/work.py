"""The queue and the tasks in it: leases, drafts, answers."""

from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from labeling import shapes as label_shapes
from labeling.api import paging
from labeling.api import serializers as s
from labeling.api.errors import Refused
from labeling.api.permissions import lease_for, may, project_for, task_alone_for, task_for
from labeling.api.request import checked, person
from labeling.models import (
    Annotation,
    Reason,
    Role,
    Task,
    TaskState,
)
from labeling.services import (
    annotations,
    clock,
    pictures,
    predictions,
    projects,
    queue,
)


@extend_schema(request=s.NextSerializer, responses=s.LeasesSerializer)
@api_view(["POST"])
def queue_next(request: Request, project_id: int) -> Response:
    """Leases the most urgent tasks that the caller may answer; says why when there are none."""
    project = project_for(request, project_id, Role.ANNOTATOR)
    count = checked(s.NextSerializer, request)["count"]
    user = person(request)
    leases = queue.lease_next(project=project, user=user, count=count, now=clock.now())
    version = projects.current_schema(project)
    empty = None if leases else queue.why_empty(project=project, user=user)
    return Response(
        {
            "leases": s.leased_all(leases, version=version),
            "empty": None if empty is None else s.EmptinessSerializer(empty).data,
            "schema_version": version.number,
            "schema": version.definition,
        }
    )


@extend_schema(request=s.LeaseTokenSerializer, responses=s.LeaseSerializer)
@api_view(["POST"])
def task_heartbeat(request: Request, task_id: int) -> Response:
    task = task_for(request, task_id, Role.ANNOTATOR)
    token = checked(s.LeaseTokenSerializer, request)["token"]
    until = queue.heartbeat(task=task, user=person(request), token=token, now=clock.now())
    return Response({"token": token, "expires_at": until.isoformat()})


@extend_schema(request=s.LeaseTokenSerializer, responses={204: None})
@api_view(["POST"])
def task_release(request: Request, task_id: int) -> Response:
    task = task_for(request, task_id, Role.ANNOTATOR)
    token = checked(s.LeaseTokenSerializer, request)["token"]
    queue.release(task=task, user=person(request), token=token)
    return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(request=s.SkipSerializer, responses={204: None})
@api_view(["POST"])
def task_skip(request: Request, task_id: int) -> Response:
    task = task_for(request, task_id, Role.ANNOTATOR)
    wanted = checked(s.SkipSerializer, request)
    queue.skip(task=task, user=person(request), token=wanted["token"], reason=wanted["reason"])
    return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(request=s.DraftSerializer, responses=s.SavedDraftSerializer)
@api_view(["PUT"])
def task_draft(request: Request, task_id: int) -> Response:
    """Keeps unsubmitted work, also when its lease ran out; only its author ever sees it."""
    task = task_for(request, task_id, Role.ANNOTATOR)
    envelope = checked(s.DraftEnvelopeSerializer, request)
    shapes = annotations.parse(
        task=task, raw=request.data.get("shapes"), drawn_under=envelope.get("schema_version")
    )
    draft, newer = annotations.save_draft(
        task=task,
        user=person(request),
        shapes=shapes,
        tab=envelope["tab"],
        sequence=envelope["sequence"],
        now=clock.now(),
    )
    told = None if newer is None else {"tab": newer.tab, "saved_at": newer.saved_at.isoformat()}
    return Response({"shapes": draft.shapes, "saved_at": draft.saved_at.isoformat(), "newer": told})


@extend_schema(responses=paging.page_of(s.HeldTaskSerializer))
@api_view(["GET"])
def lease_list(request: Request, project_id: int) -> Response:
    """Who holds what until when."""
    project = project_for(request, project_id, Role.MANAGER)
    rows = queue.leases_of(project).select_related("task", "user")
    return paging.respond(request, rows, s.HeldTaskSerializer)


@extend_schema(responses={204: None})
@api_view(["DELETE"])
def lease_detail(request: Request, lease_id: int) -> Response:
    """Takes a task back from whoever holds it; what they draw can still be submitted."""
    lease = lease_for(request, lease_id, Role.MANAGER)
    queue.release_by_manager(lease=lease, actor=person(request))
    return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(request=s.PrioritiseSerializer, responses=s.PrioritisedSerializer)
@api_view(["POST"])
def tasks_prioritise(request: Request, project_id: int) -> Response:
    """Puts tasks that wait for answers to the front of the queue, by hand."""
    project = project_for(request, project_id, Role.MANAGER)
    wanted = checked(s.PrioritiseSerializer, request)
    moved = predictions.prioritise_by_hand(
        project=project, task_ids=wanted["task_ids"], priority=wanted["priority"], actor=person(request)
    )
    return Response({"moved": moved})


@extend_schema(
    responses=paging.page_of(s.TaskSerializer),
    parameters=[*paging.PARAMETERS, OpenApiParameter("state", str, enum=TaskState.values)],
)
@api_view(["GET"])
def task_list(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.REVIEWER)
    rows = Task.objects.filter(project=project).select_related("image")
    state = request.query_params.get("state", "")
    if state:
        if state not in TaskState.values:
            raise Refused("invalid", f"must be one of {', '.join(TaskState.values)}", param="state")
        rows = rows.filter(state=state)
    return paging.respond(request, rows, s.TaskSerializer)


@extend_schema(responses=s.TaskDetailSerializer)
@api_view(["GET"])
def task_detail(request: Request, task_id: int) -> Response:
    task = task_for(request, task_id, Role.ANNOTATOR)
    reviewing = may(request, task.project, Role.REVIEWER)
    body: dict[str, Any] = dict(s.TaskSerializer(task).data)
    body["annotations"] = [s.AnnotationSerializer(answer).data for answer in _answers(request, task)]
    body["consensus"] = (
        s.ConsensusSerializer(task.consensus).data if reviewing and task.consensus is not None else None
    )
    if not reviewing:
        # What others did with it is not told of any task: of gold, which is hidden among them, it would be odd.
        own = len(body["annotations"])
        body |= {"is_gold": False, "risk": None, "priority": 0.0, "reason": Reason.AGE, "slots": 0}
        body |= {"state": TaskState.IN_PROGRESS if own else TaskState.QUEUED, "answers": own}
    return Response(body)


@extend_schema(
    methods=["GET"], responses=paging.page_of(s.AnnotationSerializer), operation_id="tasks_annotations_list"
)
@extend_schema(methods=["POST"], request=s.SubmitBodySerializer, responses={201: s.SubmittedSerializer})
@api_view(["GET", "POST"])
def task_annotations(request: Request, task_id: int) -> Response:
    """One's own answer (all answers for a reviewer), or the submit of one."""
    task = task_alone_for(request, task_id, Role.ANNOTATOR)
    if request.method == "GET":
        items = [s.AnnotationSerializer(answer).data for answer in _answers(request, task)]
        return Response({"items": items, "next": None})
    wanted = checked(s.SubmitSerializer, request)
    response = annotations.submit(
        task=task,
        author=person(request),
        key=wanted["key"],
        shapes=label_shapes.parse_list(request.data.get("shapes")),
        base_revision=wanted["base_revision"],
        seconds_active=wanted["seconds_active"],
        suggestions_from=wanted["suggestions_from"] or "",
        lease_token=wanted["lease_token"],
        schema_version=wanted.get("schema_version"),
        tab=wanted["tab"],
        now=clock.now(),
    )
    return Response(response, status=status.HTTP_201_CREATED)


@extend_schema(request=s.WithdrawSerializer, responses=s.WithdrawnSerializer)
@api_view(["POST"])
def task_withdraw(request: Request, task_id: int) -> Response:
    """Takes one's own answer back: kept, but counted no more."""
    task = task_for(request, task_id, Role.ANNOTATOR)
    base_revision = checked(s.WithdrawSerializer, request)["base_revision"]
    response = annotations.withdraw(
        task=task, author=person(request), base_revision=base_revision, now=clock.now()
    )
    return Response(response)


@extend_schema(responses=s.ConsensusSerializer)
@api_view(["GET"])
def task_consensus(request: Request, task_id: int) -> Response:
    task = task_for(request, task_id, Role.REVIEWER)
    if task.consensus is None:
        raise Refused("not_settled", "This task has no consensus yet.", http_status=404)
    return Response(s.ConsensusSerializer(task.consensus).data)


@extend_schema(responses={(200, "image/jpeg"): OpenApiTypes.BINARY})
@api_view(["GET"])
def task_image(request: Request, task_id: int, tier: str) -> HttpResponse:
    """The task's picture as JPEG, its longest side at most `tier` pixels."""
    task = task_for(request, task_id, Role.VIEWER)
    if tier not in pictures.TIERS:
        raise Refused("not_found", f"tiers are {', '.join(pictures.TIERS)}", http_status=404)
    etag = f'"{task.image.sha256}-{tier}"'
    if request.headers.get("If-None-Match") == etag:
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(pictures.tier_bytes(task.image, tier), content_type="image/jpeg")
    response["ETag"] = etag
    response["Cache-Control"] = "private, max-age=86400, immutable"
    return response


def _answers(request: Request, task: Task) -> list[Annotation]:
    """All current answers for a reviewer, for anybody else only their own."""
    rows = Annotation.objects.filter(task=task, is_current=True).select_related("author")
    if not may(request, task.project, Role.REVIEWER):
        rows = rows.filter(author_id=request.user.pk)
    return list(rows.order_by("created_at"))
