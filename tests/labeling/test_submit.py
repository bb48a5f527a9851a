"""What a submit does to its task, its consensus and the record."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User

from labeling.models import Annotation, Consensus, ConsensusSource, Event, Lease, Role, Task, TaskState
from labeling.services import annotations, consensus, queue
from labeling.services.annotations import KeyReused, StaleRevision
from labeling.shapes import Box, InvalidShape
from tests.conftest import House

pytestmark = pytest.mark.django_db

NOW = datetime.fromisoformat("2026-03-02T10:00:00+00:00")


def hand_in(
    task: Task, author: User, *, key: UUID | None = None, base_revision: int = 0, x1: float = 4.0
) -> dict[str, object]:
    return annotations.submit(
        task=task,
        author=author,
        key=key or uuid4(),
        shapes=(Box("a", 1, (x1, 5.0, 24.0, 25.0)),),
        base_revision=base_revision,
        seconds_active=2.0,
        suggestions_from="",
        now=NOW,
    )


def test_each_submit_is_an_event_in_its_transaction(house: House) -> None:
    task, author = house.add_picture(), house.people[Role.ANNOTATOR]
    key = uuid4()
    response = hand_in(task, author, key=key)
    hand_in(task, author, key=key)

    event = Event.objects.get(verb="submit")

    assert (event.actor, event.object_type, event.object_id) == (author, "task", str(task.pk))
    assert event.data["annotation"] == response["id"]


def test_a_refused_submit_leaves_nothing_behind(house: House) -> None:
    task, author = house.add_picture(), house.people[Role.ANNOTATOR]
    (lease,) = queue.lease_next(project=house.project, user=author, count=1, now=NOW)

    with pytest.raises(StaleRevision):
        hand_in(task, author, base_revision=3)
    with pytest.raises(InvalidShape):
        annotations.submit(
            task=task,
            author=author,
            key=uuid4(),
            shapes=(Box("a", 77, (4.0, 5.0, 24.0, 25.0)),),
            base_revision=0,
            seconds_active=0,
            suggestions_from="",
            now=NOW,
        )

    task.refresh_from_db()
    assert (task.answers, task.slots, Annotation.objects.count()) == (0, 1, 0)
    assert Lease.objects.get() == lease
    assert not Event.objects.filter(verb="submit").exists()


def test_a_key_stays_with_its_answer_when_a_correction_followed(house: House) -> None:
    task, author = house.add_picture(), house.people[Role.ANNOTATOR]
    key = uuid4()
    first = hand_in(task, author, key=key)
    hand_in(task, author, base_revision=1, x1=6.0)

    assert hand_in(task, author, key=key) == first
    with pytest.raises(KeyReused):
        hand_in(task, author, key=key, x1=7.0)
    assert Annotation.objects.count() == 2


def test_an_answer_under_an_overdue_lease_keeps_its_slot(house: House) -> None:
    task, author = house.add_picture(), house.people[Role.ANNOTATOR]
    queue.lease_next(project=house.project, user=author, count=1, now=NOW - timedelta(hours=1))

    response = hand_in(task, author)

    task.refresh_from_db()
    assert (response["late"], task.answers, task.slots) == (False, 1, 1)


def test_the_answer_that_completes_a_task_settles_it(house: House) -> None:
    task = house.add_picture()
    hand_in(task, house.people[Role.ANNOTATOR])
    assert not Consensus.objects.exists()

    hand_in(task, house.people[Role.REVIEWER], x1=5.0)

    task.refresh_from_db()
    assert (task.state, task.slots, task.consensus_stale) == (TaskState.SETTLED, 0, False)
    assert task.consensus is not None
    assert (task.consensus.revision, task.consensus.answers) == (1, 2)


def test_a_correction_settles_its_task_again(house: House) -> None:
    task = house.add_picture()
    hand_in(task, house.people[Role.ANNOTATOR])
    hand_in(task, house.people[Role.REVIEWER])
    hand_in(task, house.people[Role.REVIEWER], base_revision=1, x1=5.0)

    task.refresh_from_db()
    assert task.consensus is not None
    assert task.consensus.revision == 2
    assert 4.0 < task.consensus.shapes[0]["xyxy"][0] < 5.0
    assert Consensus.objects.filter(task=task).count() == 2


def test_an_answer_to_a_gold_task_is_kept_and_changes_no_gold(house: House) -> None:
    task, expert = house.add_picture(), house.people[Role.OWNER]
    gold = consensus.set_answer(
        task=task,
        shapes=(Box("g", 1, (0.0, 0.0, 9.0, 9.0)),),
        source=ConsensusSource.EXPERT,
        actor=expert,
        as_gold=True,
    )
    for role in (Role.ANNOTATOR, Role.REVIEWER, Role.MANAGER):
        hand_in(task, house.people[role])

    task.refresh_from_db()
    assert Annotation.objects.count() == 3
    assert (task.consensus, task.is_gold, task.consensus_stale) == (gold, True, False)


def test_an_answer_is_stored_even_when_it_cannot_be_settled(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = house.add_picture()

    def broken(task: Task) -> None:
        Task.objects.filter(pk=task.pk).update(state=TaskState.REJECTED)  # half done
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(consensus, "_settle", broken)
        hand_in(task, house.people[Role.ANNOTATOR])
        hand_in(task, house.people[Role.REVIEWER])
    task.refresh_from_db()
    assert (task.answers, task.consensus_stale, task.state) == (2, True, TaskState.IN_PROGRESS)

    assert consensus.settle_stale() == 1

    task.refresh_from_db()
    assert (task.consensus_stale, task.state) == (False, TaskState.SETTLED)
