"""Boxes and joints as arrays: overlap, similarity, matching, and the score of one set against another.

All coordinates are continuous pixels, boxes are xyxy: (x1, y1, x2, y2).

>>> import numpy as np
>>> iou_xyxy(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
[[0.333, 0.0]]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

JOINT_SIGMA: Final = 0.05
"""COCO's per-joint constant for a joint without a measured one: a little tighter than COCO's mean over the
17 joints of a person (.062), whose range is .025 (eyes) to .107 (hips)."""


def area_xyxy(boxes: ArrayLike) -> Floats:
    """Areas (N,) in square pixels of boxes (N, 4); 0 where a box has no extent."""
    box = _boxes(boxes)
    width, height = np.clip(box[:, 2:] - box[:, :2], 0, None).T
    return np.asarray(width * height, dtype=np.float64)


def inflate_xyxy(boxes: ArrayLike, pixels: float) -> Floats:
    """Boxes (N, 4) with every side moved outwards, so that a few pixels weigh less in small boxes."""
    margins = np.array([-pixels, -pixels, pixels, pixels])
    return np.asarray(_boxes(boxes) + margins, dtype=np.float64)


def iou_xyxy(boxes: ArrayLike, others: ArrayLike) -> Floats:
    """Intersection over union (N, M), 0…1, of boxes (N, 4) with others (M, 4); 0 where both have no area."""
    a, b = _boxes(boxes), _boxes(others)
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    shared = np.clip(width, 0, None) * np.clip(height, 0, None)  # (N, M)
    union = area_xyxy(a)[:, None] + area_xyxy(b)[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), dtype=np.float64)


def iou_inflated(boxes: ArrayLike, others: ArrayLike, pixels: float) -> Floats:
    """`iou_xyxy` (N, M) of boxes made `pixels` larger on every side."""
    return iou_xyxy(inflate_xyxy(boxes, pixels), inflate_xyxy(others, pixels))


def oks(points: ArrayLike, truth: ArrayLike, areas: ArrayLike, sigmas: ArrayLike | None = None) -> Floats:
    """Object keypoint similarity (N, M), in 0…1, as COCO defines it (cocodataset.org/#keypoints-eval).

    `points` (N, J, 3) against `truth` (M, J, 3), each joint (x, y, v); `areas` (M,) of the true objects in
    square pixels; `sigmas` (J,), `JOINT_SIGMA` for all by default. A joint counts where the truth has v > 0:
    mean of exp(−d² / (2 · area · (2σ)²)). A true object without a labelled joint is similar to nothing (0).
    """
    found = np.asarray(points, dtype=np.float64)
    true = np.asarray(truth, dtype=np.float64)
    joints = true.shape[1]
    sigma = np.full(joints, JOINT_SIGMA) if sigmas is None else np.asarray(sigmas, dtype=np.float64)
    squared = ((found[:, None, :, :2] - true[None, :, :, :2]) ** 2).sum(axis=3)  # (N, M, J)
    size = np.maximum(np.asarray(areas, dtype=np.float64), np.finfo(np.float64).eps)
    likeness = np.exp(-squared / (2 * size[None, :, None] * (2 * sigma) ** 2))
    labelled = (true[:, :, 2] > 0).astype(np.float64)  # (M, J)
    total = (likeness * labelled[None]).sum(axis=2)
    return np.asarray(total / np.maximum(labelled.sum(axis=1), 1)[None, :], dtype=np.float64)


def match_greedy(similarity: ArrayLike, threshold: float) -> list[tuple[int, int]]:
    """Pairs (row, column) of a matrix (N, M) at or above a threshold, best first, each row and column once.

    Equal similarities go to the lower row, then the lower column.

    >>> match_greedy([[0.9, 0.8], [0.85, 0.1]], 0.5)
    [(0, 0)]
    """
    matrix = np.asarray(similarity, dtype=np.float64)
    rows, columns = np.nonzero(matrix >= threshold)
    order = np.argsort(-matrix[rows, columns], kind="stable")
    pairs: list[tuple[int, int]] = []
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            pairs.append((row, column))
    return pairs


@dataclass(frozen=True, slots=True)
class MatchCounts:
    """How one set of objects compares with another that is taken as true. Counts of many images add up."""

    matched: int = 0
    surplus: int = 0
    missed: int = 0

    def __add__(self, other: "MatchCounts") -> "MatchCounts":
        return MatchCounts(
            self.matched + other.matched, self.surplus + other.surplus, self.missed + other.missed
        )

    @property
    def precision(self) -> float:
        return _share(self.matched, self.matched + self.surplus)

    @property
    def recall(self) -> float:
        return _share(self.matched, self.matched + self.missed)

    @property
    def f1(self) -> float:
        """2·matched / (2·matched + surplus + missed); 1 where both sets are empty, for they agree."""
        return _share(2 * self.matched, 2 * self.matched + self.surplus + self.missed)


def count_matches(
    boxes: ArrayLike,
    classes: ArrayLike,
    true_boxes: ArrayLike,
    true_classes: ArrayLike,
    iou_threshold: float = 0.5,
) -> Mapping[int, MatchCounts]:
    """Counts for each class id that occurs in either set of one image; a match needs the same class.

    `boxes` (N, 4) with `classes` (N,), against `true_boxes` (M, 4) with `true_classes` (M,).
    """
    box, true = _boxes(boxes), _boxes(true_boxes)
    label = np.asarray(classes, dtype=np.int64).reshape(-1)
    true_label = np.asarray(true_classes, dtype=np.int64).reshape(-1)
    counts: dict[int, MatchCounts] = {}
    for class_id in np.union1d(label, true_label).tolist():
        mine, theirs = box[label == class_id], true[true_label == class_id]
        matched = len(match_greedy(iou_xyxy(mine, theirs), iou_threshold))
        counts[class_id] = MatchCounts(matched, len(mine) - matched, len(theirs) - matched)
    return counts


def _boxes(boxes: ArrayLike) -> Floats:
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
