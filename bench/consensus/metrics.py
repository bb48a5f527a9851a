"""How near a consensus is to the truth, how far its confidence can be believed, and whose skill it saw.

Objects are boxes; one is found by a box of its own class with IoU ≥ .5, best overlap first. Figures of many pictures
are micro-averaged: their objects are counted together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from labeling.consensus import METHODS, Answer, Settled, Skill
from labeling.geometry import Floats, Ints, iou_xyxy, match_greedy
from labeling.shapes import Box, Shape

MATCH_AT: Final = 0.5
IOU_THRESHOLDS: Final = np.linspace(0.5, 0.95, 10)
RECALLS: Final = np.linspace(0.0, 1.0, 101)
ECE_BINS: Final = 10
BOX_METHODS: Final = {name: method for name, method in METHODS.items() if name != "dawid_skene"}
"""Dawid and Skene's settles tags; boxes as the majority does."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """The boxes of one picture, with what the consensus says of each."""

    xyxy: Floats  # (N, 4)
    classes: Ints  # (N,)
    confidence: Floats  # (N,)


@dataclass(frozen=True, slots=True)
class Tally:
    """Matches with their summed IoU, surplus and missed objects. Tallies of many pictures add up."""

    matched: int = 0
    surplus: int = 0
    missed: int = 0
    overlap: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.matched + other.matched,
            self.surplus + other.surplus,
            self.missed + other.missed,
            self.overlap + other.overlap,
        )

    @property
    def errors(self) -> int:
        return self.surplus + self.missed

    @property
    def f1(self) -> float:
        return self.matched / self._mean_objects if self._mean_objects else 1.0

    @property
    def pq(self) -> float:
        """Panoptic quality (Kirillov et al., CVPR 2019), all classes together."""
        return self.overlap / self._mean_objects if self._mean_objects else 1.0

    @property
    def _mean_objects(self) -> float:
        return self.matched + self.surplus / 2 + self.missed / 2


@dataclass(frozen=True, slots=True)
class Scores:
    """All in 0…1. None where there was nothing to measure: no picture with an error, or none without."""

    f1: float
    pq: float
    map: float
    risk_auroc: float | None
    ece: float | None

    def as_json(self) -> dict[str, Any]:
        figures = {
            "f1": self.f1, "pq": self.pq, "map": self.map, "risk_auroc": self.risk_auroc, "ece": self.ece,
        }  # fmt: skip
        return {name: None if value is None else round(value, 4) for name, value in figures.items()}


def score(images: Iterable[Settled], truth: Mapping[str, Sequence[Shape]]) -> Scores:
    """All figures of these consensuses; images without a truth are left out."""
    known = [(item, truth[item.image]) for item in images if item.image in truth]
    tallies: list[Tally] = []
    confidence: list[float] = []
    right: list[bool] = []
    for item, true in known:
        accepted = boxes_of(item.accepted, [one.confidence for one in item.shapes if one.accepted])
        pairs = match(accepted, boxes_of(true))
        tallies.append(tally(accepted, boxes_of(true), pairs))
        hit = {mine for mine, _, _ in pairs}
        confidence += accepted.confidence.tolist()
        right += [index in hit for index in range(len(accepted.classes))]
    together = sum(tallies, Tally())
    every = [
        (
            boxes_of([one.shape for one in item.shapes], [one.confidence for one in item.shapes]),
            boxes_of(true),
        )
        for item, true in known
    ]
    return Scores(
        f1=together.f1,
        pq=together.pq,
        map=mean_average_precision(every),
        risk_auroc=auroc([item.risk for item, _ in known], [one.errors > 0 for one in tallies]),
        ece=calibration_error(confidence, right),
    )


def compare(shapes: Sequence[Shape], truth: Sequence[Shape]) -> Tally:
    """One picture's boxes against the true ones."""
    found, true = boxes_of(shapes), boxes_of(truth)
    return tally(found, true, match(found, true))


def compare_people(answers: Iterable[Answer], truth: Mapping[str, Sequence[Shape]]) -> dict[str, Tally]:
    """Each annotator alone, on the images with a truth that they saw."""
    people: dict[str, Tally] = {}
    for answer in answers:
        if answer.image in truth:
            own = people.get(answer.annotator, Tally())
            people[answer.annotator] = own + compare(answer.shapes, truth[answer.image])
    return people


def boxes_of(shapes: Iterable[Shape], confidence: Sequence[float] | None = None) -> Boxes:
    """The boxes among these shapes; confidence (of each shape) is 1 where none is given."""
    drawn = list(shapes)
    sure = [1.0] * len(drawn) if confidence is None else confidence
    rows = [
        (one.xyxy, one.class_id, value)
        for one, value in zip(drawn, sure, strict=True)
        if isinstance(one, Box)
    ]
    return Boxes(
        np.array([xyxy for xyxy, _, _ in rows], dtype=np.float64).reshape(-1, 4),
        np.array([class_id for _, class_id, _ in rows], dtype=np.int64),
        np.array([value for _, _, value in rows], dtype=np.float64),
    )


def match(found: Boxes, true: Boxes) -> list[tuple[int, int, float]]:
    """(found, true, IoU) of each match of one picture."""
    overlap = iou_xyxy(found.xyxy, true.xyxy) * (found.classes[:, None] == true.classes[None, :])
    return [(mine, theirs, float(overlap[mine, theirs])) for mine, theirs in match_greedy(overlap, MATCH_AT)]


