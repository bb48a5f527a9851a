import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling.consensus import METHODS, Answer, Settled, agreement, total
from labeling.shapes import Box
from tests.labeling.crowd import Person, draw

CROWD = Path(__file__).parents[2].parent / "shared" / "data" / "crowd_pedestrians" / "crowd.json"
Item = TypeVar("Item")
SKILL_WEIGHTED = METHODS["skill_weighted"]
every_method = pytest.mark.parametrize("name", list(METHODS))
# as published, boxes fusion counts a person's duplicates, and fuses each class by itself
every_voting_method = pytest.mark.parametrize(
    "name", [name for name in METHODS if name != "weighted_boxes_fusion"]
)

MIXED = [
    Person(0.95, 0.05, 0.02),
    Person(0.9, 0.1),
    Person(0.85, 0.2, 0.05),
    Person(0.7, 0.6, 0.08, 0.8),
    Person(0.8),
]
HERE = (10.0, 10.0, 50.0, 50.0)
THERE = (200.0, 200.0, 260.0, 240.0)


def settle(*answers: Answer, name: str = "skill_weighted") -> Settled:
    (image,) = METHODS[name].fit_predict(answers).images
    return image


def drew(annotator: str, *boxes: Box) -> Answer:
    return Answer("image", annotator, boxes)


@every_method
def test_no_answers_make_an_empty_consensus(name: str) -> None:
    consensus = METHODS[name].fit_predict([])

    assert consensus.images == ()
    assert consensus.skills == ()


@every_method
def test_images_where_everybody_saw_nothing_settle_to_nothing(name: str) -> None:
    image = settle(drew("ann"), drew("ben"), name=name)

    assert image.shapes == ()
    assert image.annotators == ("ann", "ben")
    assert image.risk < 0.1


@every_method
def test_one_annotators_boxes_stand(name: str) -> None:
    image = settle(drew("ann", Box("a", 2, HERE), Box("b", 1, THERE)), name=name)

    assert sorted(box.class_id for box in image.accepted) == [1, 2]
    settled = sorted(shape.xyxy for shape in image.accepted if isinstance(shape, Box))
    assert settled == [pytest.approx(HERE), pytest.approx(THERE)]
    assert all(item.existence > 0.8 for item in image.shapes)


def test_two_who_fully_disagree_are_both_doubted() -> None:
    alone = settle(drew("ann", Box("a", 1, HERE)))
    image = settle(drew("ann", Box("a", 1, HERE)), drew("ben", Box("b", 1, THERE)))

    assert len(image.shapes) == 2
    assert all(0.1 < item.existence < 0.75 for item in image.shapes)
    assert image.risk > 2 * alone.risk


def test_a_box_that_one_of_three_drew_is_rejected_but_kept() -> None:
    image = settle(drew("ann", Box("a", 1, HERE)), drew("ben"), drew("cem"))

    assert image.accepted == ()
    (candidate,) = image.shapes
    assert candidate.members == (("ann", "a"),)
    assert candidate.seen_by == 3
    assert 0 < candidate.existence < 0.5


@every_method
def test_boxes_of_one_object_become_one_with_their_members_named(name: str) -> None:
    near = (12.0, 9.0, 51.0, 52.0)
    image = settle(drew("ann", Box("a", 1, HERE)), drew("ben", Box("b", 1, near)), name=name)

    (settled,) = image.shapes
    assert settled.accepted
    assert settled.members == (("ann", "a"), ("ben", "b"))
    assert settled.shape.provenance == "consensus"
    assert isinstance(settled.shape, Box)
    assert all(min(p, q) <= v <= max(p, q) for p, q, v in zip(HERE, near, settled.shape.xyxy, strict=True))


@every_voting_method
def test_one_persons_own_duplicate_counts_once(name: str) -> None:
    twice = drew("ann", Box("a", 1, HERE), Box("b", 1, (10.0, 10.0, 50.0, 51.0)))

    image = settle(twice, drew("ben", Box("c", 1, HERE)), name=name)

    assert len(image.shapes) == 1
    assert len(image.shapes[0].members) == 2


