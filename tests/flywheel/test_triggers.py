from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from flywheel.models import ModelStatus, ModelVersion, Round, RoundStatus, Trigger
from flywheel.services import rounds, triggers
from labeling.models import Project, SchemaVersion, Task, TaskState
from labeling.services import projects
from tests.conftest import House
from tests.flywheel.conftest import Workers

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "since", "due"),
    [
        (None, NOON - timedelta(days=9), False),
        ({"every_hours": 24}, NOON - timedelta(hours=23), False),
        ({"every_hours": 24}, NOON - timedelta(hours=24), True),
        ({"every_hours": 0.5}, NOON - timedelta(hours=1), True),
        ({"daily_at": "11:59"}, NOON - timedelta(hours=1), True),
        ({"daily_at": "11:59"}, NOON - timedelta(seconds=30), False),
        ({"daily_at": "12:01"}, NOON - timedelta(hours=1), False),
        ({"daily_at": "12:01"}, NOON - timedelta(days=1), True),
    ],
)
def test_a_schedule_is_due_once_its_time_has_come(schedule: Any, since: datetime, due: bool) -> None:
    assert triggers.is_scheduled(schedule, since=since, now=NOON) is due


@pytest.mark.parametrize(
    "schedule",
    ["daily", {}, {"every_hours": 0}, {"every_hours": True}, {"every_hours": 1e9}, {"daily_at": "24:00"},
     {"daily_at": 3}, {"every_hours": 1, "daily_at": "01:00"}, {"weekly": 1}],
)  # fmt: skip
def test_a_schedule_that_is_none_is_refused_by_name(schedule: Any) -> None:
    with pytest.raises(triggers.BadSchedule, match=r"round_settings\.schedule"):
        triggers.is_scheduled(schedule, since=NOON, now=NOON)


def opened(project: Project, **settings: Any) -> Round:
    Project.objects.filter(pk=project.pk).update(round_settings={"target_new_labels": 1000, **settings})
    rounds.tick(now=timezone.now())
    return Round.objects.get(project=project, status=RoundStatus.COLLECTING)


def test_the_schedule_begins_a_round_when_there_is_a_new_label(project: Project, workers: Workers) -> None:
    turn = opened(project, schedule={"every_hours": 1})
    later = timezone.now() + timedelta(hours=2)
    assert rounds.advance(round_id=turn.pk, now=later)
    turn.refresh_from_db()
    assert turn.trigger == Trigger.SCHEDULE

    other = opened_without_labels(project, turn)
    assert not rounds.advance(round_id=other.pk, now=later + timedelta(days=2))


def opened_without_labels(project: Project, turn: Round) -> Round:
    settled = Task.objects.filter(project=project, state=TaskState.SETTLED, is_gold=False).count()
    Round.objects.filter(pk=turn.pk).update(status=RoundStatus.COLLECTING, settled_before=settled)
    return turn


def test_a_schedule_that_is_none_fails_the_round_with_its_name(project: Project, workers: Workers) -> None:
    settings = {"target_new_labels": 1000, "schedule": {"every_hours": "often"}}
    Project.objects.filter(pk=project.pk).update(round_settings=settings)
    rounds.tick(now=timezone.now())
    turn = Round.objects.get(project=project, number=1)
    assert turn.status == RoundStatus.FAILED
    assert "round_settings.schedule.every_hours" in turn.reason


def test_a_person_and_enough_labels_are_told_apart(project: Project, workers: Workers) -> None:
    turn = opened(project)
    now = timezone.now()
    assert triggers.due(turn, new=turn.target_new_labels, now=now) == Trigger.LABELS
    assert triggers.due(turn, new=turn.target_new_labels - 1, now=now) is None
    turn.project.round_settings = {"automatic": False}
    assert triggers.due(turn, new=10_000, now=now) is None
    rounds.start(project=project, actor=project.memberships.get(role="owner").user, now=now)
    assert rounds.advance(round_id=turn.pk, now=now)
    assert Round.objects.get(pk=turn.pk).trigger == Trigger.PERSON


