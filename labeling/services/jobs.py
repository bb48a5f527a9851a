"""Long work as rows: claimed with a compare-and-set, kept by heartbeats, written under a fencing token.

Celery delivers "run job N" and may lose it, repeat it or deliver it late: `sweep` sends again what is
waiting, and `claim` lets one worker at a time have a job. A worker that hangs past its lease holds an old
token, and everything it then tries to write raises `LostLease`.
"""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from celery import current_app
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import DatabaseError, close_old_connections, connection, transaction
from django.db.models import F, Q
from django.utils import timezone
from kombu.exceptions import OperationalError

from labeling.models import Job, JobState, Project
from labeling.services import events

logger = logging.getLogger(__name__)

RUNNERS: Final = {"default": "labeling.tasks.run_job", "gpu": "flywheel.gpu.run_job"}
"""Which Celery task runs the jobs of a queue."""

MAX_FAILURES: Final = 3
OPEN: Final = (JobState.QUEUED, JobState.RUNNING)


class LostLease(RuntimeError):
    """Another worker has this job now; what this one did must not be written."""


class Cancelled(Exception):
    """A person asked for this job to stop."""


class HandedBack(Exception):
    """This worker is being stopped; another one goes on from the checkpoint."""


class CannotRun(Exception):
    """The work cannot succeed however often it is tried; the message says what to do about it."""


_stopping = threading.Event()


def stop_working() -> None:
    """This process is being stopped: its job goes back to the queue at its next report, and it takes no other."""
    _stopping.set()


class Running:
    """A claimed job in the hands of its handler: progress, checkpoint and cancel go through here."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.token = job.token
        self.lost = threading.Event()

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.job.params)

    @property
    def checkpoint(self) -> dict[str, Any]:
        return dict(self.job.checkpoint)

    def report(self, progress: float, message: str = "", checkpoint: dict[str, Any] | None = None) -> None:
        """Writes progress (0 to 1) and renews the lease. Raises `LostLease`, `HandedBack`, `Cancelled`."""
        changes: dict[str, Any] = {
            "progress": min(max(progress, 0.0), 1.0),
            "message": message[:500],
            "lease_expires_at": timezone.now() + timedelta(seconds=settings.JOB_LEASE_S),
        }
        if checkpoint is not None:
            changes["checkpoint"] = checkpoint
            self.job.checkpoint = checkpoint
        self._write(**changes)
        self.check()

    def check(self) -> None:
        """Raises `LostLease`, `HandedBack` or `Cancelled` when the handler must stop."""
        if self.lost.is_set():
            raise LostLease(f"job {self.job.pk} was taken over")
        if _stopping.is_set():
            raise HandedBack
        if Job.objects.filter(pk=self.job.pk, cancel_requested=True).exists():
            raise Cancelled

    @property
    def is_stopping(self) -> bool:
        """Whether `check` would raise for a reason that is known without asking the database."""
        return self.lost.is_set() or _stopping.is_set()

    def holding(self) -> "transaction.Atomic":
        """A transaction in which this job is still ours: `with running.holding(): …write results…`."""
        return _Holding(self)

    def _write(self, **changes: Any) -> None:
        if not Job.objects.filter(pk=self.job.pk, token=self.token, state=JobState.RUNNING).update(**changes):
            self.lost.set()
            raise LostLease(f"job {self.job.pk} was taken over")


class _Holding(transaction.Atomic):
    def __init__(self, running: Running) -> None:
        super().__init__(using=None, savepoint=True, durable=False)
        self.running = running

    def __enter__(self) -> None:
        super().__enter__()
        try:
            # The update locks the row until the commit, so no one can take the job over in between.
            self.running._write(token=self.running.token)
        except LostLease as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise


Handler = Callable[[Running], dict[str, Any] | None]
_handlers: dict[str, Handler] = {}
_followers: dict[str, str] = {}


def handler(kind: str, *, then: str | None = None) -> Callable[[Handler], Handler]:
    """Registers the function that does jobs of a kind; it may run twice and must then do the same.

    `then` names a Celery task of the default queue that wants to know when such a job has ended.
    """

    def register(function: Handler) -> Handler:
        _handlers[kind] = function
        if then is not None:
            _followers[kind] = then
        return function

    return register


def enqueue(
    *,
    kind: str,
    key: str,
    params: dict[str, Any],
    queue: str = "default",
    project: Project | None = None,
    created_by: AbstractBaseUser | None = None,
) -> Job:
    """The job with this key, made if there is none. The hint is sent when the transaction commits."""
    job, _ = Job.objects.get_or_create(
        key=key,
        defaults={
            "kind": kind,
            "queue": queue,
            "params": params,
            "project": project,
            "created_by_id": None if created_by is None else created_by.pk,
        },
    )
    if job.state == JobState.QUEUED and job.hinted_at is None:  # from then on the sweeper asks again
        transaction.on_commit(lambda: hint(job))
    return job


def hint(job: Job) -> None:
    """Tells a worker that this job waits. A broker that is down costs time, not the job: the sweeper asks again."""
    Job.objects.filter(pk=job.pk).update(hinted_at=timezone.now())
    send(RUNNERS[job.queue], [job.pk], job.queue)


def send(task: str, args: list[int], queue: str) -> None:
    """Sends a Celery message that may get lost: what must not be lost is a row that a sweeper finds."""
    try:
        current_app.send_task(task, args=args, queue=queue, retry=False)
    except (OperationalError, OSError) as error:
        logger.warning("no broker took the hint %s%s: %s", task, args, error)


def claim(job_id: int, *, now: datetime | None = None) -> Running | None:
    """Takes the job if it waits, or if its worker's lease ran out; nothing when someone else has it."""
    now = now or timezone.now()
    free = Q(state=JobState.QUEUED) | Q(state=JobState.RUNNING, lease_expires_at__lt=now)
    job = Job.objects.filter(free, pk=job_id).first()
    if job is None:
        return None
    crashed = job.state == JobState.RUNNING
    if crashed and job.crashes + 1 >= settings.JOB_MAX_CRASHES:
        Job.objects.filter(free, pk=job.pk, token=job.token).update(
            state=JobState.PARKED,
            crashes=F("crashes") + 1,
            finished_at=now,
            error=f"Its worker died {settings.JOB_MAX_CRASHES} times; look at the worker's log, then retry.",
        )
        return None
    won = Job.objects.filter(free, pk=job.pk, token=job.token).update(
        state=JobState.RUNNING,
        token=F("token") + 1,
        attempts=F("attempts") + 1,
        crashes=F("crashes") + (1 if crashed else 0),
        started_at=job.started_at or now,
        lease_expires_at=now + timedelta(seconds=settings.JOB_LEASE_S),
    )
    if not won:
        return None
    job.refresh_from_db()
    return Running(job)


