import math

import numpy as np
import pytest

from labeling.geometry import (
    JOINT_SIGMA,
    MatchCounts,
    count_matches,
    iou_inflated,
    iou_xyxy,
    match_greedy,
    oks,
)


def test_iou_of_halves_thirds_and_strangers() -> None:
    overlap = iou_xyxy([[0, 0, 2, 2]], [[0, 0, 2, 2], [1, 0, 3, 2], [0, 0, 2, 1], [2, 0, 4, 2]])

    assert overlap.tolist() == [[1.0, pytest.approx(1 / 3), 0.5, 0.0]]


def test_a_box_without_area_overlaps_nothing_not_even_itself() -> None:
    assert iou_xyxy([[1, 1, 1, 5]], [[1, 1, 1, 5]]).tolist() == [[0.0]]


def test_no_boxes_make_an_empty_matrix() -> None:
    assert iou_xyxy([], [[0, 0, 1, 1]]).shape == (0, 1)


def test_inflating_helps_small_boxes_more_than_large_ones() -> None:
    def gain(size: float) -> float:
        one, other = [[0.0, 0.0, size, size]], [[2.0, 0.0, size + 2, size]]
        return float((iou_inflated(one, other, 4.0) - iou_xyxy(one, other))[0, 0])

    assert gain(6) > gain(60) > 0


def test_oks_is_cocos_formula_over_the_joints_that_the_truth_labels() -> None:
    truth = [[[0, 0, 2], [50, 50, 1], [0, 0, 0]]]
    found = [[[10, 0, 2], [50, 50, 2], [900, 900, 2]]]

    similarity = oks(found, truth, [10_000.0])

    reach = 2 * (2 * JOINT_SIGMA) ** 2 * 10_000
    assert similarity.tolist() == [[pytest.approx((math.exp(-100 / reach) + 1) / 2)]]


def test_a_truth_without_labelled_joints_is_similar_to_nothing() -> None:
    assert oks([[[1, 1, 2]]], [[[0, 0, 0]]], [100.0]).tolist() == [[0.0]]


def test_a_joint_with_a_larger_sigma_forgives_more() -> None:
    truth, found = [[[0, 0, 2]]], [[[5, 0, 2]]]

    assert oks(found, truth, [100.0], [0.1])[0, 0] > oks(found, truth, [100.0], [0.02])[0, 0]


def test_greedy_matching_takes_the_best_pair_first_and_each_side_once() -> None:
    assert match_greedy([[0.6, 0.9], [0.5, 0.8]], 0.5) == [(0, 1), (1, 0)]
    assert match_greedy([[0.6, 0.9], [0.4, 0.8]], 0.5) == [(0, 1)]


def test_equal_similarities_go_to_the_lower_row_and_column() -> None:
    assert match_greedy(np.full((2, 2), 0.7), 0.5) == [(0, 0), (1, 1)]


def test_a_match_needs_the_same_class() -> None:
    box = [[0, 0, 10, 10]]

    counts = count_matches(box, [1], box, [2])

    assert counts == {1: MatchCounts(0, 1, 0), 2: MatchCounts(0, 0, 1)}


def test_scores_of_a_hand_worked_table() -> None:
    counts = MatchCounts(matched=6, surplus=2, missed=4) + MatchCounts()

    assert (counts.precision, counts.recall) == (0.75, 0.6)
    assert counts.f1 == pytest.approx(2 / 3)
    assert MatchCounts().f1 == 1.0
