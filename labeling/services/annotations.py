"""Answers: stored once per key, never changed, never thrown away."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, connection, transaction
from django.db.models import F

from labeling import rows
from labeling import shapes as label_shapes
from labeling.models import Annotation, Draft, Lease, SchemaVersion, Task, TaskState
from labeling.services import consensus, events, overlap, projects, queue, reviews
from labeling.shapes import InvalidShape, Shape

ANNOTATORS_PROVENANCES = ("human_drawn", "human_edited", "human_accepted", "imported")
RESPONSE_NAMES = ("id", "task_id", "revision", "state", "late")
DRAFTS_KEPT: Final = timedelta(days=30)
_KEY: Final = Annotation._meta.get_field("key")


class KeyReused(Exception):
    """The same key came with another answer."""


class StaleRevision(Exception):
    """The author's answer changed since this one was begun; both are kept."""


class SchemaChanged(Exception):
    """The answer was drawn under an older schema, whose classes are not all there any more."""


class NothingToWithdraw(Exception):
    """The person has no answer for this task."""


@dataclass(frozen=True, slots=True)
class NewerDraft:
    """What another tab of the same person saved, after this one's last saving."""

    tab: str
    saved_at: datetime


def parse(*, task: Task, raw: object, drawn_under: int | None = None) -> tuple[Shape, ...]:
    """A draft's shapes, checked against the schema in force, or else the older one that they were drawn under.

    Raises `InvalidShape`.
    """
    shapes = label_shapes.parse_list(raw)
    version = projects.current_schema(task.project)
    try:
        check(shapes, version)
    except InvalidShape:
        older = _older(version, drawn_under)
        if older is None:
            raise
        check(shapes, older)
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
    lease_token: int | None = None,
    schema_version: int | None = None,
    tab: str | None = None,
) -> dict[str, Any]:
    """Stores an answer and gives back the response for it, which the same key gets again.

    An answer whose lease ran out is taken all the same: into a free slot, else as an extra answer. `late` says
    that it did not come under the lease that it names. The drafts of this `tab` end, without one all of them.
    Raises `KeyReused`, `StaleRevision`, `InvalidShape` if the shapes don't fit the schema in force, and
    `SchemaChanged` if they did fit `schema_version`.
    """
    dumped = label_shapes.dump_list(shapes)
    digest = _digest(task.pk, dumped, base_revision)
    try:
        return _store(
            task_id=task.pk,
            author=author,
            key=key,
            digest=digest,
            shapes=shapes,
            dumped=dumped,
            base_revision=base_revision,
            seconds_active=seconds_active,
            suggestions_from=suggestions_from,
            now=now,
            lease_token=lease_token,
            drawn_under=schema_version,
            tab=tab,
        )
    except IntegrityError:
        # The same key in parallel for two tasks, or on a database that lets both in: the first one won.
        again = _answered_before(Annotation.objects.filter(author_id=author.pk, key=key).first(), digest)
        if again is None:
            raise
        return again


@transaction.atomic
def _store(
    *,
    task_id: int,
    author: AbstractBaseUser,
    key: UUID,
    digest: str,
    shapes: Sequence[Shape],
    dumped: list[label_shapes.Json],
    base_revision: int,
    seconds_active: float,
    suggestions_from: str,
    now: datetime,
    lease_token: int | None,
    drawn_under: int | None,
    tab: str | None,
) -> dict[str, Any]:
    task = consensus.lock(task_id)
    own = _own_answers(author, key, task_id)
    again = _answered_before(next((answer for answer in own if answer.key == key), None), digest)
    if again is not None:
        return again
    # Only a new answer must fit the schema: one that was taken is told so again, whatever was removed since.
    version = projects.current_schema(task.project)
    _must_fit(shapes, version, drawn_under)
    own = [answer for answer in own if answer.task_id == task_id]
    revision = own[-1].revision if own else 0
    if base_revision != revision:
        raise StaleRevision(
            f"your answer for this picture is at revision {revision}, this work began from {base_revision}"
        )
    current = next((answer for answer in own if answer.is_current), None)
    token = _end_lease(task, author)
    if token is None and current is None:
        _after_own_claims(task, author)
    # A lease that is overdue, or that another tab holds by now, still kept its slot free for this author.
    in_time = token is not None and lease_token in (None, token)
    state = _told_state(task, expected=in_time and current is None)
    to_settle = _count(task, is_new=current is None, held=token is not None)
    if current is not None:
        Annotation.objects.filter(pk=current.pk).update(is_current=False)
    annotation = Annotation(
        task=task,
        author_id=author.pk,
        revision=revision + 1,
        key=key,
        digest=digest,
        schema_version=version,
        shapes=dumped,
        suggestions_from=suggestions_from,
        seconds_active=seconds_active,
        late=not in_time and current is None,
        created_at=now,
    )
    values = (str(annotation.pk), task.pk, annotation.revision, state or task.state, annotation.late)
    response = dict(zip(RESPONSE_NAMES, values, strict=True))
    annotation.response = response
    rows.insert(annotation)
    reviews.answered(annotation)
    _end_drafts(task, author, tab)
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
    if to_settle:
        consensus.settle_now(task)
    return response


