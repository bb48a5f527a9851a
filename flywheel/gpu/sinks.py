"""Trainings told to MLflow and TensorBoard as well, for teams that look there. Optional: the group `sinks`.

What such a place does not take never harms a training: it is logged once, and that run is not told there any more.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from django.conf import settings

from flywheel.models import TrainingRun

log = logging.getLogger(__name__)
PATIENCE: Final = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""A server that hangs shall not hold a training up for the twenty minutes that are MLflow's own."""
BATCH: Final = 900
"""Metrics in one request; MLflow takes a thousand."""
RUN_TAG: Final = "labelwheel.run"

Point = Mapping[str, float]
Status = Literal["FINISHED", "FAILED", "KILLED"]
"""As MLflow names them."""


class Sink(Protocol):
    """A place that keeps curves."""

    def add(self, points: Sequence[Point]) -> None: ...

    def end(self, metrics: Mapping[str, float], status: Status) -> None: ...


class Sinks:
    """All places that the settings name, for one run; nothing that they raise comes out of here."""

    def __init__(self, run: TrainingRun) -> None:
        self.run = run
        self.step = -1.0
        self.sinks = list(self._opened())

    def add(self, curve: Sequence[Point]) -> None:
        """Tells what is new in the whole curve so far."""
        new = [point for point in curve if point["step"] > self.step]
        if new:
            self.step = new[-1]["step"]
            self._each("add", new)

    def end(self, status: Status, metrics: Mapping[str, Any] | None = None) -> None:
        """The run has ended; `metrics` are those of its card, of which the numbers are told."""
        numbers = {
            name: float(value)
            for name, value in (metrics or {}).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        self._each("end", numbers, status)

    def _each(self, what: str, *given: Any) -> None:
        for sink in list(self.sinks):
            try:
                getattr(sink, what)(*given)
            except Exception as error:  # noqa: BLE001  (of a library and a server that are not ours)
                self._lost(type(sink).__name__, error)
                self.sinks.remove(sink)

    def _opened(self) -> Iterator[Sink]:
        wanted: list[tuple[type[MlflowSink] | type[TensorboardSink], str]] = [
            (MlflowSink, settings.MLFLOW_URI),
            (TensorboardSink, settings.TENSORBOARD_DIRECTORY),
        ]
        for kind, place in wanted:
            if not place:
                continue
            try:
                yield kind(place, self.run)
            except Exception as error:  # noqa: BLE001  (as above, or the group is not installed)
                self._lost(kind.__name__, error)

    def _lost(self, name: str, error: Exception) -> None:
        log.warning("run %s is not told to %s any more: %s", self.run.pk, name, error)


class MlflowSink:
    """A run in the experiment of the project's name; resumed, it is the same run there."""

    def __init__(self, uri: str, run: TrainingRun) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        name = f"labelwheel/{run.project_id} {run.project.name}"
        known = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if known is None else known.experiment_id
        found = self.client.search_runs([experiment], filter_string=f"tags.`{RUN_TAG}` = '{run.key}'")
        self.told = -1.0
        if found:
            self.run_id = found[0].info.run_id
            self.client.set_terminated(self.run_id, status="RUNNING")
            history = self.client.get_metric_history(self.run_id, "loss")
            self.told = max((item.step for item in history), default=-1)
            return
        tags = {
            RUN_TAG: run.key,
            "labelwheel.snapshot": run.snapshot.version,
            "labelwheel.code": run.code_version,
        }
        self.run_id = self.client.create_run(experiment, run_name=f"run {run.pk}", tags=tags).info.run_id
        for key, value in run.config.items():
            self.client.log_param(self.run_id, key, value)

    def add(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, float(value), now, int(point["step"]))
            for point in points
            if point["step"] > self.told
            for name, value in point.items()
            if name != "step"
        ]
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + BATCH])

    def end(self, metrics: Mapping[str, float], status: Status) -> None:
        for name, value in metrics.items():
            self.client.log_metric(self.run_id, f"val/{name}", value)
        self.client.set_terminated(self.run_id, status=status)


class TensorboardSink:
    """Event files in a folder of the run's own; a resumed run adds a file."""

    def __init__(self, directory: str, run: TrainingRun) -> None:
        from tensorboard.summary import Writer

        self.writer = Writer(str(Path(directory) / f"project-{run.project_id}" / f"run-{run.pk}"))
        self.step = 0

    def add(self, points: Sequence[Point]) -> None:
        for point in points:
            self.step = int(point["step"])
            for name, value in point.items():
                if name != "step":
                    self.writer.add_scalar(name, float(value), self.step)
        self.writer.flush()

    def end(self, metrics: Mapping[str, float], status: Status) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(f"val/{name}", value, self.step)
        self.writer.close()
