"""The wheel's CPU jobs: the tick that moves rounds, freezing, selecting."""

from datetime import datetime
from typing import Any

from celery import shared_task
from django.utils import timezone

from flywheel.models import Round
from flywheel.services import collection, rounds, selection, snapshots
from labeling.models import Project
from labeling.services import jobs, refits


@shared_task(name="flywheel.tasks.tick")
def tick() -> None:
    rounds.tick(now=timezone.now())


@jobs.handler("freeze", then="flywheel.tasks.tick")
def freeze(running: jobs.Running) -> dict[str, Any]:
    """Settles all answers with freshly learnt skills, then freezes them."""
    project = Project.objects.get(pk=running.params["project"])
    running.report(0.1, "learning the annotators' skills")
    refits.refit(project=project)
    running.report(0.6, "freezing the settled labels")
    try:
        snapshot = snapshots.freeze(project=project)
    except snapshots.NothingToLearn as error:
        raise jobs.CannotRun(str(error)) from error
    measured = collection.measure(
        project=project,
        since=datetime.fromisoformat(running.params["since"]),
        model=running.params["model"],
    )
    return {
        "snapshot": snapshot.pk,
        "version": snapshot.version,
        "images": snapshot.images,
        "collection": measured,
    }


@jobs.handler("select", then="flywheel.tasks.tick")
def select(running: jobs.Running) -> dict[str, Any]:
    """Decides which open pictures are worth labeling next."""
    turn = Round.objects.select_related("project").get(pk=running.params["round"])
    running.report(0.1, "scoring the open pictures")
    chosen = selection.select(turn=turn, wanted=running.params["wanted"])
    return {"chosen": chosen}
