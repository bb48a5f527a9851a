"""Reviewers' work: the riskiest task first, and what a reviewer decides about it.

A decision names the revision of the consensus that the reviewer saw. If another one is in force by then, or
the task is no longer with the reviewers, nothing is done and the reviewer is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, models, transaction
from django.db.models import Count

from labeling import selectors
from labeling.models import (
    Annotation,
    Consensus,
    ConsensusSource,
    Lease,
    Membership,
    Project,
    Reason,
    Return,
    ReviewCause,
    Role,
    Task,
    TaskState,
)
from labeling.services import consensus, disputes, events, overlap, predictions, projects
from labeling.services.consensus import IN_REVIEW
from labeling.shapes import InvalidShape, Shape

MAX_TOLD: Final = 20
MAX_EXTRA_ANSWERS: Final = 50


class NotInReview(Exception):
    """The task is in a state in which this decision means nothing."""


class StaleReview(Exception):
    """Another consensus is in force than the one that the reviewer saw."""


class HeldByAnother(Exception):
    """Another reviewer is looking at this task right now."""


class NothingToAccept(Exception):
    """The task has no consensus."""


class NoSuchObject(Exception):
    """The answer has no object of this id, or is not a current answer for this task."""


class AlreadyReturned(Exception):
    """This object is with its author already, or its author has answered."""


class AuthorGone(Exception):
    """The author is no annotator of the project any more."""


class GoldStays(Exception):
    """Gold is corrected, not opened again."""


@dataclass(frozen=True, slots=True)
class Reviewing:
    """A reviewer who holds a task until a time."""

    username: str
    task_id: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Emptiness:
    """Why there is nothing to review: a code, a sentence, who holds what, and how many wait elsewhere."""

    code: str
    message: str
    held: Sequence[Reviewing]
    returned: int
    disputed: int


def claim_next(
    *,
    project: Project,
    reviewer: AbstractBaseUser,
    now: datetime,
    passed: Sequence[int] = (),
    with_disputed: bool = False,
) -> Task | None:
    """The task that this reviewer holds, renewed, or else the riskiest that nobody holds; nothing if there is none.

    Tasks without a risk come last, oldest first: nobody answered them, so nothing tells how wrong they are.
    Disputed tasks are with their cards, and come after all others if they are asked for. What waits for its
    author is left out, and so is what was `passed`, which is released.
    """
    until = now + timedelta(seconds=project.lease_seconds)
    own = Task.objects.filter(project=project, reviewer_id=reviewer.pk, state__in=IN_REVIEW)
    own.filter(pk__in=passed).update(reviewer=None, review_expires_at=None)
    held = own.filter(review_expires_at__gte=now).order_by("id").first()
    if held is not None and own.filter(pk=held.pk).update(review_expires_at=until):
        return _read(held.pk)
    for state in IN_REVIEW if with_disputed else IN_REVIEW[:1]:
        for has_risk in (True, False):
            task_id = _claim(project, reviewer, state, has_risk, passed, now, until)
            if task_id is not None:
                return _read(task_id)
    return None


def why_empty(*, project: Project, reviewer: AbstractBaseUser, now: datetime) -> Emptiness:
    held = [
        Reviewing(username, task_id, expires_at)
        for username, task_id, expires_at in Task.objects.filter(
            project=project, reviewer__isnull=False, state__in=IN_REVIEW, review_expires_at__gte=now
        )
        .exclude(reviewer_id=reviewer.pk)
        .order_by("reviewer__username", "id")
        .values_list("reviewer__username", "pk", "review_expires_at")[:MAX_TOLD]
        if expires_at is not None
    ]
    returned = Return.objects.filter(task__project=project, answered_at=None).aggregate(
        tasks=Count("task", distinct=True)
    )["tasks"]
    disputed = selectors.progress(project)["disputed"]
    code, message = "nothing_waits", "Nothing waits for a reviewer."
    if held:
        code, message = "all_held", "Other reviewers hold all that waits right now."
    elif returned:
        code, message = "with_authors", "What is left is with its authors, to be mended."
    elif disputed:
        code, message = "with_cards", "What is left is disputed, and asked about on cards."
    return Emptiness(code, message, held, returned, disputed)


def release(*, task: Task, reviewer: AbstractBaseUser) -> None:
    """Gives a claimed task back undecided; nothing happens if another one holds it."""
    Task.objects.filter(pk=task.pk, reviewer_id=reviewer.pk).update(reviewer=None, review_expires_at=None)


@transaction.atomic
def accept(
    *, task: Task, reviewer: AbstractBaseUser, base_revision: int, now: datetime, as_gold: bool = False
) -> Consensus:
    """Settles a task with the consensus as it is, as an expert's word. Raises `NothingToAccept` and the others."""
    task = _decidable(task, reviewer, base_revision, now, IN_REVIEW)
    if task.consensus is None:
        raise NothingToAccept(
            "this task has no consensus to accept; correct it, reject it or put it back into the queue"
        )
    _end_returns(task, now)
    return consensus.accept(task=task, actor=reviewer, as_gold=as_gold)


