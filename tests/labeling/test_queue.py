"""Leases: who gets which task, for how long, and never more people than a task needs."""

from collections import Counter
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from labeling.models import Annotation, Event, Lease, Role, Task, TaskState
from labeling.services import annotations, projects, queue
from labeling.services.queue import LostLease
from tests.conftest import House
from tests.labeling.threads import at_once

pytestmark = pytest.mark.django_db

NOW = datetime.fromisoformat("2026-03-02T10:00:00+00:00")
LATER = NOW + timedelta(seconds=301)


def crowd(house: House, size: int) -> list[User]:
    people = [User.objects.create_user(f"person {number}") for number in range(size)]
    for person in people:
        projects.set_member(
            project=house.project,
            username=person.username,
            role=Role.ANNOTATOR,
            actor=house.people[Role.OWNER],
        )
    return people


def lease(house: House, user: User, *, count: int = 1, now: datetime = NOW) -> list[Lease]:
    return queue.lease_next(project=house.project, user=user, count=count, now=now)


def answer(task: Task, user: User, *, now: datetime = NOW) -> None:
    annotations.submit(
        task=task,
        author=user,
        key=uuid4(),
        shapes=(),
        base_revision=0,
        seconds_active=1.0,
        suggestions_from="",
        now=now,
    )


def people_in(task: Task) -> int:
    """How many people a task has: those who hold it and those who answered it."""
    holders = set(Lease.objects.filter(task=task).values_list("user_id", flat=True))
    authors = set(Annotation.objects.filter(task=task).values_list("author_id", flat=True))
    return len(holders | authors)


def test_a_lease_is_for_the_project_s_time_and_has_a_token(house: House) -> None:
    task = house.add_picture()

    (held,) = lease(house, house.people[Role.ANNOTATOR])

    assert (held.task_id, held.token, held.expires_at) == (task.pk, 1, NOW + timedelta(seconds=300))
    task.refresh_from_db()
    assert (task.state, task.slots, task.fence) == (TaskState.IN_PROGRESS, 1, 1)


def test_the_most_urgent_tasks_come_first_and_then_the_oldest(house: House) -> None:
    old, young, urgent = (house.add_picture(priority=priority) for priority in (0.0, 0.0, 2.5))

    leases = lease(house, house.people[Role.ANNOTATOR], count=3)

    assert [held.task_id for held in leases] == [urgent.pk, old.pk, young.pk]


def test_asking_again_gives_the_same_leases_first_and_renews_them(house: House) -> None:
    for _ in range(3):
        house.add_picture()
    annotator = house.people[Role.ANNOTATOR]
    first = lease(house, annotator, count=2)

    again = lease(house, annotator, count=3, now=NOW + timedelta(seconds=200))

    assert [(held.pk, held.token) for held in again[:2]] == [(held.pk, held.token) for held in first]
    assert len(again) == 3
    assert {held.expires_at for held in Lease.objects.all()} == {NOW + timedelta(seconds=500)}


def test_nobody_holds_more_than_ten_tasks_ahead(house: House) -> None:
    for _ in range(12):
        house.add_picture()

    assert len(lease(house, house.people[Role.ANNOTATOR], count=50)) == queue.MAX_AHEAD


def test_a_task_goes_to_as_many_people_as_it_needs_and_no_more(house: House) -> None:
    task = house.add_picture()
    people = crowd(house, 3)

    got = [lease(house, person) for person in people]

    assert [len(leases) for leases in got] == [1, 1, 0]
    assert people_in(task) == 2


def test_nobody_gets_a_task_twice(house: House) -> None:
    task = house.add_picture()
    annotator = house.people[Role.ANNOTATOR]
    lease(house, annotator)
    answer(task, annotator)

    assert lease(house, annotator) == []


def test_a_lease_that_expired_returns_to_the_queue(house: House) -> None:
    house.project.answers_per_task = 1
    house.project.save()
    task = house.add_picture()
    first, second = crowd(house, 2)
    lease(house, first)

    assert lease(house, second, now=NOW + timedelta(seconds=299)) == []
    (held,) = lease(house, second, now=LATER)

    assert (held.task_id, held.token) == (task.pk, 2)
    assert not Lease.objects.filter(user=first).exists()


def test_a_task_whose_only_lease_expired_is_queued_again(house: House) -> None:
    task = house.add_picture()
    lease(house, house.people[Role.ANNOTATOR])

    assert queue.expire(now=LATER) == 1

    task.refresh_from_db()
    assert (task.state, task.slots) == (TaskState.QUEUED, 2)
    assert queue.expire(now=LATER) == 0


def test_an_expired_lease_of_an_answered_task_leaves_it_in_progress(house: House) -> None:
    task = house.add_picture()
    first, second = crowd(house, 2)
    lease(house, first)
    lease(house, second)
    answer(task, first)

    queue.expire(now=LATER)

    task.refresh_from_db()
    assert (task.state, task.slots) == (TaskState.IN_PROGRESS, 1)


