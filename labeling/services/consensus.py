"""From answers to the settled one: this task at once on each submit, the whole project when it is refitted."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
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
    Overlap,
    Project,
    Reason,
    Return,
    ReviewCause,
    Task,
    TaskState,
)
from labeling.services import (
    crowd,
    disputes,
    events,
    evidence,
    fits,
    overlap,
    predictions,
    projects,
    steps,
)
from labeling.services.overlap import needed

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

    Where the overlap is adaptive, how many that are is derived too: a task whose answers are too risky is open
    for one more, and has no consensus meanwhile. The same answers give the same revision again. An expert's or
    imported answer is never overwritten, and a task that was rejected, or that people could not answer, stays
    with the reviewers.
    """
    with transaction.atomic():
        return _settle(lock(task_id))


def _settle(task: Task) -> Consensus | None:
    if task.consensus_id is None and (_is_withheld(task) or task.answers < overlap.worth_settling(task)):
        _not_stale(task)
        return None
    last = _last(task)  # after the lock: a statement that waited for it saw the rows as they were before
    if task.consensus is not None and (
        _is_withheld(task) or task.consensus.source != ConsensusSource.ANSWERS
    ):
        _not_stale(task)
        return task.consensus
    # What has a consensus keeps it when the project comes to want more answers; not when one is withdrawn.
    wanted = overlap.worth_settling(task)
    if task.consensus is not None:
        wanted = min(wanted, task.consensus.answers)
    answers = crowd.of_task(task) if task.answers >= wanted else []
    count = len(crowd.people(answers))
    if count < wanted:
        if unsettle(task):
            task.slots = room(task)
            task.save(update_fields=["slots"])
        _not_stale(task)
        return None
    method = methods.METHODS[task.project.consensus_method]
    (settled,) = method.predict(answers, fits.parameters(task.project))
    why = "enough_answers"
    if _is_adaptive(task, count):
        looked_at = settled
        if task.project.cards_per_dispute or _has_cards(task, last):
            looked_at = disputes.with_verdicts(task=task, settled=settled, answers=answers)
        step = steps.next_step(task, looked_at, answers)
        if step.answers > count:
            _wait(task, step, looked_at.risk)
            return None
        why = step.why
    return _write(task, last, settled, method.name, answers, why)


def _is_adaptive(task: Task, answers: int) -> bool:
    """Whether the risk decides how many answers this task wants.

    Not while a person asked to look at it, and not for what was settled under a fixed overlap until it gets
    another answer: else choosing the adaptive one would open all that is settled.
    """
    if not overlap.is_adaptive(task.project) or _is_asked_for(task):
        return False
    settled = task.consensus
    return (
        settled is None or settled.answers != answers or settled.evidence.get("overlap") == Overlap.ADAPTIVE
    )


def _wait(task: Task, step: steps.Step, risk: float) -> None:
    """Opens a task, or leaves it open, for the answers that it still wants; the riskiest come first."""
    if task.consensus is not None or task.state in IN_REVIEW:
        reopen(task)
    task.asked = step.answers if step.why == "risk" else 0
    task.risk, task.consensus_stale = risk, False
    task.slots = room(task)
    if task.reason != Reason.MANUAL:
        task.priority = predictions.begun(risk)
        if task.asked and task.reason != Reason.RANDOM:  # the random slice must stay whole
            task.reason = Reason.DISAGREEMENT
    rows.update(task, ["asked", "risk", "consensus_stale", "slots", "priority", "reason"])


def lock(task_id: int) -> Task:
    """The task with its project, its row locked until the transaction ends."""
    task = rows.lock(Task, task_id)
    task.project = rows.get(
        Project, task.project_id
    )  # after the lock: as it is now, not as it was before we waited
    return task


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
    task.asked = 0
    task.save(
        update_fields=[
            "asked",
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
        asked=0,
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
    why: str,
) -> Consensus:
    adaptive = why != "enough_answers"
    outcome = disputes.Outcome(settled)
    if task.project.cards_per_dispute or _has_cards(task, last):
        ask = not _is_asked_for(task) and why != "below_target"
        outcome = disputes.resolve(task=task, settled=settled, answers=answers, ask=ask)
    settled = outcome.settled
    state, cause = _state(task, outcome, adaptive=adaptive)
    consensus = _revise(
        task,
        last,
        source=ConsensusSource.ANSWERS,
        method=method + disputes.CARDS_DECIDED if outcome.decided else method,
        shapes=[_dump_settled(item) for item in settled.shapes if item.accepted],
        rejected=[_dump_settled(item) for item in settled.shapes if not item.accepted],
        risk=settled.risk,
        answers=len(crowd.people(answers)),
        beside=evidence.dump(
            settled,
            overlap=Overlap.ADAPTIVE if adaptive else Overlap.FIXED,
            why=why,
            tied=outcome.tied,
        ),
    )
    changes: dict[str, Any] = {
        "state": state,
        "review_cause": cause,
        "slots": 0,
        "asked": 0,
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


def _state(task: Task, outcome: disputes.Outcome, *, adaptive: bool) -> tuple[TaskState, ReviewCause]:
    """What becomes of a task with this consensus, whatever it was before, unless a person asked to look at it."""
    project, risk = task.project, outcome.settled.risk
    if _is_asked_for(task):
        return TaskState.NEEDS_REVIEW, ReviewCause(task.review_cause)
    if outcome.waiting:
        return TaskState.DISPUTED, ReviewCause.NONE
    risky = project.review_risk is not None and risk >= project.review_risk
    if outcome.tied or risky or (adaptive and risk > project.target_risk):
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


def _is_asked_for(task: Task) -> bool:
    """Whether a person gave it to the reviewers, who then decide whatever its answers come to."""
    return task.state == TaskState.NEEDS_REVIEW and task.review_cause in UNTIL_DECIDED


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
    beside: label_shapes.Json | None = None,
) -> Consensus:
    """The task's consensus with this content: the one in force when it is the same, else the next revision.

    What stands `beside` the content is kept up to date, and makes no revision.
    """
    schema_version = projects.current_schema(task.project)
    digest = _digest(source, method, schema_version.number, shapes, rejected, risk, answers)
    if task.consensus is not None and task.consensus.digest == digest:
        if beside is not None and beside != task.consensus.evidence:
            task.consensus.evidence = beside
            rows.update(task.consensus, ["evidence"])
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
        evidence=beside or {},
    )
    rows.insert(consensus)
    return consensus


def _digest(*content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _dump_settled(item: methods.SettledShape) -> label_shapes.Json:
    return label_shapes.dump(item.shape) | {"score": round(item.confidence, 6)}
