"""Do the boxes fit what is in the pictures? Found out in a second, without a model.

What a box holds differs from what surrounds it, in colour or in how much is going on. Labels that belong to their
pictures show more of that than the same boxes laid on other pictures; boxes that were read in the wrong format
show more of it once they are read in the right one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ml.data import Labels, PictureCache

MOST_PICTURES: Final = 60
MOST_BOXES: Final = 40
"""Of one picture."""
RING: Final = 1.6
"""The surroundings reach this many times as far as the box."""
SURE: Final = 4.0
"""Standard errors by which another reading must win to be called the right one."""
LEAST_BOXES: Final = 40
CHANCE: Final = 2.0
"""Standard errors below which boxes fit their pictures no better than others."""
SAME_PLACE: Final = 0.5
"""Mean overlap with other pictures' boxes from which on it cannot be told whose box it is."""

Boxes = NDArray[np.float64]
Reading = Callable[[Boxes, float, float], Boxes]


def _swapped(boxes: Boxes, width: float, height: float) -> Boxes:
    return boxes[:, [1, 0, 3, 2]]


def _xywh(boxes: Boxes, width: float, height: float) -> Boxes:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def _cxcywh(boxes: Boxes, width: float, height: float) -> Boxes:
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1)


READINGS: Final[Mapping[str, Reading]] = {"swapped": _swapped, "xywh": _xywh, "cxcywh": _cxcywh}


@dataclass(frozen=True, slots=True)
class Fit:
    """How well boxes fit their pictures; in standard errors of the mean over `boxes` of them.

    `own`: more contrast than when laid on another picture. `readings`: by how much each other reading of the four
    numbers beats the one that was taken, and at most by how much it fits its own pictures. `overlap`: mean best IoU
    with the boxes of another picture, 0–1.
    """

    boxes: int
    own: float
    readings: Mapping[str, float]
    overlap: float

    @property
    def right_reading(self) -> str | None:
        """The reading that the boxes are surely in, if it is another one."""
        name = max(self.readings, key=lambda item: self.readings[item])
        return name if self.boxes >= LEAST_BOXES and self.readings[name] > SURE else None

    @property
    def is_by_chance(self) -> bool:
        """Whether the boxes could as well be those of other pictures."""
        return self.boxes >= LEAST_BOXES and self.own < CHANCE and self.overlap < SAME_PLACE


def fit_of(pictures: PictureCache, labels: Mapping[int, Labels]) -> Fit:
    """Looks at up to `MOST_PICTURES` pictures with objects, spread evenly over the set."""
    full = [index for index, item in labels.items() if len(item.boxes)]
    places = np.linspace(0, len(full) - 1, min(len(full), MOST_PICTURES)).round().astype(int)
    chosen = [full[place] for place in places.tolist()]
    own: list[NDArray[np.float64]] = []
    gains: dict[str, list[NDArray[np.float64]]] = {name: [] for name in READINGS}
    read_own: dict[str, list[NDArray[np.float64]]] = {name: [] for name in READINGS}
    overlaps: list[float] = []
    for place, index in enumerate(chosen):
        boxes = labels[index].boxes[:MOST_BOXES].astype(np.float64)
        height, width = pictures.sizes[index]
        here = _Sums(pictures[index])
        contrast = here.contrast(boxes)
        if len(chosen) < 2:
            continue
        another = chosen[(place + len(chosen) // 2) % len(chosen)]
        scale = np.array(pictures.sizes[another])[::-1] / np.array([width, height])
        there = _Sums(pictures[another])
        own.append(contrast - there.contrast(boxes * np.tile(scale, 2)))
        overlaps.append(
            _best_overlap(boxes * np.tile(scale, 2), labels[another].boxes.astype(np.float64)).mean()
        )
        for name, reading in READINGS.items():
            read = reading(boxes, width, height)
            found = here.contrast(read)
            gains[name].append(found - contrast)
            read_own[name].append(found - there.contrast(read * np.tile(scale, 2)))
    count = sum(len(item) for item in own)
    return Fit(
        boxes=count,
        own=_standard_errors(own),
        readings={
            name: min(_standard_errors(gains[name]), _standard_errors(read_own[name])) for name in READINGS
        },
        overlap=float(np.mean(overlaps)) if overlaps else 1.0,
    )


class _Sums:
    """Sums over rectangles of a picture's colours and of how steeply they change (Crow 1984)."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        colours = pixels.astype(np.float64) / 255.0
        grey = colours.mean(2)
        steep = np.hypot(np.gradient(grey, axis=0), np.gradient(grey, axis=1))
        self.height, self.width = grey.shape
        planes = np.concatenate([colours, 4 * steep[..., None]], 2)
        self.sums = np.pad(planes.cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))

    def contrast(self, boxes: Boxes) -> NDArray[np.float64]:
        """How far the mean inside each box [N, 4] lies from that of its surroundings; 0 where there is no box."""
        inside, area = self._sum(boxes)
        centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        around, whole = self._sum(np.concatenate([centre - RING * half, centre + RING * half], 1))
        ring = whole - area
        usable = (area >= 4) & (ring >= 4)
        difference = inside / np.maximum(area, 1)[:, None] - (around - inside) / np.maximum(ring, 1)[:, None]
        return np.where(usable, np.sqrt((difference**2).sum(1)), 0.0)

    def _sum(self, boxes: Boxes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x1, y1, x2, y2 = boxes.round().astype(np.int64).T
        x1, x2 = x1.clip(0, self.width), x2.clip(0, self.width)
        y1, y2 = y1.clip(0, self.height), y2.clip(0, self.height)
        x2, y2 = np.maximum(x1, x2), np.maximum(y1, y2)
        total = self.sums[y2, x2] - self.sums[y1, x2] - self.sums[y2, x1] + self.sums[y1, x1]
        return total, ((x2 - x1) * (y2 - y1)).astype(np.float64)


def _standard_errors(parts: Sequence[NDArray[np.float64]]) -> float:
    """The mean over all in standard errors, with pictures, not boxes, as what was drawn; 0 for less than two."""
    means = np.array([item.mean() for item in parts if len(item)])
    if len(means) < 2:
        return 0.0
    spread = means.std(ddof=1) / np.sqrt(len(means))
    return float(means.mean() / max(spread, 1e-9))


def _best_overlap(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clip(min=0).prod(2)
    areas = [(item[:, 2:] - item[:, :2]).clip(min=0).prod(1) for item in (boxes, others)]
    union = areas[0][:, None] + areas[1][None] - shared
    found: NDArray[np.float64] = (shared / np.maximum(union, 1e-9)).max(1, initial=0.0)
    return found