def test_new_classes_begin_a_round_and_the_same_ones_do_not(project: Project, workers: Workers) -> None:
    workers.turn()
    champion = ModelVersion.objects.get(project=project)
    ModelVersion.objects.filter(pk=champion.pk).update(status=ModelStatus.CHAMPION)
    assert not triggers.has_new_classes(project)
    definition = dict(projects.current_schema(project).definition)
    new = {"id": 99, "name": "kite", "kind": "box", "key": "9"}
    SchemaVersion.objects.create(
        project=project, number=2, definition=definition | {"classes": [*definition["classes"], new]}
    )
    assert triggers.has_new_classes(project)
    turn = Round.objects.get(project=project, status=RoundStatus.COLLECTING)
    assert triggers.due(turn, new=1, now=timezone.now()) == Trigger.SCHEMA
    assert triggers.due(turn, new=0, now=timezone.now()) is None


def test_suggestions_accepted_ten_points_less_begin_a_round(
    project: Project, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.turn()
    ModelVersion.objects.filter(project=project).update(status=ModelStatus.CHAMPION)
    first = Round.objects.get(project=project, number=1)
    told = {"accepted": 150, "edited": 50, "deleted": 50, "accepted_share": 0.6}
    Round.objects.filter(pk=first.pk).update(metrics={"collection": told})
    turn = Round.objects.get(project=project, status=RoundStatus.COLLECTING)

    def fares(share: float, suggested: int = 250) -> bool:
        found = {"accepted": suggested, "edited": 0, "deleted": 0, "accepted_share": share}
        monkeypatch.setattr("flywheel.services.collection.measure", lambda **_: found)
        Round.objects.filter(pk=turn.pk).update(metrics={})
        return triggers.has_drifted(Round.objects.get(pk=turn.pk), now=timezone.now())

    assert not fares(0.51)
    assert fares(0.5)
    assert not fares(0.5, suggested=199)
    # looked at again only after a while
    again = Round.objects.get(pk=turn.pk)
    assert again.metrics["drift"]["suggested"] == 199
    assert not triggers.has_drifted(again, now=timezone.now())


def turn_again(project: Project, workers: Workers) -> None:
    owner = project.memberships.get(role="owner").user
    rounds.start(project=project, actor=owner, now=timezone.now())
    workers.turn()


def test_every_few_rounds_a_control_is_trained_from_scratch_and_judged_beside(
    project: Project, workers: Workers
) -> None:
    workers.turn()
    ModelVersion.objects.filter(project=project).update(status=ModelStatus.CHAMPION)
    project.refresh_from_db()
    training = project.round_settings.get("training", {}) | {"control_every": 2, "seed": 1}
    Project.objects.filter(pk=project.pk).update(
        round_settings=project.round_settings | {"training": training}
    )
    turn_again(project, workers)
    turn = Round.objects.get(project=project, number=2)
    assert turn.status == RoundStatus.DONE, turn.reason
    assert turn.run is not None
    assert turn.control_run is not None
    assert (turn.run.config["warm_start"], turn.control_run.config["warm_start"]) == (True, False)
    assert "Trained from scratch" in turn.reason
    judged = ModelVersion.objects.filter(run__in=[turn.run, turn.control_run])
    assert judged.count() == 2
    assert not judged.filter(status=ModelStatus.CHALLENGER).exists()


def test_the_same_labels_and_settings_are_not_judged_twice(project: Project, workers: Workers) -> None:
    workers.turn()
    ModelVersion.objects.filter(project=project).update(status=ModelStatus.REJECTED)
    turn_again(project, workers)
    again = Round.objects.get(project=project, number=2)
    assert again.status == RoundStatus.DONE
    assert "Nothing new" in again.reason
    assert ModelVersion.objects.filter(project=project).count() == 1
    assert Round.objects.filter(project=project, status=RoundStatus.COLLECTING).exists()


def test_the_database_takes_no_trigger_that_there_is_not(house: House) -> None:
    with pytest.raises(IntegrityError, match="round_trigger_known"), transaction.atomic():
        Round.objects.create(project=house.project, number=1, target_new_labels=50, trigger="the moon")
