"""What is found wrong in labels, on pictures small enough to judge by hand."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.findings import Doubtful, Finding, Kind, Trust, doubts, flaws, review_list, usable
from ml.schema import XYXY, DetectedClass, Detection, Example, Object, Point

CAT, DOG = DetectedClass(1, "cat"), DetectedClass(2, "dog")
CLASSES = (CAT, DOG)
HERE: XYXY = (10.0, 10.0, 30.0, 30.0)
THERE: XYXY = (60.0, 60.0, 80.0, 80.0)


def picture(*objects: Object, name: str = "a") -> Example:
    return Example(name * 64, 100, 100, "train", objects)


def seen(class_id: int, score: float, xyxy: XYXY = HERE) -> Detection:
    return Detection(class_id, score, xyxy)


def found(items: Sequence[Finding], kind: Kind) -> list[Finding]:
    return [item for item in items if item.kind == kind]


def others(count: int = 200) -> tuple[list[Example], list[list[Detection]]]:
    """Pictures on which a sure model and the labels agree about a cat here and a dog there."""
    examples = [
        Example(f"{number:064d}", 100, 100, "train", (Object(1, HERE), Object(2, THERE)))
        for number in range(count)
    ]
    return examples, [[seen(1, 0.9), seen(2, 0.9, THERE)] for _ in examples]


def judged(example: Example, detections: Sequence[Detection]) -> list[Finding]:
    examples, detected = others()
    trust = Trust.of([*examples, example], [*detected, detections], CLASSES)
    return doubts(example, detections, trust)


def test_a_box_without_area_is_found_without_a_model() -> None:
    example = picture(Object(1, (5, 5, 5, 9)), Object(1, (5, 5, 9, 5)), Object(1, HERE))
    told = flaws(example, CLASSES)
    assert [(item.kind, item.object) for item in told] == [("zero_area", 0), ("zero_area", 1)]
    assert told[0].told == "The box of this cat has no area."


def test_a_box_that_leaves_the_picture_is_found_but_rounding_is_not() -> None:
    example = picture(
        Object(1, (-1, -1, 101, 101)),
        Object(1, (-1.5, 0, 9, 9)),
        Object(1, (0, 0, 102, 9)),
        Object(1, (0, 0, 9, 200)),
    )
    assert [(item.kind, item.object) for item in flaws(example, CLASSES)] == [
        ("outside", 1),
        ("outside", 2),
        ("outside", 3),
    ]


def test_an_object_labelled_three_times_has_two_doubles() -> None:
    near: XYXY = (10.5, 10.0, 30.5, 30.0)
    told = flaws(picture(Object(1, HERE), Object(1, near), Object(1, HERE), Object(1, THERE)), CLASSES)
    assert [(item.kind, item.object) for item in told] == [("doubled", 1), ("doubled", 2)]
    assert told[0].other == HERE


def test_two_classes_in_one_place_are_no_double() -> None:
    assert flaws(picture(Object(1, HERE), Object(2, HERE)), CLASSES) == []


def test_two_poses_in_one_box_are_doubled_only_if_their_joints_lie_together() -> None:
    low: tuple[Point, ...] = ((12.0, 12.0, 2), (14.0, 28.0, 2))
    high: tuple[Point, ...] = ((28.0, 12.0, 2), (27.0, 27.0, 2))
    hidden: tuple[Point, ...] = ((0.0, 0.0, 0), (14.0, 28.0, 2))
    assert flaws(picture(Object(1, HERE, low), Object(1, HERE, high)), CLASSES) == []
    assert len(flaws(picture(Object(1, HERE, low), Object(1, HERE, hidden)), CLASSES)) == 1
    assert len(flaws(picture(Object(1, HERE, low), Object(1, HERE)), CLASSES)) == 1


def test_a_crowd_region_around_an_object_is_no_double() -> None:
    assert flaws(picture(Object(1, HERE), Object(1, HERE, crowd=True)), CLASSES) == []


def test_what_nobody_labelled_is_missing() -> None:
    told = judged(picture(Object(1, HERE)), [seen(1, 0.9), seen(2, 0.9, THERE)])
    (missing,) = found(told, "missing")
    assert (missing.class_id, missing.xyxy, missing.object) == (2, THERE, None)
    assert missing.told == "The model sees a dog that nobody labelled."


def test_many_missing_on_one_picture_make_each_more_probable() -> None:
    examples, detected = others()
    boxes: list[XYXY] = [(x, 0.0, x + 5.0, 5.0) for x in (0.0, 20.0, 40.0, 60.0)]
    spread = [[seen(1, 0.5, box)] for box in boxes * 5]  # a score that is right half the time
    doubtful = [
        picture(*([Object(1, box)] if number % 2 else []), name=f"{number % 10}")
        for number, box in enumerate(boxes * 5)
    ]
    trust = Trust.of([*examples, *doubtful], [*detected, *spread], CLASSES)
    alone = found(doubts(picture(), [seen(1, 0.5, boxes[0])], trust), "missing")
    together = found(doubts(picture(), [seen(1, 0.5, box) for box in boxes * 1], trust), "missing")
    assert len(together) == 4
    assert all(item.probability > (alone[0].probability if alone else 0.0) for item in together)


def test_a_label_that_the_model_sees_nothing_of_is_spurious() -> None:
    told = judged(picture(Object(1, HERE), Object(1, THERE)), [seen(1, 0.9)])
    (spurious,) = found(told, "spurious")
    assert spurious.object == 1
    assert spurious.probability > 0.5


def test_a_class_that_the_model_never_finds_makes_no_label_spurious() -> None:
    examples = [picture(Object(1, HERE), name=f"{number}") for number in range(9)]
    trust = Trust.of(examples, [[] for _ in examples], CLASSES)
    assert doubts(examples[0], [], trust) == []


def test_a_label_that_the_model_takes_for_another_class_is_told_once() -> None:
    told = judged(picture(Object(2, HERE), Object(2, THERE)), [seen(1, 0.9), seen(2, 0.9, THERE)])
    (only,) = told
    assert (only.kind, only.class_id, only.other_class_id, only.object) == ("class", 2, 1, 0)
    assert only.told == "The model takes this dog for a cat."


def test_a_label_beside_its_object_is_in_the_wrong_place_and_nothing_is_missing() -> None:
    beside: XYXY = (20.0, 10.0, 40.0, 30.0)
    told = judged(picture(Object(1, beside), Object(2, THERE)), [seen(1, 0.9), seen(2, 0.9, THERE)])
    (only,) = told
    assert (only.kind, only.xyxy, only.other) == ("place", beside, HERE)


def test_labels_that_the_model_agrees_with_raise_no_doubt() -> None:
    assert judged(picture(Object(1, HERE), Object(2, THERE)), [seen(1, 0.9), seen(2, 0.9, THERE)]) == []


def test_nothing_is_missing_in_a_crowd_region() -> None:
    crowd = Object(1, (0, 0, 50, 50), crowd=True)
    assert judged(picture(crowd, Object(2, THERE)), [seen(1, 0.9), seen(2, 0.9, THERE)]) == []


def test_the_list_begins_with_the_picture_that_has_most_to_mend() -> None:
    examples, detected = others()
    examples[3] = Example(examples[3].sha256, 100, 100, "train", ())
    examples[7] = Example(examples[7].sha256, 100, 100, "train", (Object(1, HERE),))
    ranked = review_list(examples, detected, CLASSES)
    assert [item.sha256 for item in ranked] == [examples[3].sha256, examples[7].sha256]
    assert [len(item.findings) for item in ranked] == [2, 1]
    assert ranked[0].score == pytest.approx(sum(item.probability**2 for item in ranked[0].findings))


def test_a_model_learns_from_boxes_with_an_area_inside_the_picture() -> None:
    good, part = Object(1, HERE), Object(1, (90, 90, 120, 120))
    flat, away = Object(1, (5, 5, 5, 9)), Object(1, (101, 101, 120, 120))
    assert usable(picture(good, flat, part, away)) == (good, part)


sides = st.integers(0, 20)
boxes_xyxy = st.tuples(sides, sides, sides, sides).map(
    lambda item: (float(item[0]), float(item[1]), float(item[0] + item[2]), float(item[1] + item[3]))
)
objects = st.lists(st.builds(Object, st.sampled_from([1, 2]), boxes_xyxy), max_size=5)
detections = st.lists(
    st.builds(Detection, st.sampled_from([1, 2]), st.floats(0.05, 1.0), boxes_xyxy), max_size=5
)


@given(st.lists(st.tuples(objects, detections), max_size=4), st.randoms())
def test_the_order_in_which_pictures_come_changes_nothing(
    rows: list[tuple[list[Object], list[Detection]]], random: object
) -> None:
    examples = [picture(*labels, name=str(number)) for number, (labels, _) in enumerate(rows)]
    seen_on = [found_on for _, found_on in rows]
    forwards = review_list(examples, seen_on, CLASSES)
    backwards = review_list(examples[::-1], seen_on[::-1], CLASSES)
    assert _rounded(forwards) == _rounded(backwards)
    for item in forwards:
        for one in item.findings:
            assert 0 < one.probability <= 1


def _rounded(ranked: Sequence[Doubtful]) -> dict[str, list[tuple[str, int, XYXY, float]]]:
    return {
        item.sha256: sorted(
            (one.kind, one.class_id, one.xyxy, round(one.probability, 9)) for one in item.findings
        )
        for item in ranked
    }
