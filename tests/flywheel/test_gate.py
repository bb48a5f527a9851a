"""The gate's reasons, one by one; the figures are made up."""

from typing import Any

import pytest

from flywheel.services import baselines, promotion
from tests.conftest import House

GAIN = {"mean": 0.04, "low": 0.01, "high": 0.07}


def figures(**changes: Any) -> dict[str, Any]:
    return {
        "ap50": 0.8,
        "ap": 0.5,
        "pck": None,
        "trivial": {"ap50": 0.1, "ap": 0.1, "pck": None},
        "split": "gold",
        "pictures": 60,
        "per_class": {"1": {"name": "cell", "ap50": 0.7}},
        "calibrated": {"ece": 0.02, "chance": 0.04},
        "latency_ms": 30.0,
    } | changes


def decide(**changes: Any) -> promotion.Decision:
    given: dict[str, Any] = {
        "metric": "ap50",
        "challenger": figures(),
        "champion": figures(ap50=0.76),
        "gain": GAIN,
    }
    return promotion.decide(**(given | changes))


def fallen(high: float) -> dict[str, Any]:
    gain = {"mean": high - 0.05, "low": high - 0.1, "high": high}
    return {"kind": "class", "name": "seed", "objects": 40, "value": 0.4, "gain": gain}


def test_what_is_surely_better_is_told_apart_from_what_is_not_worse() -> None:
    assert decide().better
    same = decide(gain={"mean": 0.0, "low": -0.004, "high": 0.004})
    assert same.promote
    assert not same.better
    assert "not worse" in same.reason


def test_a_slice_that_surely_falls_by_more_than_three_points_keeps_the_champion() -> None:
    assert decide(slices=[fallen(-0.029)]).promote
    refused = decide(slices=[fallen(-0.031)])
    assert not refused.promote
    assert "AP50 of class seed falls by 8.1 points (40 objects)" in refused.reason


def test_scores_that_mislead_keep_the_champion_unless_it_may_be_chance() -> None:
    assert decide(challenger=figures(calibrated={"ece": 0.08, "chance": 0.09})).promote
    assert decide(challenger=figures(calibrated=None)).promote
    refused = decide(challenger=figures(calibrated={"ece": 0.08, "chance": 0.06}))
    assert not refused.promote
    assert "off by 0.080" in refused.reason
    assert decide(
        challenger=figures(calibrated={"ece": 0.08, "chance": 0.06}), thresholds={"ece": 0.1}
    ).promote


@pytest.mark.parametrize(
    ("thresholds", "told"),
    [
        ({"ap": 0.55}, "ap is 0.500, below the project's 0.55"),
        ({"class:cell": 0.75}, "AP50 of cell is 0.700, below"),
        ({"latency_ms": 20}, "latency_ms is 30, above the project's 20"),
        ({"pck": 0.5}, "nothing to measure pck on"),
    ],
)
def test_a_missed_threshold_keeps_the_champion_and_is_named(thresholds: dict[str, float], told: str) -> None:
    refused = decide(thresholds=thresholds)
    assert not refused.promote
    assert told in refused.reason
    first = decide(thresholds=thresholds, champion=None, gain=None)
    assert not first.promote
    assert told in first.reason


def test_thresholds_that_are_reached_are_no_reason() -> None:
    assert decide(thresholds={"ap": 0.5, "class:cell": 0.7, "latency_ms": 30}).promote


def test_every_reason_is_told_at_once() -> None:
    refused = decide(
        gain={"mean": -0.02, "low": -0.05, "high": 0.01}, slices=[fallen(-0.04)], thresholds={"ap": 0.9}
    )
    assert [word in refused.reason for word in ("may be worse", "class seed", "below the project's")] == [
        True
    ] * 3


def test_gold_that_is_too_small_to_tell_is_told() -> None:
    refused = decide(gain={"mean": 0.01, "low": -0.03, "high": 0.05})
    assert "60 pictures are too few to tell; about 430 would be" in refused.reason
    worse = decide(gain={"mean": -0.03, "low": -0.06, "high": 0.0})
    assert "too few" not in worse.reason


@pytest.mark.parametrize(
    ("thresholds", "named"),
    [
        ([], "must be an object"),
        ({"recall": 0.5}, "thresholds.recall is not known"),
        ({"ap": 50}, "thresholds.ap must be a number from 0 to 1"),
        ({"ap": True}, "thresholds.ap must be"),
        ({"latency_ms": -1}, "milliseconds"),
        ({"class:ghost": 0.5}, "no class 'ghost'"),
    ],
)
def test_thresholds_that_are_none_are_refused_by_name(house: House, thresholds: Any, named: str) -> None:
    house.project.round_settings = {"thresholds": thresholds}
    with pytest.raises(promotion.BadThresholds, match=named):
        promotion.thresholds_of(house.project)


def test_thresholds_may_name_classes(house: House) -> None:
    house.project.round_settings = {"thresholds": {"class:cell": 1, "latency_ms": 250}}
    assert promotion.thresholds_of(house.project) == {"class:cell": 1.0, "latency_ms": 250.0}


def test_without_answers_there_is_no_human_baseline(house: House) -> None:
    task = house.add_picture()
    assert baselines.human(project=house.project, pictures=[task.image.sha256]) is None
