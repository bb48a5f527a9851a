"""Looking at every open picture with a model."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from flywheel.models import Evaluation, ModelVersion
from flywheel.services import model_files, prediction, promotion, selection
from labeling import storage
from labeling.models import Task
from labeling.services import jobs
from ml.acquisition.uncertainty import picture_score
from ml.data import open_picture
from ml.predict import Predictor
from ml.schema import Detection

SHARD: Final = 64
BATCH: Final = 8


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


def _calibration_of(model: ModelVersion) -> dict[str, Any]:
    evaluation = Evaluation.objects.filter(model_version=model).order_by("-id").first()
    return {} if evaluation is None else dict(evaluation.metrics["calibration"])
