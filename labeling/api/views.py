"""One short view per operation: parse, one domain call, translate."""

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.decorators import api_view, parser_classes
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from labeling import schema as label_schema
from labeling import selectors, storage
from labeling import shapes as label_shapes
from labeling.api import paging
from labeling.api import serializers as s
from labeling.api.errors import Refused
from labeling.api.permissions import job_for, may, project_for, task_for
from labeling.models import (
    Annotation,
    ApiToken,
    Event,
    Job,
    Membership,
    Project,
    Reason,
    Role,
    Skill,
    Task,
    TaskState,
)
from labeling.services import (
    accounts,
    annotations,
    exports,
    imports,
    jobs,
    pictures,
    projects,
    queue,
)


@extend_schema(responses=s.MeSerializer)
@api_view(["GET"])
def me(request: Request) -> Response:
    user = request.user
    return Response({"id": user.pk, "username": user.get_username(), "is_staff": user.is_staff})


@extend_schema(methods=["GET"], responses=paging.page_of(s.TokenSerializer), parameters=paging.PARAMETERS)
@extend_schema(methods=["POST"], request=s.NewTokenSerializer, responses={201: s.MadeTokenSerializer})
@api_view(["GET", "POST"])
def tokens(request: Request) -> Response:
    """One's own programs' tokens."""
    if request.method == "GET":
        return paging.respond(request, ApiToken.objects.filter(user=_person(request)), s.TokenSerializer)
    wanted = _checked(s.NewTokenSerializer, request)
    token, secret = accounts.make_token(user=_person(request), name=wanted["name"])
    body = {**s.TokenSerializer(token).data, "token": secret}
    return Response(body, status=status.HTTP_201_CREATED)


@extend_schema(responses={204: None})
@api_view(["DELETE"])
def token(request: Request, token_id: int) -> Response:
    get_object_or_404(ApiToken, pk=token_id, user_id=request.user.pk).delete()
    return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(
    methods=["GET"],
    responses=paging.page_of(s.ProjectSerializer),
    parameters=paging.PARAMETERS,
    operation_id="projects_list",
)
@extend_schema(methods=["POST"], request=s.NewProjectSerializer, responses={201: s.ProjectSerializer})
@api_view(["GET", "POST"])
def project_list(request: Request) -> Response:
    """The projects one is a member of; a new one belongs to whoever makes it."""
    if request.method == "GET":
        return paging.respond(request, Project.objects.visible_to(request.user), s.ProjectSerializer)
    wanted = _checked(s.NewProjectSerializer, request)
    wanted.pop("schema")
    schema = label_schema.parse(request.data["schema"])
    project = projects.create(schema=schema, owner=_person(request), **wanted)
    body = s.ProjectSerializer(project, context={"request": request}).data
    return Response(body, status=status.HTTP_201_CREATED)


@extend_schema(methods=["GET"], responses=s.ProjectSerializer)
@extend_schema(methods=["PATCH"], request=s.ProjectSettingsSerializer, responses=s.ProjectSerializer)
@api_view(["GET", "PATCH"])
def project_detail(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.VIEWER if request.method == "GET" else Role.MANAGER)
    if request.method == "PATCH":
        changes = _checked(s.ProjectSettingsSerializer, request, partial=True)
        project = projects.change(project=project, changes=changes, actor=_person(request))
    return Response(s.ProjectSerializer(project, context={"request": request}).data)


@extend_schema(request=s.SaveSchemaSerializer, responses=s.ProjectSerializer)
@api_view(["PUT"])
def project_schema(request: Request, project_id: int) -> Response:
    """Saves the next version of what the project labels."""
    project = project_for(request, project_id, Role.MANAGER)
    wanted = _checked(s.SaveSchemaSerializer, request)
    projects.save_schema(
        project=project,
        schema=label_schema.parse(request.data["schema"]),
        base_version=wanted["base_version"],
        actor=_person(request),
    )
    return Response(s.ProjectSerializer(project, context={"request": request}).data)