def test_a_heartbeat_renews_a_lease(house: House) -> None:
    task = house.add_picture()
    annotator = house.people[Role.ANNOTATOR]
    (held,) = lease(house, annotator)

    until = queue.heartbeat(task=task, user=annotator, token=held.token, now=NOW + timedelta(seconds=290))

    assert until == NOW + timedelta(seconds=590)
    assert queue.expire(now=LATER) == 0


@pytest.mark.parametrize("wrong", ["token", "person", "time"])
def test_a_heartbeat_of_somebody_else_of_an_old_token_or_too_late_is_refused(
    house: House, wrong: str
) -> None:
    task = house.add_picture()
    annotator = house.people[Role.ANNOTATOR]
    (held,) = lease(house, annotator)

    with pytest.raises(LostLease):
        queue.heartbeat(
            task=task,
            user=house.people[Role.REVIEWER] if wrong == "person" else annotator,
            token=held.token + (wrong == "token"),
            now=LATER if wrong == "time" else NOW,
        )

    held.refresh_from_db()
    assert held.expires_at == NOW + timedelta(seconds=300)


def test_a_released_task_goes_to_somebody_else_at_once(house: House) -> None:
    house.project.answers_per_task = 1
    house.project.save()
    task = house.add_picture()
    first, second = crowd(house, 2)
    (held,) = lease(house, first)

    queue.release(task=task, user=first, token=held.token)

    assert [taken.task_id for taken in lease(house, second)] == [task.pk]


def test_releasing_twice_or_with_another_token_gives_no_slot_more(house: House) -> None:
    task = house.add_picture()
    annotator = house.people[Role.ANNOTATOR]
    (held,) = lease(house, annotator)

    queue.release(task=task, user=annotator, token=held.token + 1)
    assert Lease.objects.count() == 1
    for _ in range(3):
        queue.release(task=task, user=annotator, token=held.token)

    task.refresh_from_db()
    assert (task.slots, task.state) == (2, TaskState.QUEUED)


def test_a_skipped_task_never_comes_back_to_this_person_but_goes_to_others(house: House) -> None:
    task = house.add_picture()
    first, second = crowd(house, 2)
    (held,) = lease(house, first)

    queue.skip(task=task, user=first, token=held.token, reason="too blurred")

    assert lease(house, first) == []
    assert queue.why_empty(project=house.project, user=first).code == "yours_are_done"
    assert [taken.task_id for taken in lease(house, second)] == [task.pk]
    assert Event.objects.get(verb="skip").data == {"reason": "too blurred"}


def test_a_task_cannot_be_skipped_with_an_old_token(house: House) -> None:
    task = house.add_picture()
    annotator = house.people[Role.ANNOTATOR]
    (held,) = lease(house, annotator)

    with pytest.raises(LostLease):
        queue.skip(task=task, user=annotator, token=held.token + 1, reason="")

    assert Lease.objects.filter(pk=held.pk).exists()


def test_a_manager_takes_a_task_back_and_it_is_recorded(house: House) -> None:
    task = house.add_picture()
    (held,) = lease(house, house.people[Role.ANNOTATOR])

    queue.release_by_manager(lease=held, actor=house.people[Role.MANAGER])
    queue.release_by_manager(lease=held, actor=house.people[Role.MANAGER])

    task.refresh_from_db()
    assert (task.slots, Lease.objects.count()) == (2, 0)
    assert Event.objects.filter(verb="release_lease").count() == 1


def test_a_settled_task_gives_no_slot_back(house: House) -> None:
    task = house.add_picture()
    first, second, third = crowd(house, 3)
    lease(house, first)
    lease(house, second)
    queue.expire(now=LATER)
    (held,) = lease(house, third, now=LATER)
    answer(task, first, now=LATER)
    answer(task, second, now=LATER)

    queue.release(task=task, user=third, token=held.token)

    task.refresh_from_db()
    assert (task.state, task.slots) == (TaskState.SETTLED, 0)


def test_an_empty_queue_says_why(house: House) -> None:
    first, second, third = crowd(house, 3)

    def why(user: User) -> str:
        return queue.why_empty(project=house.project, user=user).code

    assert why(first) == "no_pictures"
    task = house.add_picture()
    lease(house, first)
    lease(house, second)
    assert why(third) == "all_held"
    held = queue.why_empty(project=house.project, user=third).held
    assert [(holder.username, holder.count) for holder in held] == [("person 0", 1), ("person 1", 1)]
    answer(task, first)
    answer(task, second)
    assert why(third) == "all_done"


