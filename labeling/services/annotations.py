"""Answers: stored once per key, never changed, never thrown away."""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction

from labeling import shapes as label_shapes
from labeling.models import Annotation, Draft, Lease, SchemaVersion, Task, TaskState
from labeling.services import consensus, events, projects, queue
from labeling.shapes import InvalidShape, Shape

ANNOTATORS_PROVENANCES = ("human_drawn", "human_edited", "human_accepted", "imported")
RESPONSE_NAMES = ("id", "task_id", "revision", "state", "late")


class KeyReused(Exception):
    """The same key came with another answer."""


class StaleRevision(Exception):
    """The author's answer changed since this one was begun; both are kept."""


def parse(*, task: Task, raw: object) -> tuple[Shape, ...]:
    """An answer's shapes, checked against the project's schema in force. Raises `InvalidShape`."""
    shapes = label_shapes.parse_list(raw)
    check(shapes, projects.current_schema(task.project))
    return shapes


def check(shapes: Sequence[Shape], version: SchemaVersion) -> None:
    """Raises `InvalidShape` for the first shape that a person cannot have drawn under this schema."""
    schema = version.schema
    for index, shape in enumerate(shapes):
        problem = schema.problem_with(shape)
        if problem is not None:
            raise InvalidShape(f"shapes[{index}].{problem[0]}", problem[1])
        if shape.provenance not in ANNOTATORS_PROVENANCES:
            raise InvalidShape(
                f"shapes[{index}].provenance", "a person's answer is drawn, edited or accepted"
            )


def submit(
    *,
    task: Task,
    author: AbstractBaseUser,
    key: UUID,
    shapes: Sequence[Shape],
    base_revision: int,
    seconds_active: float,
    suggestions_from: str,
    now: datetime,
) -> dict[str, Any]:
    """Stores an answer and gives back the response for it, which the same key gets again.

    An answer whose lease ran out is taken all the same: into a free slot, else as an extra answer.
    Raises `KeyReused`, `StaleRevision`, and `InvalidShape` if the shapes don't fit the schema in force.
    """
    digest = _digest(task.pk, label_shapes.dump_list(shapes), base_revision)
    try:
        response = _store(
            task_id=task.pk,
            author=author,
            key=key,
            digest=digest,
            shapes=shapes,
            base_revision=base_revision,
            seconds_active=seconds_active,
            suggestions_from=suggestions_from,
            now=now,
        )
    except IntegrityError:
        # The same key in parallel for two tasks, or on a database that lets both in: the first one won.
        again = _answered_before(author, key, digest)
        if again is None:
            raise
        return again
    consensus.settle_soon(task_id=task.pk)
    return response


@transaction.atomic
def _store(
    *,
    task_id: int,
    author: AbstractBaseUser,
    key: UUID,
    digest: str,
    shapes: Sequence[Shape],
    base_revision: int,
    seconds_active: float,
    suggestions_from: str,
    now: datetime,
) -> dict[str, Any]:
    task = Task.objects.select_for_update(of=("self",), no_key=True).select_related("project").get(pk=task_id)
    again = _answered_before(author, key, digest)
    if again is not None:
        return again
    # Only a new answer must fit the schema: one that was taken is told so again, whatever was removed since.
    version = projects.current_schema(task.project)
    check(shapes, version)
    current = Annotation.objects.filter(task=task, author_id=author.pk, is_current=True).first()
    revision = 0 if current is None else current.revision
    if base_revision != revision:
        raise StaleRevision(
            f"your answer for this picture is at revision {revision}, this work began from {base_revision}"
        )
    held = _end_lease(task, author)
    _count(task, is_new=current is None, held=held)
    if current is not None:
        Annotation.objects.filter(pk=current.pk).update(is_current=False)
    annotation = Annotation(
        task=task,
        author_id=author.pk,
        revision=revision + 1,
        key=key,
        digest=digest,
        schema_version=version,
        shapes=label_shapes.dump_list(shapes),
        suggestions_from=suggestions_from,
        seconds_active=seconds_active,
        late=not held and current is None,
        created_at=now,
    )
    values = (str(annotation.pk), task.pk, annotation.revision, task.state, annotation.late)
    response = dict(zip(RESPONSE_NAMES, values, strict=True))
    annotation.response = response
    annotation.save(force_insert=True)
    Draft.objects.filter(task=task, user_id=author.pk).delete()
    events.record(
        project=task.project,
        actor=author,
        verb="submit",
        subject=task,
        data={
            "annotation": response["id"],
            "revision": annotation.revision,
            "shapes": len(shapes),
            "seconds_active": seconds_active,
            "late": annotation.late,
        },
    )
    return response


def save_draft(
    *, task: Task, user: AbstractBaseUser, shapes: Sequence[Shape], tab: str, now: datetime
) -> Draft:
    """Keeps unsubmitted work on the server; the newest wins."""
    draft, _ = Draft.objects.update_or_create(
        task=task,
        user_id=user.pk,
        defaults={"shapes": label_shapes.dump_list(shapes), "tab": tab, "saved_at": now},
    )
    return draft


def _answered_before(author: AbstractBaseUser, key: UUID, digest: str) -> dict[str, Any] | None:
    before = Annotation.objects.filter(author_id=author.pk, key=key).first()
    if before is None:
        return None
    if before.digest != digest:
        raise KeyReused("this key was used for another answer; make a new key for a new answer")
    # PostgreSQL keeps an object's names in an order of its own; the same key gets the same bytes.
    return {name: before.response[name] for name in RESPONSE_NAMES}


def _end_lease(task: Task, author: AbstractBaseUser) -> bool:
    """Ends the author's lease on the task; whether there was one."""
    # A lease that is overdue, or whose token another tab holds, still keeps its slot free for this author.
    deleted, _ = Lease.objects.filter(task=task, user_id=author.pk).delete()
    return bool(deleted)


def _count(task: Task, *, is_new: bool, held: bool) -> None:
    if not is_new:
        if held and task.state in queue.OPEN_STATES:
            task.slots += 1  # a correction fills no slot
        task.consensus_stale = True
        task.save(update_fields=["slots", "consensus_stale"])
        return
    task.answers += 1
    if not held and task.slots > 0:
        task.slots -= 1
    if task.state == TaskState.QUEUED:
        task.state = TaskState.IN_PROGRESS
    task.consensus_stale = True
    task.save(update_fields=["answers", "slots", "state", "consensus_stale"])


def _digest(task_id: int, shapes: list[label_shapes.Json], base_revision: int) -> str:
    body = json.dumps([task_id, shapes, base_revision], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()
