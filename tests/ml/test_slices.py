"""Slices worked by hand, and calibration measured where it was not fitted."""

import numpy as np
import pytest

from ml import metrics, slices
from ml.schema import DetectedClass, Detection, Example, Object

CELL, SEED = DetectedClass(1, "cell"), DetectedClass(2, "seed")


def example(number: int, *objects: Object, group: str = "") -> Example:
    return Example(f"{number:064x}", 400, 400, "gold", objects, group)


def square(class_id: int, side: float, at: float = 10.0) -> Object:
    return Object(class_id, (at, at, at + side, at + side))


def seen(item: Object, score: float = 0.9) -> Detection:
    return Detection(item.class_id, score, item.xyxy, ())


def looked(examples: list[Example], detections: list[list[Detection]]) -> slices.Looked:
    return slices.Looked(examples, detections, metrics.evaluate(examples, detections, [CELL, SEED]))


def test_a_lost_class_shows_in_its_slice_with_a_paired_gain() -> None:
    examples = [example(n, square(1, 50), square(2, 50, at=200)) for n in range(30)]
    whole = looked(examples, [[seen(item) for item in one.objects] for one in examples])
    half = looked(examples, [[seen(one.objects[0])] for one in examples])
    found = {(row.kind, row.name): row for row in slices.slices(half, [CELL, SEED], against=whole)}
    assert found["class", "cell"].value == 1.0
    assert found["class", "seed"].value == 0.0
    gain = found["class", "seed"].gain
    assert gain is not None
    assert (gain.gain, gain.high) == (-1.0, -1.0)
    assert found["class", "cell"].gain == metrics.Gain(0.0, 0.0, 0.0, 0.9, 1000)


def test_a_size_is_measured_without_the_others() -> None:
    small, large = square(1, 20), square(1, 150, at=200)
    examples = [example(n, small, large) for n in range(25)]
    only_large = looked(examples, [[seen(large), Detection(1, 0.5, (300, 0, 390, 90), ())] for _ in examples])
    found = {row.name: row for row in slices.slices(only_large, [CELL, SEED]) if row.kind == "size"}
    assert found["small"].value == 0.0
    assert found["large"].value == 1.0  # the wrong one is of a medium size, and nobody asked for medium ones
    assert "medium" not in found


def test_few_objects_make_no_slice_and_one_group_is_no_slice() -> None:
    few = [example(n, square(1, 50)) for n in range(slices.MIN_OBJECTS - 1)]
    assert slices.slices(looked(few, [[] for _ in few]), [CELL, SEED]) == []
    one_group = [example(n, square(1, 50), group="site") for n in range(25)]
    kinds = {row.kind for row in slices.slices(looked(one_group, [[] for _ in one_group]), [CELL, SEED])}
    assert kinds == {"class", "size"}


def test_groups_are_measured_apart() -> None:
    examples = [example(n, square(1, 50), group="day" if n % 2 else "night") for n in range(60)]
    by_day = looked(examples, [[seen(one.objects[0])] if one.group == "day" else [] for one in examples])
    found = {row.name: row.value for row in slices.slices(by_day, [CELL, SEED]) if row.kind == "group"}
    assert found == {"day": 1.0, "night": 0.0}


Judged = list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def judged(share_of_score: float, pictures: int = 60) -> Judged:
    random = np.random.default_rng(4)
    rows: Judged = []
    for _ in range(pictures):
        scores = random.random(30)
        rows.append((np.ones(30, dtype=np.int64), scores, random.random(30) < share_of_score * scores))
    return rows


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_scores_that_were_calibrated_are_right_on_pictures_not_fitted_to(share: float) -> None:
    found = slices.calibration(judged(share))
    assert found is not None
    assert found.ece < 0.05


def test_what_holds_for_some_pictures_alone_is_not_calibrated_for_the_rest() -> None:
    changing = [
        (classes, scores, right if row % 2 else ~right)
        for row, (classes, scores, right) in enumerate(judged(1.0, pictures=10))
    ]
    few = slices.calibration(changing)
    assert few is not None
    assert slices.calibration(changing[:3]) is None
    assert few.ece > 0


def test_f1_counts_what_is_shown_class_by_class() -> None:
    examples = [example(1, square(1, 50), square(2, 50, at=200))]
    detections = [[seen(examples[0].objects[0], 0.5), seen(examples[0].objects[1], 0.3)]]
    matches = metrics.evaluate(examples, detections, [CELL, SEED]).matches
    assert metrics.f1_at(matches, {1: 0.5, 2: 0.3}) == 1.0
    assert metrics.f1_at(matches, {1: 0.5, 2: 0.4}) == pytest.approx(2 / 3)
    assert metrics.f1_at(matches, {1: 0.5}) == pytest.approx(2 / 3)
    assert metrics.f1_at([], {}) is None
