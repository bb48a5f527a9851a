"""How good detections are: COCO's AP, OKS-AP, PCK, calibration, and whether one model is better than another.

The reported AP figures are faster-coco-eval's. The same matching, kept per picture, lets `paired_bootstrap`
draw pictures again without evaluating again; a test holds the two against each other.
"""

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from ml.schema import XYXY, DetectedClass, Detection, Example, Object

IOU_THRESHOLDS: Final = np.linspace(0.5, 0.95, 10)
RECALLS: Final = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS: Final = 300
OKS_SIGMA: Final = 0.075
ACCEPTABLE_OKS: Final = 0.75
"""A pose that a person would keep: its joints are within about a ninth of the object's size."""
PCK_SHARE: Final = 0.05
"""A joint is found within this share of the picture's diagonal."""
PCK_IOU: Final = 0.3
ECE_BINS: Final = 10
ECE_FLOOR: Final = 0.05

Metric: TypeAlias = Literal["ap", "ap50", "pck"]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Match:
    """One picture's detections against its labels; what falls into a crowd region (by half) is left out."""

    classes: NDArray[np.int64]  # [N] class ids, best score first
    scores: Floats  # [N]
    hits: NDArray[np.bool_]  # [N, 10]: right at each of COCO's IoU thresholds
    objects: Mapping[int, int]  # class id → how many labelled
    joints: int  # labelled joints
    joints_found: int


