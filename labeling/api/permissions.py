"""Who asks: every view fetches its object through one of these. Not yours is 404, yours but not allowed 403."""

from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404
from rest_framework.request import Request

from labeling.models import Job, Project, Role, Task
from labeling.services import projects


def project_for(request: Request, project_id: int, role: Role) -> Project:
    """The project, if the caller is a member with at least this role."""
    project = get_object_or_404(Project.objects.visible_to(request.user), pk=project_id)
    require(request, project, role)
    return project


def task_for(request: Request, task_id: int, role: Role) -> Task:
    """The task, if the caller is a member of its project with at least this role."""
    task = get_object_or_404(
        Task.objects.visible_to(request.user).select_related("project", "image", "consensus"), pk=task_id
    )
    require(request, task.project, role)
    return task


def job_for(request: Request, job_id: int, role: Role) -> Job:
    job = get_object_or_404(
        Job.objects.filter(project__in=Project.objects.visible_to(request.user)).select_related("project"),
        pk=job_id,
    )
    assert job.project is not None
    require(request, job.project, role)
    return job


def may(request: Request, project: Project, role: Role) -> bool:
    own = projects.role_of(project=project, user=request.user)  # type: ignore[arg-type]  # a member is a person
    return own is not None and own.may(role)


def require(request: Request, project: Project, role: Role) -> None:
    if not may(request, project, role):
        raise PermissionDenied(f"This takes the role of {role.label.lower()} in this project.")
