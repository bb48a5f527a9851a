"""The GPU worker's jobs: train, evaluate, predict. Beside serving, the only importer of torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from celery import shared_task
from django.conf import settings

from flywheel.models import Evaluation, ModelVersion, Snapshot, TrainingRun
from flywheel.services import model_files, prediction, promotion, selection, snapshots, training
from labeling import storage
from labeling.models import Task
from labeling.services import jobs
from ml import metrics
from ml.acquisition.uncertainty import picture_score
from ml.data import open_picture
from ml.predict import Predictor
from ml.schema import Detection, Example
from ml.schema import Snapshot as OpenSnapshot
from ml.train import Cancelled, Progress, TrainConfig, TrainingError, fit

SHARD = 64
BATCH = 8
CURVE_POINTS = 400


@shared_task(name="flywheel.gpu.run_job")
def run_job(job_id: int) -> None:
    torch.set_num_threads(settings.TRAIN_THREADS)
    jobs.run(job_id)


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


@jobs.handler("evaluate", then="flywheel.tasks.tick")
def evaluate(running: jobs.Running) -> dict[str, Any]:
    """Measures challenger and champion on the same gold pictures and compares them picture by picture."""
    snapshot = Snapshot.objects.get(pk=running.params["snapshot"])
    folder = settings.WORK_DIRECTORY / "snapshots" / snapshot.version
    opened = snapshots.unpack(snapshot=snapshot, folder=folder)
    examples = _measured(opened)
    challenger = ModelVersion.objects.get(pk=running.params["challenger"])
    champion = ModelVersion.objects.filter(pk=running.params["champion"]).first()
    models = [challenger] if champion is None else [challenger, champion]
    scores: list[metrics.Scores] = []
    for number, model in enumerate(models):
        running.report(number / len(models), f"measuring {model.name} on {len(examples)} pictures")
        scores.append(_score(model, snapshot, opened, examples, running))
    metric: metrics.Metric = running.params["metric"]
    result: dict[str, Any] = _figures(scores[0]) | {
        "metric": metric,
        "champion_id": None if champion is None else champion.pk,
        "interval": _interval(scores[0]),
    }
    if champion is not None:
        result["champion"] = _figures(scores[1])
        result["gain"] = _gain(scores[0], scores[1], metric)
    return result


@jobs.handler("predict", then="flywheel.tasks.tick")
def predict(running: jobs.Running) -> dict[str, Any]:
    """Looks at every open picture with a model, shard by shard; goes on after the last shard that was kept."""
    model = ModelVersion.objects.select_related("project").get(pk=running.params["model"])
    predictor = Predictor.load(model_files.unpack(model=model))
    calibration = _calibration_of(model)
    weights = selection.wanted_classes(model.project)
    total = prediction.to_look_at(model.project).count()
    done, last = running.checkpoint.get("done", 0), running.checkpoint.get("last", 0)
    while True:
        shard = list(prediction.to_look_at(model.project, after=last)[:SHARD])
        if not shard:
            with running.holding():
                promotion.show_predictions(model=model)
            return {"pictures": done}
        _predict_shard(model, predictor, shard, calibration, weights)
        done, last = done + len(shard), shard[-1].pk
        running.report(
            min(done / max(total, 1), 1.0),
            f"{done} of {max(total, done)} pictures",
            checkpoint={"done": done, "last": last},
        )


def _predict_shard(
    model: ModelVersion,
    predictor: Predictor,
    tasks: Sequence[Task],
    calibration: dict[str, Any],
    weights: dict[int, float],
) -> None:
    found, uncertainties, embeddings = [], [], []
    blobs = storage.store()
    for start in range(0, len(tasks), BATCH):
        pictures = [
            open_picture(storage.get_blob(blobs, task.image.sha256)) for task in tasks[start : start + BATCH]
        ]
        for seen in predictor.look(pictures):
            detections = prediction.calibrated(seen.detections, calibration)
            found.append(detections)
            uncertainties.append(_uncertainty(detections, weights, max(seen.spread, default=0.0)))
            embeddings.append(seen.embedding)
    prediction.save(
        model=model,
        tasks=tasks,
        detections=found,
        uncertainties=uncertainties,
        embeddings=np.stack(embeddings),
    )


def _uncertainty(detections: Sequence[Detection], weights: dict[int, float], spread: float) -> float:
    scores = np.array([item.score for item in detections], dtype=np.float64)
    classes = np.array([item.class_id for item in detections], dtype=np.int64)
    return picture_score(scores, classes, weights, spread)


def _figures(scores: metrics.Scores) -> dict[str, float | None]:
    return {"ap50": scores.ap50, "ap": scores.ap, "oks_ap": scores.oks_ap, "pck": scores.pck}


def _gain(
    challenger: metrics.Scores, champion: metrics.Scores, metric: metrics.Metric
) -> dict[str, float] | None:
    """The paired gain with its interval; nothing where there is nothing to measure the metric on."""
    if _figures(challenger)[metric] is None:
        return None
    gain = metrics.paired_bootstrap(challenger, champion, metric=metric)
    return {"mean": gain.gain, "low": gain.low, "high": gain.high}


def _score(
    model: ModelVersion,
    snapshot: Snapshot,
    opened: OpenSnapshot,
    examples: Sequence[Example],
    running: jobs.Running,
) -> metrics.Scores:
    predictor = Predictor.load(model_files.unpack(model=model))
    paths = [opened.image_path(example) for example in examples]
    detections: list[list[Detection]] = []
    for _, seen in predictor.predict_files(paths, BATCH):
        detections.append(seen.detections)
        if len(detections) % 64 == 0:
            running.check()
    scores = metrics.evaluate(examples, detections, opened.classes)
    trivial = metrics.trivial_baseline(opened.split("train"), opened.classes, examples)
    summary = scores.summary() | {
        "split": examples[0].split,
        "trivial": _figures(metrics.evaluate(examples, trivial, opened.classes)),
        "calibration": _calibrate(examples, detections, opened),
    }
    per_image = [_dump_match(match) for match in scores.matches]
    sha256 = storage.put_blob(storage.store(), json.dumps(per_image, sort_keys=True).encode())
    with running.holding():
        Evaluation.objects.update_or_create(
            model_version=model,
            snapshot=snapshot,
            defaults={"metrics": summary, "per_image_sha256": sha256},
        )
    return scores


def _dump_match(match: metrics.Match) -> dict[str, Any]:
    """One picture's matches as JSON: what a later comparison with another model needs."""
    return {
        "classes": match.classes.tolist(),
        "scores": match.scores.tolist(),
        "hits": match.hits.astype(int).tolist(),
        "objects": {str(class_id): count for class_id, count in match.objects.items()},
    }


