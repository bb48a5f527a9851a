"""Faults of workers, brokers and Celery's clock. Each test is named after its fault in docs/reliability.md."""

import os
import signal
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction

from labeling.models import Annotation, Job, JobState, Role
from labeling.services import annotations, clock
from tests.conftest import make_house
from tests.faults.parts import (
    Broker,
    Crew,
    Door,
    RabbitMQ,
    Redis,
    beat,
    crowd,
    free_port,
    until,
    web,
    worker,
)

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]
Sent = list[tuple[str, list[int], str]]


class Diary:
    """What the jobs of a test wrote down, and the file that lets them go on."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "diary"
        self.gate = folder / "gate"

    def job(self, name: str, *, kind: str = "diary", waits: bool = False) -> Job:
        params: dict[str, Any] = {"diary": str(self.path)} | ({"until": str(self.gate)} if waits else {})
        return Job.objects.create(kind=kind, key=name, params=params)

    def open(self) -> None:
        self.gate.touch()

    @property
    def lines(self) -> list[tuple[str, int]]:
        """What happened, and in which process."""
        if not self.path.exists():
            return []
        pairs = (line.split() for line in self.path.read_text().splitlines())
        return [(" ".join(words), int(pid)) for *words, pid in pairs]

    def says(self, what: str) -> list[int]:
        """The processes that wrote this down."""
        return [pid for line, pid in self.lines if line == what]


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path)


def state(job: Job) -> str:
    job.refresh_from_db()
    return job.state


def is_done(*jobs: Job) -> bool:
    return all(state(job) == JobState.DONE for job in jobs)


def test_f10_what_a_sleeping_worker_writes_when_it_wakes_is_refused(
    redis: Redis, diary: Diary, tmp_path: Path
) -> None:
    job = diary.job("slow", waits=True)
    with Crew(tmp_path / "home", [worker(1), worker(2)], LABELWHEEL_BROKER_URL=redis.url) as crew:
        redis.hint(job.pk)
        crew.waits(lambda: bool(diary.says("begun")), "the job to begin")
        both = {crew.pid("worker-1"), crew.pid("worker-2")}
        (zombie,) = diary.says("begun")
        crew.waits(lambda: falls_asleep(zombie, job), "the worker to sleep outside a transaction")
        crew.waits(lambda: lease_is_over(job), "the lease to run out")
        redis.hint(job.pk)
        crew.waits(lambda: len(diary.says("begun")) == 2, "the other worker to take over")
        os.kill(zombie, signal.SIGCONT)
        crew.waits(lambda: bool(diary.says("refused")), "the zombie to be refused")
        diary.open()
        crew.waits(lambda: is_done(job), "the job to be done")
    (other,) = both - {zombie}
    assert diary.lines == [("begun", zombie), ("begun", other), ("refused", zombie), ("done", other)]
    assert (job.result, job.attempts, job.crashes, job.failures) == ({"by": other}, 2, 1, 0)


def falls_asleep(pid: int, job: Job) -> bool:
    """Stops a process; not for long if it would sleep with a lock, which nothing but the database can break."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "the stop")
    if is_free(job):
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def is_free(job: Job) -> bool:
    """Whether nobody has the job's row locked; on SQLite, the database."""
    if connection.vendor == "postgresql":
        with transaction.atomic():
            return Job.objects.select_for_update(skip_locked=True).filter(pk=job.pk).exists()
    probe = sqlite3.connect(connection.settings_dict["NAME"], timeout=0.1, isolation_level=None)
    try:
        probe.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    finally:
        probe.close()
    return True


def lease_is_over(job: Job) -> bool:
    job.refresh_from_db()
    return job.lease_expires_at is not None and job.lease_expires_at < clock.now()


