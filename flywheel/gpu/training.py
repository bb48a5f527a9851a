"""Training a run, and keeping the model that comes out of it."""

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from flywheel.gpu.sinks import Sinks
from flywheel.models import TrainingRun
from flywheel.services import model_files, searches, snapshots, training
from labeling import storage
from labeling.services import jobs
from ml.together import fit_together
from ml.train import Cancelled, Fitted, Progress, Pruned, Rungs, TrainConfig, TrainingError, fit

CURVE_SECONDS: Final = 3.0
"""Between two writings of a running training's curve."""


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
    live = _LiveCurve(running, run, out)
    wanted = {name: value for name, value in run.config.items() if name != "warm_start"}
    try:
        fitted = _trainer()(
            folder,
            out,
            config=TrainConfig(threads=settings.TRAIN_THREADS, **wanted),
            warm_start=None if run.warm_start is None else model_files.unpack(model=run.warm_start),
            cache=settings.WORK_DIRECTORY / "pictures",
            code_version=run.code_version,
            on_progress=live.report,
            should_stop=lambda: running.is_stopping,
            **_rungs(running, run),
        )
    except Pruned as error:
        live.write()
        live.sinks.end("KILLED")
        raise jobs.Cancelled(str(error)) from error
    except Cancelled:  # a checkpoint stands; `check` says why it was stopped
        running.check()
        raise
    except jobs.Cancelled:
        live.sinks.end("KILLED")
        raise
    except TrainingError as error:
        live.write()
        live.sinks.end("FAILED")
        raise jobs.CannotRun(str(error)) from error
    live.end(fitted.metrics)
    blobs = storage.store()
    weights_sha256 = storage.put_blob(blobs, (out / "model.safetensors").read_bytes())
    with running.holding():
        model = training.keep(
            run=run, weights_sha256=weights_sha256, card=dict(fitted.card), curve=_curve(out)
        )
    return {"model": model.pk, "name": model.name}


def _trainer() -> Callable[..., Fitted]:
    """`fit`, in one process or in as many as the settings say."""
    if settings.TRAIN_PROCESSES == 1:
        return fit
    return partial(fit_together, processes=settings.TRAIN_PROCESSES)


def _rungs(running: jobs.Running, run: TrainingRun) -> dict[str, Rungs]:
    """Where the trial of a search is compared with the others. A team of processes trains each to its end."""
    trial = searches.trial_of(run)
    if trial is None or settings.TRAIN_PROCESSES != 1:
        return {}

    def goes_on(step: int, figures: Mapping[str, Any]) -> bool:
        with running.holding():
            return searches.goes_on(trial=trial, step=step, value=figures[trial.search.metric])

    return {"rungs": Rungs(searches.rungs_of(run.config["steps"]), goes_on)}


class _LiveCurve:
    """The curve as far as it has come, for people who watch: in the database every few seconds."""

    def __init__(self, running: jobs.Running, run: TrainingRun, out: Path) -> None:
        self.running, self.run, self.out = running, run, out
        self.sinks = Sinks(run)
        self.written_at = -CURVE_SECONDS

    def report(self, progress: Progress) -> None:
        if time.monotonic() - self.written_at >= CURVE_SECONDS:
            self.write()
        self.running.report(
            progress.step / progress.steps,
            f"step {progress.step} of {progress.steps}, loss {progress.loss:.3f}",
        )

    def write(self) -> None:
        """What stands in the file is the truth: a resumed run has cut it back to its checkpoint."""
        curve = _curve(self.out)
        with self.running.holding():
            training.write_curve(run=self.run, curve=curve)
        self.sinks.add(curve)
        self.written_at = time.monotonic()

    def end(self, metrics: Mapping[str, Any]) -> None:
        self.sinks.add(_curve(self.out))
        self.sinks.end("FINISHED", metrics)


def _curve(out: Path) -> list[dict[str, Any]]:
    path = out / "curve.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
