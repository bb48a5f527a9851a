"""Label audits: what a model doubts in the labels, for reviewers to look at again; and the page that shows it."""

from collections import Counter
from typing import Any, Final

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from flywheel.models import DoubtfulPicture, LabelAudit
from flywheel.services import audits, training
from labeling.api import paging
from labeling.api.errors import Refused
from labeling.api.permissions import project_for, require
from labeling.api.request import person
from labeling.api.serializers import JobSerializer
from labeling.models import Project, Role
from labeling.services import jobs, projects

SHOWN: Final = 60
"""How many pictures the page draws; the next ones come when these are done."""
DRAWN_FROM: Final = 0.25
"""Findings that are less probable are told on the page only if the picture has no others."""
KINDS: Final = {
    "missing": "nobody labelled it",
    "spurious": "the model sees nothing here",
    "class": "another class",
    "place": "another place or size",
    "doubled": "labelled twice",
    "zero_area": "no area",
    "outside": "leaves the picture",
}


class FindingSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField(help_text=f"One of {', '.join(KINDS)}.")
    class_id = serializers.IntegerField(
        help_text="As labelled; of a missing object what the model takes it for."
    )
    xyxy = serializers.ListField(
        child=serializers.FloatField(), min_length=4, max_length=4, help_text="Pixels of the picture."
    )
    probability = serializers.FloatField(help_text="That a person would change the label, 0 to 1.")
    told = serializers.CharField()
    other = serializers.ListField(
        child=serializers.FloatField(),
        min_length=4,
        max_length=4,
        allow_null=True,
        help_text="Where the model sees it, or the twin of a doubled object.",
    )
    other_class_id = serializers.IntegerField(allow_null=True, help_text="What the model takes it for.")


class DoubtfulPictureSerializer(serializers.Serializer[DoubtfulPicture]):
    id = serializers.IntegerField()
    task_id = serializers.IntegerField()
    name = serializers.CharField(source="task.name")
    width = serializers.IntegerField(source="task.image.width")
    height = serializers.IntegerField(source="task.image.height")
    revision = serializers.IntegerField(help_text="Of the labels that are in doubt.")
    score = serializers.FloatField(help_text="By which the list is ordered.")
    findings = FindingSerializer(many=True)


class LabelAuditSerializer(serializers.Serializer[LabelAudit]):
    id = serializers.IntegerField()
    snapshot = serializers.CharField(source="snapshot.version", default=None, allow_null=True)
    pictures = serializers.IntegerField(help_text="How many were looked at.")
    doubtful = serializers.IntegerField(help_text="How many of them had a finding.")
    job = JobSerializer(allow_null=True)
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class LatestAuditSerializer(serializers.Serializer[Any]):
    audit = LabelAuditSerializer(allow_null=True)


@extend_schema(methods=["GET"], responses=LatestAuditSerializer)
@extend_schema(methods=["POST"], request=None, responses={202: LabelAuditSerializer})
@api_view(["GET", "POST"])
def project_audit(request: Request, project_id: int) -> Response:
    """The newest audit of the labels; or a job that audits what is settled now (the running one, if one runs)."""
    project = project_for(request, project_id, Role.REVIEWER)
    if request.method == "GET":
        return Response(LatestAuditSerializer({"audit": audits.latest(project)}).data)
    try:
        audit = audits.ask(project=project, actor=person(request))
    except training.BadTrainingSettings as error:
        raise Refused("bad_training_settings", str(error), param="round_settings.training") from None
    return Response(LabelAuditSerializer(audit).data, status=status.HTTP_202_ACCEPTED)


@extend_schema(request=None, responses=LatestAuditSerializer)
@api_view(["POST"])
def audit_cancel(request: Request, project_id: int) -> Response:
    """Stops the running audit; the review list of the one before stays. Without one running nothing happens."""
    project = project_for(request, project_id, Role.REVIEWER)
    audits.cancel(project=project, actor=person(request))
    return Response(LatestAuditSerializer({"audit": audits.latest(project)}).data)


@extend_schema(responses=paging.page_of(DoubtfulPictureSerializer), parameters=paging.PARAMETERS)
@api_view(["GET"])
def audit_pictures(request: Request, project_id: int) -> Response:
    """The review list of the last finished audit, the worst picture first.

    Left out is what was dismissed, and what was labelled anew since.
    """
    project = project_for(request, project_id, Role.REVIEWER)
    return paging.respond(request, audits.review_list(project), DoubtfulPictureSerializer)


