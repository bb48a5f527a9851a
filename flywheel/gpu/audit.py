"""The job that looks for mistakes in a project's settled labels."""

import shutil
from dataclasses import fields
from typing import Any

from django.conf import settings

from flywheel.models import LabelAudit
from flywheel.services import audits, snapshots, training
from labeling.services import jobs
from ml.audit import audit as audit_labels
from ml.train import Cancelled, TrainConfig, TrainingError


@jobs.handler("audit")
def audit(running: jobs.Running) -> dict[str, Any]:
    """Freezes what is settled, once, and audits it. Killed and run again it goes on with the same snapshot."""
    asked = LabelAudit.objects.select_related("project", "snapshot").get(pk=running.params["audit"])
    if asked.finished_at is not None:
        return {"doubtful": asked.doubtful}
    if asked.snapshot is None:
        running.report(0.0, "freezing the settled labels")
        try:
            snapshot = snapshots.freeze(project=asked.project)
        except snapshots.NothingToLearn as error:
            raise jobs.CannotRun(str(error)) from error
        with running.holding():
            audits.begin(audit=asked, snapshot=snapshot)
    assert asked.snapshot is not None
    running.report(0.0, "unpacking the snapshot")
    folder = settings.WORK_DIRECTORY / "snapshots" / asked.snapshot.version
    opened = snapshots.unpack(snapshot=asked.snapshot, folder=folder)
    work = settings.WORK_DIRECTORY / "audits" / asked.snapshot.version
    try:
        wanted = audits.config_of(asked.project, images=_images_a_fold(asked.snapshot.images))
        done = audit_labels(
            folder,
            work,
            config=TrainConfig(threads=settings.TRAIN_THREADS, **_known(wanted)),
            folds=audits.FOLDS,
            code_version=settings.VERSION,
            on_progress=running.report,
            should_stop=lambda: running.is_stopping,
        )
    except Cancelled:  # a checkpoint stands; `check` says why it was stopped
        running.check()
        raise
    except (TrainingError, training.BadTrainingSettings) as error:
        raise jobs.CannotRun(str(error)) from error
    with running.holding():
        listed = audits.keep(
            audit=asked,
            doubtful=done.doubtful,
            revisions=opened.about["revisions"],
            pictures=done.pictures,
        )
    shutil.rmtree(work, ignore_errors=True)
    return {"pictures": done.pictures, "doubtful": len(done.doubtful), "listed": listed}


def _known(wanted: dict[str, Any]) -> dict[str, Any]:
    """What the trainer knows of the project's training settings; the others are the round's."""
    names = {field.name for field in fields(TrainConfig)}
    return {name: value for name, value in wanted.items() if name in names}


def _images_a_fold(images: int) -> int:
    """How many pictures a fold's model learns from."""
    return images * (audits.FOLDS - 1) // audits.FOLDS
