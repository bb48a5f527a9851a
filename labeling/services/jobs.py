"""Long work as rows: claimed with a compare-and-set, kept by heartbeats, written under a fencing token.

Celery delivers "run job N" and may lose it, repeat it or deliver it late: `sweep` sends again what is
waiting, and `claim` lets one worker at a time have a job. A worker that hangs past its lease holds an old
token, and everything it then tries to write raises `LostLease`.

All times are the database's: workers whose clocks are wrong agree with each other all the same.
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
from kombu.exceptions import OperationalError

from labeling.models import Job, JobState, Project
from labeling.services import clock, events

logger = logging.getLogger(__name__)

RUNNERS: Final = {"default": "labeling.tasks.run_job", "gpu": "flywheel.gpu.run_job"}
"""Which Celery task runs the jobs of a queue."""

TITLES: Final = {
    "import": "Import pictures and labels",
    "export": "Export",
    "refit": "Learn how reliable the annotators are",
    "prune": "Clear away what nobody needs any more",
    "freeze": "Freeze the settled labels",
    "train": "Train a model",
    "evaluate": "Measure the model",
    "predict": "Look at the open pictures",
    "export_model": "Export a model",
    "select": "Choose what to label next",
    "audit": "Audit the labels",
    "ping": "See whether a worker answers",
}
"""What a kind of job is called where people see it, unless its `title` parameter says it better."""

MAX_FAILURES: Final = 3
RETRY_AFTER_S: Final = 5
"""How long a job that failed waits before it is tried again; four times as long after the next failure."""
OPEN: Final = (JobState.QUEUED, JobState.RUNNING)
SLOWEST_SWEEPS: Final = 6
"""A job that waits behind others is hinted after two sweeps at first, and each so many when it has waited long."""


class LostLease(RuntimeError):
    """Another worker has this job now; what this one did must not be written."""


class Cancelled(Exception):
    """This job is to stop, asked by a person if no message says why."""


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
        self.left = ""
        """What stands of the work if it ends now, for the person who reads why it ended."""
        self.partial: dict[str, Any] = {}
        """The result if it ends now."""

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.job.params)

    @property
    def checkpoint(self) -> dict[str, Any]:
        return dict(self.job.checkpoint)

    def report(self, progress: float, message: str = "", checkpoint: dict[str, Any] | None = None) -> None:
        """Writes progress (0 to 1) and renews the lease. Raises `LostLease`, `HandedBack`, `Cancelled`."""
        self.keep(progress, message, checkpoint)
        self.check()

    def keep(self, progress: float, message: str = "", checkpoint: dict[str, Any] | None = None) -> None:
        """Like `report`, for within a transaction that shall be written whoever wants the job to stop."""
        changes: dict[str, Any] = {
            "progress": min(max(progress, 0.0), 1.0),
            "message": message[:500],
            "lease_expires_at": clock.now() + timedelta(seconds=settings.JOB_LEASE_S),
        }
        if checkpoint is not None:
            changes["checkpoint"] = checkpoint
            self.job.checkpoint = checkpoint
        self._write(**changes)

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
            "created_at": clock.now(),
        },
    )
    if job.state == JobState.QUEUED and job.hinted_at is None:  # from then on the sweeper asks again
        transaction.on_commit(lambda: hint(job))
    return job


def title(job: Job) -> str:
    """What people call this work."""
    told = job.params.get("title")
    return told if isinstance(told, str) and told else TITLES.get(job.kind, job.kind.replace("_", " "))


def hint(job: Job) -> None:
    """Tells a worker that this job waits. A broker that is down costs time, not the job: the sweeper asks again."""
    Job.objects.filter(pk=job.pk).update(hinted_at=clock.now())
    send(RUNNERS[job.queue], [job.pk], job.queue)


def send(task: str, args: list[int], queue: str) -> None:
    """Sends a Celery message that may get lost: what must not be lost is a row that a sweeper finds.

    RabbitMQ drops it when nobody has taken it by the time that the sweeper has asked again, and by its own
    clock; Celery's `expires` would go by the worker's, and a wrong one would drop every hint.
    """
    try:
        current_app.send_task(
            task, args=args, queue=queue, retry=False, expiration=SLOWEST_SWEEPS * settings.JOB_SWEEP_S
        )
    except (OperationalError, OSError) as error:
        logger.warning("no broker took the hint %s%s: %s", task, args, error)


def claim(job_id: int, *, now: datetime | None = None) -> Running | None:
    """Takes the job if it waits, or if its worker's lease ran out; nothing when someone else has it."""
    now = now or clock.now()
    free = _is_free(now)
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


