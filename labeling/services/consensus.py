"""From answers to the settled one: this task at once on each submit, the whole project when it is refitted."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser
from django.db import models, transaction
from django.utils import timezone

from labeling import consensus as methods
from labeling import rows
from labeling import shapes as label_shapes
from labeling.models import (
    Annotation,
    Consensus,
    ConsensusSource,
    Lease,
    Project,
    Return,
    ReviewCause,
    Skill,
    Task,
    TaskState,
)
from labeling.services import disputes, events, projects

logger = logging.getLogger(__name__)

CHUNK: Final = 500
IN_REVIEW: Final = (TaskState.NEEDS_REVIEW, TaskState.DISPUTED)
UNTIL_DECIDED: Final = (ReviewCause.RETURNED, ReviewCause.ASKED)
"""Causes that a person gave: no new consensus takes such a task from the reviewers again."""


def settle_soon(*, task_id: int) -> None:
    """Settles a task, and if that fails leaves it marked stale: what was stored before stays stored."""
    try:
        settle(task_id=task_id)
    except Exception:
        logger.exception("task %s stays to be settled", task_id)


def settle_now(task: Task) -> None:
    """The same for a task whose row the caller's transaction holds (`lock`)."""
    try:
        with transaction.atomic():
            _settle(task)
    except Exception:
        logger.exception("task %s stays to be settled", task.pk)


def settle(*, task_id: int) -> Consensus | None:
    """Derives a task's consensus from its current answers, once it has as many as it needs.

    The same answers give the same revision again. An expert's or imported answer is never overwritten, and a
    task that was rejected, or that people could not answer, stays with the reviewers.
    """
    with transaction.atomic():
        return _settle(lock(task_id))


def _settle(task: Task) -> Consensus | None:
    if task.consensus_id is None and (_is_withheld(task) or task.answers < needed(task)):
        _not_stale(task)
        return None
    last = _last(task)  # after the lock: a statement that waited for it saw the rows as they were before
    if task.consensus is not None and (
        _is_withheld(task) or task.consensus.source != ConsensusSource.ANSWERS
    ):
        _not_stale(task)
        return task.consensus
    # What has a consensus keeps it when the project comes to want more answers; not when one is withdrawn.
    wanted = needed(task) if task.consensus is None else min(needed(task), task.consensus.answers)
    answers = _drawn(task) if task.answers >= wanted else []
    if len(answers) < wanted:
        if unsettle(task):
            task.slots = room(task)
            task.save(update_fields=["slots"])
        _not_stale(task)
        return None
    method = methods.METHODS[task.project.consensus_method]
    (settled,) = method.predict(answers, task.project.consensus_parameters or {})
    return _write(task, last, settled, method.name, answers)


def lock(task_id: int) -> Task:
    """The task with its project, its row locked until the transaction ends."""
    task = rows.lock(Task, task_id)
    task.project = rows.get(
        Project, task.project_id
    )  # after the lock: as it is now, not as it was before we waited
    return task


def needed(task: Task) -> int:
    """How many answers a task wants: the project's number, and what a reviewer asked for beyond."""
    return task.project.answers_per_task + task.extra_answers


def room(task: Task) -> int:
    """How many more people may take a task, by its answers and leases. Its row must be locked."""
    return max(0, needed(task) - task.answers - holding(task))


def holding(task: Task) -> int:
    """How many people hold a task to answer it; who holds it to correct an answer takes no slot."""
    return Lease.objects.filter(task=task).exclude(user__in=answers_of(task).values("author")).count()


def answers_of(task: Task) -> models.QuerySet[Annotation, Any]:
    """The answers that count."""
    return Annotation.objects.filter(task=task, is_current=True)


def unsettle(task: Task) -> bool:
    """Takes a consensus out of force for which too few answers are left: the task is open again. Whether it was.

    The caller holds the task's row, has counted its answers, and gives it its slots. Nothing happens to a
    task that was rejected, or that was settled by an expert or an import.
    """
    if (
        task.consensus is None
        or task.consensus.source != ConsensusSource.ANSWERS
        or task.state == TaskState.REJECTED
    ):
        return False
    reopen(task)
    return True