@extend_schema(methods=["GET"], responses=paging.page_of(s.MemberSerializer), parameters=paging.PARAMETERS)
@extend_schema(methods=["POST"], request=s.MemberSerializer, responses={201: s.MemberSerializer})
@api_view(["GET", "POST"])
def members(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.VIEWER if request.method == "GET" else Role.MANAGER)
    if request.method == "GET":
        rows = Membership.objects.filter(project=project).select_related("user")
        return paging.respond(request, rows, s.MemberSerializer)
    wanted = _checked(s.MemberSerializer, request)
    role = Role(wanted["role"])
    if not may(request, project, Role.OWNER):
        if role == Role.OWNER:
            raise Refused("forbidden", "Only an owner makes owners.", param="role", http_status=403)
        username = wanted["user"]["username"]
        if Membership.objects.filter(project=project, user__username=username, role=Role.OWNER).exists():
            raise Refused("forbidden", "Only an owner changes an owner's role.", http_status=403)
    member = projects.set_member(
        project=project, username=wanted["user"]["username"], role=role, actor=_person(request)
    )
    return Response(s.MemberSerializer(member).data, status=status.HTTP_201_CREATED)


@extend_schema(responses={204: None})
@api_view(["DELETE"])
def member(request: Request, project_id: int, user_id: int) -> Response:
    project = project_for(request, project_id, Role.MANAGER)
    membership = get_object_or_404(Membership, project=project, user__id=user_id)
    if membership.role == Role.OWNER and not may(request, project, Role.OWNER):
        raise Refused("forbidden", "Only an owner removes owners.", http_status=403)
    projects.remove_member(member=membership, actor=_person(request))
    return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(request={"multipart/form-data": s.ImportSerializer}, responses=s.ImportReportSerializer)
@api_view(["POST"])
@parser_classes([MultiPartParser])
def import_files(request: Request, project_id: int) -> Response:
    """Pictures, and with them labels in COCO, VOC or DeepLabCut's CSV; the same files twice add nothing."""
    project = project_for(request, project_id, Role.MANAGER)
    if int(request.headers.get("Content-Length") or 0) > settings.MAX_UPLOAD_BYTES:
        told = f"send at most {settings.MAX_UPLOAD_BYTES:,} bytes at once, the rest in another request"
        raise Refused("too_large", told, http_status=413)
    files = request.FILES.getlist("files")
    if not files:
        raise Refused("no_files", "Send at least one file in the field “files”.", param="files")
    paths = request.POST.getlist("paths") or [file.name or "" for file in files]
    if len(paths) != len(files):
        raise Refused("invalid", f"{len(files)} files came with {len(paths)} paths", param="paths")
    labels_as = request.data.get("labels_as", "settled")
    if labels_as not in imports.LABELS_AS:
        raise Refused("invalid", f"must be one of {', '.join(imports.LABELS_AS)}", param="labels_as")
    report = imports.import_uploads(
        project=project,
        files=list(zip(paths, files, strict=True)),
        labels_as=labels_as,
        add_classes=request.data.get("add_classes", "") in ("true", "1", "on"),
        actor=_person(request),
    )
    return Response(s.ImportReportSerializer(report).data)


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


@extend_schema(request=s.NextSerializer, responses=s.LeasesSerializer)
@api_view(["POST"])
def queue_next(request: Request, project_id: int) -> Response:
    """Leases the most urgent tasks that the caller may answer; says why when there are none."""
    project = project_for(request, project_id, Role.ANNOTATOR)
    count = _checked(s.NextSerializer, request)["count"]
    user = _person(request)
    leases = queue.lease_next(project=project, user=user, count=count, now=timezone.now())
    for lease in leases:
        lease.task.project = project
    version = projects.current_schema(project)
    empty = None if leases else queue.why_empty(project=project, user=user)
    return Response(
        {
            "leases": [s.leased(lease) for lease in leases],
            "empty": None if empty is None else s.EmptinessSerializer(empty).data,
            "schema_version": version.number,
            "schema": version.definition,
        }
    )


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
        body |= {"is_gold": False, "risk": None, "priority": 0.0, "reason": Reason.AGE}
        if task.is_gold:  # hidden among the rest
            body |= {"state": TaskState.QUEUED, "answers": len(body["annotations"])}
    return Response(body)


