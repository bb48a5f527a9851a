"""Work that comes round: once a slot whoever asks, and after a pause only the newest slot."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db.models import F

from labeling import storage, tasks
from labeling.models import Job, JobState, Role, Task, Upload
from labeling.services import clock, jobs, schedule, uploads
from labeling.services.schedule import Periodic
from tests.conftest import House
from tests.labeling.threads import at_once

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 5, 4, 12, 0, 1, tzinfo=UTC)
HOURLY = (Periodic("ping", 3_600, schedule._once),)


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_looked_at", {})


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_looked_at", {})


@pytest.mark.django_db(transaction=True)
def test_f27_five_beats_at_once_make_each_slot_once(sent: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_looked_at", Forgetful())

    for hour in range(3):
        at_once(5, lambda _, hour=hour: schedule.make_due(now=NOON + timedelta(hours=hour), table=HOURLY))  # type: ignore[misc]

    assert Job.objects.filter(kind="ping").count() == 3


class Forgetful(dict[str, int]):
    """As if each call came from a process of its own."""

    def __setitem__(self, kind: str, slot: int) -> None:
        """Nothing stays."""


def test_f27_after_a_pause_only_the_newest_slot_runs(sent: object, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule.make_due(now=NOON, table=HOURLY)
    for hours in (5, 5, 5):  # nobody looked for five hours, and nobody has run the first one
        another_process(monkeypatch)
        schedule.make_due(now=NOON + timedelta(hours=hours), table=HOURLY)

    missed, newest = Job.objects.filter(kind="ping").order_by("id")
    assert (missed.state, missed.error) == (JobState.CANCELLED, "A later one took its place.")
    assert (newest.state, newest.key) == (
        JobState.QUEUED,
        f"ping:service:{int(NOON.timestamp()) // 3600 + 5}",
    )


def test_a_slot_that_runs_already_is_left_to_its_worker(sent: object) -> None:
    schedule.make_due(now=NOON, table=HOURLY)
    first = Job.objects.get(kind="ping")
    assert jobs.claim(first.pk) is not None

    schedule.make_due(now=NOON + timedelta(hours=1), table=HOURLY)

    first.refresh_from_db()
    assert first.state == JobState.RUNNING


def test_the_sweep_makes_what_is_due(sent: object) -> None:
    tasks.sweep()
    tasks.sweep()

    assert Job.objects.filter(kind="prune").count() == 1


def test_a_project_is_refitted_when_it_has_new_answers(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    refits = Job.objects.filter(kind="refit", project=house.project)
    task = house.add_picture()

    def an_hour_later() -> list[Any]:
        another_process(monkeypatch)
        hours = refits.count() + 1
        schedule.make_due(now=NOON + timedelta(hours=hours * 2 + len(looked)))
        looked.append(hours)
        for job in refits.filter(state=JobState.QUEUED):
            jobs.run(job.pk)
        return list(refits.values_list("state", flat=True))

    looked: list[int] = []
    assert an_hour_later() == [], "nobody has answered yet"
    Task.objects.filter(pk=task.pk).update(answers=F("answers") + 1)
    assert an_hour_later() == [JobState.DONE]
    assert an_hour_later() == [JobState.DONE], "nothing new since"
    Task.objects.filter(pk=task.pk).update(answers=F("answers") + 1)
    assert an_hour_later() == [JobState.DONE] * 2


def test_pruning_forgets_old_uploads_old_jobs_and_parts_of_work(house: House, settings: LazySettings) -> None:
    owner = house.people[Role.OWNER]
    old, fresh = (uploads.begin(project=house.project, actor=owner) for _ in range(2))
    for upload in (old, fresh):
        storage.store().put(uploads.object_name(upload, "0" * 64), b"bytes")
    now = clock.now()
    Upload.objects.filter(pk=old.pk).update(created_at=now - timedelta(days=8))
    ended = Job.objects.create(
        kind="export",
        key="old",
        state=JobState.DONE,
        finished_at=now - timedelta(days=91),
        result={"object": "exports/1-1", "sha256": "0" * 64},
    )
    kept = Job.objects.create(kind="ping", key="kept", state=JobState.DONE, finished_at=now)
    storage.store().put("exports/1-1", b"labels")
    running = jobs.enqueue(kind="export", key="running", params={}, project=house.project)
    parts = [Path(settings.WORK_DIRECTORY) / "exports" / str(job.pk) for job in (ended, running)]
    for folder in parts:
        folder.mkdir(parents=True)

    job = jobs.enqueue(kind="prune", key="now", params={})
    jobs.run(job.pk)

    job.refresh_from_db()
    assert job.result == {"uploads": 1, "jobs": 1, "folders": 1}, job.error
    assert list(Upload.objects.all()) == [fresh]
    assert list(storage.store().names("uploads/")) == [uploads.object_name(fresh, "0" * 64)]
    assert not storage.store().exists("exports/1-1")
    assert set(Job.objects.values_list("pk", flat=True)) == {kept.pk, running.pk, job.pk}
    assert [folder.exists() for folder in parts] == [False, True]