def reopen(task: Task) -> None:
    """Puts a task whose row the caller holds back among the open ones, without a consensus; not its slots."""
    disputes.close(task=task)
    begun = task.answers > 0 or Lease.objects.filter(task=task).exists()
    task.state = TaskState.IN_PROGRESS if begun else TaskState.QUEUED
    task.consensus = task.risk = task.settled_at = task.reviewer = task.review_expires_at = None
    task.review_cause = ReviewCause.NONE
    task.consensus_stale = False
    task.save(
        update_fields=[
            "state",
            "consensus",
            "risk",
            "settled_at",
            "reviewer",
            "review_expires_at",
            "review_cause",
            "consensus_stale",
        ]
    )
    # What its author withdrew needs no mending any more.
    Return.objects.filter(task=task, answered_at=None, annotation__withdrawn_at__isnull=False).update(
        answered_at=timezone.now()
    )


def settle_stale(*, limit: int = CHUNK) -> int:
    """Settles what a crash between a submit and its consensus left behind; how many tasks."""
    stale = Task.objects.filter(consensus_stale=True).order_by("id").values_list("pk", flat=True)[:limit]
    for task_id in stale:
        settle_soon(task_id=task_id)
    return len(stale)


def refit(*, project: Project) -> dict[str, Any]:
    """Learns the annotators' parameters from all answers, then settles every answered task again with them."""
    method = methods.METHODS[project.consensus_method]
    fitted = method.fit(_answers(project))
    with transaction.atomic():
        Project.objects.filter(pk=project.pk).update(consensus_parameters=dict(fitted.parameters))
        for skill in fitted.skills:
            Skill.objects.update_or_create(
                project=project,
                user_id=int(skill.annotator),
                kind=skill.kind,
                defaults={
                    "recall": skill.recall,
                    "recall_low": skill.recall_interval[0],
                    "recall_high": skill.recall_interval[1],
                    "precision": skill.precision,
                    "precision_low": skill.precision_interval[0],
                    "precision_high": skill.precision_interval[1],
                    "spread_px": skill.spread_px,
                    "answers": skill.answers,
                    "updated_at": timezone.now(),
                },
            )
    tasks = Task.objects.filter(
        project=project,
        state__in=[TaskState.SETTLED, TaskState.NEEDS_REVIEW, TaskState.DISPUTED],
        consensus__source=ConsensusSource.ANSWERS,
    )
    count = 0
    for task_id in tasks.order_by("id").values_list("pk", flat=True).iterator(chunk_size=CHUNK):
        settle(task_id=task_id)
        count += 1
    return {"tasks": count, "annotators": len({skill.annotator for skill in fitted.skills})}


@transaction.atomic
def set_answer(
    *,
    task: Task,
    shapes: tuple[label_shapes.Shape, ...],
    source: ConsensusSource,
    actor: AbstractBaseUser,
    as_gold: bool = False,
) -> Consensus:
    """Settles a task by decree: an expert's answer, or one imported as settled. Gold never trains."""
    task = lock(task.pk)
    consensus = _revise(
        task,
        _last(task),
        source=source,
        method="",
        shapes=label_shapes.dump_list(shapes),
        rejected=[],
        risk=0.0,
        answers=0,
    )
    _decree(task, consensus, actor, verb="set_answer", as_gold=as_gold)
    return consensus