@extend_schema(request=None, responses={204: None})
@api_view(["POST"])
def picture_dismiss(request: Request, picture_id: int) -> Response:
    """Says that the labels of this picture are right as they are; no audit doubts this revision of them again."""
    picture = get_object_or_404(
        DoubtfulPicture.objects.select_related("audit__project", "task"),
        pk=picture_id,
        audit__project__in=Project.objects.visible_to(request.user),
    )
    require(request, picture.audit.project, Role.REVIEWER)
    audits.dismiss(picture=picture, actor=person(request))
    return Response(status=status.HTTP_204_NO_CONTENT)


@login_required
@require_GET
@ensure_csrf_cookie
def audit_page(request: HttpRequest, project_id: int) -> HttpResponse:
    project = get_object_or_404(Project.objects.visible_to(request.user), pk=project_id)
    role = projects.role_of(project=project, user=request.user)  # type: ignore[arg-type]  # login_required
    if role is None or not role.may(Role.REVIEWER):
        raise PermissionDenied("This takes the role of reviewer in this project.")
    latest = audits.latest(project)
    job = None if latest is None else latest.job
    is_open = latest is not None and latest.finished_at is None
    running = is_open and job is not None and job.state in jobs.OPEN
    pictures = audits.review_list(project)
    names = {item.id: item.name for item in projects.current_schema(project).schema.classes}
    context = {
        "project": project,
        "may_review": True,
        "audit": audits.finished(project),
        "job": job if running else None,
        "failed": "" if running or not is_open or job is None else job.error,
        "left": pictures.count(),
        "cards": [_card(picture, names) for picture in pictures[:SHOWN]],
        "kinds": KINDS,
        "page_data": {"project_id": project.pk, "running": running},
    }
    return render(request, "flywheel/audit.html", context)


def _card(picture: DoubtfulPicture, names: dict[int, str]) -> dict[str, Any]:
    """A picture as the page draws it: its likeliest findings, their boxes, and a view that holds them."""
    likely = [item for item in picture.findings if item["probability"] >= DRAWN_FROM]
    shown = likely or picture.findings[:1]
    image = picture.task.image
    boxes = [box for item in shown for box in (item["xyxy"], item["other"]) if box is not None]
    unit = max(image.width, image.height) / 320
    return {
        "picture": picture,
        "task": picture.task,
        "image": image,
        "view": _view(boxes, image.width, image.height),
        "marks": [_mark(item, unit) for item in reversed(shown)],  # the likeliest on top
        "reasons": _reasons(shown, names),
        "more": len(picture.findings) - len(shown),
    }


def _reasons(shown: list[dict[str, Any]], names: dict[int, str]) -> list[dict[str, Any]]:
    """What is told, the same things together: the kind, how many, the words, and the likeliest probability."""
    told = Counter((item["kind"], item["told"]) for item in shown)
    best: dict[tuple[str, str], float] = {}
    for item in shown:
        key = (item["kind"], item["told"])
        best[key] = max(best.get(key, 0.0), item["probability"])
    return [
        {"kind": kind, "count": count, "told": words, "percent": round(100 * best[kind, words])}
        for (kind, words), count in told.most_common()
    ]


def _mark(item: dict[str, Any], unit: float) -> dict[str, Any]:
    other = item["other"] if item["kind"] == "place" else None
    return {
        "kind": item["kind"],
        "told": item["told"],
        "box": _rect(item["xyxy"], unit),
        "other": None if other is None else _rect(other, unit),
    }


def _rect(xyxy: list[float], unit: float) -> dict[str, str]:
    """As SVG's attributes; a box without area gets one, so that it can be seen."""
    x1, y1, x2, y2 = xyxy
    spare_x, spare_y = (max(0.0, 6 * unit - side) / 2 for side in (x2 - x1, y2 - y1))
    return {
        "x": f"{x1 - spare_x:.1f}",
        "y": f"{y1 - spare_y:.1f}",
        "width": f"{x2 - x1 + 2 * spare_x:.1f}",
        "height": f"{y2 - y1 + 2 * spare_y:.1f}",
    }


def _view(boxes: list[list[float]], width: int, height: int) -> str:
    """SVG's view box: around the boxes with as much again beside them, of the picture's shape and inside it.

    Never smaller than a third of the picture: a box says little without what is around it.

    >>> _view([[0, 0, 600, 400]], 600, 400), _view([[280, 180, 320, 220]], 600, 400)
    ('0.0 0.0 600.0 400.0', '200.0 133.3 200.0 133.3')
    """
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
    share = min(1.0, max(1 / 3, 2 * (right - left) / width, 2 * (bottom - top) / height))
    wide, high = share * width, share * height
    x = min(max((left + right - wide) / 2, 0.0), width - wide)
    y = min(max((top + bottom - high) / 2, 0.0), height - high)
    return f"{x:.1f} {y:.1f} {wide:.1f} {high:.1f}"
