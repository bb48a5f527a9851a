"""Trainings told to MLflow and TensorBoard: what arrives there, and that nothing there harms a training."""

import logging
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from flywheel.gpu.sinks import Sinks
from flywheel.models import Snapshot, TrainingRun
from flywheel.services import snapshots, training
from labeling.models import Project
from tests.flywheel.conftest import Workers

CURVE = [{"step": 10 * row, "lr": 0.001, "loss": 5.0 - row} for row in (1, 2, 3)]


@pytest.fixture
def run(project: Project) -> TrainingRun:
    snapshot: Snapshot = snapshots.freeze(project=project)
    return training.start(project=project, snapshot=snapshot, own={"steps": 30})


@pytest.fixture
def mlflow(tmp_path: Path, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of a store in a folder."""
    client = pytest.importorskip("mlflow", reason="the group sinks is not installed").MlflowClient
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    settings.MLFLOW_URI = (tmp_path / "mlflow").as_uri()
    return client(tracking_uri=settings.MLFLOW_URI)


def only_run(client: Any) -> Any:
    experiments = [item.experiment_id for item in client.search_experiments() if "Drawn" in item.name]
    (found,) = client.search_runs(experiments)
    return found


def losses(client: Any) -> list[tuple[int, float]]:
    history = client.get_metric_history(only_run(client).info.run_id, "loss")
    return sorted((item.step, item.value) for item in history)


def test_mlflow_has_the_settings_the_curve_and_the_figures(run: TrainingRun, mlflow: Any) -> None:
    sinks = Sinks(run)
    sinks.add(CURVE[:2])
    sinks.add(CURVE)
    assert only_run(mlflow).info.status == "RUNNING"
    sinks.end("FINISHED", {"ap50": 0.5, "split": "val", "classes": {"ball": 1}})
    told = only_run(mlflow)
    assert told.info.status == "FINISHED"
    assert told.data.params["steps"] == "30"
    assert told.data.tags["labelwheel.snapshot"] == run.snapshot.version
    assert told.data.metrics["val/ap50"] == 0.5
    assert losses(mlflow) == [(10, 4.0), (20, 3.0), (30, 2.0)]


def test_a_resumed_run_is_the_same_one_in_mlflow_and_tells_nothing_twice(
    run: TrainingRun, mlflow: Any
) -> None:
    Sinks(run).add(CURVE[:2])
    again = Sinks(run)
    again.add(CURVE)
    again.end("KILLED")
    assert only_run(mlflow).info.status == "KILLED"
    assert losses(mlflow) == [(10, 4.0), (20, 3.0), (30, 2.0)]


def test_tensorboard_reads_the_curve_back(run: TrainingRun, tmp_path: Path, settings: LazySettings) -> None:
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the group sinks is not installed"
    )
    settings.TENSORBOARD_DIRECTORY = str(tmp_path / "events")
    sinks = Sinks(run)
    sinks.add(CURVE)
    sinks.end("FINISHED", {"ap50": 0.5})
    folder = tmp_path / "events" / f"project-{run.project_id}" / f"run-{run.pk}"
    read = events.EventAccumulator(str(folder))
    read.Reload()
    points = [(item.step, item.tensor_proto.float_val[0]) for item in read.Tensors("loss")]
    assert points == [(10, 4.0), (20, 3.0), (30, 2.0)]
    assert [item.step for item in read.Tensors("val/ap50")] == [30]


def test_a_server_that_is_not_there_costs_a_line_and_no_training(
    project: Project,
    run: TrainingRun,
    workers: Workers,
    settings: LazySettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("mlflow", reason="the group sinks is not installed")
    settings.MLFLOW_URI = "http://127.0.0.1:9"
    Project.objects.update(round_settings={**project.round_settings, "automatic": False})
    with caplog.at_level(logging.WARNING, "flywheel.gpu.sinks"):
        workers.run()
    told = [item for item in caplog.records if item.name == "flywheel.gpu.sinks"]
    assert len([item for item in told if f"run {run.pk} " in item.getMessage()]) == 1
    run.refresh_from_db()
    assert run.model_version.name == f"p{project.pk}-v1"


def test_a_place_that_fails_on_the_way_is_left_alone(
    run: TrainingRun, mlflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinks = Sinks(run)
    calls: list[object] = []

    def full(*_: object, **__: object) -> None:
        calls.append(1)
        raise OSError("the disk is full")

    monkeypatch.setattr(sinks.sinks[0], "add", full)
    sinks.add(CURVE[:1])
    sinks.add(CURVE)
    sinks.end("FINISHED")
    assert len(calls) == 1
    assert sinks.sinks == []


def test_without_settings_nothing_is_told_anywhere(run: TrainingRun) -> None:
    assert Sinks(run).sinks == []
