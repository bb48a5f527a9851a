"""Weighted boxes fusion: the paper's arithmetic by hand, and the same surface as every method."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling.consensus import METHODS, Answer, Settled, agreement, total
from labeling.shapes import Box, Tag
from tests.labeling.crowd import Person, draw
from tests.labeling.test_consensus_agreement import shuffled

FUSION = METHODS["weighted_boxes_fusion"]
HERE = (10.0, 10.0, 50.0, 50.0)
NEAR = (14.0, 10.0, 54.0, 50.0)
THERE = (200.0, 200.0, 260.0, 240.0)


def settle(*answers: Answer) -> Settled:
    (image,) = FUSION.fit_predict(answers).images
    return image


def drew(annotator: str, *boxes: Box) -> Answer:
    return Answer("image", annotator, boxes)


def test_boxes_that_overlap_are_fused_to_their_mean() -> None:
    image = settle(drew("ann", Box("a", 1, HERE)), drew("ben", Box("b", 1, NEAR)))

    (item,) = image.shapes
    assert isinstance(item.shape, Box)
    assert item.shape.xyxy == (12.0, 10.0, 52.0, 50.0)
    assert item.confidence == 1
    assert item.members == (("ann", "a"), ("ben", "b"))
    assert image.risk == 0


def test_a_models_score_is_its_boxs_weight() -> None:
    model = Answer("image", "model", (Box("m", 1, NEAR, score=0.5),), by_model=True)

    (item,) = settle(drew("ann", Box("a", 1, HERE)), model).shapes

    assert isinstance(item.shape, Box)
    assert item.shape.xyxy == pytest.approx((10 + 4 / 3, 10.0, 50 + 4 / 3, 50.0))
    assert item.confidence == pytest.approx(0.75)


def test_confidence_is_the_share_of_those_who_drew() -> None:
    image = settle(
        drew("ann", Box("a", 1, HERE)), drew("ben"), drew("cy", Box("c", 1, HERE), Box("d", 1, THERE))
    )

    here, there = image.shapes
    assert here.confidence == pytest.approx(2 / 3)
    assert here.accepted
    assert there.confidence == pytest.approx(1 / 3)
    assert not there.accepted
    assert image.causes == pytest.approx({"surplus": 1 / 3, "missed": 1 / 3})
    assert image.risk == pytest.approx(2 / 3)
    assert image.empty == pytest.approx(1 / 3 * 2 / 3)


def test_a_disputed_class_makes_two_boxes() -> None:
    image = settle(drew("ann", Box("a", 1, HERE)), drew("ben", Box("b", 2, HERE)))

    assert [item.shape.class_id for item in image.shapes] == [1, 2]
    assert all(item.accepted for item in image.shapes)


def test_an_empty_image_settles_to_nothing_and_bad_boxes_are_dropped() -> None:
    flat = Box("f", 1, (5.0, 5.0, 5.0, 9.0))

    image = settle(drew("ann", flat), drew("ben"))

    assert image.shapes == ()
    assert image.empty == 1
    assert FUSION.fit_predict([]).images == ()


def test_tags_are_settled_by_majority() -> None:
    answers = [
        Answer("image", name, (Tag("t", said), Box("b", 1, HERE)))
        for name, said in (("a", 5), ("b", 5), ("c", 6))
    ]

    image = settle(*answers)

    assert [shape.class_id for shape in image.accepted if isinstance(shape, Tag)] == [5]
    assert [shape.class_id for shape in image.accepted if isinstance(shape, Box)] == [1]


def test_skills_tell_who_finds_and_who_invents() -> None:
    people = [Person(0.97, 0.02), Person(0.5, 0.02), Person(0.97, 3.0), Person(0.9, 0.1), Person(0.9, 0.1)]
    answers, _ = draw(people, 40, seed=5)

    skills = {item.annotator: item for item in FUSION.fit(answers).skills}

    assert min(skills.values(), key=lambda item: item.recall).annotator == "person-1"
    assert min(skills.values(), key=lambda item: item.precision).annotator == "person-2"
    low, high = skills["person-1"].recall_interval
    assert low < skills["person-1"].recall < high


def test_five_people_are_better_than_their_mean() -> None:
    answers, truth = draw([Person(0.85, 0.3, 0.04)] * 5, 40, seed=6)

    alone = total(agreement(item.shapes, truth[item.image]) for item in answers).f1
    images = FUSION.fit_predict(answers).images
    together = total(agreement(image.accepted, truth[image.image]) for image in images).f1

    assert together > alone + 0.05


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_another_order_changes_nothing_not_by_a_bit(seed: int) -> None:
    answers, _ = draw([Person(), Person(0.7, 0.5, 0.08), Person(0.9, 0.2)], 6, seed=seed % 5)
    consensus = FUSION.fit_predict(answers)

    assert FUSION.fit_predict(shuffled(answers, Random(seed))) == consensus
    for image in consensus.images:
        alone = [answer for answer in answers if answer.image == image.image]
        assert FUSION.predict(alone, consensus.parameters) == (image,)