def test_a_person_who_answers_twice_is_one_person() -> None:
    image = settle(drew("ann", Box("a", 1, HERE)), drew("ann", Box("b", 1, THERE)))

    assert image.annotators == ("ann",)
    assert [item.seen_by for item in image.shapes] == [1, 1]


def test_a_group_box_against_two_singles_never_takes_two_boxes_of_one_person() -> None:
    left, right = (0.0, 0.0, 50.0, 100.0), (50.0, 0.0, 100.0, 100.0)
    image = settle(
        drew("ann", Box("a", 1, (0.0, 0.0, 100.0, 100.0))), drew("ben", Box("l", 1, left), Box("r", 1, right))
    )

    assert len(image.shapes) == 2
    for item in image.shapes:
        people = [annotator for annotator, _ in item.members]
        assert len(people) == len(set(people))


@every_voting_method
def test_a_class_tie_gives_one_flagged_box_of_the_lower_class(name: str) -> None:
    image = settle(drew("ann", Box("a", 7, HERE)), drew("ben", Box("b", 3, HERE)), name=name)

    (settled,) = image.shapes
    assert settled.class_tie
    assert settled.shape.class_id == 3
    assert dict(settled.class_posterior) == {3: pytest.approx(0.5), 7: pytest.approx(0.5)}


def test_a_slip_of_one_hand_barely_moves_the_box() -> None:
    slipped = (10.0, 10.0, 75.0, 50.0)
    answers = [drew(name, Box(name, 1, HERE)) for name in ("ann", "ben", "cem")]
    answers.append(drew("dan", Box("dan", 1, slipped)))

    robust, mean = settle(*answers).accepted[0], settle(*answers, name="majority").accepted[0]

    assert isinstance(robust, Box)
    assert isinstance(mean, Box)
    assert mean.xyxy[2] == pytest.approx(56.25)
    assert abs(robust.xyxy[2] - 50) < 3


@every_method
@settings(max_examples=15, deadline=None)
@given(order=st.randoms(use_true_random=False))
def test_the_same_answers_in_any_order_settle_the_same_to_the_last_bit(name: str, order: Random) -> None:
    answers, _ = draw(MIXED, images=8, seed=3)
    shuffled = [Answer(item.image, item.annotator, tuple(_shuffled(item.shapes, order))) for item in answers]

    assert METHODS[name].fit_predict(_shuffled(shuffled, order)) == METHODS[name].fit_predict(answers)


def _shuffled(items: Sequence[Item], order: Random) -> list[Item]:
    copy = list(items)
    order.shuffle(copy)
    return copy


def test_consensus_beats_its_annotators_and_the_majority() -> None:
    answers, truth = draw(MIXED, images=80, seed=11)
    scores = {
        name: total(
            agreement(image.accepted, truth[image.image]) for image in method.fit_predict(answers).images
        ).f1
        for name, method in METHODS.items()
    }
    people = [
        total(
            agreement(item.shapes, truth[item.image])
            for item in answers
            if item.annotator == f"person-{number}"
        ).f1
        for number in range(len(MIXED))
    ]

    assert scores["skill_weighted"] > max(people) + 0.01
    assert scores["skill_weighted"] > sum(people) / len(people) + 0.08
    assert scores["skill_weighted"] >= scores["majority"]


def test_skills_are_found_without_the_truth() -> None:
    answers, _ = draw(MIXED, images=80, seed=5)

    skills = {skill.annotator: skill for skill in SKILL_WEIGHTED.fit(answers).skills}

    for number, person in enumerate(MIXED):
        skill = skills[f"person-{number}"]
        assert skill.recall == pytest.approx(person.recall, abs=0.05)
        assert skill.recall_interval[0] < skill.recall < skill.recall_interval[1]
        assert skill.answers == 80
        assert skill.spread_px is not None
    assert skills["person-0"].precision > skills["person-3"].precision + 0.03
    assert skills["person-0"].spread_px < skills["person-3"].spread_px  # type: ignore[operator]


