"""Measuring models on the pictures that were kept for it."""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from django.conf import settings

from flywheel.models import Evaluation, ModelVersion, Snapshot
from flywheel.services import model_files, snapshots
from labeling import storage
from labeling.services import jobs
from ml import metrics
from ml.predict import Predictor
from ml.schema import Detection, Example
from ml.schema import Snapshot as OpenSnapshot

BATCH: Final = 8


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


def _interval(scores: metrics.Scores) -> list[float] | None:
    """A 90 % bootstrap interval of AP50 over the pictures measured on."""
    if scores.ap50 is None:
        return None
    return list(metrics.bootstrap_interval(scores))