@transaction.atomic
def _withdraw(task_id: int, author: AbstractBaseUser, base_revision: int, now: datetime) -> dict[str, Any]:
    task = consensus.lock(task_id)
    last = Annotation.objects.filter(task=task, author_id=author.pk).order_by("-revision").first()
    if last is None:
        raise NothingToWithdraw("you have no answer for this picture")
    if last.revision != base_revision:
        raise StaleRevision(
            f"your answer for this picture is at revision {last.revision}, not {base_revision}"
        )
    response = {"task_id": task.pk, "revision": last.revision}
    if not last.is_current:
        return response
    Annotation.objects.filter(pk=last.pk).update(is_current=False, withdrawn_at=now)
    task.answers -= 1
    if not task.is_gold and task.answers < overlap.needed(task):
        consensus.unsettle(task)
    if not task.answers:
        task.asked = 0
    if task.state in queue.OPEN_STATES:
        task.slots = consensus.room(task)
        if not task.answers and not Lease.objects.filter(task=task).exists():
            task.state = TaskState.QUEUED
    task.consensus_stale = _to_settle(task)
    task.save(update_fields=["answers", "asked", "slots", "state", "consensus_stale"])
    events.record(
        project=task.project,
        actor=author,
        verb="withdraw",
        subject=task,
        data={"annotation": str(last.pk), "revision": last.revision},
    )
    if task.consensus_stale:
        consensus.settle_now(task)
    return response


def withdraw(*, task: Task, author: AbstractBaseUser, base_revision: int, now: datetime) -> dict[str, Any]:
    """Takes one's own answer back: it is kept, but counts no more; once more changes nothing.

    A task that now lacks answers is open again, and what they had settled is no longer in force. The next
    answer goes on from this revision. Raises `NothingToWithdraw`, `StaleRevision`.
    """
    return _withdraw(task.pk, author, base_revision, now)


@transaction.atomic
def save_draft(
    *,
    task: Task,
    user: AbstractBaseUser,
    shapes: Sequence[Shape],
    tab: str,
    now: datetime,
    sequence: int | None = None,
) -> tuple[Draft, NewerDraft | None]:
    """Keeps unsubmitted work on the server, one draft for each tab; what another tab saved meanwhile.

    `sequence` counts a tab's savings: one that comes after a later one changes nothing.
    """
    drafts = Draft.objects.filter(task=task, user_id=user.pk)
    before = drafts.filter(tab=tab).first()
    own = drafts.filter(tab=tab)
    if sequence is not None:
        own = own.filter(sequence__lt=sequence)
    changes = {"shapes": label_shapes.dump_list(shapes), "saved_at": now}
    if not own.update(sequence=F("sequence") + 1 if sequence is None else sequence, **changes):
        # Two first savings at once: the one that comes second finds a row, and asks again which is the later.
        _, created = drafts.get_or_create(
            tab=tab, defaults={"task": task, "user_id": user.pk, "sequence": sequence or 0} | changes
        )
        if not created:
            own.update(sequence=F("sequence") + 1 if sequence is None else sequence, **changes)
    draft = drafts.get(tab=tab)
    if before is None:
        return draft, None
    other = drafts.exclude(tab=tab).filter(saved_at__gt=before.saved_at).order_by("-saved_at").first()
    return draft, None if other is None else NewerDraft(other.tab, other.saved_at)


def prune_drafts(*, now: datetime, limit: int = 1_000) -> int:
    """Ends drafts that nobody has come back to; how many."""
    old = (
        Draft.objects.filter(saved_at__lt=now - DRAFTS_KEPT).order_by("saved_at").values_list("pk", flat=True)
    )
    pruned, _ = Draft.objects.filter(pk__in=list(old[:limit])).delete()
    return pruned