def _is_free(now: datetime) -> Q:
    """Waiting, and not because it has just failed; or its worker is gone."""
    ready = Q(lease_expires_at=None) | Q(lease_expires_at__lt=now)
    return ready & Q(state__in=OPEN) & ~Q(state=JobState.RUNNING, lease_expires_at=None)


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
        with events.client(f"job {job.pk} {job.kind}"):
            result = function(running)
        running._write(
            state=JobState.DONE, progress=1.0, result=result or {}, finished_at=clock.now(), error=""
        )
    except LostLease:
        logger.warning("job %s was taken over by another worker", job.pk)
    except HandedBack:
        _finish(
            running,
            JobState.QUEUED,
            "",
            hinted_at=None,
            lease_expires_at=None,
            message="waits for another worker",
        )
    except Cancelled as error:
        told = str(error) or "Cancelled by a person."
        _finish(running, JobState.CANCELLED, _with_what_is_left(told, running))
    except CannotRun as error:
        _finish(running, JobState.FAILED, _with_what_is_left(str(error), running))
    except Exception as error:
        logger.exception("job %s (%s) failed", job.pk, job.kind)
        failures = job.failures + 1
        told = f"{type(error).__name__}: {error}"
        if failures < MAX_FAILURES:
            # Until then it is nobody's: a waiting job's lease holds workers off.
            later = clock.now() + timedelta(seconds=RETRY_AFTER_S * 4**job.failures)
            _finish(running, JobState.QUEUED, told, failures=failures, lease_expires_at=later)
        else:
            _finish(running, JobState.FAILED, _with_what_is_left(told, running), failures=failures)


def _with_what_is_left(error: str, running: Running) -> str:
    return f"{error} {running.left}".strip()


def _finish(running: Running, state: JobState, error: str, **changes: Any) -> None:
    finished_at = None if state == JobState.QUEUED else clock.now()
    if finished_at is not None and running.partial:
        changes["result"] = running.partial
    try:
        running._write(state=state, error=error[:10_000], finished_at=finished_at, **changes)
    except LostLease:
        logger.warning("job %s was taken over by another worker", running.job.pk)


def _keep_alive(running: Running, stop: threading.Event) -> None:
    try:
        while not stop.wait(settings.JOB_HEARTBEAT_S):
            close_old_connections()
            try:
                running._write(lease_expires_at=clock.now() + timedelta(seconds=settings.JOB_LEASE_S))
            except DatabaseError as error:  # the next beat tries again, on a connection of its own
                logger.warning("the heartbeat of job %s was missed: %s", running.job.pk, error)
                connection.close()
    except LostLease:
        logger.warning("job %s was taken over by another worker", running.job.pk)
    finally:
        connection.close()


def sweep(*, now: datetime | None = None) -> int:
    """Sends again the hints of jobs that wait or whose worker is gone; how many.

    A job that waits long, behind others, is asked for less often: its messages must not pile up.
    """
    now = now or clock.now()
    often = timedelta(seconds=settings.JOB_SWEEP_S * 2)
    seldom = timedelta(seconds=settings.JOB_SWEEP_S * SLOWEST_SWEEPS)
    due = Q(hinted_at=None) | Q(hinted_at__lt=now - often)
    count = 0
    for job in Job.objects.filter(_is_free(now) & due).order_by("id")[:1000]:
        waited = now - (job.lease_expires_at or job.created_at)
        if job.hinted_at is None or now - job.hinted_at >= min(max(often, waited / 4), seldom):
            hint(job)
            count += 1
    return count


@transaction.atomic
def cancel(*, job: Job, actor: AbstractBaseUser | None = None) -> None:
    """Stops a job: at once if it waits, at its next report if it runs. `actor` is who asked, if a person did."""
    now = clock.now()
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
        lease_expires_at=None,
        error="",
        hinted_at=None,
    )
    if again and actor is not None:
        events.record(project=job.project, actor=actor, verb="retry_job", subject=job)
    if again:
        transaction.on_commit(lambda: hint(job))
    return bool(again)
