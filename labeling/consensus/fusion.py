"""Weighted boxes fusion, for comparison and for those who know it from detectors.

Solovyev, Wang and Gabruseva, "Weighted boxes fusion: Ensembling boxes from different object detection models" (Image
and Vision Computing, 2021), with people in the place of models: boxes in order of their scores join the fused box
of their class that they overlap most, if by more than `FUSE_ABOVE`; the fused box is the mean of its members
weighted by score, its confidence their mean score times the share of annotators that it holds. A person's box has
the score 1. It knows no skill, and a disputed class makes two boxes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Final

from labeling.consensus.base import (
    ACCEPT_AT,
    Answer,
    Cause,
    Consensus,
    Fitted,
    Gold,
    Method,
    Parameters,
    Settled,
    SettledShape,
    Skill,
    beta_interval,
)
from labeling.consensus.candidates import Sheet, by_image, extent_of
from labeling.consensus.objects import shape_id
from labeling.schema import Schema
from labeling.shapes import XYXY, Box

FUSE_ABOVE: Final = 0.55
"""The IoU of the paper's experiments."""
INTERVAL_STRENGTH: Final = 2.0


@dataclass(slots=True)
class Fused:
    """A box that grows while boxes join it."""

    class_id: int
    xyxy: XYXY
    members: list[tuple[str, Box]]

    def join(self, annotator: str, box: Box) -> None:
        self.members.append((annotator, box))
        weight = sum(score_of(item) for _, item in self.members)
        x1, y1, x2, y2 = (
            sum(score_of(item) * item.xyxy[side] for _, item in self.members) / weight for side in range(4)
        )
        self.xyxy = x1, y1, x2, y2

    def confidence(self, annotators: int) -> float:
        """Of so many who saw the image; in 0…1."""
        mean = sum(score_of(item) for _, item in self.members) / len(self.members)
        return mean * min(len(self.members), annotators) / annotators


class WeightedBoxesFusion:
    """Fuses boxes; what is not a box is settled by another method."""

    name = "weighted_boxes_fusion"

    def __init__(self, others: Method) -> None:
        self.others = others

    def fit(
        self, answers: Iterable[Answer], *, schema: Schema | None = None, gold: Gold | None = None
    ) -> Fitted:
        """The skills of boxes are against the fused ones; fusing learns nothing, so gold changes nothing."""
        sheets = by_image(answers)
        fitted = self.others.fit(_without_boxes(sheets), schema=schema, gold=gold)
        fused = {image: fuse(sheet) for image, sheet in sheets.items()}
        boxed = any(fused.values())
        return Fitted(fitted.parameters, (skills(sheets, fused) if boxed else ()) + fitted.skills)

    def predict(self, answers: Iterable[Answer], parameters: Parameters) -> tuple[Settled, ...]:
        sheets = by_image(answers)
        rest = self.others.predict(_without_boxes(sheets), parameters)
        return tuple(_with_boxes(settled, sheets[settled.image]) for settled in rest)

    def fit_predict(
        self, answers: Iterable[Answer], *, schema: Schema | None = None, gold: Gold | None = None
    ) -> Consensus:
        every = tuple(answers)
        fitted = self.fit(every, schema=schema, gold=gold)
        return Consensus(self.predict(every, fitted.parameters), fitted.skills, fitted.parameters)


def fuse(sheet: Sheet) -> list[Fused]:
    """One image's boxes, fused, in the order in which they began."""
    drawn = [
        (annotator, shape)
        for annotator, answer in sheet.items()
        for shape in answer.shapes
        if isinstance(shape, Box) and extent_of(shape) is not None
    ]
    drawn.sort(key=lambda item: (-score_of(item[1]), item[1].class_id, item[1].xyxy, item[0], item[1].id))
    fused: dict[int, list[Fused]] = {}
    for annotator, box in drawn:
        same_class = fused.setdefault(box.class_id, [])
        overlap, best = max(
            ((_iou(item.xyxy, box.xyxy), -index) for index, item in enumerate(same_class)), default=(0.0, 0)
        )
        if overlap > FUSE_ABOVE:
            same_class[-best].join(annotator, box)
        else:
            same_class.append(Fused(box.class_id, box.xyxy, [(annotator, box)]))
    return [item for _, same_class in sorted(fused.items()) for item in same_class]