def test_f11_a_job_that_kills_its_worker_is_parked_after_the_third(
    redis: Redis, diary: Diary, tmp_path: Path
) -> None:
    poison, good = diary.job("poison", kind="poison"), diary.job("good")
    programs = [worker(), beat(tmp_path)]
    with Crew(
        tmp_path / "home", programs, LABELWHEEL_BROKER_URL=redis.url, LABELWHEEL_JOB_LEASE_S="1"
    ) as crew:
        crew.waits(lambda: state(poison) == JobState.PARKED, "the poison to be parked")
        crew.waits(lambda: is_done(good), "the other job to be done")
        assert [line.split("(")[1].split(")")[0] for line in crew.deaths("worker-1")] == ["SIGKILL"] * 3
    assert (poison.crashes, poison.attempts, poison.failures) == (3, 3, 0)
    assert Counter(line for line, _ in diary.lines) == {"begun": 4, "done": 1}


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_f12_a_broker_killed_and_wiped_costs_no_submit_and_no_job(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, sent: Sent
) -> None:
    broker: Broker = request.getfixturevalue(kind)
    house = make_house(answers_per_task=1, gold_share=0.0)
    for _ in range(3):
        house.add_picture()
    port = free_port()
    programs = [web(port), worker(), beat(tmp_path)]
    with (
        Crew(tmp_path / "home", programs, LABELWHEEL_BROKER_URL=broker.url) as crew,
        Door(port) as door,
    ):
        crew.waits(lambda: door.is_open, "the service to answer")
        (person,) = crowd(house.project, door, 1)
        (manager,) = crowd(house.project, door, 1, Role.MANAGER)
        exports = f"projects/{house.project.pk}/exports"

        def answer_and_export() -> None:
            (leased,) = person.next(house.project)
            assert person.submit(leased).status_code == 201
            assert manager.ask("POST", exports, {"format": "coco"}).status_code == 202

        answer_and_export()
        crew.waits(lambda: is_done(*exports_asked()), "the first export")
        broker.kill()
        broker.wipe()
        answer_and_export()
        answer_and_export()
        broker.start()
        crew.waits(lambda: is_done(*exports_asked()), "all exports")
    assert Annotation.objects.count() == 3
    assert [(job.attempts, job.crashes, job.failures) for job in exports_asked()] == [(1, 0, 0)] * 3


def exports_asked() -> list[Job]:
    return list(Job.objects.filter(kind="export"))


def test_f13_every_message_three_times_is_each_job_once(redis: Redis, diary: Diary, tmp_path: Path) -> None:
    jobs = [diary.job(f"job {number}") for number in range(12)]
    redis.hint(*[job.pk for job in jobs for _ in range(3)])
    with Crew(tmp_path / "home", [worker(1), worker(2)], LABELWHEEL_BROKER_URL=redis.url) as crew:
        crew.waits(lambda: redis.waiting() == 0 and is_done(*jobs), "every message to be taken")
        last = diary.job("last", waits=True), diary.job("last too", waits=True)
        redis.hint(*[job.pk for job in last])
        # Each worker now does one of these, so it is through with whatever it had taken before.
        crew.waits(lambda: len(set(diary.says("begun")[-2:])) == 2, "both workers to be through")
        diary.open()
        crew.waits(lambda: is_done(*last), "the last jobs")
    assert Counter(line for line, _ in diary.lines) == {"begun": 14, "done": 14}
    assert {(job.attempts, job.crashes) for job in Job.objects.all()} == {(1, 0)}


def test_f14_a_job_longer_than_redis_waits_for_an_acknowledgement_is_done_once(
    redis: Redis, diary: Diary, tmp_path: Path
) -> None:
    job = diary.job("long", waits=True)
    programs = [worker(1, app="tests.faults.impatient"), beat(tmp_path)]
    late = [worker(2, app="tests.faults.impatient")]
    with Crew(tmp_path / "home", programs, LABELWHEEL_BROKER_URL=redis.url) as crew:
        crew.waits(lambda: has_run_for(job, 2), "the job to be longer than the broker's patience")
        with Crew(tmp_path / "late", late, LABELWHEEL_BROKER_URL=redis.url) as other:
            # A worker that starts is told all messages that were not acknowledged in time.
            second = diary.job("second")
            other.waits(lambda: is_done(second), "the second worker to be at work")
            diary.open()
            crew.waits(lambda: is_done(job), "the job to be done")
    assert Counter(line for line, _ in diary.lines) == {"begun": 2, "done": 2}
    assert (job.attempts, job.crashes) == (1, 0)


