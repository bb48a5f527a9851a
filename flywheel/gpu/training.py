"""Training a run, and keeping the model that comes out of it."""

import json
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from flywheel.models import TrainingRun
from flywheel.services import model_files, snapshots, training
from labeling import storage
from labeling.services import jobs
from ml.train import Cancelled, Progress, TrainConfig, TrainingError, fit

CURVE_POINTS: Final = 400


@jobs.handler("train", then="flywheel.tasks.tick")
def train(running: jobs.Running) -> dict[str, Any]:
    """Trains a run. Killed and run again it resumes, and ends with the same weights."""
    run = TrainingRun.objects.select_related("project", "snapshot", "warm_start__project").get(
        pk=running.params["run"]
    )
    running.report(0.0, "unpacking the snapshot")
    folder = settings.WORK_DIRECTORY / "snapshots" / run.snapshot.version
    snapshots.unpack(snapshot=run.snapshot, folder=folder)
    out = settings.WORK_DIRECTORY / "runs" / run.key
    wanted = {name: value for name, value in run.config.items() if name != "warm_start"}
    try:
        fitted = fit(
            folder,
            out,
            config=TrainConfig(threads=settings.TRAIN_THREADS, **wanted),
            warm_start=None if run.warm_start is None else model_files.unpack(model=run.warm_start),
            cache=settings.WORK_DIRECTORY / "pictures",
            code_version=run.code_version,
            on_progress=lambda progress: _report(running, progress),
            should_stop=lambda: running.is_stopping,
        )
    except Cancelled:  # a checkpoint stands; `check` says why it was stopped
        running.check()
        raise
    except TrainingError as error:
        raise jobs.CannotRun(str(error)) from error
    blobs = storage.store()
    weights_sha256 = storage.put_blob(blobs, (out / "model.safetensors").read_bytes())
    with running.holding():
        model = training.keep(
            run=run, weights_sha256=weights_sha256, card=dict(fitted.card), curve=_curve(out)
        )
    return {"model": model.pk, "name": model.name}


def _report(running: jobs.Running, progress: Progress) -> None:
    running.report(
        progress.step / progress.steps, f"step {progress.step} of {progress.steps}, loss {progress.loss:.3f}"
    )


def _curve(out: Path) -> list[dict[str, Any]]:
    points = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    every = max(1, len(points) // CURVE_POINTS)
    return points[::every]