def _own_answers(author: AbstractBaseUser, key: UUID, task_id: int) -> list[Annotation]:
    """The author's answer with this key, on whatever task, and theirs for this task, by revision."""
    return list(
        Annotation.objects.raw(
            """SELECT id, task_id, author_id, key, digest, response, revision, is_current FROM labeling_annotation
               WHERE (author_id = %s AND key = %s) OR (task_id = %s AND author_id = %s) ORDER BY revision""",
            [author.pk, _KEY.get_db_prep_value(key, connection), task_id, author.pk],
        )
    )


def _end_drafts(task: Task, author: AbstractBaseUser, tab: str | None) -> None:
    statement = "DELETE FROM labeling_draft WHERE task_id = %s AND user_id = %s"
    values = [task.pk, author.pk]
    with connection.cursor() as cursor:
        if tab is None:
            cursor.execute(statement, values)
        else:
            cursor.execute(f"{statement} AND tab IN ('', %s)", [*values, tab])


def _answered_before(before: Annotation | None, digest: str) -> dict[str, Any] | None:
    if before is None:
        return None
    if before.digest != digest:
        raise KeyReused("this key was used for another answer; make a new key for a new answer")
    # PostgreSQL keeps an object's names in an order of its own; the same key gets the same bytes.
    return {name: before.response[name] for name in RESPONSE_NAMES}


def _must_fit(shapes: Sequence[Shape], version: SchemaVersion, drawn_under: int | None) -> None:
    try:
        check(shapes, version)
    except InvalidShape:
        older = _older(version, drawn_under)
        if older is None:
            raise
        check(shapes, older)
        classes = {item.id: item.name for item in older.schema.classes}
        used = dict.fromkeys(shape.class_id for shape in shapes)
        gone = [classes[class_id] for class_id in used if version.schema.by_id(class_id) is None]
        raise SchemaChanged(
            f"the project no longer has {'the class' if len(gone) == 1 else 'the classes'} {', '.join(gone)}: "
            "change these objects and submit again; your work is kept"
        ) from None


def _older(version: SchemaVersion, drawn_under: int | None) -> SchemaVersion | None:
    if drawn_under is None or drawn_under >= version.number:
        return None
    return SchemaVersion.objects.filter(project_id=version.project_id, number=drawn_under).first()


def _end_lease(task: Task, author: AbstractBaseUser) -> int | None:
    """Ends the author's lease on the task; its token, if there was one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM labeling_lease WHERE task_id = %s AND user_id = %s RETURNING token",
            [task.pk, author.pk],
        )
        row = cursor.fetchone()
    return None if row is None else row[0]


def _after_own_claims(task: Task, author: AbstractBaseUser) -> None:
    """Lets the author's other tabs finish asking for tasks: one that looks already would not see this answer."""
    # Without a lease nothing else tells the queue that this person is at the task. It passes tasks by that are
    # locked, as this one is, so neither waits for the other for ever.
    projects.wait_for_own_tabs(project_id=task.project_id, user_id=author.pk)


def _told_state(task: Task, *, expected: bool) -> TaskState | None:
    """The state to tell for gold: what any other task with as many answers would be in."""
    if not task.is_gold:
        return None
    enough = task.answers >= overlap.needed(task)
    return TaskState.SETTLED if enough and not expected else TaskState.IN_PROGRESS


def _count(task: Task, *, is_new: bool, held: bool) -> bool:
    """Counts an answer; whether there is something to settle. A correction fills no slot and frees none."""
    if is_new:
        task.answers += 1
        if not held and task.slots > 0:
            task.slots -= 1
        if task.state == TaskState.QUEUED:
            task.state = TaskState.IN_PROGRESS
    task.consensus_stale = _to_settle(task)
    rows.update(task, ["answers", "slots", "state", "consensus_stale"])
    return task.consensus_stale


def _to_settle(task: Task) -> bool:
    if task.is_gold or task.state == TaskState.REJECTED:
        return False
    return task.consensus_id is not None or task.answers >= overlap.worth_settling(task)


def _digest(task_id: int, shapes: list[label_shapes.Json], base_revision: int) -> str:
    body = json.dumps([task_id, shapes, base_revision], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()
