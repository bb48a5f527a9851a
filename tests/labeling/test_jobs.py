"""Jobs as rows: one worker at a time, nothing written by one that lost its job, and no broker needed."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from django.conf import LazySettings
from django.db import connection
from django.utils import timezone

from flywheel.config.celery import GIVE_UP_SOON
from labeling import tasks
from labeling.models import Event, Job, JobState, Role
from labeling.services import clock, jobs
from labeling.services.jobs import Cancelled, CannotRun, LostLease, Running
from tests.conftest import House
from tests.labeling.threads import at_once

pytestmark = pytest.mark.django_db

Sent = list[tuple[str, list[int], str]]


def make(key: str = "one", kind: str = "ping", **params: Any) -> Job:
    return jobs.enqueue(kind=kind, key=key, params=params)


def claimed(job: Job) -> Running:
    running = jobs.claim(job.pk)
    assert running is not None
    return running


def state(job: Job) -> str:
    job.refresh_from_db()
    return job.state


def after_the_lease() -> Any:
    return timezone.now() + timedelta(hours=1)


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> dict[str, jobs.Handler]:
    """The handlers by kind, given back as they were."""
    handlers = dict(jobs._handlers)
    monkeypatch.setattr(jobs, "_handlers", handlers)
    monkeypatch.setattr(jobs, "_followers", {})
    return handlers


def test_asking_twice_for_the_same_work_makes_one_job(sent: Sent) -> None:
    assert make() == make()
    assert make("two") != make()


@pytest.mark.django_db(transaction=True)
def test_asking_many_times_at_once_makes_one_job(sent: Sent) -> None:
    made = at_once(8, lambda _: make().pk)

    assert len(set(made)) == 1


def test_a_job_is_hinted_when_its_transaction_commits(
    sent: Sent, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks() as callbacks:
        job = make()
    assert sent == []

    for callback in callbacks:
        callback()

    assert sent == [("labeling.tasks.run_job", [job.pk], "default")]
    job.refresh_from_db()
    assert job.hinted_at is not None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("broker", ["redis://127.0.0.1:1/0", "amqp://guest@127.0.0.1:1//"])
def test_a_broker_that_is_down_neither_breaks_nor_delays_enqueuing(
    monkeypatch: pytest.MonkeyPatch, broker: str
) -> None:
    nobody = Celery("nobody", broker=broker, set_as_current=False)
    nobody.conf.broker_transport_options = GIVE_UP_SOON
    monkeypatch.setattr(jobs, "current_app", nobody)

    started = time.monotonic()
    job = make()

    assert time.monotonic() - started < 2
    assert state(job) == JobState.QUEUED


def test_a_claimed_job_cannot_be_claimed_by_a_second_worker(sent: Sent) -> None:
    job = make()
    running = claimed(job)

    assert jobs.claim(job.pk) is None
    job.refresh_from_db()
    assert (job.state, job.token, job.attempts, job.crashes) == (JobState.RUNNING, 1, 1, 0)
    assert running.token == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_one_gets_the_job(sent: Sent) -> None:
    for turn in range(5):
        job = make(str(turn))

        got = at_once(8, lambda _, job=job: jobs.claim(job.pk))  # type: ignore[misc]

        assert sum(running is not None for running in got) == 1


def test_a_job_that_is_not_there_is_not_claimed() -> None:
    assert jobs.claim(404) is None


def test_a_job_whose_worker_died_is_claimed_again_and_the_crash_counted(sent: Sent) -> None:
    job = make()
    claimed(job).report(0.4, "half way", checkpoint={"step": 7})

    again = jobs.claim(job.pk, now=after_the_lease())

    assert again is not None
    assert (again.token, again.checkpoint) == (2, {"step": 7})
    job.refresh_from_db()
    assert (job.attempts, job.crashes, job.failures) == (2, 1, 0)


def test_what_a_worker_with_an_old_token_writes_is_refused(sent: Sent) -> None:
    job = make()
    zombie = claimed(job)
    living = jobs.claim(job.pk, now=after_the_lease())
    assert living is not None

    with pytest.raises(LostLease):
        zombie.report(0.9, "still here", checkpoint={"step": 1})
    with pytest.raises(LostLease), zombie.holding():
        pytest.fail("the zombie came in")
    with pytest.raises(LostLease):
        zombie.check()

    living.report(0.2, "mine")
    job.refresh_from_db()
    assert (job.message, job.checkpoint, job.progress) == ("mine", {}, 0.2)


def test_what_was_written_while_holding_is_undone_when_it_fails(sent: Sent) -> None:
    running = claimed(make())

    def fail_half_way() -> None:
        with running.holding():
            Event.objects.create(verb="half", object_type="x", object_id="1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with running.holding():
        Event.objects.create(verb="whole", object_type="x", object_id="1")

    assert list(Event.objects.values_list("verb", flat=True)) == ["whole"]


@pytest.mark.django_db(transaction=True)
def test_a_job_cannot_be_taken_over_while_its_results_are_written(sent: Sent) -> None:
    job = make()
    running = claimed(job)
    inside, taken = threading.Event(), threading.Event()

    def take_over_or_write(number: int) -> str:
        if number:
            inside.wait(timeout=10)
            late = jobs.claim(job.pk, now=after_the_lease())
            taken.set()
            return "taken over" if late is not None else "not taken"
        with running.holding():
            inside.set()
            assert not taken.wait(timeout=0.3), "the other came in between"
            Event.objects.create(verb="written", object_type="x", object_id="1")
        return "written"

    assert at_once(2, take_over_or_write)[0] == "written"
    assert Event.objects.filter(verb="written").exists()


def test_a_job_that_killed_three_workers_is_parked(sent: Sent) -> None:
    job = make()
    now = timezone.now()
    for crash in range(3):
        running = jobs.claim(job.pk, now=now + timedelta(hours=crash))
        assert running is not None, crash

    assert jobs.claim(job.pk, now=now + timedelta(hours=3)) is None

    job.refresh_from_db()
    assert (job.state, job.crashes, job.attempts) == (JobState.PARKED, 3, 3)
    assert "died 3 times" in job.error
    assert jobs.claim(job.pk, now=now + timedelta(hours=4)) is None


def test_a_worker_that_came_back_to_life_in_time_is_not_parked(
    sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make()
    Job.objects.filter(pk=job.pk).update(crashes=2)
    running = claimed(job)
    late = after_the_lease()
    really = Job.objects.filter

    def beats_after_the_first_look(*args: Any, **kwargs: Any) -> Any:
        found = really(*args, **kwargs)
        if "token" in kwargs:  # the look is over, the write comes
            monkeypatch.undo()
            really(pk=job.pk).update(lease_expires_at=late + timedelta(minutes=1))
        return found

    monkeypatch.setattr(Job.objects, "filter", beats_after_the_first_look)

    assert jobs.claim(job.pk, now=late) is None
    assert state(job) == JobState.RUNNING
    running.report(0.5)


def test_a_job_that_ran_is_done_with_its_result(sent: Sent) -> None:
    job = make()

    tasks.run_job(job.pk)

    job.refresh_from_db()
    assert (job.state, job.result, job.progress) == (JobState.DONE, {"pong": True}, 1.0)
    assert job.finished_at is not None


def test_a_message_that_comes_three_times_runs_the_job_once(
    sent: Sent, handle: dict[str, jobs.Handler]
) -> None:
    runs: list[int] = []
    handle["count"] = lambda running: runs.append(running.token)
    job = make(kind="count")

    for _ in range(3):
        jobs.run(job.pk)

    assert runs == [1]


def test_a_job_that_fails_is_tried_three_times(sent: Sent, handle: dict[str, jobs.Handler]) -> None:
    def broken(running: Running) -> None:
        raise ZeroDivisionError("by nothing")

    handle["broken"] = broken
    job = make(kind="broken")

    states = []
    for _ in range(4):
        Job.objects.filter(pk=job.pk).update(lease_expires_at=None)  # the wait before another try is over
        jobs.run(job.pk)
        states.append(state(job))

    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED, JobState.FAILED]
    assert (job.error, job.attempts, job.crashes) == ("ZeroDivisionError: by nothing", 3, 0)
    assert job.finished_at is not None


def test_work_that_cannot_succeed_fails_at_once(sent: Sent, handle: dict[str, jobs.Handler]) -> None:
    def hopeless(running: Running) -> None:
        raise CannotRun("there are no labels; settle some first")

    handle["hopeless"] = hopeless
    job, unknown = make(kind="hopeless"), make("two", kind="nobody knows")
    jobs.run(job.pk)
    jobs.run(unknown.pk)

    assert (state(job), job.error) == (JobState.FAILED, "there are no labels; settle some first")
    assert (state(unknown), unknown.attempts) == (JobState.FAILED, 1)


@pytest.mark.django_db(transaction=True)
def test_a_job_longer_than_its_lease_keeps_it(
    sent: Sent, handle: dict[str, jobs.Handler], settings: LazySettings
) -> None:
    settings.JOB_LEASE_S, settings.JOB_HEARTBEAT_S = 1, 0.2
    others: list[Running | None] = []

    def long(running: Running) -> None:
        for _ in range(6):
            time.sleep(0.3)
            others.append(jobs.claim(running.job.pk))

    handle["long"] = long
    job = make(kind="long")
    jobs.run(job.pk)

    assert others == [None] * 6
    assert (state(job), job.attempts) == (JobState.DONE, 1)


def test_the_result_of_a_worker_that_was_taken_over_is_not_kept(
    sent: Sent, handle: dict[str, jobs.Handler]
) -> None:
    def hangs(running: Running) -> dict[str, Any]:
        assert jobs.claim(running.job.pk, now=after_the_lease()) is not None
        return {"from": "the zombie"}

    handle["hangs"] = hangs
    job = make(kind="hangs")
    jobs.run(job.pk)

    assert (state(job), job.result, job.token) == (JobState.RUNNING, {}, 2)


def test_a_waiting_job_is_cancelled_at_once(sent: Sent) -> None:
    job = make()

    jobs.cancel(job=job)

    assert state(job) == JobState.CANCELLED
    assert jobs.claim(job.pk) is None


def test_a_running_job_is_cancelled_at_its_next_report(sent: Sent, handle: dict[str, jobs.Handler]) -> None:
    reached: list[str] = []

    def patient(running: Running) -> None:
        running.report(0.1)
        jobs.cancel(job=running.job)
        reached.append("asked")
        with pytest.raises(Cancelled):
            running.check()
        running.report(0.2)
        reached.append("beyond")

    handle["patient"] = patient
    job = make(kind="patient")
    jobs.run(job.pk)

    assert (state(job), reached) == (JobState.CANCELLED, ["asked"])
    assert job.error == "Cancelled by a person."


def test_a_job_that_is_done_cannot_be_cancelled_or_tried_again(sent: Sent) -> None:
    job = make()
    jobs.run(job.pk)

    jobs.cancel(job=job)

    assert state(job) == JobState.DONE
    assert jobs.retry(job=job) is False


@pytest.mark.parametrize("ended", [JobState.FAILED, JobState.CANCELLED, JobState.PARKED])
def test_a_job_that_ended_badly_is_tried_again_from_the_start(sent: Sent, ended: JobState) -> None:
    job = make()
    Job.objects.filter(pk=job.pk).update(
        state=ended, failures=3, crashes=3, cancel_requested=True, error="x", finished_at=timezone.now()
    )

    assert jobs.retry(job=job) is True
    jobs.run(job.pk)

    job.refresh_from_db()
    assert (job.state, job.failures, job.crashes, job.error) == (JobState.DONE, 0, 0, "")


def test_the_sweep_sends_again_what_waits_and_what_lost_its_worker(sent: Sent) -> None:
    waiting, orphan, running, fresh, done = (make(key) for key in ("w", "o", "r", "f", "d"))
    claimed(orphan)
    claimed(running)
    jobs.run(done.pk)
    now = timezone.now()
    Job.objects.filter(pk=orphan.pk).update(lease_expires_at=now - timedelta(seconds=1))
    Job.objects.filter(pk=waiting.pk).update(hinted_at=now - timedelta(seconds=60))
    Job.objects.filter(pk=fresh.pk).update(hinted_at=now)
    sent.clear()

    assert jobs.sweep(now=now) == 2

    assert sorted(args[0] for _, args, _ in sent) == sorted([waiting.pk, orphan.pk])


def test_a_job_whose_hint_was_lost_is_done_after_a_sweep(sent: Sent) -> None:
    job = make()
    tasks.sweep()

    for task, args, queue in sent:
        assert (task, queue) == ("labeling.tasks.run_job", "default")
        tasks.run_job(*args)

    assert state(job) == JobState.DONE


def test_a_job_of_the_gpu_queue_goes_to_the_gpu_worker(
    sent: Sent, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        job = jobs.enqueue(kind="train", key="t", params={}, queue="gpu")

    assert sent == [("flywheel.gpu.run_job", [job.pk], "gpu")]


def test_who_follows_a_kind_of_job_is_told_when_one_has_ended(
    sent: Sent, handle: dict[str, jobs.Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_followers", {"ping": "flywheel.tasks.tick"})

    jobs.run(make().pk)

    assert sent == [("flywheel.tasks.tick", [], "default")]


def test_a_refit_job_learns_the_project_s_skills(house: House) -> None:
    house.add_picture()
    job = jobs.enqueue(kind="refit", key="r", params={"project": house.project.pk}, project=house.project)

    jobs.run(job.pk)

    assert (state(job), job.result) == (JobState.DONE, {"tasks": 0, "annotators": 0})
    assert house.people[Role.OWNER] != job.created_by


def test_a_worker_that_is_stopped_hands_its_job_back_with_the_checkpoint(
    sent: Sent, handle: dict[str, jobs.Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = threading.Event()
    monkeypatch.setattr(jobs, "_stopping", stopping)

    def half(running: Running) -> None:
        running.report(0.5, "half", checkpoint={"done": 5})
        tasks.hand_back()
        running.report(0.6, "more")

    handle["ping"] = half
    job = make()
    jobs.run(job.pk)

    assert state(job) == JobState.QUEUED
    assert (job.checkpoint, job.crashes, job.failures, job.hinted_at) == ({"done": 5}, 0, 0, None)
    jobs.run(job.pk)
    assert state(job) == JobState.QUEUED, "a stopping worker takes no job"
    stopping.clear()
    handle["ping"] = lambda running: running.checkpoint
    jobs.run(job.pk)
    assert (state(job), job.result, job.attempts) == (JobState.DONE, {"done": 5}, 2)


def test_who_cancels_or_retries_a_job_leaves_an_event(house: House) -> None:
    manager = house.people[Role.MANAGER]
    job = jobs.enqueue(kind="ping", key="seen", params={}, project=house.project)

    jobs.cancel(job=job, actor=manager)
    jobs.retry(job=job, actor=manager)
    jobs.retry(job=job, actor=manager)  # nothing to retry, nothing to tell

    told = Event.objects.filter(object_type="job", object_id=str(job.pk)).order_by("id")
    assert [(event.verb, event.actor) for event in told] == [("cancel_job", manager), ("retry_job", manager)]


def test_a_job_that_failed_is_nobody_s_for_a_while(sent: Sent, handle: dict[str, jobs.Handler]) -> None:
    def broken(running: Running) -> None:
        raise ZeroDivisionError

    handle["broken"] = broken
    job = make(kind="broken")
    waits = []
    for _ in range(2):
        began = clock.now()
        jobs.run(job.pk)
        job.refresh_from_db()
        assert job.lease_expires_at is not None
        waits.append((job.lease_expires_at - began).total_seconds())
        assert jobs.claim(job.pk) is None
        assert jobs.sweep(now=began + timedelta(seconds=2)) == 0
        assert jobs.sweep(now=began + timedelta(minutes=10)) == 1
        Job.objects.filter(pk=job.pk).update(lease_expires_at=began - timedelta(seconds=1))

    assert waits == [pytest.approx(5, abs=2), pytest.approx(20, abs=2)]


def test_a_job_that_waits_long_is_asked_for_less_and_less(sent: Sent) -> None:
    job = make()
    sent.clear()
    began = clock.now()
    Job.objects.filter(pk=job.pk).update(created_at=began)

    for second in range(0, 3_600, 10):
        now = began + timedelta(seconds=second)
        if jobs.sweep(now=now):
            Job.objects.filter(pk=job.pk).update(hinted_at=now)

    assert 60 <= len(sent) <= 75, "each minute or so, not each sweep"


def test_what_stands_of_the_work_is_told_when_it_is_cancelled(
    sent: Sent, handle: dict[str, jobs.Handler]
) -> None:
    def half(running: Running) -> None:
        running.left, running.partial = "4 of 9 were written.", {"written": 4}
        jobs.cancel(job=running.job)
        running.check()

    handle["half"] = half
    job = make(kind="half")
    jobs.run(job.pk)

    assert (state(job), job.error) == (JobState.CANCELLED, "Cancelled by a person. 4 of 9 were written.")
    assert job.result == {"written": 4}


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite runs in this process, by its clock")
@pytest.mark.parametrize("wrong_by", [timedelta(hours=1), timedelta(hours=-1)])
def test_f18_a_worker_s_wrong_clock_neither_takes_nor_loses_a_job(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, wrong_by: timedelta, settings: LazySettings
) -> None:
    held, lost = make("held"), make("lost")
    claimed(held)
    claimed(lost)
    Job.objects.filter(pk=lost.pk).update(lease_expires_at=clock.now() - timedelta(seconds=1))
    right = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: right() + wrong_by)
    sent.clear()

    assert jobs.claim(held.pk) is None, "its worker lives"
    tasks.sweep()
    assert [held.pk] not in [args for _, args, _ in sent]
    taken = jobs.claim(lost.pk)
    assert taken is not None, "its worker is dead"
    taken.report(0.5)

    lost.refresh_from_db()
    assert lost.lease_expires_at is not None
    left = (lost.lease_expires_at - right()).total_seconds()
    assert left == pytest.approx(settings.JOB_LEASE_S, abs=5)


def test_every_kind_of_job_has_a_title(house: House) -> None:
    named = make(kind="train", title="Round 3: train a model")

    assert jobs.title(named) == "Round 3: train a model"
    assert all(kind in jobs.TITLES for kind in jobs._handlers)
    assert jobs.title(make("other", kind="not_known")) == "not known"


def test_old_lists_of_jobs_are_read_page_by_page(house: House) -> None:
    made = [jobs.enqueue(kind="ping", key=str(n), params={}, project=house.project).pk for n in range(5)]
    client = house.client(Role.MANAGER)
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get(f"/api/v1/projects/{house.project.pk}/jobs?limit=2&cursor={cursor}").json()
        seen += [job["id"] for job in page["items"]]
        cursor = page["next"]

    assert seen == made[::-1]
