import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ml.metrics import (
    Scores,
    bootstrap_interval,
    calibrate,
    calibration_error,
    evaluate,
    iou_matrix,
    paired_bootstrap,
    trivial_baseline,
)
from ml.schema import DetectedClass, Detection, Example, Object

CELL, SEED = DetectedClass(1, "cell"), DetectedClass(7, "seed")
MOUSE = DetectedClass(3, "mouse", ("nose", "tail"))
CLASSES = [SEED, MOUSE, CELL]


def picture(*objects: Object, width: int = 300, height: int = 400) -> Example:
    return Example("", width, height, "gold", objects)


def square(class_id: int, x: float, y: float, side: float = 40) -> Object:
    return Object(class_id, (x, y, x + side, y + side))


def random_set(
    seed: int, count: int = 30, *, crowded: bool = False
) -> tuple[list[Example], list[list[Detection]]]:
    """Pictures with objects of two classes, some crowded, and noisy detections of them."""
    random = np.random.default_rng(seed)
    examples, detections = [], []
    for _ in range(count):
        objects, found = [], []
        for _ in range(int(random.integers(0, 8))):
            x, y = random.uniform(0, 250, 2)
            item = Object(
                int(random.choice([1, 7])),
                (x, y, x + random.uniform(8, 90), y + random.uniform(8, 90)),
                crowd=crowded and bool(random.random() < 0.08),
            )
            objects.append(item)
            for _ in range(int(random.integers(0, 3))):
                box = np.array(item.xyxy) + random.normal(0, 5, 4).clip(-3.9, 3.9)
                found.append(box_detection(item.class_id, float(random.random()), box))
        for _ in range(int(random.integers(0, 3))):
            x, y = random.uniform(0, 250, 2)
            found.append(
                box_detection(int(random.choice([1, 7])), float(random.random()) ** 2, [x, y, x + 40, y + 40])
            )
        examples.append(picture(*objects))
        detections.append(found)
    return examples, detections


def box_detection(class_id: int, score: float, box: object) -> Detection:
    x1, y1, x2, y2 = (float(value) for value in np.asarray(box))
    return Detection(class_id, score, (x1, y1, x2, y2))


def as_seen(example: Example, score: float = 0.9) -> list[Detection]:
    return [
        Detection(item.class_id, score, item.xyxy, tuple((x, y, score) for x, y, _ in item.points))
        for item in example.objects
    ]


def test_what_is_seen_as_it_is_scores_one() -> None:
    mouse = Object(3, (10, 10, 60, 60), ((20, 20, 2), (50, 50, 1)))
    examples = [picture(square(1, 0, 0), square(7, 100, 100), mouse), picture(square(1, 200, 20))]
    scores = evaluate(examples, [as_seen(example, 1.0) for example in examples], CLASSES)
    for figure in (scores.ap, scores.ap50, scores.oks_ap, scores.pck):
        assert figure == pytest.approx(1.0)
    assert scores.ece == pytest.approx(0.0)


def test_a_class_nobody_labelled_has_no_figure() -> None:
    scores = evaluate([picture(square(1, 0, 0))], [[]], CLASSES)
    assert scores.per_class[7].ap50 is None
    assert scores.per_class[1].ap50 == 0.0
    assert scores.ap50 == 0.0
    assert scores.pck is None
    assert evaluate([], [], CLASSES).ap50 is None
    assert json.loads(json.dumps(scores.summary()))["per_class"]["1"]["objects"] == 1


