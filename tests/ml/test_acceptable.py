"""Which detections a person would keep: what suggestions are calibrated on."""

import numpy as np

from ml.metrics import acceptable
from ml.schema import Detection, Example, Object

MOUSE = Object(3, (100, 100, 200, 200), points=((120, 120, 2), (180, 120, 1), (0, 0, 0), (150, 190, 2)))
CELL = Object(1, (10, 10, 50, 50))
PICTURE = Example("", 300, 300, "gold", (CELL, MOUSE))


def pose(shift: float, score: float = 0.9) -> Detection:
    points = tuple((x + shift, y, 0.9) for x, y, _ in MOUSE.points)
    return Detection(3, score, MOUSE.xyxy, points)


def test_a_pose_whose_joints_fit_would_be_kept_and_one_beside_the_object_not() -> None:
    for shift, kept in ((0, True), (8, True), (20, False), (60, False)):
        classes, scores, right = acceptable(PICTURE, [pose(shift)])
        assert (classes.tolist(), scores.tolist(), right.tolist()) == ([3], [0.9], [kept])


def test_a_joint_that_nobody_labelled_does_not_count() -> None:
    astray = list(pose(0).points)
    astray[2] = (299.0, 299.0, 0.9)
    (right,) = acceptable(PICTURE, [Detection(3, 0.5, MOUSE.xyxy, tuple(astray))])[2]
    assert right


def test_one_object_keeps_one_pose_the_surest() -> None:
    _, scores, right = acceptable(PICTURE, [pose(2, 0.4), pose(0, 0.8)])
    assert dict(zip(scores.tolist(), right.tolist(), strict=True)) == {0.8: True, 0.4: False}


def test_boxes_are_judged_at_half_overlap_beside_the_poses() -> None:
    near, off = Detection(1, 0.7, (12, 10, 52, 50), ()), Detection(1, 0.6, (40, 40, 80, 80), ())
    classes, _, right = acceptable(PICTURE, [off, pose(0), near])
    assert dict(zip(classes.tolist(), right.tolist(), strict=True))[3]
    assert right[classes == 1].tolist() == [True, False]


def test_nothing_found_is_nothing_to_keep() -> None:
    classes, scores, right = acceptable(PICTURE, [])
    assert len(classes) == len(scores) == len(right) == 0
    assert right.dtype == np.bool_
