"""What may be wrong in labels: flaws that need no model, and doubts where a model and the labels disagree.

A doubt is a probability, so pictures can be ranked by them. The idea is
confident learning's (Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels"),
carried over to objects: the model's scores are first calibrated against the very labels, class by class, then
each disagreement is weighed by how often the model disagrees with labels of that class anyway. Detections
best come from models that did not learn from the picture and so cannot know its mistakes by heart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ml.metrics import Calibration, calibrate, coverage_matrix, iou_matrix, match
from ml.schema import XYXY, DetectedClass, Detection, Example, Object

Kind: TypeAlias = Literal["missing", "spurious", "class", "place", "doubled", "zero_area", "outside"]
Floats: TypeAlias = NDArray[np.float64]

DOUBLED_IOU: Final = 0.8
"""Two objects of a class that overlap by more are one, labelled twice."""
DOUBLED_JOINTS: Final = 0.1
"""… if they have joints, these must also lie within this share of the box's diagonal, on average."""
OUTSIDE_PIXELS: Final = 1.0
"""A box may leave the picture by so much, for rounding."""
SAME_IOU: Final = 0.5
NEAR_IOU: Final = 0.1
"""From here to `SAME_IOU` a detection may be the label's object, in another place."""
MISTAKES: Final = 0.02
"""The share of labels that is taken to be wrong, in each way, before looking."""
PICTURE_PRIOR: Final = 4.0
"""How many objects' worth of evidence that share is, against what the picture itself tells."""
ROUNDS: Final = 10
WORTH_TELLING: Final = 0.1
"""Findings that are less probable are left out."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that may be wrong.

    `xyxy` is the label's box, for a missing object the model's; pixels of the oriented picture. `object` is the
    label's place in the example, none for a missing one. `other` is where the model sees it (place) or the
    label's twin (doubled); `other_class_id` what the model takes it for (class). `probability` in (0, 1] that
    a person would change the label.
    """

    kind: Kind
    class_id: int
    xyxy: XYXY
    probability: float
    told: str
    object: int | None = None
    other: XYXY | None = None
    other_class_id: int | None = None


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A picture of the review list. `score` is the sum of its findings' squared probabilities.

    Squared, because a sum of many small doubts, as every crowded picture has, is mostly the model's mistake: of
    240 drawn pictures, 48 with one planted mistake that takes a model to see, the first 48 of the list held
    46 % by squares and 40 % by plain sums (chance 20 %).
    """

    sha256: str
    score: float
    findings: tuple[Finding, ...]


def review_list(
    examples: Sequence[Example],
    detections: Sequence[Sequence[Detection]],
    classes: Sequence[DetectedClass],
) -> tuple[Doubtful, ...]:
    """Pictures with findings, those with the most and the likeliest first; ties by the picture's hash.

    `detections[i]` are those on `examples[i]`, with raw scores, also of what is hardly seen.
    """
    trust = Trust.of(examples, detections, classes)
    found = []
    for example, seen in zip(examples, detections, strict=True):
        own = (*flaws(example, classes), *doubts(example, seen, trust))
        if own:
            ranked = tuple(sorted(own, key=lambda item: (-item.probability, item.xyxy)))
            found.append(Doubtful(example.sha256, sum(item.probability**2 for item in own), ranked))
    return tuple(sorted(found, key=lambda item: (-item.score, item.sha256)))


def flaws(example: Example, classes: Sequence[DetectedClass]) -> list[Finding]:
    """Boxes without area, outside of the picture, or drawn twice: all of them, without a model."""
    names = {item.id: item.name for item in classes}
    found: list[Finding] = []
    for index, item in enumerate(example.objects):
        name = names.get(item.class_id, f"class {item.class_id}")
        if not _has_area(item):
            told = f"The box of this {name} has no area."
            found.append(Finding("zero_area", item.class_id, item.xyxy, 1.0, told, index))
        elif _is_outside(item, example):
            told = f"The box of this {name} leaves the picture."
            found.append(Finding("outside", item.class_id, item.xyxy, 1.0, told, index))
    for first, second in _doubled(example.objects):
        item, twin = example.objects[second], example.objects[first]
        told = f"This {names.get(item.class_id, f'class {item.class_id}')} is labelled twice."
        found.append(Finding("doubled", item.class_id, item.xyxy, 1.0, told, second, other=twin.xyxy))
    return found


def usable(example: Example) -> tuple[Object, ...]:
    """The objects that a model can learn from: with an area, and at least partly inside the picture."""
    return tuple(item for item in example.objects if _has_area(item) and _touches(item, example))


@dataclass(frozen=True, slots=True)
class View:
    """How a model sees one label; the figures are those that `Trust` explains. `other`: its best rival class."""

    class_id: int
    support: float
    overlap: float
    agreement: float
    other: Detection | None


@dataclass(frozen=True, slots=True)
class Trust:
    """How far the model's word counts, class by class.

    `precision`: the share of detections of a score that a label confirms. For all labels of a class, rising:
    `support`, the best score of a detection of the class at the label's place, 0 without one; `overlap`, the IoU
    with the nearest detection of the class, where there is one; `agreement`, by how much the model holds the
    class for righter than any other at this place, in (-1, 1).
    """

    names: Mapping[int, str]
    precision: Mapping[int, Calibration]
    support: Mapping[int, Floats]
    overlap: Mapping[int, Floats]
    agreement: Mapping[int, Floats]

    @classmethod
    def of(
        cls,
        examples: Sequence[Example],
        detections: Sequence[Sequence[Detection]],
        classes: Sequence[DetectedClass],
    ) -> "Trust":
        matches = [match(example, seen) for example, seen in zip(examples, detections, strict=True)]
        detected = np.concatenate([one.classes for one in matches] or [np.zeros(0, dtype=np.int64)])
        scores = np.concatenate([one.scores for one in matches] or [np.zeros(0)])
        hits = np.concatenate([one.hits[:, 0] for one in matches] or [np.zeros(0, dtype=np.bool_)])
        precision = {}
        for item in classes:
            calibration = calibrate(scores[detected == item.id], hits[detected == item.id])
            if calibration is not None:
                precision[item.id] = calibration
        known = cls({item.id: item.name for item in classes}, precision, {}, {}, {})
        views = [
            known.view(label, seen)
            for example, seen in zip(examples, detections, strict=True)
            for label in _judged(example)
        ]
        class_ids = {view.class_id for view in views}
        return replace(
            known,
            support={
                one: _rising(view.support for view in views if view.class_id == one) for one in class_ids
            },
            overlap={
                one: _rising(
                    view.overlap for view in views if view.class_id == one and view.overlap >= NEAR_IOU
                )
                for one in class_ids
            },
            agreement={
                one: _rising(view.agreement for view in views if view.class_id == one) for one in class_ids
            },
        )

    def view(self, label: Object, detections: Sequence[Detection]) -> "View":
        overlap = iou_matrix([item.xyxy for item in detections], [label.xyxy])[:, 0]
        pairs = list(zip(detections, overlap.tolist(), strict=True))
        own = [(item, iou) for item, iou in pairs if item.class_id == label.class_id]
        here = [item for item, iou in pairs if iou >= SAME_IOU]
        other = max((item for item in here if item.class_id != label.class_id), key=self.right, default=None)
        seconded = [item for item in here if item.class_id == label.class_id]
        return View(
            label.class_id,
            support=max((item.score for item in seconded), default=0.0),
            overlap=max((iou for _, iou in own), default=0.0),
            agreement=max(map(self.right, seconded), default=0.0)
            - (0.0 if other is None else self.right(other)),
            other=other,
        )

    def right(self, detection: Detection) -> float:
        """The probability that there is such an object, from the share of such detections that is labelled."""
        calibration = self.precision.get(detection.class_id)
        known = 0.0 if calibration is None else calibration.precision(detection.score)
        return min(known / (1 - MISTAKES), 0.995)

    def without_support(self, class_id: int, score: float) -> float:
        """The share of labels of a class that the model supports no better."""
        return _share_up_to(self.support.get(class_id), score)

    def as_far_off(self, class_id: int, iou: float) -> float:
        """The share of labels of a class that a detection meets no better."""
        return _share_up_to(self.overlap.get(class_id), iou)

    def as_disputed(self, class_id: int, agreement: float) -> float:
        """The share of labels of a class about whose class the model agrees no better."""
        return _share_up_to(self.agreement.get(class_id), agreement)

    def name(self, class_id: int) -> str:
        return self.names.get(class_id, f"class {class_id}")


def doubts(example: Example, detections: Sequence[Detection], trust: Trust) -> list[Finding]:
    """Where the model's detections and one picture's labels disagree, with the probability of a mistake."""
    labels = [
        (index, item) for index, item in enumerate(example.objects) if not item.crowd and _has_area(item)
    ]
    ranked = sorted(detections, key=lambda item: -item.score)
    overlap = iou_matrix([item.xyxy for item in ranked], [item.xyxy for _, item in labels])
    found, explained = _doubted_labels(labels, ranked, overlap, trust)
    crowds = [item.xyxy for item in example.objects if item.crowd and _has_area(item)]
    inside = coverage_matrix([item.xyxy for item in ranked], crowds).max(axis=1, initial=0.0) >= 0.5
    free = [row for row in range(len(ranked)) if row not in explained and not inside[row]]
    found += _missing(ranked, free, labels, overlap, trust)
    return [item for item in found if item.probability >= WORTH_TELLING]


def _doubted_labels(
    labels: Sequence[tuple[int, Object]], ranked: Sequence[Detection], overlap: Floats, trust: Trust
) -> tuple[list[Finding], set[int]]:
    """The likeliest thing wrong with each label, and the detections that are no object beside the labels."""
    partner = _partners(labels, ranked, overlap)
    found: list[Finding] = []
    explained = set(partner.values())
    for column, (index, label) in enumerate(labels):
        view = trust.view(label, ranked)
        choices = []
        row = partner.get(column)
        if row is not None:
            choices.append(_misplaced(index, label, ranked[row], float(overlap[row, column]), trust))
        if view.other is not None:
            choices.append(_misnamed(index, label, view.other, view.agreement, trust))
        elsewise = max((item.probability for item in choices), default=0.0)
        choices.append(_spurious(index, label, view.support, elsewise, trust))
        likeliest = max(choices, key=lambda item: item.probability)
        if likeliest.kind == "class":  # the rivals here are this object, and no missing one
            explained |= {row for row in range(len(ranked)) if overlap[row, column] >= SAME_IOU}
        found.append(likeliest)
    return found, explained


def _partners(
    labels: Sequence[tuple[int, Object]], ranked: Sequence[Detection], overlap: Floats
) -> dict[int, int]:
    """Label → the detection of its class that is most likely it, nearest pairs first."""
    pairs = sorted(
        (
            (-float(overlap[row, column]), row, column)
            for column, (_, label) in enumerate(labels)
            for row in np.flatnonzero(overlap[:, column] >= NEAR_IOU).tolist()
            if ranked[row].class_id == label.class_id
        )
    )
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for _, row, column in pairs:
        if column not in partner and row not in taken:
            partner[column] = row
            taken.add(row)
    return partner


def _spurious(index: int, label: Object, support: float, otherwise: float, trust: Trust) -> Finding:
    """`otherwise` is the probability that something else is wrong with it."""
    probability = _posterior(trust.without_support(label.class_id, support)) * (1 - otherwise)
    told = f"The model sees no {trust.name(label.class_id)} here."
    return Finding("spurious", label.class_id, label.xyxy, probability, told, index)


def _misplaced(index: int, label: Object, seen: Detection, iou: float, trust: Trust) -> Finding:
    probability = trust.right(seen) * _posterior(trust.as_far_off(label.class_id, iou))
    told = f"The model sees this {trust.name(label.class_id)} in another place or size."
    return Finding("place", label.class_id, label.xyxy, probability, told, index, other=seen.xyxy)


def _misnamed(index: int, label: Object, seen: Detection, agreement: float, trust: Trust) -> Finding:
    probability = trust.right(seen) * _posterior(trust.as_disputed(label.class_id, agreement))
    told = f"The model takes this {trust.name(label.class_id)} for a {trust.name(seen.class_id)}."
    return Finding(
        "class", label.class_id, label.xyxy, probability, told, index, seen.xyxy, other_class_id=seen.class_id
    )


def _missing(
    ranked: Sequence[Detection],
    free: Sequence[int],
    labels: Sequence[tuple[int, Object]],
    overlap: Floats,
    trust: Trust,
) -> list[Finding]:
    """Detections that no label answers for.

    How many objects of a class a person left out on this picture is estimated from the picture itself, from
    `MISTAKES` on (empirical Bayes): one unlabelled cell among many labelled ones is mostly the model's mistake,
    twenty on a picture without any are the person's.
    """
    found = []
    for class_id in sorted({ranked[row].class_id for row in free}):
        rows = [row for row in free if ranked[row].class_id == class_id]
        real = np.array([trust.right(ranked[row]) for row in rows])
        nearest = overlap[rows].max(axis=1, initial=0.0)
        bare = ((SAME_IOU - nearest) / (SAME_IOU - NEAR_IOU)).clip(0, 1)
        labelled = sum(label.class_id == class_id for _, label in labels)
        left_out, probability = MISTAKES, np.zeros(len(rows))
        for _ in range(ROUNDS):
            probability = bare * real * left_out / (real * left_out + 1 - real)
            missed = float(probability.sum())
            left_out = (PICTURE_PRIOR * MISTAKES + missed) / (PICTURE_PRIOR + missed + labelled)
        told = f"The model sees a {trust.name(class_id)} that nobody labelled."
        found += [
            Finding("missing", class_id, ranked[row].xyxy, float(share), told)
            for row, share in zip(rows, probability, strict=True)
        ]
    return found


def _posterior(share: float) -> float:
    """The probability of a mistake, which always looks like this, against a good label's looking like this."""
    return MISTAKES / (MISTAKES + (1 - MISTAKES) * share)