def tally(found: Boxes, true: Boxes, pairs: Sequence[tuple[int, int, float]]) -> Tally:
    matched = len(pairs)
    overlap = sum(iou for _, _, iou in pairs)
    return Tally(matched, len(found.classes) - matched, len(true.classes) - matched, overlap)


def mean_average_precision(pictures: Sequence[tuple[Boxes, Boxes]]) -> float:
    """COCO's AP of (found with confidence, true): 101 recalls, IoU .50:.05:.95, classes that truly occur.

    Without any true object 1 if nothing was found, else 0.
    """
    classes = sorted({int(class_id) for _, true in pictures for class_id in true.classes})
    if not classes:
        return float(not any(len(found.classes) for found, _ in pictures))
    return float(np.mean([_average_precision(pictures, class_id) for class_id in classes]))


def _average_precision(pictures: Sequence[tuple[Boxes, Boxes]], class_id: int) -> float:
    confidence: list[Floats] = [np.zeros(0)]
    hits = [np.zeros((0, len(IOU_THRESHOLDS)), dtype=bool)]
    objects = 0
    for found, true in pictures:
        mine, theirs = found.classes == class_id, true.classes == class_id
        objects += int(np.count_nonzero(theirs))
        order = np.argsort(-found.confidence[mine], kind="stable")
        confidence.append(found.confidence[mine][order])
        hits.append(_hits(iou_xyxy(found.xyxy[mine][order], true.xyxy[theirs])))
    order = np.argsort(-np.concatenate(confidence), kind="stable")
    right = np.cumsum(np.concatenate(hits)[order], axis=0)  # (N, T)
    if not len(right):
        return 0.0
    precision = right / np.arange(1, len(right) + 1)[:, None]
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    values = []
    for column in range(len(IOU_THRESHOLDS)):
        at = np.searchsorted(right[:, column] / objects, RECALLS, side="left")
        values.append(np.append(envelope[:, column], 0.0)[at].mean())
    return float(np.mean(values))


def _hits(overlap: Floats) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """(N, T): at each threshold the most confident box takes the free object that it overlaps most."""
    hits = np.zeros((overlap.shape[0], len(IOU_THRESHOLDS)), dtype=bool)
    ranked = [
        sorted(((value, column) for column, value in enumerate(row)), reverse=True)
        for row in overlap.tolist()
    ]
    for index, threshold in enumerate(IOU_THRESHOLDS.tolist()):
        taken: set[int] = set()
        for row, others in enumerate(ranked):
            for value, column in others:
                if value < threshold:
                    break
                if column not in taken:
                    taken.add(column)
                    hits[row, index] = True
                    break
    return hits


def auroc(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """The probability that a positive one scores higher than a negative one, ties by half; None without both.

    >>> auroc([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
    0.875
    """
    flags = np.asarray(positive, dtype=bool)
    many, few = int(np.count_nonzero(flags)), int(np.count_nonzero(~flags))
    if not many or not few:
        return None
    rank = ranks(scores)
    return float((rank[flags].sum() - many * (many + 1) / 2) / (many * few))


def spearman(values: ArrayLike, others: ArrayLike) -> float | None:
    """The correlation of ranks; None where one side is constant.

    >>> spearman([1, 2, 3], [10, 20, 15])
    0.5
    """
    a, b = ranks(values), ranks(others)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / scale) if scale else None


def ranks(values: ArrayLike) -> Floats:
    """Ranks from 1, equal values share their mean rank.

    >>> ranks([3, 1, 3]).tolist()
    [2.5, 1.0, 2.5]
    """
    data = np.asarray(values, dtype=np.float64)
    _, place, count = np.unique(data, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray(((last - count + 1 + last) / 2)[place], dtype=np.float64)


def calibration_error(confidence: Sequence[float], right: Sequence[bool]) -> float | None:
    """Expected calibration error over ten bins of equal mass: the mean of |mean confidence − share right|."""
    if not confidence:
        return None
    sure, hit = np.array(confidence, dtype=np.float64), np.array(right, dtype=np.float64)
    order = np.lexsort((hit, sure))
    bins = [part for part in np.array_split(order, ECE_BINS) if len(part)]
    gaps = [len(part) * abs(sure[part].mean() - hit[part].mean()) for part in bins]
    return float(sum(gaps) / len(sure))


def skill_rho(skills: Iterable[Skill], true: Mapping[str, float]) -> float | None:
    """Spearman's correlation of the estimated F1 (harmonic mean of recall and precision) with the true one.

    A right class is part of the true F1, so of the estimate, where the method estimates it.
    """
    pairs = [
        (_estimated_f1(one), true[one.annotator])
        for one in skills
        if one.kind == "box" and one.annotator in true
    ]
    return spearman([mine for mine, _ in pairs], [theirs for _, theirs in pairs]) if len(pairs) > 2 else None


def _estimated_f1(skill: Skill) -> float:
    accuracy = skill.class_accuracy.value if skill.class_accuracy else 1.0
    recall, precision = skill.recall * accuracy, skill.precision * accuracy
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0