@extend_schema(
    methods=["GET"], responses=paging.page_of(s.AnnotationSerializer), operation_id="tasks_annotations_list"
)
@extend_schema(methods=["POST"], request=s.SubmitBodySerializer, responses={201: s.SubmittedSerializer})
@api_view(["GET", "POST"])
def task_annotations(request: Request, task_id: int) -> Response:
    """One's own answer (all answers for a reviewer), or the submit of one."""
    task = task_for(request, task_id, Role.ANNOTATOR)
    if request.method == "GET":
        items = [s.AnnotationSerializer(answer).data for answer in _answers(request, task)]
        return Response({"items": items, "next": None})
    wanted = _checked(s.SubmitSerializer, request)
    response = annotations.submit(
        task=task,
        author=_person(request),
        key=wanted["key"],
        shapes=label_shapes.parse_list(request.data.get("shapes")),
        base_revision=wanted["base_revision"],
        seconds_active=wanted["seconds_active"],
        suggestions_from=wanted["suggestions_from"] or "",
        now=timezone.now(),
    )
    return Response(response, status=status.HTTP_201_CREATED)


@extend_schema(responses=s.ConsensusSerializer)
@api_view(["GET"])
def task_consensus(request: Request, task_id: int) -> Response:
    task = task_for(request, task_id, Role.REVIEWER)
    if task.consensus is None:
        raise Refused("not_settled", "This task has no consensus yet.", http_status=404)
    return Response(s.ConsensusSerializer(task.consensus).data)


@extend_schema(request=s.LeaseTokenSerializer, responses=s.LeaseSerializer)
@api_view(["POST"])
def task_heartbeat(request: Request, task_id: int) -> Response:
    task = task_for(request, task_id, Role.ANNOTATOR)
    token = _checked(s.LeaseTokenSerializer, request)["token"]
    until = queue.heartbeat(task=task, user=_person(request), token=token, now=timezone.now())
    return Response({"token": token, "expires_at": until.isoformat()})


@extend_schema(request=s.LeaseTokenSerializer, responses={204: None})
@api_view(["POST"])
def task_release(request: Request, task_id: int) -> Response:
    task = task_for(request, task_id, Role.ANNOTATOR)
    token = _checked(s.LeaseTokenSerializer, request)["token"]
    queue.release(task=task, user=_person(request), token=token)
    return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(request=s.SkipSerializer, responses={204: None})
@api_view(["POST"])
def task_skip(request: Request, task_id: int) -> Response:
    task = task_for(request, task_id, Role.ANNOTATOR)
    wanted = _checked(s.SkipSerializer, request)
    queue.skip(task=task, user=_person(request), token=wanted["token"], reason=wanted["reason"])
    return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(request=s.DraftSerializer, responses=s.StoredDraftSerializer)
@api_view(["PUT"])
def task_draft(request: Request, task_id: int) -> Response:
    task = task_for(request, task_id, Role.ANNOTATOR)
    tab = _checked(s.DraftEnvelopeSerializer, request)["tab"]
    shapes = annotations.parse(task=task, raw=request.data.get("shapes"))
    draft = annotations.save_draft(
        task=task, user=_person(request), shapes=shapes, tab=tab, now=timezone.now()
    )
    return Response({"shapes": draft.shapes, "saved_at": draft.saved_at.isoformat()})


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