@transaction.atomic
def correct(
    *,
    task: Task,
    reviewer: AbstractBaseUser,
    shapes: tuple[Shape, ...],
    base_revision: int,
    now: datetime,
    as_gold: bool = False,
) -> Consensus:
    """Settles a task with the expert's own shapes, a settled one anew. Raises `InvalidShape` and the others."""
    task = _decidable(task, reviewer, base_revision, now, (*IN_REVIEW, TaskState.SETTLED))
    schema = projects.current_schema(task.project).schema
    for index, shape in enumerate(shapes):
        problem = schema.problem_with(shape)
        if problem is not None:
            raise InvalidShape(f"shapes[{index}].{problem[0]}", problem[1])
    _end_returns(task, now)
    return consensus.set_answer(
        task=task, shapes=shapes, source=ConsensusSource.EXPERT, actor=reviewer, as_gold=as_gold
    )


@transaction.atomic
def send_back(
    *,
    task: Task,
    reviewer: AbstractBaseUser,
    annotation: Annotation,
    shape_id: str,
    comment: str,
    base_revision: int,
    now: datetime,
) -> Return:
    """Sends one object of an answer back to its author. The task stays with the reviewers, who get it after that.

    Raises `NoSuchObject`, `AlreadyReturned`, `AuthorGone` and the others.
    """
    task = _decidable(task, reviewer, base_revision, now, IN_REVIEW)
    annotation = Annotation.objects.get(pk=annotation.pk)
    if annotation.task_id != task.pk or not annotation.is_current:
        raise NoSuchObject("this answer is no current one of this task; its author has changed it meanwhile")
    if not any(shape["id"] == shape_id for shape in annotation.shapes):
        raise NoSuchObject("this answer has no such object")
    member = Membership.objects.filter(project=task.project, user_id=annotation.author_id).first()
    if member is None or not Role(member.role).may(Role.ANNOTATOR):
        raise AuthorGone("its author is no annotator of this project any more; correct it instead")
    if annotation.returns.filter(shape_id=shape_id, answered_at=None).exists():
        raise AlreadyReturned("this object is with its author already")
    sent = Return.objects.create(
        task=task,
        annotation=annotation,
        shape_id=shape_id,
        comment=comment,
        author_id=annotation.author_id,
        reviewer_id=reviewer.pk,
        created_at=now,
    )
    disputes.close(task=task)
    _move(task, TaskState.NEEDS_REVIEW, ReviewCause.RETURNED)
    events.record(
        project=task.project,
        actor=reviewer,
        verb="return",
        subject=task,
        data={
            "return": sent.pk,
            "annotation": str(annotation.pk),
            "shape": shape_id,
            "author": annotation.author_id,
        },
    )
    return sent


@transaction.atomic
def reject(*, task: Task, reviewer: AbstractBaseUser, reason: str, base_revision: int, now: datetime) -> None:
    """Takes a picture that is of no use out of the work; its answers stay."""
    every = [state for state in TaskState if state != TaskState.REJECTED]
    task = _decidable(task, reviewer, base_revision, now, every)
    _end_returns(task, now)
    disputes.close(task=task)
    _move(task, TaskState.REJECTED, ReviewCause.NONE)
    events.record(project=task.project, actor=reviewer, verb="reject", subject=task, data={"reason": reason})


def reopen(
    *,
    task: Task,
    reviewer: AbstractBaseUser,
    to: Literal["review", "queue"],
    base_revision: int,
    now: datetime,
    more_answers: int = 0,
) -> None:
    """Puts a task that was decided, or waits to be, before the reviewers or back into the queue.

    In the queue it wants `more_answers` than before, and one more at least if it has all that it wanted.
    Raises `GoldStays` and the others.
    """
    with transaction.atomic():
        decided = (*IN_REVIEW, TaskState.SETTLED, TaskState.REJECTED)
        task = _decidable(task, reviewer, base_revision, now, decided)
        if task.is_gold:
            raise GoldStays("this task is gold: correct its answer instead")
        if to == "queue":
            _to_queue(task, more_answers)
        else:
            disputes.close(task=task)
            _move(task, TaskState.NEEDS_REVIEW, ReviewCause.ASKED)
        events.record(
            project=task.project,
            actor=reviewer,
            verb="reopen",
            subject=task,
            data={"to": to, "more_answers": more_answers},
        )
    consensus.settle_soon(task_id=task.pk)


def returned_to(*, project: Project, author: AbstractBaseUser) -> models.QuerySet[Return]:
    """What was sent back to this person and waits for them."""
    return Return.objects.filter(author_id=author.pk, answered_at=None, task__project=project).select_related(
        "task", "reviewer"
    )