def test_images_with_errors_carry_more_risk() -> None:
    answers, truth = draw(MIXED[1:4], images=80, seed=7)
    right: list[float] = []
    wrong: list[float] = []
    for image in SKILL_WEIGHTED.fit_predict(answers).images:
        counts = total([agreement(image.accepted, truth[image.image])])
        (wrong if counts.surplus + counts.missed else right).append(image.risk)

    assert len(right) > 10
    assert len(wrong) > 10
    assert sum(wrong) / len(wrong) > 1.5 * sum(right) / len(right)


def test_confidence_is_roughly_calibrated() -> None:
    answers, truth = draw(MIXED, images=80, seed=13)
    images = SKILL_WEIGHTED.fit_predict(answers).images
    accepted = [item for image in images for item in image.shapes if item.accepted]
    matched = total(agreement(image.accepted, truth[image.image]) for image in images).matched

    assert sum(item.confidence for item in accepted) / len(accepted) == pytest.approx(
        matched / len(accepted), abs=0.04
    )


def test_one_image_settles_with_frozen_parameters_as_it_did_among_all() -> None:
    answers, _ = draw(MIXED, images=30, seed=17)
    consensus = SKILL_WEIGHTED.fit_predict(answers)
    parameters = json.loads(json.dumps(consensus.parameters))

    for expected in consensus.images[:5]:
        (alone,) = SKILL_WEIGHTED.predict(
            [item for item in answers if item.image == expected.image], parameters
        )
        assert [item.shape.id for item in alone.shapes] == [item.shape.id for item in expected.shapes]
        assert alone.risk == pytest.approx(expected.risk)


def test_an_unknown_annotator_and_an_unknown_class_settle_with_frozen_parameters() -> None:
    answers, _ = draw(MIXED, images=10, seed=19)
    parameters = SKILL_WEIGHTED.fit(answers).parameters

    (image,) = SKILL_WEIGHTED.predict([drew("newcomer", Box("n", 99, HERE))], parameters)

    assert [shape.class_id for shape in image.accepted] == [99]


def test_a_thousand_objects_by_three_people_settle() -> None:
    def grid(annotator: str, shift: float) -> Answer:
        boxes = tuple(
            Box(f"{x}-{y}", 1, (30.0 * x + shift, 30.0 * y, 30.0 * x + 25 + shift, 30.0 * y + 25))
            for x in range(40)
            for y in range(25)
        )
        return drew(annotator, *boxes)

    image = settle(grid("ann", 0.0), grid("ben", 1.0), grid("cem", 2.0))

    assert len(image.accepted) == 1000
    assert len({shape.id for shape in image.accepted}) == 1000


@pytest.mark.skipif(not CROWD.is_file(), reason="the crowd_pedestrians data set is not here")
def test_seven_real_people_together_are_clearly_better_than_one() -> None:
    document = json.loads(CROWD.read_text())

    def boxes(record: dict[str, list[list[float]]]) -> tuple[Box, ...]:
        return tuple(
            Box(str(number), 1, (x, y, x + w, y + h))
            for number, (x, y, w, h) in enumerate(record["boxes"])
            if w > 0 and h > 0
        )

    expert = {record["image"]: boxes(record) for record in document["expert"]}
    answers = [
        Answer(record["image"], record["annotator"], boxes(record))
        for record in document["answers"]
        if record["image"] in expert
    ]

    alone = total(agreement(item.shapes, expert[item.image]) for item in answers).f1
    images = SKILL_WEIGHTED.fit_predict(answers).images
    together = total(agreement(image.accepted, expert[image.image]) for image in images).f1

    assert together > alone + 0.06
