import json

import numpy as np
import pytest

from labeling.consensus import METHODS, Answer, Settled
from labeling.shapes import Keypoints, Point, Shape, Tag

every_method = pytest.mark.parametrize("name", list(METHODS))
BOX = (0.0, 0.0, 100.0, 100.0)


def settle(*answers: Answer, name: str = "skill_weighted") -> Settled:
    (image,) = METHODS[name].fit_predict(answers).images
    return image


def said(annotator: str, *shapes: Shape, image: str = "image") -> Answer:
    return Answer(image, annotator, shapes)


def animal(name: str, *points: Point, xyxy: tuple[float, float, float, float] | None = BOX) -> Keypoints:
    return Keypoints(name, 1, points, xyxy)


@every_method
def test_joints_of_several_people_meet_between_them(name: str) -> None:
    image = settle(
        said("ann", animal("a", (10, 10, 2), (90, 90, 2))),
        said("ben", animal("b", (12, 10, 2), (90, 92, 2))),
        name=name,
    )

    (settled,) = image.accepted
    assert isinstance(settled, Keypoints)
    assert [list(point) for point in settled.points] == [
        pytest.approx([11, 10, 2]),
        pytest.approx([90, 91, 2]),
    ]
    assert settled.xyxy == pytest.approx(BOX)


def test_a_joint_clicked_far_off_by_one_of_four_barely_counts() -> None:
    answers = [said(name, animal(name, (10, 10, 2), (90, 90, 2))) for name in ("ann", "ben", "cem")]

    image = settle(*answers, said("dan", animal("d", (10, 10, 2), (60, 20, 2))))

    (settled,) = image.accepted
    assert isinstance(settled, Keypoints)
    assert settled.points[1][0] == pytest.approx(90, abs=3)
    assert settled.points[1][1] == pytest.approx(90, abs=5)


@every_method
def test_visibility_is_voted_on_and_an_absent_joint_has_no_place(name: str) -> None:
    image = settle(
        said("ann", animal("a", (10, 10, 2), (50, 50, 1), (0, 0, 0))),
        said("ben", animal("b", (10, 10, 2), (50, 50, 1), (0, 0, 0))),
        said("cem", animal("c", (10, 10, 2), (50, 50, 2), (70, 70, 2))),
        name=name,
    )

    (settled,) = image.accepted
    assert isinstance(settled, Keypoints)
    assert [v for _, _, v in settled.points] == [2, 1, 0]
    assert settled.points[2] == (0.0, 0.0, 0)


@every_method
def test_animals_without_boxes_are_told_apart_by_their_joints(name: str) -> None:
    def pair(shift: float) -> tuple[Keypoints, Keypoints]:
        return (
            animal("left", (10 + shift, 10, 2), (40 + shift, 40, 2), xyxy=None),
            animal("right", (110 + shift, 10, 2), (140 + shift, 40, 2), xyxy=None),
        )

    image = settle(said("ann", *pair(0)), said("ben", *pair(1)), name=name)

    assert len(image.accepted) == 2
    for item in image.shapes:
        assert {shape_id for _, shape_id in item.members} in ({"left"}, {"right"})
        assert isinstance(item.shape, Keypoints)
        assert item.shape.xyxy is None


def test_keypoints_without_a_box_or_a_joint_are_dropped() -> None:
    image = settle(said("ann", animal("a", (0, 0, 0), xyxy=None)))

    assert image.shapes == ()


@every_method
def test_the_tag_of_the_majority_is_accepted(name: str) -> None:
    image = settle(said("ann", Tag("a", 1)), said("ben", Tag("b", 1)), said("cem", Tag("c", 2)), name=name)

    assert [shape.class_id for shape in image.accepted] == [1]
    assert [shape.class_id for shape in image.rejected] == [2]


def test_of_tags_that_exclude_each_other_one_is_accepted_and_a_tie_is_flagged() -> None:
    image = settle(said("ann", Tag("a", 1)), said("ben", Tag("b", 2)))

    assert [shape.class_id for shape in image.accepted] == [1]
    assert all(item.class_tie for item in image.shapes)
    assert set(image.causes) == {"class", "surplus"}
    assert image.risk > 0.45


def test_the_risk_of_tags_is_the_chance_that_the_accepted_answer_is_not_right() -> None:
    image = settle(said("ann", Tag("a", 1)), said("ben", Tag("b", 1)), said("cem"))

    (accepted,) = image.shapes
    assert image.risk == pytest.approx(1.0 - accepted.confidence)
    assert image.risk == pytest.approx(sum(image.causes.values()))
    assert image.empty == pytest.approx(image.causes["surplus"])


def test_a_tag_that_one_of_four_set_is_a_risk_of_having_missed_it() -> None:
    image = settle(said("ann", Tag("a", 1)), *(said(name) for name in ("ben", "cem", "dan")))

    assert image.accepted == ()
    assert set(image.causes) == {"missed"}
    assert 0.0 < image.risk < 0.5
    assert image.empty == pytest.approx(1.0 - image.risk)


def test_tags_that_occur_together_are_asked_one_by_one() -> None:
    answers = [
        said(annotator, Tag("r", 1), Tag("n", 2), image=image)
        for image in ("one", "two", "three")
        for annotator in ("ann", "ben")
    ]

    images = METHODS["skill_weighted"].fit_predict(answers).images

    assert [[shape.class_id for shape in image.accepted] for image in images] == [[1, 2]] * 3


