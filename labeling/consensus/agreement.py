"""How well one set of shapes agrees with another: an annotator with an expert, a consensus with the truth."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from labeling.consensus.candidates import extent_of
from labeling.geometry import MatchCounts, count_matches
from labeling.shapes import Shape, Tag


def agreement(
    shapes: Sequence[Shape], truth: Sequence[Shape], iou_threshold: float = 0.5
) -> Mapping[int, MatchCounts]:
    """Matched, surplus and missed objects of one image for each class id; objects match at this IoU.

    Keypoints are compared by their box, or by their joints' hull and a tenth around where none was drawn.
    """
    boxes, classes = _boxes(shapes)
    true_boxes, true_classes = _boxes(truth)
    return count_matches(boxes, classes, true_boxes, true_classes, iou_threshold)


def total(counts: Iterable[Mapping[int, MatchCounts]]) -> MatchCounts:
    """All classes and images together; `.f1` of it is the micro-averaged F1."""
    return sum((item for image in counts for item in image.values()), MatchCounts())


def _boxes(shapes: Sequence[Shape]) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], list[int]]:
    boxed = [
        (extent, shape.class_id)
        for shape in shapes
        if not isinstance(shape, Tag) and (extent := extent_of(shape)) is not None
    ]
    return np.array([xyxy for xyxy, _ in boxed], dtype=np.float64).reshape(-1, 4), [c for _, c in boxed]
