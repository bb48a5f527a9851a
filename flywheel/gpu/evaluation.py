"""Measuring models on the pictures that were kept for it."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from flywheel.models import Evaluation, ModelVersion, Snapshot
from flywheel.services import baselines, model_files, promotion, snapshots
from labeling import storage
from labeling.services import jobs
from ml import metrics, slices
from ml.predict import Predictor
from ml.schema import Detection, Example
from ml.schema import Snapshot as OpenSnapshot

BATCH: Final = 8
WARM_UP: Final = 2
"""The first batches are slower, and not what a picture costs."""
Judged = tuple[NDArray[np.int64], metrics.Floats, NDArray[np.bool_]]


@jobs.handler("evaluate", then="flywheel.tasks.tick")
def evaluate(running: jobs.Running) -> dict[str, Any]:
    """Measures challenger and champion on the same gold pictures and compares them picture by picture.

    Where a control was trained from scratch beside it, the better of the two in the metric is the challenger.
    """
    snapshot = Snapshot.objects.get(pk=running.params["snapshot"])
    folder = settings.WORK_DIRECTORY / "snapshots" / snapshot.version
    opened = snapshots.unpack(snapshot=snapshot, folder=folder)
    examples = _measured(opened)
    wanted = [
        running.params[name] for name in ("challenger", "control", "champion") if running.params.get(name)
    ]
    models = ModelVersion.objects.in_bulk(wanted)
    looked: dict[int, slices.Looked] = {}
    for number, pk in enumerate(wanted):
        running.report(number / len(wanted), f"measuring {models[pk].name} on {len(examples)} pictures")
        looked[pk] = _score(models[pk], snapshot, opened, examples, running)
    metric: metrics.Metric = running.params["metric"]
    challenger = running.params["challenger"]
    control = running.params.get("control")
    result: dict[str, Any] = {}
    if control:
        warm, scratch = looked[challenger].scores, looked[control].scores
        result["control"] = {
            "model_id": control,
            "name": models[control].name,
            **_figures(scratch),
            "gain": _gain(scratch, warm, metric),
        }
        if (_figures(scratch)[metric] or 0.0) > (_figures(warm)[metric] or 0.0):
            challenger, other = control, challenger
            result["control"]["won_against"] = models[other].name
    mine = looked[challenger]
    champion = looked.get(running.params.get("champion") or 0)
    result |= _figures(mine.scores) | {
        "metric": metric,
        "challenger_id": challenger,
        "champion_id": running.params.get("champion"),
        "interval": _interval(mine.scores),
        "slices": [
            row.dump() for row in slices.slices(mine, opened.classes, against=champion, metric=metric)
        ],
        "human": baselines.human(project=snapshot.project, pictures=[item.sha256 for item in examples]),
    }
    if champion is not None:
        result["champion"] = _figures(champion.scores)
        result["gain"] = _gain(mine.scores, champion.scores, metric)
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
) -> slices.Looked:
    detections, latency_ms = _look(model, opened, examples, running)
    scores = metrics.evaluate(examples, detections, opened.classes)
    trivial = metrics.trivial_baseline(opened.split("train"), opened.classes, examples)
    judged = [metrics.acceptable(example, seen) for example, seen in zip(examples, detections, strict=True)]
    curves = _calibrate(judged, opened)
    looked = slices.Looked(examples, detections, scores)
    calibrated = slices.calibration(judged)
    summary = scores.summary() | {
        "split": examples[0].split,
        "trivial": _figures(metrics.evaluate(examples, trivial, opened.classes)),
        "calibration": {
            str(class_id): [list(item.scores), list(item.precisions)] for class_id, item in curves.items()
        },
        "calibrated": None if calibrated is None else {"ece": calibrated.ece, "chance": calibrated.chance},
        "f1": metrics.f1_at(scores.matches, _shown_from(curves)),
        "latency_ms": latency_ms,
        "slices": [row.dump() for row in slices.slices(looked, opened.classes)],
    }
    per_image = [_dump_match(match) for match in scores.matches]
    sha256 = storage.put_blob(storage.store(), json.dumps(per_image, sort_keys=True).encode())
    with running.holding():
        Evaluation.objects.update_or_create(
            model_version=model,
            snapshot=snapshot,
            defaults={"metrics": summary, "per_image_sha256": sha256},
        )
    return looked


def _look(
    model: ModelVersion, opened: OpenSnapshot, examples: Sequence[Example], running: jobs.Running
) -> tuple[list[list[Detection]], float | None]:
    """What the model sees, and the milliseconds it takes a picture, reading and decoding included."""
    predictor = Predictor.load(model_files.unpack(model=model))
    paths = [opened.image_path(example) for example in examples]
    detections: list[list[Detection]] = []
    began, counted = time.monotonic(), 0
    for _, seen in predictor.predict_files(paths, BATCH):
        detections.append(seen.detections)
        if len(detections) == WARM_UP * BATCH and len(paths) > 2 * WARM_UP * BATCH:
            began, counted = time.monotonic(), len(detections)
        if len(detections) % 64 == 0:
            running.check()
    took = 1000 * (time.monotonic() - began)
    return detections, round(took / (len(paths) - counted), 1)


def _shown_from(curves: Mapping[int, metrics.Calibration]) -> dict[int, float]:
    """Class id → the raw score from which its detections are shown as suggestions."""
    return {class_id: item.threshold(promotion.SHOW_AT) for class_id, item in curves.items()}


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


def _calibrate(judged: Sequence[Judged], opened: OpenSnapshot) -> dict[int, metrics.Calibration]:
    """Class id → the share of detections that a person would keep by score, from the pictures measured on.

    Classes never detected are left out.
    """
    classes, scores, right = (np.concatenate(column) for column in zip(*judged, strict=True))
    fitted = {
        item.id: metrics.calibrate(scores[classes == item.id], right[classes == item.id])
        for item in opened.classes
    }
    return {class_id: item for class_id, item in fitted.items() if item is not None}


def _interval(scores: metrics.Scores) -> list[float] | None:
    """A 90 % bootstrap interval of AP50 over the pictures measured on."""
    if scores.ap50 is None:
        return None
    return list(metrics.bootstrap_interval(scores))