def _rising(values: Iterable[float]) -> Floats:
    return np.sort(np.array(list(values), dtype=np.float64))


def _share_up_to(values: Floats | None, value: float) -> float:
    """The share of `values` (rising) up to `value`, as if one more had been seen there."""
    if values is None:
        return 1.0
    return (float(np.searchsorted(values, value, side="right")) + 1) / (len(values) + 1)


def _judged(example: Example) -> list[Object]:
    return [item for item in example.objects if not item.crowd and _has_area(item)]


def _doubled(objects: Sequence[Object]) -> list[tuple[int, int]]:
    """Pairs (first, second) of objects that are one; a second is told once, however many twins it has."""
    overlap = iou_matrix([item.xyxy for item in objects], [item.xyxy for item in objects])
    pairs = []
    for second in range(len(objects)):
        for first in range(second):
            one, other = objects[first], objects[second]
            if (
                one.class_id == other.class_id
                and one.crowd == other.crowd
                and overlap[first, second] > DOUBLED_IOU
                and _same_pose(one, other)
            ):
                pairs.append((first, second))
                break
    return pairs


def _same_pose(one: Object, other: Object) -> bool:
    """Whether the joints that both have lie together; boxes without joints do."""
    if not one.points or not other.points:
        return True
    first, second = np.array(one.points), np.array(other.points)
    both = (first[:, 2] > 0) & (second[:, 2] > 0)
    if not both.any():
        return True
    x1, y1, x2, y2 = one.xyxy
    apart = np.hypot(*(first[both, :2] - second[both, :2]).T).mean()
    return bool(apart <= DOUBLED_JOINTS * np.hypot(x2 - x1, y2 - y1))


def _has_area(item: Object) -> bool:
    x1, y1, x2, y2 = item.xyxy
    return x2 > x1 and y2 > y1


def _is_outside(item: Object, example: Example) -> bool:
    x1, y1, x2, y2 = item.xyxy
    return (
        min(x1, y1) < -OUTSIDE_PIXELS
        or x2 > example.width + OUTSIDE_PIXELS
        or y2 > example.height + OUTSIDE_PIXELS
    )


def _touches(item: Object, example: Example) -> bool:
    x1, y1, x2, y2 = item.xyxy
    return x2 > 0 and y2 > 0 and x1 < example.width and y1 < example.height
