"""From answers to the settled one: this task at once on each submit, the whole project when it is refitted."""

import hashlib
import json
import logging
from collections.abc import Iterator
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from labeling import consensus as methods
from labeling import shapes as label_shapes
from labeling.models import (
    Annotation,
    Consensus,
    ConsensusSource,
    Project,
    Skill,
    Task,
    TaskState,
)
from labeling.services import events, projects

logger = logging.getLogger(__name__)

CHUNK: Final = 500


def settle_soon(*, task_id: int) -> None:
    """Settles a task, and if that fails leaves it marked stale; an answer is stored all the same."""
    try:
        settle(task_id=task_id)
    except Exception:
        logger.exception("task %s stays to be settled", task_id)


def settle(*, task_id: int) -> Consensus | None:
    """Derives a task's consensus from its current answers, once it has as many as it needs.

    The same answers give the same revision again. An expert's or imported answer is never overwritten.
    """
    with transaction.atomic():
        task = (
            Task.objects.select_for_update(of=("self",), no_key=True)
            .select_related("project", "consensus")
            .get(pk=task_id)
        )
        if task.consensus is not None and task.consensus.source != ConsensusSource.ANSWERS:
            Task.objects.filter(pk=task.pk).update(consensus_stale=False)
            return task.consensus
        answers = list(_answers(task.project, task_ids=[task.pk]))
        if len(answers) < needed(task):
            Task.objects.filter(pk=task.pk).update(consensus_stale=False)
            return None
        method = methods.METHODS[task.project.consensus_method]
        settled = method.predict(answers, task.project.consensus_parameters or {})
        return _write(task, settled[0], method.name, len(answers))


def needed(task: Task) -> int:
    return task.project.answers_per_task


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
        project=project, state=TaskState.SETTLED, consensus__source=ConsensusSource.ANSWERS
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
    task = (
        Task.objects.select_for_update(of=("self",), no_key=True)
        .select_related("project", "consensus")
        .get(pk=task.pk)
    )
    dumped = label_shapes.dump_list(shapes)
    consensus = _revise(task, source=source, method="", shapes=dumped, rejected=[], risk=0.0, answers=0)
    Task.objects.filter(pk=task.pk).update(
        is_gold=as_gold or task.is_gold,
        state=TaskState.SETTLED,
        slots=0,
        consensus=consensus,
        consensus_stale=False,
        risk=0.0,
        settled_at=task.settled_at or timezone.now(),
    )
    events.record(
        project=task.project,
        actor=actor,
        verb="set_answer",
        subject=task,
        data={"source": source, "revision": consensus.revision, "gold": as_gold},
    )
    return consensus


def _write(task: Task, settled: methods.Settled, method: str, answers: int) -> Consensus:
    shapes = [_dump_settled(item) for item in settled.shapes if item.accepted]
    rejected = [_dump_settled(item) for item in settled.shapes if not item.accepted]
    consensus = _revise(
        task,
        source=ConsensusSource.ANSWERS,
        method=method,
        shapes=shapes,
        rejected=rejected,
        risk=settled.risk,
        answers=answers,
    )
    Task.objects.filter(pk=task.pk).update(
        state=TaskState.SETTLED,
        slots=0,
        consensus=consensus,
        consensus_stale=False,
        risk=settled.risk,
        settled_at=task.settled_at or timezone.now(),
    )
    return consensus


def _revise(
    task: Task,
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
    content = [source, method, schema_version.number, shapes, rejected, risk, answers]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    if task.consensus is not None and task.consensus.digest == digest:
        return task.consensus
    last = Consensus.objects.filter(task=task).aggregate(last=Max("revision"))["last"] or 0
    return Consensus.objects.create(
        task=task,
        revision=last + 1,
        source=source,
        method=method,
        schema_version=schema_version,
        shapes=shapes,
        rejected=rejected,
        risk=risk,
        answers=answers,
        digest=digest,
    )


def _dump_settled(item: methods.SettledShape) -> label_shapes.Json:
    return label_shapes.dump(item.shape) | {"score": round(item.confidence, 6)}


def _answers(project: Project, task_ids: list[int] | None = None) -> Iterator[methods.Answer]:
    rows = Annotation.objects.filter(task__project=project, is_current=True)
    if task_ids is not None:
        rows = rows.filter(task_id__in=task_ids)
    for task_id, author_id, shapes in (
        rows.order_by("task_id", "author_id")
        .values_list("task_id", "author_id", "shapes")
        .iterator(chunk_size=CHUNK)
    ):
        yield methods.Answer(str(task_id), str(author_id), label_shapes.parse_list(shapes))
