"""Who works on what: tasks are leased by priority, to as many people as they need and no more.

`Task.slots` says how many more people may take a task. One statement takes a slot and a fencing token, on
SQLite and PostgreSQL alike; see docs/adr/0010.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Count, Max

from labeling.models import Lease, Project, Skip, Task, TaskState
from labeling.services import events

MAX_AHEAD: Final = 10
OPEN_STATES: Final = (TaskState.QUEUED, TaskState.IN_PROGRESS)


class LostLease(Exception):
    """This lease ran out, was released, or is held with another token."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who holds tasks of an otherwise empty queue."""

    username: str
    count: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Emptiness:
    """Why there is nothing to do: a code, a sentence, and who still holds what."""

    code: str
    message: str
    held: Sequence[Holder]


def lease_next(*, project: Project, user: AbstractBaseUser, count: int, now: datetime) -> list[Lease]:
    """This person's leases, filled up to `count` with the most urgent tasks that they may still answer.

    Leases that they hold already come first, in the order they were taken, and are renewed.
    """
    expire(now=now)
    until = now + timedelta(seconds=project.lease_seconds)
    held = Lease.objects.filter(task__project=project, user_id=user.pk)
    held.update(expires_at=until)
    leases = list(held.select_related("task__image").order_by("created_at", "id"))
    while len(leases) < min(count, MAX_AHEAD):
        lease = _claim(project=project, user=user, now=now, until=until)
        if lease is None:
            break
        leases.append(lease)
    return leases


def heartbeat(*, task: Task, user: AbstractBaseUser, token: int, now: datetime) -> datetime:
    """Renews a lease; until when. Raises `LostLease`."""
    until = now + timedelta(seconds=task.project.lease_seconds)
    if not Lease.objects.filter(task=task, user_id=user.pk, token=token, expires_at__gte=now).update(
        expires_at=until
    ):
        raise LostLease("this task is no longer held for you; what you drew can still be submitted")
    return until


@transaction.atomic
def release(*, task: Task, user: AbstractBaseUser, token: int) -> None:
    """Gives a task back unanswered; nothing happens when it is not held with this token."""
    _end(Lease.objects.filter(task=task, user_id=user.pk, token=token), task_id=task.pk)


@transaction.atomic
def release_by_manager(*, lease: Lease, actor: AbstractBaseUser) -> None:
    """Takes a task back from whoever holds it."""
    if _end(Lease.objects.filter(pk=lease.pk, token=lease.token), task_id=lease.task_id):
        events.record(
            project=lease.task.project,
            actor=actor,
            verb="release_lease",
            subject=lease.task,
            data={"user": lease.user_id},
        )


@transaction.atomic
def skip(*, task: Task, user: AbstractBaseUser, token: int, reason: str) -> None:
    """Passes a task by for good, with a reason. Raises `LostLease`."""
    if not _end(Lease.objects.filter(task=task, user_id=user.pk, token=token), task_id=task.pk):
        raise LostLease("this task is no longer held for you")
    Skip.objects.get_or_create(task=task, user_id=user.pk, defaults={"reason": reason})
    events.record(project=task.project, actor=user, verb="skip", subject=task, data={"reason": reason})


def expire(*, now: datetime, limit: int = 200) -> int:
    """Gives the slots of leases that ran out back to their tasks; how many."""
    count = 0
    for lease in Lease.objects.filter(expires_at__lt=now).order_by("expires_at")[:limit]:
        with transaction.atomic():
            overdue = Lease.objects.filter(pk=lease.pk, token=lease.token, expires_at__lt=now)
            count += _end(overdue, task_id=lease.task_id)
    return count


def why_empty(*, project: Project, user: AbstractBaseUser) -> Emptiness:
    """What to tell somebody for whom the queue has nothing."""
    holders = (
        Lease.objects.filter(task__project=project)
        .exclude(user_id=user.pk)
        .values("user__username")
        .annotate(count=Count("id"), until=Max("expires_at"))
        .order_by("-count", "user__username")[:20]
    )
    held = [Holder(row["user__username"], row["count"], row["until"]) for row in holders]
    tasks = Task.objects.filter(project=project)
    if not tasks.exists():
        return Emptiness("no_pictures", "This project has no pictures yet.", held)
    waiting = tasks.filter(slots__gt=0).count()
    if waiting:
        told = "1 picture waits" if waiting == 1 else f"{waiting} pictures wait"
        return Emptiness(
            "yours_are_done", f"You have done all that you can: {told} for another person's answer.", held
        )
    if held:
        return Emptiness("all_held", "Every open task is held by somebody right now.", held)
    return Emptiness("all_done", "Every picture has the answers it needs. Thank you!", held)


def _claim(*, project: Project, user: AbstractBaseUser, now: datetime, until: datetime) -> Lease | None:
    lock = "FOR UPDATE OF t SKIP LOCKED" if connection.vendor == "postgresql" else ""
    statement = f"""
        UPDATE labeling_task SET slots = slots - 1, fence = fence + 1,
               state = CASE WHEN state = 'queued' THEN 'in_progress' ELSE state END
        WHERE slots > 0 AND id = (
            SELECT t.id FROM labeling_task t
            WHERE t.project_id = %(project)s AND t.slots > 0
              AND NOT EXISTS (SELECT 1 FROM labeling_annotation a
                              WHERE a.task_id = t.id AND a.author_id = %(user)s AND a.is_current)
              AND NOT EXISTS (SELECT 1 FROM labeling_lease l
                              WHERE l.task_id = t.id AND l.user_id = %(user)s)
              AND NOT EXISTS (SELECT 1 FROM labeling_skip s
                              WHERE s.task_id = t.id AND s.user_id = %(user)s)
            ORDER BY t.project_id, t.priority DESC, t.id LIMIT 1 {lock})
        RETURNING id, fence
    """  # noqa: S608 (only the lock clause, ours, is put in)
    for _ in range(5):
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute(statement, {"project": project.pk, "user": user.pk})
                    row = cursor.fetchone()
                if row is None:
                    return None
                lease = Lease.objects.create(
                    task_id=row[0], user_id=user.pk, token=row[1], created_at=now, expires_at=until
                )
        except IntegrityError:
            continue  # this person's other tab took the same task in between; look again
        return Lease.objects.select_related("task__image").get(pk=lease.pk)
    return None


def _end(leases: models.QuerySet[Lease], *, task_id: int) -> bool:
    """Ends a task's lease and gives its slot back, if the task still wants it; whether there was a lease."""
    # The task first, as a submit does: whoever locked the lease first would wait for the other for ever.
    task = Task.objects.select_for_update(no_key=True).filter(pk=task_id).first()
    deleted, _ = leases.delete()
    if task is None or not deleted:
        return False
    if task.state in OPEN_STATES:
        held = Lease.objects.filter(task=task).count()
        wanted = Project.objects.values_list("answers_per_task", flat=True).get(pk=task.project_id)
        task.slots = min(task.slots + 1, max(0, wanted - task.answers - held))
        if not (task.answers or held):
            task.state = TaskState.QUEUED
        task.save(update_fields=["slots", "state"])
    return True
