"""What a model's look at many pictures becomes: calibrated suggestions for people, and facts for selection."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from django.db.models import QuerySet
from numpy.typing import NDArray

from flywheel import translate
from flywheel.models import ModelVersion
from labeling import storage
from labeling.models import Project, Task
from labeling.services import predictions
from ml.schema import Detection

KEEP_AT: Final = 0.02
"""Detections whose calibrated precision is lower are not stored."""
EMBEDDING: Final = 128


def to_look_at(project: Project, *, after: int = 0) -> QuerySet[Task]:
    """The tasks whose pictures a new champion has to see, in the order of their ids: all but gold.

    The open ones get suggestions; the settled ones' embeddings tell selection what is known already.
    """
    return (
        Task.objects.filter(project=project, is_gold=False, pk__gt=after)
        .select_related("image")
        .order_by("id")
    )


def calibrated(detections: Sequence[Detection], calibration: Mapping[str, Any]) -> list[Detection]:
    """Scores as the share of such detections that are right on gold, class by class.

    `calibration` maps a class id, as text, to `[scores, precisions]`, both rising; a class without one keeps
    its raw scores.
    """
    found = []
    for item in detections:
        knots = calibration.get(str(item.class_id))
        score = item.score if knots is None else float(np.interp(item.score, knots[0], knots[1]))
        if score >= KEEP_AT:
            found.append(Detection(item.class_id, min(max(score, 0.0), 1.0), item.xyxy, item.points))
    return found


def save(
    *,
    model: ModelVersion,
    tasks: Sequence[Task],
    detections: Sequence[Sequence[Detection]],
    uncertainties: Sequence[float],
    embeddings: NDArray[np.float32],
) -> None:
    """Stores one shard of a model's predictions: shapes in rows, embeddings in one object of the store.

    `uncertainties` grow with what there is to learn from a picture, `embeddings` is [tasks, 128].
    """
    predictions.save_all(
        model=model.name,
        predicted=[
            predictions.Predicted(
                task_id=task.pk,
                shapes=translate.shapes(found, width=task.image.width, height=task.image.height),
                uncertainty=uncertainty,
            )
            for task, found, uncertainty in zip(tasks, detections, uncertainties, strict=True)
        ],
    )
    packed = io.BytesIO()
    np.savez(packed, tasks=np.array([task.pk for task in tasks]), embeddings=embeddings)
    storage.store().put(_shard_name(model, tasks[0].pk, tasks[-1].pk), packed.getvalue())


def embeddings_of(model: ModelVersion) -> dict[int, NDArray[np.float32]]:
    """Task id → the picture's embedding [128], for every task that the model has looked at."""
    blobs = storage.store()
    found: dict[int, NDArray[np.float32]] = {}
    for name in blobs.names(f"embeddings/{model.name}-{model.weights_sha256[:16]}/"):
        with np.load(io.BytesIO(blobs.get(name)), allow_pickle=False) as shard:
            for task_id, row in zip(shard["tasks"].tolist(), shard["embeddings"], strict=True):
                found[task_id] = row
    return found


def _shard_name(model: ModelVersion, first: int, last: int) -> str:
    return f"embeddings/{model.name}-{model.weights_sha256[:16]}/{first:012d}-{last:012d}.npz"