def set_first_answers(
    *,
    project: Project,
    answers: Sequence[tuple[Task, Sequence[label_shapes.Shape]]],
    source: Mapping[int, ConsensusSource],
    actor: AbstractBaseUser,
) -> None:
    """Settles tasks that this transaction has just made: `set_answer` for many, in a few statements.

    The tasks were made as settled ones; `source` says by task whether an expert's or an imported answer it is.
    """
    version = projects.current_schema(project)
    made = []
    for task, shapes in answers:
        dumped = label_shapes.dump_list(shapes)
        made.append(
            Consensus(
                task=task,
                revision=1,
                source=source[task.pk],
                method="",
                schema_version=version,
                shapes=dumped,
                digest=_digest(source[task.pk], "", version.number, dumped, [], 0.0, 0),
            )
        )
    Consensus.objects.bulk_create(made)
    for consensus in made:
        consensus.task.consensus = consensus
    Task.objects.bulk_update([consensus.task for consensus in made], ["consensus"])
    events.record_all(
        project=project,
        actor=actor,
        verb="set_answer",
        subjects=[
            (
                consensus.task,
                {"source": consensus.source, "revision": 1, "gold": consensus.task.is_gold},
            )
            for consensus in made
        ],
    )


def accept(*, task: Task, actor: AbstractBaseUser, as_gold: bool = False) -> Consensus:
    """Settles a task by an expert's word that the consensus in force is right. The caller holds the task's row."""
    in_force = task.consensus
    assert in_force is not None, "there is something to accept"
    consensus = _revise(
        task,
        _last(task),
        source=ConsensusSource.EXPERT,
        method=in_force.method,
        shapes=in_force.shapes,
        rejected=in_force.rejected,
        risk=0.0,
        answers=in_force.answers,
    )
    _decree(task, consensus, actor, verb="accept", as_gold=as_gold)
    return consensus


def _decree(task: Task, consensus: Consensus, actor: AbstractBaseUser, *, verb: str, as_gold: bool) -> None:
    if task.state in IN_REVIEW:
        disputes.close(task=task)
    Task.objects.filter(pk=task.pk).update(
        is_gold=as_gold or task.is_gold,
        state=TaskState.SETTLED,
        slots=0,
        consensus=consensus,
        consensus_stale=False,
        risk=0.0,
        settled_at=task.settled_at or timezone.now(),
        review_cause=ReviewCause.NONE,
        reviewer=None,
        review_expires_at=None,
    )
    events.record(
        project=task.project,
        actor=actor,
        verb=verb,
        subject=task,
        data={"source": consensus.source, "revision": consensus.revision, "gold": as_gold},
    )


def _write(
    task: Task,
    last: Consensus | None,
    settled: methods.Settled,
    method: str,
    answers: Sequence[methods.Answer],
) -> Consensus:
    asked = task.state == TaskState.NEEDS_REVIEW and task.review_cause in UNTIL_DECIDED
    outcome = disputes.Outcome(settled)
    if task.project.cards_per_dispute or _has_cards(task, last):
        outcome = disputes.resolve(task=task, settled=settled, answers=answers, ask=not asked)
    settled = outcome.settled
    shapes = [_dump_settled(item) for item in settled.shapes if item.accepted]
    rejected = [_dump_settled(item) for item in settled.shapes if not item.accepted]
    consensus = _revise(
        task,
        last,
        source=ConsensusSource.ANSWERS,
        method=method + disputes.CARDS_DECIDED if outcome.decided else method,
        shapes=shapes,
        rejected=rejected,
        risk=settled.risk,
        answers=len(answers),
    )
    state, cause = _state(task, outcome)
    changes: dict[str, Any] = {
        "state": state,
        "review_cause": cause,
        "slots": 0,
        "consensus": consensus,
        "consensus_stale": False,
        "risk": settled.risk,
        "settled_at": (task.settled_at or timezone.now()) if state == TaskState.SETTLED else None,
    }
    if state not in IN_REVIEW:
        changes |= {"reviewer": None, "review_expires_at": None}
    for name, value in changes.items():
        setattr(task, name, value)
    rows.update(task, list(changes))
    return consensus