@extend_schema(request=s.ExportSerializer, responses={202: s.JobSerializer})
@api_view(["POST"])
def project_exports(request: Request, project_id: int) -> Response:
    """Starts an export of the settled labels; the job's file can be fetched when it is done."""
    project = project_for(request, project_id, Role.MANAGER)
    wanted = _checked(s.ExportSerializer, request)
    job = exports.start(project=project, format_name=wanted["format"], actor=_person(request))
    return Response(s.JobSerializer(job).data, status=status.HTTP_202_ACCEPTED)


@extend_schema(responses=paging.page_of(s.JobSerializer), parameters=paging.PARAMETERS)
@api_view(["GET"])
def project_jobs(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.MANAGER)
    return paging.respond(request, Job.objects.filter(project=project), s.JobSerializer, newest_first=True)


@extend_schema(responses=s.JobSerializer)
@api_view(["GET"])
def job_detail(request: Request, job_id: int) -> Response:
    return Response(s.JobSerializer(job_for(request, job_id, Role.MANAGER)).data)


@extend_schema(request=None, responses=s.JobSerializer)
@api_view(["POST"])
def job_cancel(request: Request, job_id: int) -> Response:
    job = job_for(request, job_id, Role.MANAGER)
    jobs.cancel(job=job, actor=_person(request))
    job.refresh_from_db()
    return Response(s.JobSerializer(job).data)


@extend_schema(request=None, responses=s.JobSerializer)
@api_view(["POST"])
def job_retry(request: Request, job_id: int) -> Response:
    job = job_for(request, job_id, Role.MANAGER)
    if not jobs.retry(job=job, actor=_person(request)):
        raise Refused(
            "not_ended", "Only a job that failed, was cancelled or parked runs again.", http_status=409
        )
    job.refresh_from_db()
    return Response(s.JobSerializer(job).data)


@extend_schema(responses={(200, "application/json"): OpenApiTypes.BINARY})
@api_view(["GET"])
def job_file(request: Request, job_id: int) -> HttpResponse:
    """The file that an export wrote."""
    job = job_for(request, job_id, Role.MANAGER)
    if "sha256" not in job.result:
        raise Refused("no_file", "This job has no file (yet).", http_status=404)
    data = storage.get_blob(storage.store(), job.result["sha256"])
    response = HttpResponse(data, content_type=job.result["content_type"])
    response["Content-Disposition"] = f'attachment; filename="{job.result["name"]}"'
    return response


@extend_schema(responses=paging.page_of(s.SkillSerializer), parameters=paging.PARAMETERS)
@api_view(["GET"])
def project_skills(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.REVIEWER)
    rows = Skill.objects.filter(project=project).select_related("user")
    return paging.respond(request, rows, s.SkillSerializer)


@extend_schema(responses=paging.page_of(s.EventSerializer), parameters=paging.PARAMETERS)
@api_view(["GET"])
def project_events(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.MANAGER)
    rows = Event.objects.filter(project=project).select_related("actor")
    return paging.respond(request, rows, s.EventSerializer, newest_first=True)


@extend_schema(responses=s.ProgressSerializer)
@api_view(["GET"])
def project_progress(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.VIEWER)
    return Response(selectors.progress(project))


def _answers(request: Request, task: Task) -> list[Annotation]:
    """All current answers for a reviewer, for anybody else only their own."""
    rows = Annotation.objects.filter(task=task, is_current=True).select_related("author")
    if not may(request, task.project, Role.REVIEWER):
        rows = rows.filter(author_id=request.user.pk)
    return list(rows.order_by("created_at"))


def _person(request: Request) -> Any:
    """The logged-in user: every view here needs one (the default permission)."""
    return request.user


def _checked(serializer: type[Any], request: Request, *, partial: bool = False) -> dict[str, Any]:
    checked = serializer(data=request.data, partial=partial)
    checked.is_valid(raise_exception=True)
    return dict(checked.validated_data)