def test_wanting_more_answers_opens_tasks_and_wanting_fewer_closes_them(house: House) -> None:
    task = house.add_picture()
    people = crowd(house, 4)
    owner = house.people[Role.OWNER]
    lease(house, people[0])

    projects.change(project=house.project, changes={"answers_per_task": 3}, actor=owner)
    task.refresh_from_db()
    assert task.slots == 2

    projects.change(project=house.project, changes={"answers_per_task": 1}, actor=owner)
    task.refresh_from_db()
    assert task.slots == 0


def test_slots_of_leases_that_end_after_fewer_answers_are_wanted_are_not_given_out_again(
    house: House,
) -> None:
    task = house.add_picture()
    first, second, third = crowd(house, 3)
    lease(house, first)
    lease(house, second)
    projects.change(project=house.project, changes={"answers_per_task": 1}, actor=house.people[Role.OWNER])

    queue.expire(now=LATER)

    house.project.refresh_from_db()
    assert [len(lease(house, person, now=LATER)) for person in (third, first)] == [1, 0]
    assert people_in(task) == 1


def test_a_task_that_has_enough_answers_once_fewer_are_wanted_goes_to_nobody(house: House) -> None:
    task = house.add_picture()
    first, second, third = crowd(house, 3)
    lease(house, first)
    lease(house, second)
    answer(task, first)
    projects.change(project=house.project, changes={"answers_per_task": 1}, actor=house.people[Role.OWNER])

    queue.expire(now=LATER)

    house.project.refresh_from_db()
    assert lease(house, third, now=LATER) == []


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_sixteen_people_asking_at_once_never_get_too_many_or_one_task_twice(house: House) -> None:
    tasks = [house.add_picture(priority=float(number % 3)) for number in range(30)]
    people = crowd(house, 16)

    def ask(number: int) -> list[tuple[int, int]]:
        taken = []
        for turn in range(6):
            for held in lease(house, people[number], count=turn % 3 + 1, now=timezone.now()):
                taken.append((held.task_id, held.token))
                if turn == 2:
                    queue.release(task=held.task, user=people[number], token=held.token)
                elif turn % 2:
                    answer(held.task, people[number], now=timezone.now())
        return taken

    taken = at_once(16, ask)

    tokens = Counter(pair for person in taken for pair in set(person))
    assert set(tokens.values()) == {1}, "two people held a lease with one token"
    for task in tasks:
        task.refresh_from_db()
        assert people_in(task) <= 2
        if task.state != TaskState.SETTLED:
            assert task.slots == 2 - people_in(task)
    assert Annotation.objects.filter(late=True).count() == 0
    assert not Annotation.objects.filter(is_current=True, revision__gt=1).exists()


@pytest.mark.django_db(transaction=True)
def test_many_tabs_of_one_person_never_hold_one_task_twice(house: House) -> None:
    for _ in range(12):
        house.add_picture(slots=2)
    annotator = house.people[Role.ANNOTATOR]

    at_once(8, lambda _: lease(house, annotator, count=2, now=timezone.now()))

    holding = Counter(Lease.objects.values_list("task_id", flat=True))
    assert set(holding.values()) == {1}
    for task in Task.objects.all():
        assert task.slots == 2 - holding[task.pk]


@pytest.mark.django_db(transaction=True)
def test_a_submit_and_the_end_of_its_lease_at_one_moment_do_not_block_each_other(house: House) -> None:
    annotator = house.people[Role.ANNOTATOR]
    tasks = [house.add_picture() for _ in range(10)]
    for task in tasks:
        lease(house, annotator)
        start = timezone.now() - timedelta(hours=1)
        Lease.objects.filter(task=task).update(expires_at=start)

        def both(number: int, task: Task = task) -> None:
            if number:
                queue.expire(now=timezone.now())
            else:
                answer(task, annotator, now=timezone.now())

        at_once(2, both)

    assert Annotation.objects.count() == len(tasks)
    assert Lease.objects.count() == 0
    for task in tasks:
        task.refresh_from_db()
        assert (task.answers, task.slots) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_changing_how_many_answers_are_wanted_while_people_ask_gives_no_slot_too_many(house: House) -> None:
    for _ in range(20):
        house.add_picture()
    people = crowd(house, 7)

    def work(number: int) -> None:
        if number == 7:
            for wanted in (3, 2, 3, 2):
                projects.change(
                    project=house.project,
                    changes={"answers_per_task": wanted},
                    actor=house.people[Role.OWNER],
                )
            return
        for held in lease(house, people[number], count=6, now=timezone.now()):
            if held.task_id % 2:
                queue.release(task=held.task, user=people[number], token=held.token)
            else:
                answer(held.task, people[number], now=timezone.now())

    at_once(8, work)

    for task in Task.objects.exclude(state=TaskState.SETTLED):
        assert task.slots == max(0, 2 - people_in(task))
