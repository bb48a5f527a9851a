"""The pages: server-rendered; the annotator's page is one script that talks to the API."""

from typing import Final

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET

from labeling import selectors
from labeling.models import ConsensusFit, Job, Membership, Project, Role
from labeling.services import fits, jobs, projects, refits

FITS_SHOWN: Final = 10


@require_GET
def live(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "live"})


@require_GET
def ready(request: HttpRequest) -> JsonResponse:
    """The process and its database answer."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ready"})


@login_required
@require_GET
def project_list(request: HttpRequest) -> HttpResponse:
    cards = [
        {
            "project": project,
            "role": projects.role_of(project=project, user=request.user),  # type: ignore[arg-type]
            "progress": selectors.progress(project),
        }
        for project in Project.objects.visible_to(request.user).order_by("-created_at")[:200]
    ]
    return render(request, "labeling/projects.html", {"cards": cards})


@login_required
@require_GET
@ensure_csrf_cookie
def project_page(request: HttpRequest, project_id: int) -> HttpResponse:
    project, role = _visible(request, project_id)
    context = {
        "project": project,
        "role": role,
        "progress": selectors.progress(project),
        "schema": projects.current_schema(project),
        "members": Membership.objects.filter(project=project)
        .select_related("user")
        .order_by("user__username"),
        "may_annotate": role.may(Role.ANNOTATOR),
        "may_review": role.may(Role.REVIEWER),
        "may_manage": role.may(Role.MANAGER),
        "page_data": {"project_id": project.pk},
    }
    return render(request, "labeling/project.html", context)


@login_required
@require_GET
@ensure_csrf_cookie
def annotate_page(request: HttpRequest, project_id: int) -> HttpResponse:
    project, role = _visible(request, project_id)
    if not role.may(Role.ANNOTATOR):
        raise PermissionDenied("This takes the role of annotator in this project.")
    context = {
        "project": project,
        "page_data": {
            "project_id": project.pk,
            "project_name": project.name,
            "user_id": request.user.pk,
            "username": request.user.get_username(),
            "guide": project.guide,
        },
    }
    return render(request, "labeling/annotate.html", context)


@login_required
@require_GET
@ensure_csrf_cookie
def review_page(request: HttpRequest, project_id: int) -> HttpResponse:
    project, role = _visible(request, project_id)
    if not role.may(Role.REVIEWER):
        raise PermissionDenied("This takes the role of reviewer in this project.")
    context = {"project": project, "may_review": True, "page_data": {"project_id": project.pk}}
    return render(request, "labeling/review.html", context)


@login_required
@require_GET
@ensure_csrf_cookie
def quality_page(request: HttpRequest, project_id: int) -> HttpResponse:
    project, role = _visible(request, project_id)
    if not role.may(Role.REVIEWER):
        raise PermissionDenied("This takes the role of reviewer in this project.")
    known = fits.skills(project).select_related("user").order_by("kind", "-recall", "id")
    every = ConsensusFit.objects.filter(project=project).select_related("created_by")
    job = Job.objects.filter(project=project, kind="refit", state__in=jobs.OPEN).order_by("id").first()
    context = {
        "project": project,
        "may_review": True,
        "may_manage": role.may(Role.MANAGER),
        "fit": fits.in_force(project),
        "fits": every.defer("parameters", "agreement").order_by("-number")[:FITS_SHOWN],
        "undone": refits.is_undone(project),
        "job": job,
        "job_title": "" if job is None else jobs.title(job),
        "skills": known,
        "agreement": fits.agreement(project),
        "page_data": {"project_id": project.pk, "running": job is not None},
    }
    return render(request, "labeling/quality.html", context)


def _visible(request: HttpRequest, project_id: int) -> tuple[Project, Role]:
    project = get_object_or_404(Project.objects.visible_to(request.user), pk=project_id)
    role = projects.role_of(project=project, user=request.user)  # type: ignore[arg-type]  # login_required
    assert role is not None
    return project, role