def skills(sheets: Mapping[str, Sheet], fused: Mapping[str, Sequence[Fused]]) -> tuple[Skill, ...]:
    """Each annotator against the fused boxes, which count with their confidence."""
    records: dict[str, _Record] = {}
    for image, sheet in sheets.items():
        objects = [(item, item.confidence(len(sheet))) for item in fused[image]]
        there = sum(confidence for _, confidence in objects)
        for annotator, answer in sheet.items():
            record = records.setdefault(annotator, _Record())
            record.answers += 1
            if answer.seconds is not None:
                record.seconds.append(answer.seconds)
            record.by_model |= answer.by_model
            record.chances += there
        for item, confidence in objects:
            for annotator in sorted({name for name, _ in item.members}):
                records[annotator].hits += confidence
            for annotator, box in item.members:
                record = records[annotator]
                record.drawn += 1
                record.right += confidence
                if len(item.members) > 1:
                    record.shared += 1
                    record.distance += sum(abs(a - b) for a, b in zip(box.xyxy, item.xyxy, strict=True)) / 4
    return tuple(record.skill(annotator) for annotator, record in sorted(records.items()))


@dataclass(slots=True)
class _Record:
    """What is known of one annotator; objects count with the confidence that they are there."""

    answers: int = 0
    by_model: bool = False
    chances: float = 0.0
    hits: float = 0.0
    drawn: int = 0
    right: float = 0.0
    shared: int = 0
    distance: float = 0.0
    seconds: list[float] = field(default_factory=list)

    def skill(self, annotator: str) -> Skill:
        half = INTERVAL_STRENGTH / 2
        missed, wrong = self.chances - self.hits, self.drawn - self.right
        return Skill(
            annotator=annotator,
            kind="box",
            recall=(self.hits + half) / (self.chances + INTERVAL_STRENGTH),
            precision=(self.right + half) / (self.drawn + INTERVAL_STRENGTH),
            spread_px=self.distance / self.shared if self.shared else None,
            answers=self.answers,
            recall_interval=beta_interval(self.hits + half, max(missed, 0.0) + half),
            precision_interval=beta_interval(self.right + half, max(wrong, 0.0) + half),
            by_model=self.by_model,
            seconds_per_image=median(self.seconds) if self.seconds else None,
        )


def score_of(box: Box) -> float:
    """A model's score; 1 for a person, and no less than a thousandth, so that every box has a weight."""
    return 1.0 if box.score is None else max(box.score, 1e-3)


def _iou(one: XYXY, other: XYXY) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return width * height / (areas - width * height)


def _without_boxes(sheets: Mapping[str, Sheet]) -> list[Answer]:
    return [
        replace(answer, shapes=tuple(shape for shape in answer.shapes if not isinstance(shape, Box)))
        for sheet in sheets.values()
        for answer in sheet.values()
    ]


def _with_boxes(rest: Settled, sheet: Sheet) -> Settled:
    boxes = [_settled(rest.image, item, len(sheet)) for item in fuse(sheet)]
    causes: dict[Cause, float] = dict(rest.causes)
    for box in boxes:
        for cause, value in box.causes.items():
            causes[cause] = causes.get(cause, 0.0) + value
    nothing = rest.empty
    for box in boxes:
        nothing *= 1.0 - box.confidence
    shapes = (*boxes, *rest.shapes)
    return replace(rest, shapes=shapes, causes=causes, risk=float(sum(causes.values())), empty=nothing)


def _settled(image: str, fused: Fused, seen_by: int) -> SettledShape:
    confidence = fused.confidence(seen_by)
    accepted = confidence >= ACCEPT_AT
    members = tuple(sorted((annotator, box.id) for annotator, box in fused.members))
    return SettledShape(
        shape=Box(shape_id(image, members), fused.class_id, fused.xyxy, "consensus", confidence),
        existence=confidence,
        confidence=confidence,
        accepted=accepted,
        members=members,
        seen_by=seen_by,
        class_posterior=((fused.class_id, 1.0),),
        causes={"surplus": 1.0 - confidence} if accepted else {"missed": confidence},
    )