def run(job_id: int) -> None:
    """Claims and does one job: what a worker calls for a hint."""
    if _stopping.is_set():
        return  # the job waits for another worker
    running = claim(job_id)
    if running is None:
        return
    stop = threading.Event()
    pulse = threading.Thread(target=_keep_alive, args=(running, stop), daemon=True)
    pulse.start()
    try:
        _do(running)
    finally:
        stop.set()
        pulse.join(timeout=10)
    follower = _followers.get(running.job.kind)
    if follower is not None:
        send(follower, [], "default")


def _do(running: Running) -> None:
    job = running.job
    try:
        function = _handlers.get(job.kind)
        if function is None:
            raise CannotRun(f"no worker here knows jobs of kind {job.kind}")
        result = function(running)
        running._write(
            state=JobState.DONE, progress=1.0, result=result or {}, finished_at=timezone.now(), error=""
        )
    except LostLease:
        logger.warning("job %s was taken over by another worker", job.pk)
    except HandedBack:
        _finish(running, JobState.QUEUED, "", hinted_at=None, message="waits for another worker")
    except Cancelled:
        _finish(running, JobState.CANCELLED, "Cancelled by a person.")
    except CannotRun as error:
        _finish(running, JobState.FAILED, str(error))
    except Exception as error:
        logger.exception("job %s (%s) failed", job.pk, job.kind)
        failures = job.failures + 1
        state = JobState.QUEUED if failures < MAX_FAILURES else JobState.FAILED
        _finish(running, state, f"{type(error).__name__}: {error}", failures=failures)


def _finish(running: Running, state: JobState, error: str, **changes: Any) -> None:
    finished_at = None if state == JobState.QUEUED else timezone.now()
    try:
        running._write(state=state, error=error[:10_000], finished_at=finished_at, **changes)
    except LostLease:
        logger.warning("job %s was taken over by another worker", running.job.pk)


def _keep_alive(running: Running, stop: threading.Event) -> None:
    try:
        while not stop.wait(settings.JOB_HEARTBEAT_S):
            close_old_connections()
            try:
                running._write(lease_expires_at=timezone.now() + timedelta(seconds=settings.JOB_LEASE_S))
            except DatabaseError as error:  # the next beat tries again, on a connection of its own
                logger.warning("the heartbeat of job %s was missed: %s", running.job.pk, error)
                connection.close()
    except LostLease:
        logger.warning("job %s was taken over by another worker", running.job.pk)
    finally:
        connection.close()


def sweep(*, now: datetime | None = None) -> int:
    """Sends again the hints of jobs that wait or whose worker is gone; how many."""
    now = now or timezone.now()
    waiting = Q(state=JobState.QUEUED) & (
        Q(hinted_at=None) | Q(hinted_at__lt=now - timedelta(seconds=settings.JOB_SWEEP_S * 2))
    )
    orphaned = Q(state=JobState.RUNNING, lease_expires_at__lt=now)
    count = 0
    for job in Job.objects.filter(waiting | orphaned).order_by("id")[:1000]:
        hint(job)
        count += 1
    return count


@transaction.atomic
def cancel(*, job: Job, actor: AbstractBaseUser | None = None) -> None:
    """Stops a job: at once if it waits, at its next report if it runs. `actor` is who asked, if a person did."""
    now = timezone.now()
    stopped = Job.objects.filter(pk=job.pk, state=JobState.QUEUED).update(
        state=JobState.CANCELLED, finished_at=now, error="Cancelled by a person."
    )
    if not stopped:
        stopped = Job.objects.filter(pk=job.pk, state=JobState.RUNNING).update(cancel_requested=True)
    if stopped and actor is not None:
        events.record(project=job.project, actor=actor, verb="cancel_job", subject=job)


@transaction.atomic
def retry(*, job: Job, actor: AbstractBaseUser | None = None) -> bool:
    """Puts a job that ended without a result back into the queue; whether it did."""
    again = Job.objects.filter(
        pk=job.pk, state__in=[JobState.FAILED, JobState.CANCELLED, JobState.PARKED]
    ).update(
        state=JobState.QUEUED,
        failures=0,
        crashes=0,
        cancel_requested=False,
        finished_at=None,
        error="",
        hinted_at=None,
    )
    if again and actor is not None:
        events.record(project=job.project, actor=actor, verb="retry_job", subject=job)
    if again:
        transaction.on_commit(lambda: hint(job))
    return bool(again)
