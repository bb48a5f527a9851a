"""The CPU worker's jobs of the labeling service. A message is a hint: the `Job` row is the record."""

from typing import Any

from celery import shared_task
from celery.signals import worker_shutting_down

from labeling.services import (
    annotations,
    cards,
    clock,
    consensus,
    exports,
    housekeeping,
    imports,
    jobs,
    queue,
    refits,
    schedule,
    tallies,
)


@worker_shutting_down.connect
def hand_back(**kwargs: Any) -> None:
    """SIGTERM: the job in hand goes back to the queue with its checkpoint, instead of dying with the worker."""
    jobs.stop_working()


@shared_task(name="labeling.tasks.run_job")
def run_job(job_id: int) -> None:
    jobs.run(job_id)


@shared_task(name="labeling.tasks.sweep")
def sweep() -> None:
    """Every few seconds: what is due, lost hints again, slots of expired leases back, settle what a crash left."""
    now = clock.now()
    schedule.make_due(now=now)
    jobs.sweep(now=now)
    queue.expire(now=now)
    annotations.prune_drafts(now=now)
    cards.expire(now=now)
    consensus.settle_stale()
    tallies.compact()


@jobs.handler("ping")
def ping(running: jobs.Running) -> dict[str, Any]:
    """Shows that a worker answers."""
    running.report(0.5, "pong")
    return {"pong": True}


@jobs.handler("refit")
def refit(running: jobs.Running) -> dict[str, Any]:
    """Learns the annotators' skills anew and settles the project with them."""
    return refits.run(running=running)


@jobs.handler("prune")
def prune(running: jobs.Running) -> dict[str, Any]:
    return housekeeping.prune(running=running, now=clock.now())


@jobs.handler("import")
def import_upload(running: jobs.Running) -> dict[str, Any]:
    return imports.run(running=running)


@jobs.handler("export")
def export(running: jobs.Running) -> dict[str, Any]:
    return exports.run(running=running)
