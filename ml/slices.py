"""Where a model is good and where it is not: by class, by size of the object, by group of pictures.

A challenger may win on the whole and lose what somebody needs. Slices are measured in AP50 (in PCK for a project
of poses), on the same pictures for both models, so that each has a paired interval of its own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ml import metrics
from ml.metrics import Floats, Gain, Match, Metric, Scores
from ml.schema import XYXY, DetectedClass, Detection, Example

MIN_OBJECTS: Final = 20
"""A slice with fewer objects says nothing that could be told from chance."""
MAX_GROUPS: Final = 20
SIZES: Final[Mapping[str, tuple[float, float]]] = {
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, float("inf")),
}
"""COCO's ranges of an object's area, pixels² of the original picture."""
FOLDS: Final = 5
NULL_ROUNDS: Final = 200

Kind: TypeAlias = Literal["class", "size", "group"]


@dataclass(frozen=True, slots=True)
class Slice:
    """A model's `value` (0–1) in a part of the pictures, and its paired gain over another, if there is one."""

    kind: Kind
    name: str
    objects: int
    value: float
    gain: Gain | None = None

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        row: dict[str, Any] = {
            "kind": self.kind,
            "name": self.name,
            "objects": self.objects,
            "value": self.value,
        }
        if self.gain is not None:
            row["gain"] = {"mean": self.gain.gain, "low": self.gain.low, "high": self.gain.high}
        return row


@dataclass(frozen=True, slots=True)
class Looked:
    """What a model saw on the examples, `detections[i]` on `examples[i]`, with its figures."""

    examples: Sequence[Example]
    detections: Sequence[Sequence[Detection]]
    scores: Scores


def slices(
    mine: Looked, classes: Sequence[DetectedClass], *, against: Looked | None = None, metric: Metric = "ap50"
) -> list[Slice]:
    """Every slice with at least `MIN_OBJECTS` objects, classes first; joints count instead where PCK is measured.

    `against` was measured on the same examples. Groups beyond the `MAX_GROUPS` with the most objects are left out.
    """
    measure: Metric = "pck" if metric == "pck" else "ap50"
    found: list[Slice] = []
    for item in classes:
        parts = [_of_class(looked.scores, item.id) for looked in _both(mine, against)]
        found += _slice("class", item.name, parts, measure)
    for name, area in SIZES.items():
        parts = [_of_size(looked, area) for looked in _both(mine, against)]
        found += _slice("size", name, parts, measure) if measure == "ap50" else []
    objects: Counter[str] = Counter()
    for example, one in zip(mine.examples, mine.scores.matches, strict=True):
        objects[example.group] += sum(one.objects.values())
    named = [group for group, _ in objects.most_common(MAX_GROUPS + 1) if group][:MAX_GROUPS]
    for group in sorted(named) if len(objects) > 1 else []:
        parts = [_of_group(looked, group) for looked in _both(mine, against)]
        found += _slice("group", group, parts, measure)
    return found


def _both(mine: Looked, against: Looked | None) -> list[Looked]:
    return [mine] if against is None else [mine, against]


def _slice(kind: Kind, name: str, parts: Sequence[Scores], measure: Metric) -> list[Slice]:
    objects = _count(parts[0], measure)
    if objects < MIN_OBJECTS:
        return []
    value = metrics.measured(parts[0], measure)
    gain = metrics.paired_bootstrap(parts[0], parts[1], metric=measure) if len(parts) > 1 else None
    return [Slice(kind, name, objects, value, gain)]


def _count(scores: Scores, measure: Metric) -> int:
    if measure == "pck":
        return sum(one.joints for one in scores.matches)
    return sum(sum(one.objects.values()) for one in scores.matches)


def _of_class(scores: Scores, class_id: int) -> Scores:
    """The figures as if there were this class alone; joints stay counted over all classes of a picture."""
    matches = []
    for one in scores.matches:
        rows = one.classes == class_id
        count = one.objects.get(class_id, 0)
        alone = set(one.objects) <= {class_id}
        matches.append(
            replace(
                one,
                classes=one.classes[rows],
                scores=one.scores[rows],
                hits=one.hits[rows],
                objects={class_id: count} if count else {},
                joints=one.joints if alone else 0,
                joints_found=one.joints_found if alone else 0,
            )
        )
    return replace(scores, matches=tuple(matches))


