"""How well annotators agree: hand-worked tables, properties, and what large projects cost."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling.consensus import Agreement, Answer, agree
from labeling.consensus.agreement import MOST_ANSWERS, MOST_IMAGES
from labeling.schema import Schema
from labeling.schema import parse as parse_schema
from labeling.shapes import XYXY, Box, Keypoints, Point, Shape, Tag
from tests.labeling.crowd import Person, draw

LEFT = (0.0, 0.0, 10.0, 10.0)
RIGHT = (20.0, 0.0, 30.0, 10.0)
POSE: tuple[Point, ...] = ((0.0, 0.0, 2), (100.0, 0.0, 2), (0.0, 100.0, 1))


def tags(image: str, *said: int) -> list[Answer]:
    """One answer of ann, ben, cy … each, with one tag; 0 is no answer."""
    return [
        Answer(image, name, (Tag(f"{image}{name}", class_id),))
        for name, class_id in zip(("ann", "ben", "cy", "dot"), said, strict=False)
        if class_id
    ]


def boxes(image: str, annotator: str, *xyxy: XYXY, class_id: int = 1) -> Answer:
    return Answer(image, annotator, tuple(Box(f"{image}{n}", class_id, box) for n, box in enumerate(xyxy)))


def pose(image: str, annotator: str, points: tuple[Point, ...]) -> Answer:
    return Answer(image, annotator, (Keypoints(f"{image}{annotator}", 1, points),))


def schema(*classes: tuple[int, str]) -> Schema:
    return parse_schema(
        {"classes": [{"id": id, "name": f"class {id}", "kind": kind} for id, kind in classes]}
    )


def shuffled(answers: Sequence[Answer], random: Random) -> list[Answer]:
    mixed = [replace(one, shapes=tuple(random.sample(one.shapes, len(one.shapes)))) for one in answers]
    random.shuffle(mixed)
    return mixed


def test_alpha_of_tags_is_krippendorffs_nominal_alpha() -> None:
    # Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: nominal data, four observers
    units = [
        (1, 1, 0, 1), (2, 2, 3, 2), (3, 3, 3, 3), (3, 3, 3, 3), (2, 2, 2, 2), (1, 2, 3, 4),
        (4, 4, 4, 4), (1, 1, 2, 1), (2, 2, 2, 2), (0, 5, 5, 5), (0, 0, 1, 1), (0, 0, 3, 0),
    ]  # fmt: skip
    answers = [answer for number, said in enumerate(units) for answer in tags(f"unit{number:02d}", *said)]

    alpha = agree(answers).alpha["tag"]

    assert alpha.value == pytest.approx(0.743, abs=5e-4)
    assert alpha.images == 11, "a unit with one value tells nothing"
    assert alpha.low < alpha.value < alpha.high <= 1


def test_alpha_of_boxes_is_worked_by_hand() -> None:
    # distances within: image a: equal boxes 0; image b: half of the box (IoU .5): .5; between: left and right
    # do not touch: 1 for each of the 4 pairs
    answers = [
        boxes("a", "ann", LEFT), boxes("a", "ben", LEFT),
        boxes("b", "ann", RIGHT), boxes("b", "ben", (20.0, 0.0, 25.0, 10.0)),
    ]  # fmt: skip

    agreement = agree(answers)

    observed = (2 * 0 + 2 * 0.5) / 4
    expected = (2 * 0.5 + 2 * 4 * 1) / (4 * 3)
    assert agreement.alpha["box"].value == pytest.approx(1 - observed / expected)
    assert agreement.pairs[("ann", "ben")].f1 == 1
    assert agreement.pairs[("ann", "ben")].images == 2
    assert agreement.by_class[1].alpha == pytest.approx(1 - observed / expected)


def test_people_who_agree_about_everything_have_an_alpha_of_1() -> None:
    answers = [boxes("a", name, LEFT) for name in ("ann", "ben", "cy")]
    answers += [boxes("b", name, RIGHT) for name in ("ann", "ben", "cy")]

    alpha = agree(answers).alpha["box"]

    assert (alpha.value, alpha.low, alpha.high) == (1.0, 1.0, 1.0)


def test_boxes_drawn_blindly_have_an_alpha_near_0_and_the_interval_mostly_holds_it() -> None:
    random = Random(4)
    alphas = []
    for _ in range(6):
        answers = []
        for image in range(30):
            for name in ("ann", "ben"):
                x, y = random.uniform(0, 60), random.uniform(0, 60)
                answers.append(boxes(f"{image:02d}", name, (x, y, x + 40, y + 40)))
        alphas.append(agree(answers).alpha["box"])

    assert abs(sum(alpha.value for alpha in alphas)) / 6 < 0.05
    assert sum(alpha.low < 0 < alpha.high for alpha in alphas) >= 4


def test_empty_answers_agree_with_each_other_and_not_with_a_box() -> None:
    answers = [Answer("a", "ann"), Answer("a", "ben"), boxes("b", "ann", LEFT), Answer("b", "ben")]

    agreement = agree(answers)

    # within: 0 and 1; between: the box against two empty ones 1 each, the other empty one against them 0 each
    assert agreement.alpha["box"].value == pytest.approx(1 - (2 * 1 / 4) / ((2 * 1 + 2 * 2) / 12))
    assert agreement.pairs[("ann", "ben")].f1 == 0


def test_where_nothing_differs_chance_is_not_defined_and_no_alpha_is_given() -> None:
    agreement = agree([Answer("a", "ann"), Answer("a", "ben"), Answer("b", "ann"), Answer("b", "ben")])

    assert agreement.alpha == {}
    assert agreement.pairs[("ann", "ben")].f1 == 1
    assert agree([]) == Agreement({}, {}, {}, 0, 0, 0)
    assert agree([boxes("a", "ann", LEFT), boxes("b", "ben", LEFT)]).pairs == {}


def test_the_same_joints_agree_and_one_that_only_one_person_saw_counts_against() -> None:
    seen = ((0.0, 0.0, 2), (100.0, 0.0, 2), (0.0, 0.0, 0))
    elsewhere = tuple((x + 1000.0, y, v) for x, y, v in POSE)
    equal = agree(
        [
            pose("a", "ann", POSE),
            pose("a", "ben", POSE),
            pose("b", "ann", elsewhere),
            pose("b", "ben", elsewhere),
        ]
    )
    partly = agree(
        [
            pose("a", "ann", POSE),
            pose("a", "ben", seen),
            pose("b", "ann", elsewhere),
            pose("b", "ben", elsewhere),
        ]
    )

    assert equal.alpha["keypoints"].value == 1
    # two of three joints lie in the same place: the distance within is 1/3
    assert partly.alpha["keypoints"].value == pytest.approx(1 - (2 / 3 / 4) / ((2 / 3 + 8) / 12))


def test_a_class_that_people_confuse_agrees_less_than_one_that_they_do_not() -> None:
    answers = []
    for image in range(12):
        answers.append(Answer(str(image), "ann", (Box("a", 1, LEFT), Box("b", 2, RIGHT))))
        other = 2 if image % 3 else 3
        answers.append(Answer(str(image), "ben", (Box("a", 1, LEFT), Box("b", other, RIGHT))))

    by_class = agree(answers).by_class

    assert by_class[1].f1 == 1
    assert by_class[2].f1 == pytest.approx(2 * 8 / (12 + 8))
    assert by_class[3].f1 == 0
    assert by_class[3].images == 4
    assert by_class[1].alpha is None, (
        "everybody drew the same box everywhere: there is no chance to compare with"
    )
    assert by_class[3].alpha is not None
    assert by_class[3].alpha < 0


def test_models_and_people_who_saw_suggestions_are_left_out() -> None:
    people = [
        boxes("a", "ann", LEFT),
        boxes("a", "ben", LEFT),
        boxes("b", "ann", RIGHT),
        boxes("b", "ben", LEFT),
    ]
    dependent = [
        replace(boxes("a", "cy", LEFT), saw="model"),
        replace(boxes("b", "model", LEFT), by_model=True),
    ]

    with_them, without = agree(people + dependent), agree(people)

    assert with_them == replace(without, left_out=2)
    assert list(with_them.pairs) == [("ann", "ben")]


def test_with_a_schema_only_its_classes_count() -> None:
    answers = []
    for image in ("a", "b"):
        for name, old in (("ann", LEFT), ("ben", RIGHT)):
            shapes: tuple[Shape, ...] = (Box("1", 1, LEFT if image == "a" else RIGHT), Box("2", 2, old))
            answers.append(Answer(image, name, shapes))

    agreement = agree(answers, schema=schema((1, "box")))

    assert agreement.alpha["box"].value == 1
    assert list(agreement.by_class) == [1]
    assert agree(answers, schema=schema((1, "box"), (2, "tag"))) == agreement
    assert agree(answers).alpha["box"].value < 1


def test_degenerate_boxes_and_doubled_answers_do_no_harm() -> None:
    nan = float("nan")
    answers = [
        boxes("a", "ann", LEFT, (5.0, 5.0, 5.0, 9.0)), boxes("a", "ben", (nan, 0.0, 1.0, 1.0)),
        boxes("a", "ben", LEFT), boxes("b", "ann", RIGHT), boxes("b", "ben", RIGHT),
    ]  # fmt: skip

    agreement = agree(answers)

    assert agreement.alpha["box"].value == 1
    assert agreement.pairs[("ann", "ben")].images == 2


def test_worse_annotators_agree_less() -> None:
    careful, _ = draw([Person(0.97, 0.02, 0.02)] * 3, 20, seed=3)
    sloppy, _ = draw([Person(0.7, 0.6, 0.08, 0.7)] * 3, 20, seed=3)

    assert agree(careful).alpha["box"].low > agree(sloppy).alpha["box"].high


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_another_order_changes_nothing_not_by_a_bit(seed: int) -> None:
    random = Random(seed)
    answers, _ = draw([Person(), Person(0.7, 0.5, 0.08), Person(0.9, 0.2)], 6, seed=seed % 7)
    answers += tags("image-003", 1, 2, 2) + [pose("image-004", name, POSE) for name in ("ann", "ben")]

    assert agree(shuffled(answers, random)) == agree(answers)


def test_a_large_project_is_sampled_by_the_names_of_its_images() -> None:
    people = [f"p{number}" for number in range(MOST_ANSWERS + 3)]
    answers = [
        boxes(f"{image:05d}", name, LEFT if image % 2 else RIGHT)
        for image in range(MOST_IMAGES + 50)
        for name in people
    ]

    agreement = agree(answers)

    assert agreement.images == MOST_IMAGES + 50
    assert agreement.sampled == MOST_IMAGES
    compared = sum(pair.images for pair in agreement.pairs.values())
    assert compared == MOST_IMAGES * MOST_ANSWERS * (MOST_ANSWERS - 1) // 2
    assert len(agreement.pairs) == len(people) * (len(people) - 1) // 2, "everybody's turn comes"
    assert agreement.alpha["box"].value == 1


def test_images_with_very_many_objects_are_fewer_in_the_sample() -> None:
    grid = [
        (40.0 * (n % 50), 40.0 * (n // 50), 40.0 * (n % 50) + 30, 40.0 * (n // 50) + 30) for n in range(1500)
    ]
    answers = [boxes(f"{image}", name, *grid) for image in range(6) for name in ("ann", "ben", "cy")]

    agreement = agree(answers)

    assert agreement.images == 6
    assert 2 <= agreement.sampled < 6
    assert agreement.pairs[("ann", "ben")].f1 == 1
