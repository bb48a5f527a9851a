"""Mistakes planted in labels that are taken to be right, and how many of them an audit finds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from ml.findings import Doubtful, Kind
from ml.metrics import iou_matrix
from ml.schema import XYXY, DetectedClass, Example, Object

KINDS: Final[tuple[Kind, ...]] = ("missing", "spurious", "class", "place", "doubled", "zero_area", "outside")
TOLD_AT: Final = 0.5
"""A finding counts as told from this probability on."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One mistake: on which picture, what, and the box that a finding has to name."""

    sha256: str
    kind: Kind
    xyxy: XYXY


def plant(
    examples: Sequence[Example], classes: Sequence[DetectedClass], *, share: float, seed: int
) -> tuple[list[Example], list[Planted]]:
    """One kind of mistake on this share of the pictures with objects, the kinds in turn.

    Of every other picture with something missing all objects of the class are, as if nobody had begun with it.
    """
    random = np.random.default_rng(seed)
    full = [index for index, item in enumerate(examples) if item.objects]
    chosen = random.permutation(full)[: round(share * len(full))]
    changed, planted = list(examples), []
    for number, index in enumerate(chosen.tolist()):
        kind = KINDS[number % len(KINDS)]
        whole = number // len(KINDS) % 2 == 1
        made = _spoil(examples[index], kind, classes, random, whole=whole)
        if made is None:
            continue
        changed[index], boxes = made
        planted += [Planted(examples[index].sha256, kind, box) for box in boxes]
    return changed, planted


def figures(found: Sequence[Doubtful], planted: Sequence[Planted], pictures: int) -> dict[str, Any]:
    """Per kind how many were planted, recall and precision at `TOLD_AT`, and how good the list's order is.

    Precision takes every label that was there before for right, so it is a lower bound. `top`: of as many first
    pictures as have a mistake, the share that has one; `chance` is what a shuffled list would give.
    """
    told = {item.sha256: [one for one in item.findings if one.probability >= TOLD_AT] for item in found}
    spoilt = {item.sha256 for item in planted}
    answer: dict[str, Any] = {}
    for kind in KINDS:
        wanted = [item for item in planted if item.kind == kind]
        named = [(sha256, one) for sha256, row in told.items() for one in row if one.kind == kind]
        hits = sum(
            _meets(item, [one.xyxy for one in told.get(item.sha256, ()) if one.kind == kind])
            for item in wanted
        )
        seen = sum(_meets(item, [one.xyxy for one in told.get(item.sha256, ())]) for item in wanted)
        right = sum(
            any(item.sha256 == sha256 and _meets(item, [one.xyxy]) for item in wanted)
            for sha256, one in named
        )
        answer[kind] = {
            "planted": len(wanted),
            "told": len(named),
            "recall": _share(hits, len(wanted)),
            "recall_any_kind": _share(seen, len(wanted)),
            "precision": _share(right, len(named)),
        }
    first = [item.sha256 for item in found[: len(spoilt)]]
    answer["list"] = {
        "pictures": pictures,
        "spoilt": len(spoilt),
        "top": _share(sum(sha256 in spoilt for sha256 in first), len(spoilt)),
        "chance": _share(len(spoilt), pictures),
    }
    return answer


def _meets(item: Planted, boxes: Sequence[XYXY]) -> bool:
    if item.kind == "zero_area":
        return item.xyxy in boxes
    return bool((iou_matrix([item.xyxy], boxes) >= 0.5).any())


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


def _spoil(
    example: Example,
    kind: Kind,
    classes: Sequence[DetectedClass],
    random: np.random.Generator,
    *,
    whole: bool,
) -> tuple[Example, list[XYXY]] | None:
    """The example with a mistake, and the boxes that tell it; nothing where this kind cannot be made."""
    objects = list(example.objects)
    row = int(random.integers(len(objects)))
    item = objects[row]
    if kind == "missing":
        gone = [one for one in objects if one is item or (whole and one.class_id == item.class_id)]
        return replace(example, objects=tuple(one for one in objects if one not in gone)), [
            one.xyxy for one in gone
        ]
    if kind == "spurious":
        box = _elsewhere(example, item.xyxy, random)
        if box is None:
            return None
        return replace(example, objects=(*objects, replace(item, xyxy=box, points=()))), [box]
    if kind == "doubled":
        width, height = item.xyxy[2] - item.xyxy[0], item.xyxy[3] - item.xyxy[1]
        by = random.uniform(-0.025, 0.025, 2) * (width, height)
        twin = replace(item, xyxy=_moved(item.xyxy, float(by[0]), float(by[1])))
        return replace(example, objects=(*objects, twin)), [twin.xyxy]
    other = _other(item, kind, example, classes, random)
    if other is None:
        return None
    objects[row] = other
    return replace(example, objects=tuple(objects)), [other.xyxy]


def _other(
    item: Object, kind: Kind, example: Example, classes: Sequence[DetectedClass], random: np.random.Generator
) -> Object | None:
    """The object with another class or box."""
    x1, y1, x2, y2 = item.xyxy
    if kind == "class":
        choices = [one.id for one in classes if one.id != item.class_id]
        return replace(item, class_id=int(random.choice(choices)), points=()) if choices else None
    if kind == "zero_area":
        return replace(item, xyxy=(x1, y1, x1, y1))
    if kind == "outside":
        return replace(item, xyxy=_moved(item.xyxy, example.width - x2 + 0.4 * (x2 - x1) + 2, 0.0))
    angle, far = random.uniform(0, 2 * np.pi), random.uniform(0.3, 0.5)
    box = _moved(item.xyxy, far * float(np.cos(angle)) * (x2 - x1), far * float(np.sin(angle)) * (y2 - y1))
    inside = (
        max(box[0], 0.0),
        max(box[1], 0.0),
        min(box[2], float(example.width)),
        min(box[3], float(example.height)),
    )
    return replace(item, xyxy=inside)


def _elsewhere(example: Example, box: XYXY, random: np.random.Generator) -> XYXY | None:
    """A box of this size where no label is; nothing if fifty throws find no such place."""
    width, height = box[2] - box[0], box[3] - box[1]
    taken = [item.xyxy for item in example.objects]
    for _ in range(50):
        x = float(random.uniform(0, max(example.width - width, 1)))
        y = float(random.uniform(0, max(example.height - height, 1)))
        thrown = (x, y, min(x + width, float(example.width)), min(y + height, float(example.height)))
        if float(iou_matrix([thrown], taken).max(initial=0.0)) < 0.05:
            return thrown
    return None


def _moved(box: XYXY, right: float, down: float) -> XYXY:
    x1, y1, x2, y2 = box
    return x1 + right, y1 + down, x2 + right, y2 + down