def _of_group(looked: Looked, group: str) -> Scores:
    rows = [row for row, example in enumerate(looked.examples) if example.group == group]
    return replace(looked.scores, matches=tuple(looked.scores.matches[row] for row in rows))


def _of_size(looked: Looked, area: tuple[float, float]) -> Scores:
    """Objects of other sizes are neither asked for nor held against the model, as in COCO's APs."""
    matches = [
        _match_of_size(example, detections, area)
        for example, detections in zip(looked.examples, looked.detections, strict=True)
    ]
    return replace(looked.scores, matches=tuple(matches))


def _match_of_size(example: Example, detections: Sequence[Detection], area: tuple[float, float]) -> Match:
    inside = [item for item in example.objects if item.crowd or _is_within(item.xyxy, area)]
    others = tuple(
        replace(item, crowd=False)
        for item in example.objects
        if not item.crowd and not _is_within(item.xyxy, area)
    )
    beside = metrics.match(replace(example, objects=others), detections)
    ranked = sorted(detections, key=lambda item: -item.score)[: metrics.MAX_DETECTIONS]
    # What answers an object of another size is left out, and so is what answers none and has another size.
    answers_another = {
        (int(class_id), float(score))
        for class_id, score, hit in zip(beside.classes, beside.scores, beside.hits[:, 0], strict=True)
        if hit
    }
    own = metrics.match(replace(example, objects=tuple(inside)), ranked)
    right = {
        (int(class_id), float(score))
        for class_id, score, hit in zip(own.classes, own.scores, own.hits[:, 0], strict=True)
        if hit
    }
    kept = [
        item
        for item in ranked
        if (item.class_id, item.score) in right
        or ((item.class_id, item.score) not in answers_another and _is_within(item.xyxy, area))
    ]
    return metrics.match(replace(example, objects=tuple(inside)), kept)


def _is_within(box: XYXY, area: tuple[float, float]) -> bool:
    x1, y1, x2, y2 = box
    return area[0] <= (x2 - x1) * (y2 - y1) < area[1]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """How far calibrated scores are from the truth, on pictures that they were not fitted to.

    `ece` is the expected calibration error, 0–1. `chance` is what 95 of 100 perfectly calibrated models would
    stay below on as many detections: a small set cannot tell an error below it from chance (consistency
    resampling, Bröcker and Smith 2007).
    """

    ece: float
    chance: float


def calibration(
    judged: Sequence[tuple[NDArray[np.int64], Floats, NDArray[np.bool_]]], *, seed: int = 0
) -> Calibrated | None:
    """Of `metrics.acceptable` per picture: fitted class by class on four fifths, measured on the rest, in turn.

    None where a fifth has nothing to fit or measure on.
    """
    if len(judged) < FOLDS:
        return None
    fold = np.arange(len(judged)) % FOLDS
    scores, right = [], []
    for number in range(FOLDS):
        known = [_column(judged, fold != number, column) for column in range(3)]
        asked = [_column(judged, fold == number, column) for column in range(3)]
        for class_id in np.unique(asked[0]):
            fitted = metrics.calibrate(known[1][known[0] == class_id], known[2][known[0] == class_id])
            if fitted is not None:
                own = asked[0] == class_id
                scores.append(np.interp(asked[1][own], fitted.scores, fitted.precisions))
                right.append(asked[2][own])
    if not scores:
        return None
    told, true = np.concatenate(scores), np.concatenate(right).astype(np.bool_)
    ece = metrics.calibration_error(told, true)
    if ece is None:
        return None
    random = np.random.default_rng(seed)
    by_chance = [
        metrics.calibration_error(told, random.random(len(told)) < told) or 0.0 for _ in range(NULL_ROUNDS)
    ]
    return Calibrated(ece, float(np.quantile(by_chance, 0.95)))


def _column(judged: Sequence[tuple[Any, Any, Any]], rows: NDArray[np.bool_], column: int) -> NDArray[Any]:
    found: NDArray[Any] = np.concatenate([judged[row][column] for row in np.flatnonzero(rows).tolist()])
    return found