def _measured(opened: OpenSnapshot) -> tuple[Example, ...]:
    for split in ("gold", "val", "train"):
        examples = opened.split(split)
        if any(example.objects for example in examples):
            if split == "train":
                raise jobs.CannotRun(
                    "There is nothing to measure a model on: mark some pictures as gold, or label more of them."
                )
            return examples
    raise jobs.CannotRun("No picture of the snapshot has an object.")


def _calibrate(
    examples: Sequence[Example], detections: Sequence[Sequence[Detection]], opened: OpenSnapshot
) -> dict[str, Any]:
    """Class id → [scores, shares that a person would keep], from the pictures measured on.

    Classes never detected are left out.
    """
    judged = [metrics.acceptable(example, seen) for example, seen in zip(examples, detections, strict=True)]
    classes, scores, right = (np.concatenate(column) for column in zip(*judged, strict=True))
    found: dict[str, Any] = {}
    for item in opened.classes:
        calibration = metrics.calibrate(scores[classes == item.id], right[classes == item.id])
        if calibration is not None:
            found[str(item.id)] = [list(calibration.scores), list(calibration.precisions)]
    return found


def _calibration_of(model: ModelVersion) -> dict[str, Any]:
    evaluation = Evaluation.objects.filter(model_version=model).order_by("-id").first()
    return {} if evaluation is None else dict(evaluation.metrics["calibration"])


def _interval(scores: metrics.Scores) -> list[float] | None:
    """A 90 % bootstrap interval of AP50 over the pictures measured on."""
    if scores.ap50 is None:
        return None
    return list(metrics.bootstrap_interval(scores))


def _report(running: jobs.Running, progress: Progress) -> None:
    running.report(
        progress.step / progress.steps, f"step {progress.step} of {progress.steps}, loss {progress.loss:.3f}"
    )


def _curve(out: Path) -> list[dict[str, Any]]:
    points = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    every = max(1, len(points) // CURVE_POINTS)
    return points[::every]
