"""How near answers are to the truth: F1 of what people and their consensus drew."""

from collections.abc import Collection, Sequence

import numpy as np

from labeling.consensus import agreement, total
from labeling.consensus.candidates import extent_of
from labeling.geometry import MatchCounts, area_xyxy, match_greedy, oks
from labeling.shapes import Keypoints, Shape

MATCH_AT = 0.5


def classes_without_boxes(truths: Sequence[Sequence[Shape]]) -> frozenset[int]:
    """The keypoints classes whose true objects have no box: they can be compared by their joints alone."""
    return frozenset(
        shape.class_id
        for truth in truths
        for shape in truth
        if isinstance(shape, Keypoints) and shape.xyxy is None
    )


def compare(shapes: Sequence[Shape], truth: Sequence[Shape], by_joints: Collection[int]) -> MatchCounts:
    """Matched, surplus and missed objects of one picture: at IoU .5, for classes in `by_joints` at OKS .5.

    An object without a box has the area of its joints' hull and a tenth around.
    """
    boxed = total(
        [
            agreement(
                [shape for shape in shapes if shape.class_id not in by_joints],
                [shape for shape in truth if shape.class_id not in by_joints],
                MATCH_AT,
            )
        ]
    )
    return sum((_compare_joints(shapes, truth, class_id) for class_id in sorted(by_joints)), boxed)


def _compare_joints(shapes: Sequence[Shape], truth: Sequence[Shape], class_id: int) -> MatchCounts:
    found, wanted = _poses(shapes, class_id), _poses(truth, class_id)
    if not found or not wanted:
        return MatchCounts(0, len(found), len(wanted))
    areas = area_xyxy([extent for pose in wanted if (extent := extent_of(pose)) is not None])
    likeness = oks([pose.points for pose in found], np.array([pose.points for pose in wanted]), areas)
    matched = len(match_greedy(likeness, MATCH_AT))
    return MatchCounts(matched, len(found) - matched, len(wanted) - matched)


def _poses(shapes: Sequence[Shape], class_id: int) -> list[Keypoints]:
    return [
        shape
        for shape in shapes
        if isinstance(shape, Keypoints) and shape.class_id == class_id and extent_of(shape) is not None
    ]