def test_a_reliable_person_outvotes_two_who_guess() -> None:
    random = np.random.default_rng(1)
    answers: list[Answer] = []
    for number in range(60):
        right = number % 3 + 1
        image = f"image-{number:02d}"
        answers += [said(name, Tag("t", right), image=image) for name in ("ann", "ben", "cem")]
        answers += [said(f"guess-{k}", Tag("t", int(random.integers(1, 4))), image=image) for k in range(2)]
    answers += [said("ann", Tag("t", 1), image="last")]
    answers += [said(f"guess-{k}", Tag("t", 2), image="last") for k in range(2)]

    consensus = METHODS["skill_weighted"].fit_predict(answers)

    last = next(image for image in consensus.images if image.image == "last")
    assert [shape.class_id for shape in last.accepted] == [1]
    skills = {skill.annotator: skill for skill in consensus.skills}
    assert skills["ann"].precision > 0.9 > skills["guess-0"].precision


def crowd_of_tags(images: int = 40, people: int = 4) -> list[Answer]:
    random = np.random.default_rng(5)
    answers: list[Answer] = []
    for number in range(images):
        for k in range(people):
            right = random.random() < 0.6 + 0.1 * k
            tags = (Tag(f"{k}", number % 3 + 1 if right else (number + 1) % 3 + 1),)
            answers.append(
                Answer(f"image-{number:02d}", f"person-{k}", () if random.random() < 0.1 else tags)
            )
    return answers


@every_method
def test_a_picture_settles_alone_to_the_same_bits_as_among_others(name: str) -> None:
    answers = crowd_of_tags()
    answers += [Answer("several", "person-0", (Tag("a", 1), Tag("b", 2))), Answer("several", "person-1", ())]
    method = METHODS[name]
    parameters = json.loads(json.dumps(method.fit(answers[:-2]).parameters))

    together = method.predict(answers, parameters)

    alone = [
        method.predict([answer for answer in answers if answer.image == image.image], parameters)[0]
        for image in together
    ]
    assert list(together) == alone


@every_method
def test_the_order_of_answers_changes_no_bit_of_their_tags(name: str) -> None:
    answers = crowd_of_tags()

    assert METHODS[name].fit_predict(answers[::-1]) == METHODS[name].fit_predict(answers)


def test_keeping_what_a_model_suggested_is_no_second_independent_vote() -> None:
    models = [Answer(f"image-{n}", "model", (Tag("m", n % 2 + 1),), by_model=True) for n in range(12)]
    others = [Answer(f"image-{n}", "ann", (Tag("a", n % 2 + 1),)) for n in range(10)]

    def certainty(saw: str) -> float:
        last = [Answer(f"image-{n}", "ben", (Tag("b", n % 2 + 1),), saw=saw) for n in (10, 11)]
        settled = METHODS["skill_weighted"].fit_predict([*models, *others, *last]).images
        return next(item for item in settled if item.image == "image-11").shapes[0].confidence

    alone = METHODS["skill_weighted"].fit_predict([*models, *others]).images
    by_itself = next(item for item in alone if item.image == "image-11").shapes[0].confidence
    assert by_itself < certainty("model") < certainty("")


def test_gold_tells_who_is_right_where_two_always_disagree() -> None:
    answers = [
        Answer(f"image-{n:02d}", name, (Tag("t", 1 + (n + shift) % 3),))
        for n in range(40)
        for name, shift in (("ann", 1), ("ben", 0))
    ]
    gold = {f"image-{n:02d}": [Tag("g", 1 + n % 3)] for n in range(20)}

    consensus = METHODS["skill_weighted"].fit_predict(answers, gold=gold)

    for n, image in enumerate(consensus.images):
        assert [shape.class_id for shape in image.accepted] == [1 + n % 3]
    skills = {skill.annotator: skill.class_accuracy for skill in consensus.skills}
    assert skills["ben"] is not None
    assert skills["ann"] is not None
    assert skills["ben"].value > 0.9 > 0.2 > skills["ann"].value


def test_whom_an_annotator_takes_for_whom_is_told() -> None:
    answers = [
        Answer(
            f"image-{n:02d}", name, (Tag("t", 2 if name == "dan" and n % 3 == 0 else 1 + n % 3),), seconds=4.0
        )
        for n in range(60)
        for name in ("ann", "ben", "cem", "dan")
    ]

    skills = {skill.annotator: skill for skill in METHODS["skill_weighted"].fit(answers).skills}

    assert skills["dan"].confusion[1][2] > 0.9
    assert skills["ann"].confusion[1][1] > 0.9
    assert skills["dan"].seconds_per_image == 4.0
    interval = skills["dan"].class_accuracy
    assert interval is not None
    assert interval.interval[0] < 2 / 3 < interval.interval[1]


def test_one_person_alone_is_believed_but_not_blindly() -> None:
    image = settle(said("ann", Tag("a", 1)))

    assert [shape.class_id for shape in image.accepted] == [1]
    assert 0.0 < image.risk < 0.5


@every_method
def test_pictures_that_nobody_tagged_settle_to_nothing(name: str) -> None:
    image = settle(said("ann"), said("ben"), name=name)

    assert image.shapes == ()
    assert image.empty > 0.5