@transaction.atomic
def lease_again(*, sent: Return, now: datetime) -> Lease:
    """Lets the author of an object that was sent back open the task again; this takes no slot.

    Raises `AlreadyReturned` when the author has answered.
    """
    task = consensus.lock(sent.task_id)
    if Return.objects.filter(pk=sent.pk, answered_at=None).first() is None:
        raise AlreadyReturned("this was answered, or a reviewer has decided meanwhile")
    until = now + timedelta(seconds=task.project.lease_seconds)
    lease = Lease.objects.filter(task=task, user_id=sent.author_id).first()
    if lease is None:
        task.fence += 1
        task.save(update_fields=["fence"])
        lease = Lease.objects.create(
            task=task,
            user_id=sent.author_id,
            token=task.fence,
            created_at=sent.created_at,  # so it comes before what was fetched ahead
            expires_at=until,
        )
    else:
        lease.expires_at = until
        lease.save(update_fields=["expires_at"])
    lease.task = task
    return lease


def answered(annotation: Annotation) -> int:
    """A new revision by somebody to whom objects were sent back answers all of these; how many."""
    if annotation.revision == 1:
        return 0  # there was nothing yet to send back
    return Return.objects.filter(
        task_id=annotation.task_id, author_id=annotation.author_id, answered_at=None
    ).update(answered_by=annotation, answered_at=annotation.created_at)


def _claim(
    project: Project,
    reviewer: AbstractBaseUser,
    state: TaskState,
    has_risk: bool,
    passed: Sequence[int],
    now: datetime,
    until: datetime,
) -> int | None:
    on_postgresql = connection.vendor == "postgresql"
    # The states are written out, both of them and the one: so SQLite knows that its partial index will do.
    statement = f"""
        UPDATE labeling_task SET reviewer_id = %(reviewer)s, review_expires_at = %(until)s
        WHERE id = (
            SELECT t.id FROM labeling_task t
            WHERE t.project_id = %(project)s AND t.state IN ('needs_review', 'disputed')
              AND t.state = '{state.value}' AND t.risk IS {"NOT NULL" if has_risk else "NULL"}
              AND (t.review_expires_at IS NULL OR t.review_expires_at < %(now)s)
              AND NOT EXISTS (SELECT 1 FROM labeling_return r
                              WHERE r.task_id = t.id AND r.answered_at IS NULL LIMIT 1 OFFSET 0)
              AND t.id NOT IN ({", ".join(str(int(task_id)) for task_id in passed) or "0"})
            ORDER BY t.project_id, t.state, t.risk DESC, t.id LIMIT 1
            {"FOR NO KEY UPDATE OF t SKIP LOCKED" if on_postgresql else ""})
        RETURNING id
    """  # noqa: S608 (only names of ours and row ids are put in)
    adapt = connection.ops.adapt_datetimefield_value
    values = {
        "reviewer": reviewer.pk,
        "project": project.pk,
        "now": adapt(now),
        "until": adapt(until),
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        row = cursor.fetchone()
    return None if row is None else int(row[0])


def _read(task_id: int) -> Task:
    return Task.objects.select_related("project", "image", "consensus").get(pk=task_id)


def _decidable(
    task: Task,
    reviewer: AbstractBaseUser,
    base_revision: int,
    now: datetime,
    states: Sequence[TaskState],
) -> Task:
    """The task with its row locked, if this reviewer may decide about it, and decides about what is in force."""
    task = consensus.lock(task.pk)
    if task.state not in states:
        told = TaskState(task.state).label.lower()
        raise NotInReview(f"this task is {told} by now; look at it again")
    if (
        task.reviewer_id not in (None, reviewer.pk)
        and task.review_expires_at is not None
        and task.review_expires_at >= now
    ):
        raise HeldByAnother("another reviewer holds this task right now")
    revision = 0 if task.consensus is None else task.consensus.revision
    if revision != base_revision:
        raise StaleReview(
            f"the consensus is at revision {revision}, this decision is about {base_revision}; look at it again"
        )
    return task


def _move(task: Task, state: TaskState, cause: ReviewCause) -> None:
    Task.objects.filter(pk=task.pk).update(
        state=state,
        review_cause=cause,
        slots=0,
        asked=0,
        reviewer=None,
        review_expires_at=None,
        settled_at=None,
        consensus_stale=cause == ReviewCause.ASKED,
    )


def _to_queue(task: Task, more_answers: int) -> None:
    consensus.reopen(task)
    task.extra_answers = min(task.extra_answers + more_answers, MAX_EXTRA_ANSWERS)
    if not consensus.room(task):
        # As many as it has, those that people hold it for, and one more.
        held = Lease.objects.filter(task=task).count()
        task.extra_answers = max(0, task.answers + held + 1 - overlap.first(task.project))
    task.slots = consensus.room(task)
    if task.answers:
        task.priority, task.reason = predictions.BEGUN, Reason.DISAGREEMENT
    task.save(update_fields=["extra_answers", "slots", "priority", "reason"])


def _end_returns(task: Task, now: datetime) -> None:
    """What a reviewer decides needs no mending any more."""
    Return.objects.filter(task=task, answered_at=None).update(answered_at=now)
