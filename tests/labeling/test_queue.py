"""Leases: who gets which task, for how long, and never more people than a task needs."""

import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from labeling.models import (
    Annotation,
    ConsensusSource,
    Event,
    Lease,
    Project,
    Reason,
    ReviewCause,
    Role,
    Skip,
    Task,
    TaskState,
)
from labeling.services import annotations, consensus, projects, queue
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


def add_gold(house: House, **fields: Any) -> Task:
    task = house.add_picture()
    consensus.set_answer(
        task=task, shapes=(), source=ConsensusSource.EXPERT, actor=house.people[Role.OWNER], as_gold=True
    )
    Task.objects.filter(pk=task.pk).update(**fields)
    task.refresh_from_db()
    return task


def always_gold(
    house: House, user: User, *, count: int = 1, now: datetime = NOW, share: float = 0.5
) -> list[Lease]:
    house.project.gold_share = share
    return queue.lease_next(project=house.project, user=user, count=count, now=now, draw=lambda: 0.0)


def never_gold(house: House, user: User, *, count: int = 1, now: datetime = NOW) -> list[Lease]:
    return queue.lease_next(project=house.project, user=user, count=count, now=now, draw=lambda: 1.0)


def test_gold_comes_in_the_place_of_another_task_which_stays_for_later(house: House) -> None:
    real, gold = house.add_picture(reason=Reason.UNCERTAIN), add_gold(house)
    annotator = house.people[Role.ANNOTATOR]

    (held,) = always_gold(house, annotator)

    assert (held.task_id, held.reason) == (gold.pk, Reason.UNCERTAIN)
    real.refresh_from_db()
    gold.refresh_from_db()
    assert (real.slots, real.state) == (2, TaskState.QUEUED)
    assert (gold.slots, gold.state) == (0, TaskState.SETTLED)
    assert [lease.task_id for lease in never_gold(house, annotator, count=2)] == [gold.pk, real.pk]


def test_gold_comes_as_often_as_the_project_says(house: House) -> None:
    for _ in range(8):
        house.add_picture()
    gold = {add_gold(house).pk for _ in range(8)}
    house.project.gold_share = 0.25
    draws = iter([0.9, 0.24, 0.25, 0.1, 0.5, 0.6, 0.7, 0.8])

    leases = queue.lease_next(
        project=house.project, user=house.people[Role.ANNOTATOR], count=8, now=NOW, draw=lambda: next(draws)
    )

    assert len(leases) == 8
    assert len({held.task_id for held in leases} & gold) == 2


def test_no_gold_comes_into_a_queue_that_is_empty_or_when_there_is_no_share(house: House) -> None:
    add_gold(house)
    annotator = house.people[Role.ANNOTATOR]

    assert always_gold(house, annotator) == []

    real = house.add_picture()
    assert [held.task_id for held in always_gold(house, annotator, share=0.0)] == [real.pk]


def test_gold_never_comes_to_somebody_who_answered_holds_or_passed_it_by(house: House) -> None:
    answered, held, skipped, rejected = (add_gold(house) for _ in range(4))
    Task.objects.filter(pk=rejected.pk).update(state=TaskState.REJECTED)
    annotator = house.people[Role.ANNOTATOR]
    for _ in range(3):
        house.add_picture()
    answer(answered, annotator)
    Skip.objects.create(task=skipped, user=annotator)
    Lease.objects.create(task=held, user=annotator, token=1, created_at=NOW, expires_at=LATER)

    leases = always_gold(house, annotator, count=4)

    assert [lease.task_id for lease in leases if lease.task.is_gold] == [held.pk]
    assert len(leases) == 4


