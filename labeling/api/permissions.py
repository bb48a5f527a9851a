"""Who asks: every view fetches its object through one of these. Not yours is 404, yours but not allowed 403.

The statements of `project_for` and `task_for` run on every request and are written out: docs/adr/0012.
"""

from typing import Final, NoReturn
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.shortcuts import get_object_or_404
from rest_framework.request import Request

from labeling import rows
from labeling.models import Card, ConsensusFit, Job, Lease, Project, Return, Role, Task, Upload
from labeling.services import projects

MAX_ID: Final = 2**63


def project_for(request: Request, project_id: int, role: Role) -> Project:
    """The project, if the caller is a member with at least this role."""
    _require_storable(project_id)
    for project, (member_role,) in rows.read(
        Project,
        f"""SELECT {rows.columns(Project, "project")}, member.role FROM labeling_project project
            JOIN labeling_membership member ON member.project_id = project.id
            WHERE project.id = %s AND member.user_id = %s""",  # noqa: S608 (names of columns)
        [project_id, request.user.pk],
    ):
        own = Role(member_role)
        _remember(request, project.pk, own)
        _require(own, role)
        return project
    raise Http404


def task_for(request: Request, task_id: int, role: Role) -> Task:
    """The task with its project, if the caller is a member of that with at least this role."""
    task = task_alone_for(request, task_id, role)
    task.project = rows.get(Project, task.project_id)
    return task


def task_alone_for(request: Request, task_id: int, role: Role) -> Task:
    """The same without its project, for a caller that reads this later anyway."""
    _require_storable(task_id)
    for task, (member_role,) in rows.read(
        Task,
        f"""SELECT {rows.columns(Task, "task")}, member.role FROM labeling_task task
            JOIN labeling_membership member ON member.project_id = task.project_id
            WHERE task.id = %s AND member.user_id = %s""",  # noqa: S608 (names of columns)
        [task_id, request.user.pk],
    ):
        own = Role(member_role)
        _remember(request, task.project_id, own)
        _require(own, role)
        return task
    raise Http404


def lease_for(request: Request, lease_id: int, role: Role) -> Lease:
    _require_storable(lease_id)
    lease = get_object_or_404(Lease.objects.select_related("task__project"), pk=lease_id)
    _require_member(request, lease.task.project, role)
    return lease


def job_for(request: Request, job_id: int, role: Role) -> Job:
    job = get_object_or_404(
        Job.objects.filter(project__in=Project.objects.visible_to(request.user)).select_related("project"),
        pk=job_id,
    )
    assert job.project is not None
    require(request, job.project, role)
    return job


def return_for(request: Request, return_id: int, role: Role) -> Return:
    """An object that was sent back to the caller; another's is not there."""
    _require_storable(return_id)
    sent = get_object_or_404(
        Return.objects.filter(author_id=request.user.pk).select_related("task__project"), pk=return_id
    )
    _require_member(request, sent.task.project, role)
    return sent


def card_for(request: Request, card_id: int, role: Role) -> Card:
    _require_storable(card_id)
    card = get_object_or_404(Card.objects.select_related("task__project"), pk=card_id)
    _require_member(request, card.task.project, role)
    return card


def fit_for(request: Request, fit_id: int, role: Role) -> ConsensusFit:
    _require_storable(fit_id)
    fit = get_object_or_404(ConsensusFit.objects.select_related("project"), pk=fit_id)
    _require_member(request, fit.project, role)
    return fit


def upload_for(request: Request, upload_id: UUID, role: Role) -> Upload:
    upload = get_object_or_404(
        Upload.objects.filter(project__in=Project.objects.visible_to(request.user)).select_related(
            "project", "job"
        ),
        pk=upload_id,
    )
    require(request, upload.project, role)
    return upload


def may(request: Request, project: Project, role: Role) -> bool:
    roles = _roles(request)
    if project.pk not in roles:
        own = projects.role_of(project=project, user=request.user)  # type: ignore[arg-type]  # a member is a person
        if own is None:
            return False
        roles[project.pk] = own
    return roles[project.pk].may(role)


def require(request: Request, project: Project, role: Role) -> None:
    if not may(request, project, role):
        _refuse(role)


def _require(own: Role, needed: Role) -> None:
    if not own.may(needed):
        _refuse(needed)


def _refuse(role: Role) -> NoReturn:
    raise PermissionDenied(f"This takes the role of {role.label.lower()} in this project.")


def _require_member(request: Request, project: Project, role: Role) -> None:
    if not may(request, project, Role.VIEWER):
        raise Http404
    require(request, project, role)


def _require_storable(number: int) -> None:
    if number >= MAX_ID:  # SQLite refuses to compare with it
        raise Http404


def _remember(request: Request, project_id: int, role: Role) -> None:
    _roles(request)[project_id] = role


def _roles(request: Request) -> dict[int, Role]:
    """The caller's roles, as far as this request has asked for them."""
    known: dict[int, Role] = request.__dict__.setdefault("known_roles", {})
    return known