def test_f14_a_job_longer_than_rabbitmq_waits_for_an_acknowledgement_is_done_once(
    impatient_rabbitmq: RabbitMQ, diary: Diary, tmp_path: Path
) -> None:
    long, waiting = diary.job("long", waits=True), diary.job("waiting")
    programs = [worker(), beat(tmp_path)]
    with Crew(tmp_path / "home", programs, LABELWHEEL_BROKER_URL=impatient_rabbitmq.url) as crew:
        crew.waits(lambda: has_run_for(long, 6), "the job to be longer than the broker's patience")
        diary.open()
        crew.waits(lambda: is_done(long, waiting), "both jobs to be done")
    assert Counter(line for line, _ in diary.lines) == {"begun": 2, "done": 2}
    assert {(job.attempts, job.crashes) for job in (long, waiting)} == {(1, 0)}


def has_run_for(job: Job, seconds: float) -> bool:
    job.refresh_from_db()
    return job.started_at is not None and (clock.now() - job.started_at).total_seconds() > seconds


def test_f25_a_worker_that_is_asked_to_end_hands_its_job_back(
    redis: Redis, diary: Diary, tmp_path: Path
) -> None:
    job = diary.job("slow", waits=True)
    with Crew(tmp_path / "home", [worker(), beat(tmp_path)], LABELWHEEL_BROKER_URL=redis.url) as crew:
        crew.waits(lambda: bool(diary.says("begun")), "the job to begin")
        (first,) = diary.says("begun")
        crew.send("worker-1", signal.SIGTERM)
        crew.waits(lambda: len(diary.says("begun")) == 2, "the next worker to take over")
        diary.open()
        crew.waits(lambda: is_done(job), "the job to be done")
        assert "exit code 0" in crew.deaths("worker-1")[0]
    (_, second) = diary.says("begun")
    assert diary.lines == [("begun", first), ("handed back", first), ("begun", second), ("done", second)]
    assert (job.attempts, job.crashes, job.failures) == (2, 0, 0)


def test_f27_two_clocks_make_each_slot_once_and_what_was_missed_is_made_up_for_once(
    redis: Redis, tmp_path: Path, sent: Sent
) -> None:
    house = make_house(answers_per_task=1, gold_share=0.0)
    annotations.submit(
        task=house.add_picture(),
        author=house.people[Role.ANNOTATOR],
        key=uuid4(),
        shapes=(),
        base_revision=0,
        seconds_active=1.0,
        suggestions_from="",
        now=clock.now(),
    )
    # No clock ran for three hours, and what was due before that nobody had begun.
    hour = int(clock.now().timestamp() // 3600) - 3
    key, params = f"refit:{house.project.pk}:{hour}", {"project": house.project.pk, "answers": 0}
    missed = Job.objects.create(kind="refit", key=key, project=house.project, params=params)
    clocks = [beat(tmp_path, 1), beat(tmp_path, 2)]
    with Crew(tmp_path / "home", [worker(1), worker(2), *clocks], LABELWHEEL_BROKER_URL=redis.url) as crew:
        crew.waits(lambda: made("refit") and made("prune"), "the slots' jobs")
        sent_by_then = redis.sent()
        crew.waits(lambda: redis.sent() >= sent_by_then + 10, "both clocks to ask again and again")
        crew.waits(lambda: redis.waiting() == 0, "the workers to have heard them")
    others = Job.objects.exclude(pk=missed.pk)
    assert state(missed) in (JobState.CANCELLED, JobState.DONE)  # a worker may have begun it at once
    assert [job.kind for job in others].count("refit") == 1
    assert {job.attempts for job in others} == {1}


def made(kind: str) -> bool:
    return Job.objects.filter(kind=kind, state=JobState.DONE).exists()