@dataclass(frozen=True, slots=True)
class ClassScore:
    """`ap` and `ap50` are None when no picture has an object of the class."""

    name: str
    objects: int
    ap: float | None
    ap50: float | None
    oks_ap: float | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """A model's figures on a set of pictures, all in 0–1; None where there was nothing to measure."""

    ap: float | None
    ap50: float | None
    oks_ap: float | None
    pck: float | None
    ece: float | None
    per_class: Mapping[int, ClassScore]
    matches: tuple[Match, ...] = field(repr=False)

    def summary(self) -> dict[str, Any]:
        """As JSON, without the matches."""
        return {
            "pictures": len(self.matches),
            "ap": self.ap,
            "ap50": self.ap50,
            "oks_ap": self.oks_ap,
            "pck": self.pck,
            "ece": self.ece,
            "per_class": {
                str(class_id): {
                    "name": score.name,
                    "objects": score.objects,
                    "ap": score.ap,
                    "ap50": score.ap50,
                    "oks_ap": score.oks_ap,
                }
                for class_id, score in self.per_class.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Gain:
    """Challenger minus champion: the measured gain and a bootstrap interval around it."""

    gain: float
    low: float
    high: float
    level: float
    rounds: int


def evaluate(
    examples: Sequence[Example],
    detections: Sequence[Sequence[Detection]],
    classes: Sequence[DetectedClass],
) -> Scores:
    """All figures of `detections[i]` on `examples[i]`."""
    matches = tuple(match(example, found) for example, found in zip(examples, detections, strict=True))
    precision = _coco_precision(examples, detections, classes)
    counts = {item.id: sum(one.objects.get(item.id, 0) for one in matches) for item in classes}
    per_class = {}
    for column, item in enumerate(classes):
        ap = ap50 = None
        if counts[item.id]:
            ap, ap50 = float(precision[:, :, column].mean()), float(precision[0, :, column].mean())
        oks_ap = _oks_ap(examples, detections, item) if item.joints and counts[item.id] else None
        per_class[item.id] = ClassScore(item.name, counts[item.id], ap, ap50, oks_ap)
    joints = sum(one.joints for one in matches)
    return Scores(
        ap=_mean(score.ap for score in per_class.values()),
        ap50=_mean(score.ap50 for score in per_class.values()),
        oks_ap=_mean(score.oks_ap for score in per_class.values()),
        pck=sum(one.joints_found for one in matches) / joints if joints else None,
        ece=calibration_error(
            np.concatenate([one.scores for one in matches] or [np.zeros(0)]),
            np.concatenate([one.hits[:, 0] for one in matches] or [np.zeros(0, dtype=np.bool_)]),
        ),
        per_class=per_class,
        matches=matches,
    )


def match(example: Example, detections: Sequence[Detection]) -> Match:
    """COCO's greedy matching at each IoU threshold, class by class, best score first."""
    ranked = sorted(detections, key=lambda item: -item.score)[:MAX_DETECTIONS]
    hits = np.zeros((len(ranked), len(IOU_THRESHOLDS)), dtype=np.bool_)
    kept = np.ones(len(ranked), dtype=np.bool_)
    for class_id in {item.class_id for item in ranked}:
        rows = [row for row, item in enumerate(ranked) if item.class_id == class_id]
        objects = [item for item in example.objects if item.class_id == class_id and not item.crowd]
        crowds = [item for item in example.objects if item.class_id == class_id and item.crowd]
        boxes = [ranked[row].xyxy for row in rows]
        overlap = iou_matrix(boxes, [item.xyxy for item in objects])
        for column, threshold in enumerate(IOU_THRESHOLDS):
            hits[rows, column] = _greedy(overlap, min(float(threshold), 1 - 1e-10)) >= 0
        inside = coverage_matrix(boxes, [item.xyxy for item in crowds]).max(axis=1, initial=0.0) >= 0.5
        kept[rows] = ~inside | hits[rows, 0]
    counts: dict[int, int] = {}
    for item in example.objects:
        if not item.crowd:
            counts[item.class_id] = counts.get(item.class_id, 0) + 1
    joints, joints_found = _count_joints(example, ranked)
    return Match(
        classes=np.array([item.class_id for item in ranked], dtype=np.int64)[kept],
        scores=np.array([item.score for item in ranked], dtype=np.float64)[kept],
        hits=hits[kept],
        objects=counts,
        joints=joints,
        joints_found=joints_found,
    )


def acceptable(
    example: Example, detections: Sequence[Detection]
) -> tuple[NDArray[np.int64], Floats, NDArray[np.bool_]]:
    """Class ids, scores and whether a person would keep it, [N] each: boxes at IoU .5, poses at OKS .75.

    A pose in the right box with its joints beside the object takes longer to mend than to draw.
    """
    boxes = match(example, [item for item in detections if not item.points])
    poses = sorted((item for item in detections if item.points), key=lambda item: -item.score)
    right = np.zeros(len(poses), dtype=np.bool_)
    for class_id in {item.class_id for item in poses}:
        rows = [row for row, item in enumerate(poses) if item.class_id == class_id]
        objects = [item for item in example.objects if item.class_id == class_id and item.points]
        likeness = np.array([[_oks(poses[row], item) for item in objects] for row in rows], dtype=np.float64)
        right[rows] = _greedy(likeness.reshape(len(rows), len(objects)), ACCEPTABLE_OKS) >= 0
    return (
        np.concatenate([boxes.classes, np.array([item.class_id for item in poses], dtype=np.int64)]),
        np.concatenate([boxes.scores, np.array([item.score for item in poses], dtype=np.float64)]),
        np.concatenate([boxes.hits[:, 0], right]),
    )


def _oks(pose: Detection, wanted: Object) -> float:
    """COCO's keypoint similarity over the labelled joints, with the area of the object's box."""
    found, true = np.array(pose.points, dtype=np.float64), np.array(wanted.points, dtype=np.float64)
    labelled = true[:, 2] > 0
    if not labelled.any():
        return 0.0
    x1, y1, x2, y2 = wanted.xyxy
    squared = ((found[:, :2] - true[:, :2]) ** 2).sum(1)
    likeness = np.exp(-squared / (2 * max((x2 - x1) * (y2 - y1), 1e-12) * (2 * OKS_SIGMA) ** 2))
    return float(likeness[labelled].mean())


def paired_bootstrap(
    challenger: Scores,
    champion: Scores,
    *,
    metric: Metric = "ap50",
    class_id: int | None = None,
    level: float = 0.9,
    rounds: int = 1000,
    seed: int = 0,
    counts: NDArray[np.int64] | None = None,
) -> Gain:
    """The challenger's gain in `metric` (of one class, if named) with a percentile interval (Efron 1979).

    Both must have been evaluated on the same pictures in the same order; each round draws pictures with
    replacement, the same ones for both. Pictures of no use to the metric (no object, no joint) may be drawn
    too. `counts` [pictures] makes a set in which each picture is there so often, for simulations; else once.
    Raises ValueError when the two were measured on different pictures or there is nothing to measure.
    """
    if len(challenger.matches) != len(champion.matches) or any(
        one.objects != other.objects for one, other in zip(challenger.matches, champion.matches, strict=True)
    ):
        raise ValueError("the two models were not evaluated on the same pictures")
    sides = [_Resampled(scores.matches, metric, class_id) for scores in (challenger, champion)]
    if counts is None:
        counts = np.ones(len(challenger.matches), dtype=np.int64)
    measured = [side.value(counts.astype(np.float64)) for side in sides]
    if np.isnan(measured).any():
        raise ValueError(f"these pictures have nothing to measure {metric} on")
    gains = [sides[0].value(drawn) - sides[1].value(drawn) for drawn in _draws(counts, rounds, seed)]
    tail = (1 - level) / 2
    low, high = np.nanquantile(gains, [tail, 1 - tail])
    return Gain(float(measured[0] - measured[1]), float(low), float(high), level, rounds)


def measured(scores: Scores, metric: Metric, class_id: int | None = None) -> float:
    """The metric over the matches as they are; NaN where there is nothing to measure."""
    return _Resampled(scores.matches, metric, class_id).value(np.ones(len(scores.matches)))


def f1_at(matches: Sequence[Match], score_of: Mapping[int, float]) -> float | None:
    """F1 at IoU .5 of what scores at least `score_of[class id]`; None where there are neither objects nor finds."""
    right = shown = 0
    for one in matches:
        kept = one.scores >= np.array([score_of.get(int(item), 1.01) for item in one.classes])
        shown += int(kept.sum())
        right += int((kept & one.hits[:, 0]).sum())
    objects = sum(sum(one.objects.values()) for one in matches)
    return 2 * right / (shown + objects) if shown + objects else None


def bootstrap_interval(
    scores: Scores,
    *,
    metric: Metric = "ap50",
    class_id: int | None = None,
    level: float = 0.9,
    rounds: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile interval of one model's metric, over the pictures that it was measured on.

    Raises ValueError when there is nothing to measure.
    """
    side = _Resampled(scores.matches, metric, class_id)
    once = np.ones(len(scores.matches), dtype=np.int64)
    if np.isnan(side.value(once.astype(np.float64))):
        raise ValueError(f"these pictures have nothing to measure {metric} on")
    values = [side.value(drawn) for drawn in _draws(once, rounds, seed)]
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def calibration_error(scores: Floats, hits: NDArray[np.bool_]) -> float | None:
    """Expected calibration error: |mean score − share right| in ten equal score bins, weighted by size.

    Detections below 0.05 are left out: their great number would hide every other bin. None without
    detections.

    >>> calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
    0.4
    """
    shown = scores >= ECE_FLOOR
    scores, hits = scores[shown], hits[shown]
    if not len(scores):
        return None
    bins = np.minimum((scores * ECE_BINS).astype(int), ECE_BINS - 1)
    error = 0.0
    for number in np.unique(bins):
        inside = bins == number
        error += abs(float(scores[inside].mean() - hits[inside].mean())) * inside.sum() / len(scores)
    return round(float(error), 12)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The share of detections that are right, as a rising step-free function of the score.

    `scores` rise, `precisions` never fall; between two knots it is a line, beyond the ends it is flat.
    """

    scores: tuple[float, ...]
    precisions: tuple[float, ...]

    def precision(self, score: float) -> float:
        return float(np.interp(score, self.scores, self.precisions))

    def threshold(self, precision: float) -> float:
        """The lowest score from which on detections are right with at least this probability; 1.0 if none is."""
        fine = np.linspace(0.0, 1.0, 1001)
        enough = np.interp(fine, self.scores, self.precisions) >= precision
        return float(fine[enough.argmax()]) if enough.any() else 1.0


def calibrate(scores: Floats, hits: NDArray[np.bool_]) -> Calibration | None:
    """Isotonic regression by pooling neighbours (Ayer et al. 1955), shrunk a little to one half.

    The two imagined detections in each pool keep a small pool from promising certainty. None without
    detections.
    """
    if not len(scores):
        return None
    order = np.argsort(scores, kind="stable")
    pools: list[list[float]] = []  # sum of scores, hits, count
    size = max(1, min(20, len(scores) // 10))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        pools.append([float(scores[rows].sum()), float(hits[rows].sum()), float(len(rows))])
        while len(pools) > 1 and pools[-2][1] / pools[-2][2] >= pools[-1][1] / pools[-1][2]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    knots = [total / count for total, _, count in pools]
    shares = np.maximum.accumulate([(right + 1) / (count + 2) for _, right, count in pools])
    return Calibration(tuple(knots), tuple(float(share) for share in shares))


def trivial_baseline(
    train: Sequence[Example], classes: Sequence[DetectedClass], examples: Sequence[Example]
) -> list[list[Detection]]:
    """What a model that never looks would say: mean box and joints, scored by the class's frequency."""
    answer: list[tuple[DetectedClass, float, Floats, Floats]] = []
    for item in classes:
        boxes, poses, pictures = [], [], 0
        for example in train:
            size = np.array([example.width, example.height], dtype=np.float64)
            own = [found for found in example.objects if found.class_id == item.id and not found.crowd]
            pictures += bool(own)
            boxes += [np.reshape(found.xyxy, (2, 2)) / size for found in own]
            poses += [np.array(found.points)[:, :2] / size for found in own if found.points]
        if boxes:
            pose = np.mean(poses, axis=0) if poses else np.zeros((0, 2))
            answer.append((item, pictures / len(train), np.mean(boxes, axis=0), pose))
    guesses = []
    for example in examples:
        size = np.array([example.width, example.height], dtype=np.float64)
        row = []
        for item, share, box, pose in answer:
            x1, y1, x2, y2 = (float(side) for side in (box * size).flatten())
            points = tuple((float(x), float(y), share) for x, y in pose * size)
            row.append(Detection(item.id, share, (x1, y1, x2, y2), points))
        guesses.append(row)
    return guesses


def iou_matrix(first: Sequence[XYXY], second: Sequence[XYXY]) -> Floats:
    """[N] and [M] boxes → [N, M].

    >>> iou_matrix([(0, 0, 2, 2)], [(0, 0, 2, 1), (2, 2, 3, 3)]).tolist()
    [[0.5, 0.0]]
    """
    common, area_first, area_second = _overlap(first, second)
    return common / np.maximum(area_first[:, None] + area_second[None] - common, 1e-12)


def coverage_matrix(first: Sequence[XYXY], second: Sequence[XYXY]) -> Floats:
    """The share of each first box that lies in each second box: [N, M]."""
    common, area_first, _ = _overlap(first, second)
    return common / np.maximum(area_first[:, None], 1e-12)


def _overlap(first: Sequence[XYXY], second: Sequence[XYXY]) -> tuple[Floats, Floats, Floats]:
    a = np.array(first, dtype=np.float64).reshape(-1, 4)
    b = np.array(second, dtype=np.float64).reshape(-1, 4)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = (high - low).clip(min=0).prod(-1)
    return common, (a[:, 2:] - a[:, :2]).clip(min=0).prod(-1), (b[:, 2:] - b[:, :2]).clip(min=0).prod(-1)


def _greedy(overlap: Floats, threshold: float) -> NDArray[np.int64]:
    """For each row in order, the best free column with at least `threshold`, or −1: [N, M] → [N]."""
    rows, columns = overlap.shape
    chosen = np.full(rows, -1, dtype=np.int64)
    if not columns:
        return chosen
    free = overlap.copy()
    for row in np.nonzero(overlap.max(axis=1) >= threshold)[0]:
        best = columns - 1 - int(free[row, ::-1].argmax())  # COCO gives a tie to the later object
        if free[row, best] >= threshold:
            chosen[row] = best
            free[:, best] = -1.0
    return chosen


def _count_joints(example: Example, ranked: Sequence[Detection]) -> tuple[int, int]:
    """(labelled joints, those found): a joint is found by the detection that its object is matched to."""
    within = PCK_SHARE * float(np.hypot(example.width, example.height))
    labelled = found = 0
    posed = [item for item in example.objects if item.points and not item.crowd]
    for class_id in {item.class_id for item in posed}:
        objects = [item for item in posed if item.class_id == class_id]
        own = [item for item in ranked if item.class_id == class_id and item.points]
        labelled += sum(point[2] > 0 for item in objects for point in item.points)
        overlap = iou_matrix([item.xyxy for item in own], [item.xyxy for item in objects])
        for detection, column in zip(own, _greedy(overlap, PCK_IOU), strict=True):
            if column >= 0:
                wanted = np.array(objects[column].points, dtype=np.float64)
                placed = np.array(detection.points, dtype=np.float64)
                apart = np.hypot(*(wanted[:, :2] - placed[:, :2]).T)
                found += int(((apart <= within) & (wanted[:, 2] > 0)).sum())
    return labelled, found


def _draws(counts: NDArray[np.int64], rounds: int, seed: int) -> Iterator[Floats]:
    """How often each picture is drawn, with replacement, round by round, from a set with so many of each."""
    random = np.random.default_rng(seed)
    members = np.repeat(np.arange(len(counts)), counts)
    for _ in range(rounds):
        drawn = members[random.integers(len(members), size=len(members))]
        yield np.bincount(drawn, minlength=len(counts)).astype(np.float64)


class _Resampled:
    """A metric as a function of how often each picture was drawn."""

    def __init__(self, matches: Sequence[Match], metric: Metric, class_id: int | None) -> None:
        self.metric = metric
        self.joints = np.array([[one.joints_found, one.joints] for one in matches], dtype=np.float64)
        self.columns = slice(0, 1) if metric == "ap50" else slice(None)
        self.parts = []
        classes = {known for one in matches for known in one.objects}
        for wanted in sorted(classes if class_id is None else classes & {class_id}):
            picture = np.concatenate(
                [np.full(int((one.classes == wanted).sum()), row) for row, one in enumerate(matches)]
            ).astype(np.int64)
            scores = np.concatenate([one.scores[one.classes == wanted] for one in matches])
            hits = np.concatenate([one.hits[one.classes == wanted] for one in matches])
            order = np.argsort(-scores, kind="stable")
            objects = np.array([one.objects.get(wanted, 0) for one in matches], dtype=np.float64)
            self.parts.append((picture[order], hits[order][:, self.columns], objects))

    def value(self, drawn: Floats) -> float:
        """[pictures] counts → the metric, NaN where nothing drawn can be measured."""
        if self.metric == "pck":
            found, labelled = drawn @ self.joints
            return float(found / labelled) if labelled else float("nan")
        values = []
        for picture, hits, objects in self.parts:
            total = float(drawn @ objects)
            if total:
                weight = drawn[picture]
                values += [
                    average_precision(weight, hits[:, column], total) for column in range(hits.shape[1])
                ]
        return float(np.mean(values)) if values else float("nan")


def average_precision(weights: Floats, hits: NDArray[np.bool_], objects: float) -> float:
    """COCO's 101-point AP of ranked detections [N], each counted `weights` times, with `objects` to find.

    >>> average_precision(np.ones(2), np.array([True, True]), 2)
    1.0
    """
    right = np.cumsum(weights * hits)
    shown = np.cumsum(weights)
    if not len(right) or not shown[-1]:
        return 0.0
    precision = right / np.maximum(shown, 1e-12)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    rank = np.searchsorted(right / objects, RECALLS, side="left")
    reached = rank < len(right)
    return float(np.where(reached, precision[np.minimum(rank, len(right) - 1)], 0.0).mean())


def _coco_precision(
    examples: Sequence[Example], detections: Sequence[Sequence[Detection]], classes: Sequence[DetectedClass]
) -> Floats:
    """[10 IoU thresholds, 101 recalls, classes], 0 where COCO has none."""
    labels = _coco_labels(examples, classes)
    found = [
        {
            "image_id": picture,
            "category_id": item.class_id,
            "bbox": _xywh(item.xyxy),
            "score": item.score,
        }
        for picture, row in enumerate(detections, start=1)
        for item in row
    ]
    return _run_coco(labels, found, [item.id for item in classes], "bbox", None)


def _oks_ap(
    examples: Sequence[Example], detections: Sequence[Sequence[Detection]], item: DetectedClass
) -> float:
    """AP over OKS thresholds of one class, every joint with σ = 0.075."""
    labels = _coco_labels(examples, [item])
    labels["annotations"] = [one for one in labels["annotations"] if one["num_keypoints"] or one["iscrowd"]]
    found = [
        {
            "image_id": picture,
            "category_id": item.id,
            "keypoints": [value for x, y, _ in one.points for value in (x, y, 2)],
            "bbox": _xywh(one.xyxy),
            "score": one.score,
        }
        for picture, row in enumerate(detections, start=1)
        for one in row
        if one.class_id == item.id and one.points
    ]
    precision = _run_coco(labels, found, [item.id], "keypoints", [OKS_SIGMA] * len(item.joints))
    return float(precision.mean())


def _run_coco(
    labels: dict[str, Any],
    found: list[dict[str, Any]],
    class_ids: list[int],
    kind: Literal["bbox", "keypoints"],
    sigmas: list[float] | None,
) -> Floats:
    if not found or not labels["annotations"]:
        return np.zeros((len(IOU_THRESHOLDS), len(RECALLS), len(class_ids)))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(labels)
        evaluation = COCOeval_faster(truth, truth.loadRes(found), kind, kpt_oks_sigmas=sigmas)
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.params.catIds = class_ids
        evaluation.params.imgIds = [image["id"] for image in labels["images"]]
        evaluation.evaluate()
        evaluation.accumulate()
    precision: Floats = evaluation.eval["precision"][:, :, :, 0, -1]
    ordered = [sorted(class_ids).index(class_id) for class_id in class_ids]
    return precision[:, :, ordered].clip(min=0.0)


def _coco_labels(examples: Sequence[Example], classes: Sequence[DetectedClass]) -> dict[str, Any]:
    wanted = {item.id for item in classes}
    annotations: list[dict[str, Any]] = []
    for picture, example in enumerate(examples, start=1):
        for item in example.objects:
            if item.class_id in wanted:
                annotations.append(_coco_annotation(len(annotations) + 1, picture, item))
    return {
        "images": [
            {"id": picture, "width": example.width, "height": example.height, "file_name": example.sha256}
            for picture, example in enumerate(examples, start=1)
        ],
        "categories": [{"id": item.id, "name": item.name} for item in classes],
        "annotations": annotations,
    }


def _coco_annotation(number: int, picture: int, item: Object) -> dict[str, Any]:
    box = _xywh(item.xyxy)
    return {
        "id": number,
        "image_id": picture,
        "category_id": item.class_id,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": int(item.crowd),
        "keypoints": [value for point in item.points for value in point],
        "num_keypoints": sum(point[2] > 0 for point in item.points),
    }


def _xywh(box: XYXY) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