def test_gold_stands_anywhere_among_the_tasks(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_unpredictable", random.Random(7))
    house.project.gold_share = 0.5
    people = crowd(house, 12)
    for _ in range(3):
        house.add_picture(slots=50)
    gold = add_gold(house)
    places = set()
    for person in people:
        draws = iter([0.0, 1.0, 1.0])
        leases = queue.lease_next(
            project=house.project,
            user=person,
            count=3,
            now=NOW,
            draw=lambda draws=draws: next(draws),  # type: ignore[misc]
        )
        places.add([lease.task_id for lease in leases].index(gold.pk))

    assert places == {0, 1, 2}


def test_a_gold_lease_that_ends_changes_nothing_of_the_task(house: House) -> None:
    house.add_picture()
    gold = add_gold(house)
    annotator = house.people[Role.ANNOTATOR]
    (held,) = always_gold(house, annotator)

    queue.release(task=held.task, user=annotator, token=held.token)

    gold.refresh_from_db()
    assert (gold.slots, gold.state, Lease.objects.count()) == (0, TaskState.SETTLED, 0)


def test_what_enough_people_pass_by_goes_to_a_reviewer(house: House) -> None:
    task = house.add_picture()
    house.project.skips_to_review = 2
    house.project.answers_per_task = 3
    house.project.save()
    Task.objects.update(slots=3)
    first, second, third = crowd(house, 3)
    leases = [lease(house, person)[0] for person in (first, second, third)]

    for held in leases[:2]:
        queue.skip(task=held.task, user=held.user, token=held.token, reason="dark")

    task.refresh_from_db()
    assert (task.state, task.review_cause, task.slots) == (TaskState.NEEDS_REVIEW, ReviewCause.SKIPPED, 0)
    assert Event.objects.get(verb="needs_review").data == {"skips": 2}
    answer(task, third)
    assert Lease.objects.count() == 0
    task.refresh_from_db()
    assert (task.state, task.answers) == (TaskState.NEEDS_REVIEW, 1)


def test_gold_that_people_pass_by_stays_gold(house: House) -> None:
    house.add_picture()
    gold = add_gold(house)
    house.project.skips_to_review = 1
    house.project.save()
    annotator = house.people[Role.ANNOTATOR]
    (held,) = always_gold(house, annotator)

    queue.skip(task=held.task, user=annotator, token=held.token, reason="dark")

    gold.refresh_from_db()
    assert (gold.state, gold.review_cause) == (TaskState.SETTLED, ReviewCause.NONE)


def test_a_lease_to_correct_takes_no_slot_and_gives_none_back(house: House) -> None:
    task = house.add_picture()
    first, second = crowd(house, 2)
    answer(task, first)
    Lease.objects.create(task=task, user=first, token=9, created_at=NOW, expires_at=LATER)
    (held,) = lease(house, second)

    queue.release(task=task, user=second, token=held.token)
    task.refresh_from_db()
    assert task.slots == 1

    queue.release(task=task, user=first, token=9)
    task.refresh_from_db()
    assert task.slots == 1


def test_begun_tasks_that_one_answered_are_not_in_the_way(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "TOP", 3)
    mine = [house.add_picture(priority=2.0) for _ in range(5)]
    below = house.add_picture(priority=1.0, answers=1, slots=1)
    fresh = [house.add_picture() for _ in range(2)]
    annotator = house.people[Role.ANNOTATOR]
    for task in mine:
        answer(task, annotator)

    leases = lease(house, annotator, count=4)

    assert {held.task_id for held in leases} == {below.pk, *(task.pk for task in fresh)}


def test_asking_does_not_sweep_other_projects_or_when_there_is_enough(house: House) -> None:
    task = house.add_picture()
    house.add_picture()
    first, second = crowd(house, 2)
    lease(house, first)

    assert [held.task_id for held in lease(house, second, now=LATER)] == [task.pk]
    assert Lease.objects.filter(user=first).exists()
    assert queue.expire(now=LATER, project=next_door(house)) == 0
    assert queue.expire(now=LATER, project=house.project) == 1


def next_door(house: House) -> Project:
    schema = projects.current_schema(house.project).schema
    return projects.create(name="Next door", schema=schema, owner=house.people[Role.OWNER])


def test_asking_takes_few_statements(house: House, django_assert_max_num_queries: Any) -> None:
    for _ in range(3):
        house.add_picture()
    queries = 6 if connection.vendor == "postgresql" else 5

    with django_assert_max_num_queries(queries + 2):  # and the savepoint's two
        assert len(never_gold(house, house.people[Role.ANNOTATOR], count=3)) == 3


def test_an_empty_queue_names_what_others_hold_but_no_gold(house: House) -> None:
    house.project.answers_per_task = 1
    house.project.save()
    task = house.add_picture(slots=1)
    gold = add_gold(house)
    first, second = crowd(house, 2)
    lease(house, first)
    Lease.objects.create(task=gold, user=first, token=1, created_at=NOW, expires_at=LATER)

    (holder,) = queue.why_empty(project=house.project, user=second).held

    assert (holder.count, holder.names, holder.expires_at) == (1, [task.name], NOW + timedelta(seconds=300))


@pytest.mark.django_db(transaction=True)
def test_a_late_answer_and_another_tab_that_asks_never_hand_the_task_to_its_author(house: House) -> None:
    annotator = house.people[Role.ANNOTATOR]
    tasks = [house.add_picture() for _ in range(12)]

    def work(number: int) -> None:
        if number:
            lease(house, annotator, count=10, now=timezone.now())
        else:
            for task in tasks:
                answer(task, annotator, now=timezone.now())

    at_once(3, work)

    assert Annotation.objects.count() == 12
    assert not Lease.objects.exists()
    for task in Task.objects.all():
        assert (task.answers, task.slots) == (1, 1)
