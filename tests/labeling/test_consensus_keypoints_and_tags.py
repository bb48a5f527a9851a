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


def test_of_tags_that_exclude_each_other_at_most_one_is_accepted_and_a_tie_is_flagged() -> None:
    image = settle(said("ann", Tag("a", 1)), said("ben", Tag("b", 2)))

    assert len(image.accepted) <= 1
    assert all(item.class_tie for item in image.shapes)
    assert image.risk > 0.8


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
