"""The counts that triggers keep are the counts that a scan would give."""

import random

import pytest
from django.db import connection
from django.db.models import Count, Q, Sum

from labeling import selectors
from labeling.models import Project, Tally, Task, TaskState
from labeling.services import tallies
from tests.conftest import House
from tests.labeling.threads import at_once

pytestmark = pytest.mark.django_db


def scanned(project: Project) -> dict[str, int]:
    states = Task.objects.filter(project=project).aggregate(
        tasks=Count("id", filter=Q(is_gold=False)),
        gold=Count("id", filter=Q(is_gold=True)),
        **{state.value: Count("id", filter=Q(state=state, is_gold=False)) for state in TaskState},
    )
    answers = Task.objects.filter(project=project).aggregate(total=Sum("answers"))["total"] or 0
    return {**states, "answers": answers}


def test_any_change_of_tasks_is_counted(house: House) -> None:
    project = house.project
    dice = random.Random(3)
    for _ in range(12):
        house.add_picture()
    for _ in range(60):
        task = dice.choice(list(Task.objects.filter(project=project)) or [house.add_picture()])
        change = dice.randrange(5)
        if change == 0:
            Task.objects.filter(pk=task.pk).update(state=dice.choice(TaskState.values))
        elif change == 1:
            Task.objects.filter(project=project, pk__gte=task.pk).update(answers=dice.randrange(4))
        elif change == 2:
            task.is_gold = not task.is_gold
            task.save()
        elif change == 3:
            Task.objects.filter(pk=task.pk).update(slots=dice.randrange(4), priority=dice.random())
        elif Task.objects.filter(project=project).count() > 6:
            task.delete()
        assert selectors.progress(project) == scanned(project)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer and one row for each state")
def test_many_rows_are_summed_up_and_say_the_same(house: House) -> None:
    for _ in range(4):
        house.add_picture()
    state, is_gold = TaskState.QUEUED, False
    Tally.objects.bulk_create(
        Tally(project=house.project, state=state, is_gold=is_gold, tasks=1, answers=2)
        for _ in range(tallies.FEW)
    )
    before = selectors.progress(house.project)
    assert before["queued"] == tallies.FEW + 4
    assert tallies.compact() == 1
    assert selectors.progress(house.project) == before
    assert Tally.objects.filter(project=house.project).count() == 1
    assert tallies.compact() == 0


def test_a_table_that_lost_its_triggers_gets_them_back_and_is_counted_anew(house: House) -> None:
    with connection.cursor() as cursor:
        on = " ON labeling_task" if connection.vendor == "postgresql" else ""
        cursor.execute(f"DROP TRIGGER labeling_tally_update{on}")
    task = house.add_picture()
    Task.objects.filter(pk=task.pk).update(state=TaskState.REJECTED)
    assert selectors.progress(house.project) != scanned(house.project)
    tallies.install()
    assert selectors.progress(house.project) == scanned(house.project)
    Task.objects.filter(pk=task.pk).update(state=TaskState.SETTLED)
    assert selectors.progress(house.project) == scanned(house.project)


@pytest.mark.django_db(transaction=True)
def test_people_who_write_at_once_are_all_counted(house: House) -> None:
    tasks = [house.add_picture() for number in range(8)]

    def work(number: int) -> None:
        for turn in range(10):
            Task.objects.filter(pk=tasks[number].pk).update(answers=turn + 1)
            if turn == 5:
                tallies.compact()

    at_once(8, work)
    assert selectors.progress(house.project) == scanned(house.project)
    assert selectors.progress(house.project)["answers"] == 80


def test_counts_go_with_their_project(house: House) -> None:
    house.add_picture()
    number = house.project.pk
    house.project.delete()
    tallies.compact()
    assert sum(row.tasks for row in Tally.objects.filter(project_id=number)) == 0