def _state(task: Task, outcome: disputes.Outcome) -> tuple[TaskState, ReviewCause]:
    """What becomes of a task with this consensus, whatever it was before, unless a person asked to look at it."""
    project = task.project
    if task.state == TaskState.NEEDS_REVIEW and task.review_cause in UNTIL_DECIDED:
        return TaskState.NEEDS_REVIEW, ReviewCause(task.review_cause)
    if outcome.waiting:
        return TaskState.DISPUTED, ReviewCause.NONE
    risky = project.review_risk is not None and outcome.settled.risk >= project.review_risk
    if outcome.tied or risky:
        return TaskState.NEEDS_REVIEW, ReviewCause.RISK
    if is_audited(task):
        return TaskState.NEEDS_REVIEW, ReviewCause.AUDIT
    return TaskState.SETTLED, ReviewCause.NONE


def is_audited(task: Task) -> bool:
    """Whether this task is one of the share that a reviewer looks at in any case; always the same for it."""
    if not task.project.review_share:
        return False
    drawn = hashlib.sha256(f"audit:{task.project_id}:{task.pk}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64 < task.project.review_share


def _is_withheld(task: Task) -> bool:
    skipped = task.state == TaskState.NEEDS_REVIEW and task.review_cause == ReviewCause.SKIPPED
    return skipped or task.state == TaskState.REJECTED


def _has_cards(task: Task, last: Consensus | None) -> bool:
    decided = last is not None and last.method.endswith(disputes.CARDS_DECIDED)
    return decided or task.state == TaskState.DISPUTED


def _not_stale(task: Task) -> None:
    if task.consensus_stale:
        Task.objects.filter(pk=task.pk).update(consensus_stale=False)
        task.consensus_stale = False


def _last(task: Task) -> Consensus | None:
    """The newest revision; where it is the one in force, `task.consensus` is it without another question."""
    statement = f"""SELECT {rows.columns(Consensus, "labeling_consensus")} FROM labeling_consensus
                    WHERE task_id = %s ORDER BY revision DESC LIMIT 1"""  # noqa: S608 (names of columns)
    last = next((row for row, _ in rows.read(Consensus, statement, [task.pk])), None)
    if last is not None and last.pk == task.consensus_id:
        task.consensus = last
    return last


def _revise(
    task: Task,
    last: Consensus | None,
    *,
    source: ConsensusSource,
    method: str,
    shapes: list[label_shapes.Json],
    rejected: list[label_shapes.Json],
    risk: float,
    answers: int,
) -> Consensus:
    """The task's consensus with this content: the one in force when it is the same, else the next revision."""
    schema_version = projects.current_schema(task.project)
    digest = _digest(source, method, schema_version.number, shapes, rejected, risk, answers)
    if task.consensus is not None and task.consensus.digest == digest:
        return task.consensus
    consensus = Consensus(
        task=task,
        revision=1 if last is None else last.revision + 1,
        source=source,
        method=method,
        schema_version=schema_version,
        shapes=shapes,
        rejected=rejected,
        risk=risk,
        answers=answers,
        digest=digest,
    )
    rows.insert(consensus)
    return consensus


def _digest(*content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _dump_settled(item: methods.SettledShape) -> label_shapes.Json:
    return label_shapes.dump(item.shape) | {"score": round(item.confidence, 6)}


def _drawn(task: Task) -> list[methods.Answer]:
    found = Annotation.objects.raw(
        """SELECT id, author_id, shapes FROM labeling_annotation
           WHERE task_id = %s AND is_current AND withdrawn_at IS NULL ORDER BY author_id""",
        [task.pk],
    )
    return [methods.Answer(str(task.pk), str(row.author_id), row.parsed) for row in found]


def _answers(project: Project) -> Iterator[methods.Answer]:
    found = Annotation.objects.filter(is_current=True, withdrawn_at=None, task__project=project)
    for task_id, author_id, shapes in (
        found.order_by("task_id", "author_id")
        .values_list("task_id", "author_id", "shapes")
        .iterator(chunk_size=CHUNK)
    ):
        yield methods.Answer(str(task_id), str(author_id), label_shapes.parse_list(shapes))
