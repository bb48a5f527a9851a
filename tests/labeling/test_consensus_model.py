"""The joint model: what it makes of models, gold, habits, spammers and odd inputs."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from labeling.consensus import METHODS, Answer, Settled, agreement, total
from labeling.shapes import Box, Shape
from tests.labeling.crowd import Person, draw

SKILL_WEIGHTED = METHODS["skill_weighted"]
THREE = (Person(0.9, 0.2, 0.03), Person(0.85, 0.3, 0.05), Person(0.8, 0.4, 0.06))


def box(name: str, left: float = 10.0, size: float = 60.0, class_id: int = 1) -> Box:
    return Box(name, class_id, (left, 10.0, left + size, 10.0 + size))


def sides(shape: Shape) -> tuple[float, float, float, float]:
    assert isinstance(shape, Box)
    return shape.xyxy


def width(shape: Shape) -> float:
    return sides(shape)[2] - sides(shape)[0]


def f1(images: Sequence[Settled], truth: dict[str, tuple[Box, ...]]) -> float:
    return total(agreement(image.accepted, truth[image.image]) for image in images).f1


def loosened(answer: Answer, pixels: float) -> Answer:
    shapes = [
        Box(shape.id, shape.class_id, (x1 - pixels, y1 - pixels, x2 + pixels, y2 + pixels))
        for shape in answer.shapes
        if isinstance(shape, Box)
        for x1, y1, x2, y2 in [shape.xyxy]
    ]
    return Answer(answer.image, answer.annotator, tuple(shapes))


def test_an_image_alone_settles_to_the_same_bits_as_among_others() -> None:
    answers, truth = draw(THREE, images=25, seed=3)
    gold = {name: truth[name] for name in list(truth)[:12]}
    fitted = SKILL_WEIGHTED.fit(answers, gold=gold)
    together = {image.image: image for image in SKILL_WEIGHTED.predict(answers, fitted.parameters)}

    for name in truth:
        (alone,) = SKILL_WEIGHTED.predict([a for a in answers if a.image == name], fitted.parameters)
        assert alone == together[name]


def test_risk_is_the_sum_of_its_causes() -> None:
    answers, _ = draw(THREE, images=10, seed=4)
    for image in SKILL_WEIGHTED.fit_predict(answers).images:
        parts = sum(shape.risk for shape in image.shapes) + image.causes["unseen"]
        assert image.risk == pytest.approx(sum(image.causes.values()))
        assert image.risk == pytest.approx(parts)
        assert all(value > 0 for value in image.causes.values())


def test_an_image_in_which_nobody_drew_is_probably_empty_and_has_some_risk() -> None:
    answers = [*draw(THREE, images=10, seed=4)[0], *(Answer("z", f"person-{n}") for n in range(3))]
    image = SKILL_WEIGHTED.fit_predict(answers).images[-1]

    assert image.shapes == ()
    assert image.empty == pytest.approx(math.exp(-image.risk))
    assert 0.0 < image.risk < 0.5


def test_more_who_saw_nothing_make_an_empty_image_surer() -> None:
    answers, _ = draw(THREE, images=20, seed=4)
    parameters = SKILL_WEIGHTED.fit(answers).parameters
    (one,) = SKILL_WEIGHTED.predict([Answer("z", "person-0")], parameters)
    (three,) = SKILL_WEIGHTED.predict([Answer("z", f"person-{n}") for n in range(3)], parameters)

    assert three.empty > one.empty


def test_two_who_fully_disagree_leave_two_doubtful_objects() -> None:
    shapes = (Answer("a", "ann", (box("1"),)), Answer("a", "ben", (box("2", left=400.0),)))
    (image,) = SKILL_WEIGHTED.predict(shapes, {})

    assert len(image.shapes) == 2
    assert all(shape.confidence < 0.75 for shape in image.shapes)
    assert image.risk > 0.5


def test_a_group_box_against_two_singles_keeps_two() -> None:
    singles = [Answer("a", name, (box("l", 10.0), box("r", 75.0))) for name in ("ben", "cat")]
    group = Answer("a", "ann", (Box("g", 1, (10.0, 10.0, 135.0, 70.0)),))
    (image,) = SKILL_WEIGHTED.predict([group, *singles], {})

    found = sorted((sides(shape)[0], sides(shape)[2]) for shape in image.accepted)
    assert np.abs(np.array(found) - [(10, 70), (75, 135)]).max() <= 6
    assert image.causes["surplus"] > 0.05


def test_fifty_people_and_a_thousand_objects_settle() -> None:
    crowd = [Answer("a", f"p{n:02d}", (box("x"), box("y", 300.0))) for n in range(50)]
    (image,) = SKILL_WEIGHTED.fit_predict(crowd).images
    assert len(image.accepted) == 2
    grid = [
        Box(f"{i}", 1, (x, y, x + 20.0, y + 20.0))
        for i, (x, y) in enumerate((40.0 * (i % 40), 40.0 * (i // 40)) for i in range(1000))
    ]
    (image,) = SKILL_WEIGHTED.fit_predict([Answer("b", name, tuple(grid)) for name in "abc"]).images
    assert len(image.accepted) == 1000


def test_a_box_without_area_or_with_nan_is_dropped() -> None:
    bad = (Box("n", 1, (math.nan, 0.0, 5.0, 5.0)), Box("z", 1, (3.0, 3.0, 3.0, 9.0)))
    (image,) = SKILL_WEIGHTED.predict(
        [Answer("a", "ann", (*bad, box("ok"))), Answer("a", "ben", (box("b"),))], {}
    )
    assert len(image.shapes) == 1
    assert math.isfinite(image.risk)


def test_a_spammer_weighs_next_to_nothing() -> None:
    answers, _ = draw((*THREE, Person(recall=0.0, inventions=6.0)), images=80, seed=5)
    fitted = SKILL_WEIGHTED.fit(answers)
    spammer = {skill.annotator: skill for skill in fitted.skills}["person-3"]
    (alone,) = SKILL_WEIGHTED.predict(
        [Answer("z", "person-3", (box("s"),)), Answer("z", "person-0")], fitted.parameters
    )
    (good,) = SKILL_WEIGHTED.predict(
        [Answer("z", "person-0", (box("s"),)), Answer("z", "person-3")], fitted.parameters
    )

    assert spammer.precision < 0.15
    assert alone.shapes[0].existence < 0.1 < 0.6 < good.shapes[0].existence


def test_a_perfect_annotator_does_not_hurt() -> None:
    gains = []
    for seed in range(6):
        answers, truth = draw(THREE, images=40, seed=seed)
        perfect = [Answer(name, "perfect", shapes) for name, shapes in truth.items()]
        without = f1(SKILL_WEIGHTED.fit_predict(answers).images, truth)
        gains.append(f1(SKILL_WEIGHTED.fit_predict([*answers, *perfect]).images, truth) - without)

    assert np.mean(gains) > 0.0


def test_the_habit_of_one_loose_hand_is_undone() -> None:
    answers, truth = draw((Person(0.95, 0.0, 0.02), Person(0.95, 0.0, 0.02), Person(0.95, 0.0, 0.02)), 60, 6)
    loose = [loosened(item, 8.0) if item.annotator == "person-2" else item for item in answers]
    fitted = SKILL_WEIGHTED.fit(loose)
    alone = [item for item in loose if item.annotator == "person-2" and truth[item.image]]
    settled = {image.image: image for image in SKILL_WEIGHTED.predict(alone, fitted.parameters)}
    wider = [
        width(found.shape) - width(drawn)
        for item in alone
        for found in settled[item.image].shapes
        for drawn in item.shapes
        if ("person-2", drawn.id) in found.members
    ]
    bias = {skill.annotator: skill.bias for skill in fitted.skills}["person-2"]

    assert np.mean(wider) == pytest.approx(-16.0, abs=3.0)
    assert bias is not None
    assert bias[2] > 0.1


def test_gold_shows_what_everybody_does_alike() -> None:
    answers, truth = draw(THREE, images=80, seed=7)
    loose = [loosened(item, 6.0) for item in answers]
    gold = {name: truth[name] for name in list(truth)[:30]}

    def mean_width(parameters: dict[str, object]) -> float:
        images = [image for image in SKILL_WEIGHTED.predict(loose, parameters) if image.image not in gold]
        return float(np.mean([width(shape) for image in images for shape in image.accepted]))

    plain, calibrated = SKILL_WEIGHTED.fit(loose), SKILL_WEIGHTED.fit(loose, gold=gold)
    narrower = mean_width(dict(plain.parameters)) - mean_width(dict(calibrated.parameters))
    assert narrower == pytest.approx(12.0, abs=2.5)


def test_gold_that_says_lone_boxes_are_real_makes_them_likelier() -> None:
    half_blind = (Person(0.5, 0.0, 0.03),) * 3
    answers, truth = draw(half_blind, images=80, seed=8)
    gold = {name: truth[name] for name in list(truth)[:30]}

    def of_lone(images: Sequence[Settled]) -> float:
        return float(np.mean([s.existence for i in images for s in i.shapes if len(s.members) == 1]))

    plain = of_lone(SKILL_WEIGHTED.fit_predict(answers).images)
    assert of_lone(SKILL_WEIGHTED.fit_predict(answers, gold=gold).images) > plain + 0.05


def test_people_who_kept_a_suggestion_are_no_independent_witnesses() -> None:
    answers, _ = draw(THREE, images=30, seed=9)
    parameters = SKILL_WEIGHTED.fit(answers).parameters
    model = Answer("z", "model:1", (box("m"),), by_model=True)
    blind = [Answer("z", name, (box(name),)) for name in ("person-0", "person-1")]
    prompted = [Answer("z", name, (box(name),), saw="model:1") for name in ("person-0", "person-1")]

    def existence(crowd: Sequence[Answer]) -> float:
        (image,) = SKILL_WEIGHTED.predict(crowd, parameters)
        return image.shapes[0].existence

    assert existence([model]) < existence([model, *prompted]) < existence([model, *blind])


def test_people_who_deleted_a_suggestion_speak_against_it() -> None:
    answers, _ = draw(THREE, images=30, seed=9)
    parameters = SKILL_WEIGHTED.fit(answers).parameters
    model = Answer("z", "model:1", (box("m"),), by_model=True)
    deleted = Answer("z", "person-0", (), saw="model:1")
    overlooked = Answer("z", "person-0", ())
    (told,) = SKILL_WEIGHTED.predict([model, deleted], parameters)
    (untold,) = SKILL_WEIGHTED.predict([model, overlooked], parameters)

    assert told.shapes[0].existence < untold.shapes[0].existence


def test_a_suggestion_taken_as_it_was_moves_no_side() -> None:
    model = Answer("z", "model:1", (box("m", left=10.0),), by_model=True)
    drawn = Answer("z", "person-0", (box("a", left=20.0),))
    kept = [Answer("z", f"person-{n}", (box("k", left=10.0),), saw="model:1") for n in (1, 2, 3)]
    (few,) = SKILL_WEIGHTED.predict([model, drawn], {})
    (many,) = SKILL_WEIGHTED.predict([model, drawn, *kept], {})

    assert few.shapes[0].shape.xyxy == many.shapes[0].shape.xyxy  # type: ignore[union-attr]


def test_a_models_skill_says_that_it_is_a_model() -> None:
    answers, truth = draw(THREE, images=20, seed=10)
    predicted = [Answer(name, "model:1", shapes, by_model=True) for name, shapes in truth.items()]
    skills = {skill.annotator: skill for skill in SKILL_WEIGHTED.fit([*answers, *predicted]).skills}

    assert [name for name, skill in skills.items() if skill.by_model] == ["model:1"]


def test_speed_is_the_median_of_the_seconds() -> None:
    answers = [Answer(f"i{n}", "ann", (box("a"),), seconds=s) for n, s in enumerate((4.0, 9.0, 50.0))]
    (skill,) = SKILL_WEIGHTED.fit([*answers, Answer("i9", "ann", (box("a"),))]).skills

    assert skill.seconds_per_image == 9.0


def test_boxes_are_clipped_to_the_image_where_its_size_is_known() -> None:
    beyond = Box("b", 1, (80.0, -5.0, 130.0, 40.0))
    outside = Box("o", 1, (220.0, 10.0, 250.0, 40.0))
    (image,) = SKILL_WEIGHTED.predict([Answer("a", "ann", (beyond, outside), size=(100.0, 100.0))], {})

    assert [sides(item.shape) for item in image.shapes] == [
        (80.0, 0.0, 100.0, 40.0),
        (220.0, 10.0, 250.0, 40.0),
    ]


def test_gold_moves_no_side_that_lies_on_the_images_edge() -> None:
    answers, truth = draw(THREE, images=80, seed=7)
    loose = [replace(loosened(item, 6.0), size=(1000.0, 1000.0)) for item in answers]
    fitted = SKILL_WEIGHTED.fit(loose, gold={name: truth[name] for name in list(truth)[:30]})
    cut = Box("c", 1, (900.0, 300.0, 1000.0, 400.0))
    crowd = [Answer("z", f"person-{n}", (cut,), size=(1000.0, 1000.0)) for n in range(3)]
    (image,) = SKILL_WEIGHTED.predict(crowd, fitted.parameters)

    x1, y1, x2, y2 = sides(image.shapes[0].shape)
    assert x2 == pytest.approx(1000.0, abs=1.5)
    assert x1 > 902.0
    assert y1 > 302.0
    assert y2 < 398.0
