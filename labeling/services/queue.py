"""Who works on what: tasks are leased by priority, to as many people as they need and no more.

`Task.slots` says how many more people may take a task. One statement takes the slots and fencing tokens of all
the tasks that a person gets, on SQLite and PostgreSQL alike; see docs/adr/0010.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, models, transaction

from labeling import selectors
from labeling.models import (
    Lease,
    Project,
    Reason,
    ReviewCause,
    Skip,
    Task,
    TaskState,
)
from labeling.services import consensus, events, fits, overlap, projects

MAX_AHEAD: Final = 10
OPEN_STATES: Final = (TaskState.QUEUED, TaskState.IN_PROGRESS)

TOP: Final = 500
"""How far down the whole queue is looked for a task that this person has not answered yet."""
CANDIDATES: Final = 64
"""More than are wanted, because others may be taking the same ones at this moment."""
EXPIRE_ON_DEMAND: Final = 20
MAX_TOLD: Final = 1_000
MAX_HOLDERS: Final = 20
NAMES_TOLD: Final = 5

_unpredictable: Final = random.SystemRandom()


class LostLease(Exception):
    """This lease ran out, was released, or is held with another token."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who holds tasks of an otherwise empty queue: how many, some of their names, until when at most."""

    username: str
    count: int
    names: Sequence[str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Emptiness:
    """Why there is nothing to do: a code, a sentence, and who still holds what."""

    code: str
    message: str
    held: Sequence[Holder]


@dataclass(frozen=True, slots=True)
class _Claimed:
    task_id: int
    token: int
    priority: float
    reason: str


def lease_next(
    *,
    project: Project,
    user: AbstractBaseUser,
    count: int,
    now: datetime,
    draw: Callable[[], float] = _unpredictable.random,
) -> list[Lease]:
    """This person's leases, filled up to `count` with the most urgent tasks that they may still answer.

    Leases that they hold already come first, in the order they were taken, and are renewed. Each new one is
    gold instead if `draw()`, from 0 to 1, is below the project's share: only where there is other work too.
    """
    wanted = min(count, MAX_AHEAD)
    leases = _fill(project, user, wanted, now, draw)
    # Not in the same transaction: it waits for tasks that others have locked, and they might wait for ours.
    if len(leases) < wanted and expire(now=now, project=project, limit=EXPIRE_ON_DEMAND):
        leases = _fill(project, user, wanted, now, draw)
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
    _end(Lease.objects.filter(task=task, user_id=user.pk, token=token), task_id=task.pk, user_id=user.pk)


@transaction.atomic
def release_by_manager(*, lease: Lease, actor: AbstractBaseUser) -> None:
    """Takes a task back from whoever holds it."""
    held = Lease.objects.filter(pk=lease.pk, token=lease.token)
    if _end(held, task_id=lease.task_id, user_id=lease.user_id):
        events.record(
            project=lease.task.project,
            actor=actor,
            verb="release_lease",
            subject=lease.task,
            data={"user": lease.user_id},
        )


@transaction.atomic
def skip(*, task: Task, user: AbstractBaseUser, token: int, reason: str) -> None:
    """Passes a task by for good, with a reason. Raises `LostLease`.

    What as many people pass by as the project says goes to a reviewer. Who holds it may still answer it.
    """
    held = Lease.objects.filter(task=task, user_id=user.pk, token=token)
    if not _end(held, task_id=task.pk, user_id=user.pk):
        raise LostLease("this task is no longer held for you")
    Skip.objects.get_or_create(task=task, user_id=user.pk, defaults={"reason": reason})
    events.record(project=task.project, actor=user, verb="skip", subject=task, data={"reason": reason})
    skips = Skip.objects.filter(task=task).count()
    if skips < task.project.skips_to_review:
        if overlap.is_adaptive(task.project):  # there may be nobody left whose answer it could wait for
            projects.look_again(tasks=Task.objects.filter(pk=task.pk))
        return
    # Gold stays gold, and what is settled or with a reviewer already stays there. `_end` has locked the task.
    if Task.objects.filter(pk=task.pk, is_gold=False, state__in=OPEN_STATES).update(
        state=TaskState.NEEDS_REVIEW, review_cause=ReviewCause.SKIPPED, slots=0, asked=0
    ):
        events.record(
            project=task.project, actor=None, verb="needs_review", subject=task, data={"skips": skips}
        )


def expire(*, now: datetime, project: Project | None = None, limit: int = 200) -> int:
    """Gives the slots of leases that ran out back to their tasks, of one project or of all; how many."""
    overdue = Lease.objects.filter(expires_at__lt=now)
    if project is not None:
        overdue = overdue.filter(_of(project))
    count = 0
    for lease in overdue.order_by("expires_at")[:limit]:
        with transaction.atomic():
            still = Lease.objects.filter(pk=lease.pk, token=lease.token, expires_at__lt=now)
            count += _end(still, task_id=lease.task_id, user_id=lease.user_id)
    return count


def leases_of(project: Project) -> models.QuerySet[Lease]:
    """What is held in a project by whom, also gold."""
    return Lease.objects.filter(_of(project))


def why_empty(*, project: Project, user: AbstractBaseUser) -> Emptiness:
    """What to tell somebody for whom the queue has nothing."""
    held = _holders(project, user)
    if not selectors.progress(project)["tasks"]:
        return Emptiness("no_pictures", "This project has no pictures yet.", held)
    waiting = Task.objects.filter(project=project, slots__gt=0)[: MAX_TOLD + 1].count()
    if waiting:
        number = f"{waiting} pictures wait" if waiting <= MAX_TOLD else f"more than {MAX_TOLD} pictures wait"
        told = "1 picture waits" if waiting == 1 else number
        return Emptiness(
            "yours_are_done", f"You have done all that you can: {told} for another person's answer.", held
        )
    if held:
        return Emptiness("all_held", "Every open task is held by somebody right now.", held)
    return Emptiness("all_done", "Every picture has the answers it needs. Thank you!", held)


def _holders(project: Project, user: AbstractBaseUser) -> list[Holder]:
    leases = (
        Lease.objects.filter(_of(project, is_gold=False))  # a name would tell which are gold
        .exclude(user_id=user.pk)
        .order_by("user__username", "id")
        .values_list("user__username", "task__name", "expires_at")[:MAX_TOLD]
    )
    people: dict[str, list[tuple[str, datetime]]] = {}
    for username, name, expires_at in leases:
        people.setdefault(username, []).append((name, expires_at))
    holders = [
        Holder(
            username,
            len(tasks),
            [name for name, _ in tasks[:NAMES_TOLD]],
            max(expires_at for _, expires_at in tasks),
        )
        for username, tasks in people.items()
    ]
    return sorted(holders, key=lambda holder: (-holder.count, holder.username))[:MAX_HOLDERS]


@transaction.atomic
def _fill(
    project: Project, user: AbstractBaseUser, wanted: int, now: datetime, draw: Callable[[], float]
) -> list[Lease]:
    # Otherwise two of one person's tabs could take one task.
    projects.wait_for_own_tabs(project_id=project.pk, user_id=user.pk)
    until = now + timedelta(seconds=project.lease_seconds)
    own = Lease.objects.filter(user_id=user.pk)
    missing = wanted - own.filter(_of(project)).update(expires_at=until)
    claimed = _with_gold(_claim(project, user, missing), project, user, draw) if missing > 0 else []
    Lease.objects.bulk_create(
        Lease(
            task_id=item.task_id,
            user_id=user.pk,
            token=item.token,
            reason=Reason.AGE if item.reason == Reason.GOLD else item.reason,
            created_at=now,
            expires_at=until,
        )
        for item in claimed
    )
    leases = own.select_related("task__image").order_by("created_at", "id")
    here = [lease for lease in leases if lease.task.project_id == project.pk]
    for lease in here:
        lease.task.project = project
    return here


# What a person may not take: what they answered, hold, or passed by. OFFSET keeps PostgreSQL from turning the
# question into a join over everything they ever did: it is asked of the few tasks at hand.
_NOT_ANSWERED: Final = """NOT EXISTS (SELECT 1 FROM labeling_annotation a
    WHERE a.task_id = t.id AND a.author_id = %(user)s AND a.is_current LIMIT 1 OFFSET 0)"""
_NOT_HELD: Final = """NOT EXISTS (SELECT 1 FROM labeling_lease l
    WHERE l.task_id = t.id AND l.user_id = %(user)s LIMIT 1 OFFSET 0)"""
_NOT_SKIPPED: Final = """NOT EXISTS (SELECT 1 FROM labeling_skip s
    WHERE s.task_id = t.id AND s.user_id = %(user)s LIMIT 1 OFFSET 0)"""
_MAY_TAKE: Final = f"{_NOT_ANSWERED} AND {_NOT_HELD} AND {_NOT_SKIPPED}"
_BY_PRIORITY: Final = "ORDER BY t.project_id, t.priority DESC, t.id"

_AT_THE_TOP: Final = f"""
    SELECT t.id FROM labeling_task t
    WHERE t.slots > 0 AND t.id IN (
        SELECT seen.id FROM (
            SELECT t.id, {_MAY_TAKE} AS free FROM labeling_task t
            WHERE t.project_id = %(project)s AND t.slots > 0 {_BY_PRIORITY} LIMIT %(top)s
        ) seen WHERE seen.free LIMIT %(candidates)s)
    ORDER BY t.priority DESC, t.id LIMIT %(count)s"""  # noqa: S608 (clauses of ours)
# One that asks for one more answer is left to those who answer best, unless that would be all of the candidates.
_AT_THE_TOP_FOR_OTHERS: Final = _AT_THE_TOP.replace(
    "ORDER BY t.priority DESC, t.id LIMIT %(count)s",
    "ORDER BY (t.asked > 0 AND t.reason <> 'manual'), t.priority DESC, t.id LIMIT %(count)s",
)
# A task without answers was answered by nobody, so a person's many answers are not in the way here.
_FRESH: Final = f"""
    SELECT t.id FROM labeling_task t
    WHERE t.project_id = %(project)s AND t.slots > 0 AND t.answers = 0 AND {_NOT_HELD} AND {_NOT_SKIPPED}
    {_BY_PRIORITY} LIMIT %(count)s"""  # noqa: S608 (clauses of ours)
_ANY: Final = f"""
    SELECT t.id FROM labeling_task t
    WHERE t.project_id = %(project)s AND t.slots > 0 AND {_MAY_TAKE}
    {_BY_PRIORITY} LIMIT %(count)s"""  # noqa: S608 (clauses of ours)


def _claim(project: Project, user: AbstractBaseUser, count: int) -> list[_Claimed]:
    """Takes a slot of each of up to `count` tasks, the most urgent first.

    At the top of the queue may stand thousands of tasks that this person has answered and others have not. So
    its beginning is looked at, then the tasks that nobody has begun, and only then all of it.
    """
    claimed: list[_Claimed] = []
    top = _AT_THE_TOP_FOR_OTHERS if _makes_way(project, user) else _AT_THE_TOP
    for which in (top, _FRESH, _ANY):
        claimed += _take(which, project, user, count - len(claimed), [item.task_id for item in claimed])
        if len(claimed) == count:
            break
    return claimed


def _makes_way(project: Project, user: AbstractBaseUser) -> bool:
    """Whether others are known to be better at what asks for one more answer."""
    if not overlap.is_adaptive(project) or project.consensus_fit_id is None:
        return False
    better = set(fits.skills(project).filter(preferred=True).values_list("user_id", flat=True))
    return bool(better) and user.pk not in better


def _take(
    which: str, project: Project, user: AbstractBaseUser, count: int, taken: Sequence[int]
) -> list[_Claimed]:
    if taken:  # their leases are not written yet
        which = which.replace(
            "t.slots > 0", f"t.slots > 0 AND t.id NOT IN ({', '.join(str(task_id) for task_id in taken)})"
        )
    if connection.vendor == "postgresql":
        # An array is made once, before the update begins; a plain subselect may run again and lock more.
        inner = f"= ANY(ARRAY({which} FOR NO KEY UPDATE OF t SKIP LOCKED))"
    else:
        inner = f"IN ({which})"
    statement = f"""
        UPDATE labeling_task SET slots = slots - 1, fence = fence + 1,
               state = CASE WHEN state = 'queued' THEN 'in_progress' ELSE state END
        WHERE slots > 0 AND id {inner}
        RETURNING id, fence, priority, reason
    """  # noqa: S608 (only clauses of ours and row ids are put in)
    with connection.cursor() as cursor:
        cursor.execute(
            statement,
            {
                "project": project.pk,
                "user": user.pk,
                "top": TOP,
                "candidates": CANDIDATES,
                "count": count,
            },
        )
        rows = [_Claimed(*row) for row in cursor.fetchall()]
    return sorted(rows, key=lambda item: (-item.priority, item.task_id))


def _with_gold(
    claimed: list[_Claimed], project: Project, user: AbstractBaseUser, draw: Callable[[], float]
) -> list[_Claimed]:
    """Some of the claimed tasks replaced by gold that this person has not seen, in places that tell nothing."""
    drawn = sum(draw() < project.gold_share for _ in claimed)
    if not drawn:
        return claimed
    gold = _pick_gold(project, user, drawn)
    if not gold:
        return claimed
    kept, given_back = claimed[: -len(gold)], claimed[-len(gold) :]
    _give_back([item.task_id for item in given_back])
    mixed = list(kept)
    for task_id, like in zip(gold, given_back, strict=True):
        # All that is told of a lease is as if it were the other task's. A token counts a task's leases, of
        # which gold has many.
        token = _unpredictable.randint(1, overlap.first(project))
        mixed.insert(
            _unpredictable.randint(0, len(mixed)), _Claimed(task_id, token, like.priority, like.reason)
        )
    return mixed


def _pick_gold(project: Project, user: AbstractBaseUser, count: int) -> list[int]:
    gold = Task.objects.filter(project=project, is_gold=True)
    first, last = gold.order_by("id").first(), gold.order_by("-id").first()
    if first is None or last is None:
        return []
    begin = _unpredictable.randint(first.pk, last.pk)
    found: list[int] = []
    for where in ("t.id >= %(begin)s", "t.id < %(begin)s"):
        statement = f"""
            SELECT t.id FROM labeling_task t
            WHERE t.is_gold AND t.project_id = %(project)s AND t.state = 'settled' AND {where} AND {_MAY_TAKE}
            ORDER BY t.id LIMIT %(count)s
        """  # noqa: S608 (only clauses of ours are put in)
        with connection.cursor() as cursor:
            cursor.execute(
                statement,
                {"project": project.pk, "user": user.pk, "begin": begin, "count": count - len(found)},
            )
            found += [row[0] for row in cursor.fetchall()]
    return found


def _give_back(task_ids: Sequence[int]) -> None:
    """Undoes a claim of a moment ago."""
    tasks = Task.objects.filter(pk__in=task_ids)
    tasks.update(slots=models.F("slots") + 1)
    tasks.filter(state=TaskState.IN_PROGRESS, answers=0).exclude(
        pk__in=Lease.objects.filter(task_id__in=task_ids).values("task_id")
    ).update(state=TaskState.QUEUED)


def _of(project: Project, **more: Any) -> models.Exists:
    """Leases on this project's tasks. As a join, SQLite would begin with all tasks of the project."""
    return models.Exists(Task.objects.filter(pk=models.OuterRef("task_id"), project=project, **more))


def _end(leases: models.QuerySet[Lease], *, task_id: int, user_id: int) -> bool:
    """Ends a person's lease and gives its slot back, if the task still wants it; whether there was a lease."""
    # The task first, as a submit does: whoever locked the lease first would wait for the other for ever.
    task = (
        Task.objects.select_for_update(of=("self",), no_key=True)
        .select_related("project")
        .filter(pk=task_id)
        .first()
    )
    deleted, _ = leases.delete()
    if task is None or not deleted:
        return False
    if task.state in OPEN_STATES:
        took_one = (
            not consensus.answers_of(task).filter(author_id=user_id).exists()
        )  # a lease to correct takes no slot
        task.slots = min(task.slots + took_one, consensus.room(task))
        if not (task.answers or consensus.holding(task)):
            task.state = TaskState.QUEUED
        task.save(update_fields=["slots", "state"])
    return True