def test_average_precision_worked_by_hand() -> None:
    """Two objects; ranked right, wrong, right: precision 1 up to half the recall, then 2/3."""
    example = picture(square(1, 0, 0), square(1, 100, 100))
    found = [
        box_detection(1, 0.9, (0, 0, 40, 40)),
        box_detection(1, 0.8, (200, 200, 240, 240)),
        box_detection(1, 0.7, (100, 100, 140, 140)),
    ]
    scores = evaluate([example], [found], [CELL])
    assert scores.ap50 == pytest.approx((51 * 1 + 50 * 2 / 3) / 101, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("crowded", [False, True])
def test_resampled_figures_agree_with_faster_coco_eval(seed: int, crowded: bool) -> None:
    examples, detections = random_set(seed, crowded=crowded)
    scores = evaluate(examples, detections, [CELL, SEED])
    nothing = evaluate(examples, [[] for _ in examples], [CELL, SEED])
    assert paired_bootstrap(scores, nothing, rounds=2).gain == pytest.approx(scores.ap50, abs=1e-6)
    loose = 3e-3 if crowded else 1e-6  # COCO judges crowds anew at each threshold, the matches once
    assert paired_bootstrap(scores, nothing, metric="ap", rounds=2).gain == pytest.approx(
        scores.ap, abs=loose
    )
    for class_id in (1, 7):
        gain = paired_bootstrap(scores, nothing, class_id=class_id, rounds=2)
        assert gain.gain == pytest.approx(scores.per_class[class_id].ap50, abs=1e-6)


def test_a_model_is_not_better_than_itself() -> None:
    examples, detections = random_set(1)
    scores = evaluate(examples, detections, [CELL, SEED])
    gain = paired_bootstrap(scores, scores, rounds=50)
    assert (gain.gain, gain.low, gain.high) == (0, 0, 0)


def test_the_interval_of_a_worse_model_lies_below_zero() -> None:
    examples, detections = random_set(2, count=80)
    spoilt = [[item for place, item in enumerate(row) if place % 2] for row in detections]
    champion, challenger = (evaluate(examples, found, [CELL, SEED]) for found in (detections, spoilt))
    gain = paired_bootstrap(challenger, champion)
    assert gain.low < gain.gain < gain.high < 0
    assert gain == paired_bootstrap(challenger, champion)
    low, high = bootstrap_interval(champion)
    assert champion.ap50 is not None
    assert low < champion.ap50 < high


def test_a_picture_that_counts_twice_is_as_if_it_were_there_twice() -> None:
    examples, detections = random_set(3, count=12)
    spoilt = [[item for place, item in enumerate(row) if place % 3] for row in detections]
    counts = np.arange(12) % 3
    often = [row for row, count in enumerate(counts) for _ in range(count)]
    champion, challenger = (evaluate(examples, found, [CELL, SEED]) for found in (detections, spoilt))
    repeated = [
        replace(scores, matches=tuple(scores.matches[row] for row in often))
        for scores in (challenger, champion)
    ]
    assert paired_bootstrap(challenger, champion, counts=counts, rounds=40) == paired_bootstrap(
        *repeated, rounds=40
    )


def test_only_models_measured_on_the_same_pictures_are_compared() -> None:
    one, other = (evaluate([picture(square(class_id, 0, 0))], [[]], [CELL, SEED]) for class_id in (1, 7))
    with pytest.raises(ValueError, match="same pictures"):
        paired_bootstrap(one, other)
    with pytest.raises(ValueError, match="nothing to measure"):
        paired_bootstrap(one, one, metric="pck")
    with pytest.raises(ValueError, match="nothing to measure"):
        bootstrap_interval(one, metric="pck")


def posed(shift: float, visible: int = 2) -> tuple[Example, Scores]:
    mouse = Object(3, (10, 10, 110, 110), ((20, 20, 2), (90, 90, visible)))
    example = picture(mouse)  # its diagonal is 500, so a joint may be 25 off
    found = Detection(3, 0.8, (10, 10, 110, 110), ((20 + shift, 20, 0.9), (90, 90, 0.9)))
    return example, evaluate([example], [[found]], [MOUSE])


def test_a_joint_counts_within_a_twentieth_of_the_diagonal() -> None:
    assert posed(24)[1].pck == 1.0
    assert posed(26)[1].pck == 0.5
    assert posed(26, visible=0)[1].pck == 0.0


def test_a_mouse_nobody_found_has_lost_its_joints() -> None:
    example, _ = posed(0)
    far = Detection(3, 0.8, (200, 200, 250, 250), ((20, 20, 0.9), (90, 90, 0.9)))
    assert evaluate([example], [[far]], [MOUSE]).pck == 0.0


def test_oks_falls_as_joints_move_away() -> None:
    figures = [posed(shift)[1].oks_ap for shift in (0, 20, 80)]
    assert figures[0] == pytest.approx(1.0)
    assert figures == sorted(figures, key=lambda value: -(value or 0))
    assert figures[-1] == pytest.approx(0.1, abs=0.11)


def test_detections_in_a_crowd_are_neither_right_nor_wrong() -> None:
    crowd = Object(1, (0, 0, 200, 200), crowd=True)
    example = picture(crowd, square(1, 240, 240))
    inside = box_detection(1, 0.9, (50, 50, 90, 90))
    scores = evaluate([example], [[inside, *as_seen(picture(square(1, 240, 240)), 0.5)]], [CELL])
    assert scores.ap50 == pytest.approx(1.0)
    assert len(scores.matches[0].scores) == 1


def test_sure_and_wrong_is_badly_calibrated() -> None:
    hits = np.array([True, False, False, False])
    assert calibration_error(np.full(4, 0.95), hits) == pytest.approx(0.7)
    assert calibration_error(np.full(4, 0.25), hits) == pytest.approx(0.0)
    assert calibration_error(np.full(4, 0.01), hits) is None


def test_calibrated_precision_rises_with_the_score_and_is_about_right() -> None:
    random = np.random.default_rng(0)
    scores = random.random(4000)
    hits = random.random(4000) < scores**2
    calibration = calibrate(scores, hits)
    assert calibration is not None
    grid = np.linspace(0, 1, 101)
    precisions = [calibration.precision(float(score)) for score in grid]
    assert precisions == sorted(precisions)
    assert np.abs(np.array(precisions[10:91]) - grid[10:91] ** 2).max() < 0.1
    assert calibration.threshold(0.36) == pytest.approx(0.6, abs=0.08)
    assert calibration.threshold(1.01) == 1.0
    assert calibrate(np.zeros(0), np.zeros(0, dtype=np.bool_)) is None


def test_a_few_lucky_detections_do_not_promise_certainty() -> None:
    calibration = calibrate(np.array([0.8, 0.9]), np.array([True, True]))
    assert calibration is not None
    assert calibration.precision(0.95) < 0.9


def test_the_trivial_baseline_finds_what_is_always_in_one_place() -> None:
    train = [picture(square(1, 50, 50)) for _ in range(4)]
    held = [picture(square(1, 50, 50)), picture(square(1, 100, 100, 80), width=600, height=800)]
    guesses = trivial_baseline(train, [CELL, SEED], held)
    assert evaluate(held, guesses, [CELL, SEED]).ap50 == pytest.approx(1.0)
    assert [item.class_id for item in guesses[0]] == [1]


def test_overlaps_worked_by_hand() -> None:
    table = iou_matrix([(0, 0, 2, 2), (5, 5, 5, 5)], [(1, 1, 3, 3), (0, 0, 2, 2), (5, 5, 5, 5)])
    assert table.round(6).tolist() == [[round(1 / 7, 6), 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("module", ["ml.schema", "ml.metrics", "ml.acquisition", "ml.synthetic"])
def test_the_web_side_can_import_it_without_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
