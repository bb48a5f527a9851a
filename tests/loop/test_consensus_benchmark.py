"""The consensus benchmark: its crowds err as their recipes say, its figures are right by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.consensus import real
from bench.consensus.crowds import RECIPES, TYPICAL, generate
from bench.consensus.metrics import (
    Boxes,
    auroc,
    calibration_error,
    compare,
    compare_people,
    mean_average_precision,
    score,
    skill_rho,
    spearman,
)
from labeling.consensus import DEFAULT_METHOD, METHODS, Answer, Settled, SettledShape, Skill
from labeling.shapes import XYXY, Box
from ml.metrics import evaluate
from ml.schema import DetectedClass, Detection, Example, Object

HERE = (10.0, 10.0, 50.0, 50.0)
LOWER = (10.0, 10.0, 50.0, 40.0)
THERE = (200.0, 200.0, 260.0, 240.0)
FAR = (400.0, 400.0, 440.0, 440.0)


def flat(*rows: tuple[XYXY, int, float]) -> Boxes:
    return Boxes(
        np.array([xyxy for xyxy, _, _ in rows], dtype=np.float64).reshape(-1, 4),
        np.array([class_id for _, class_id, _ in rows], dtype=np.int64),
        np.array([confidence for _, _, confidence in rows], dtype=np.float64),
    )


def settled(image: str, risk: float, *rows: tuple[XYXY, float]) -> Settled:
    shapes = tuple(
        SettledShape(Box(f"{number}", 1, xyxy), confidence, confidence, confidence >= 0.5, (), 1, ((1, 1.0),))
        for number, (xyxy, confidence) in enumerate(rows)
    )
    return Settled(image, shapes, risk, ("ann",))


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_crowd_is_the_same_for_the_same_seed_and_has_the_answers_it_promises(name: str) -> None:
    recipe = replace(RECIPES[name], weight=0.01)
    crowd, larger = generate(name, 3, 4, recipe), generate(name, 3, 5, recipe)

    assert generate(name, 3, 4, recipe) == crowd
    assert larger.answers[: len(crowd.answers)] == crowd.answers
    assert generate(name, 4, 4, recipe).answers != crowd.answers
    assert len(crowd.truth) == 4
    assert len(crowd.answers) == 4 * recipe.answers
    assert len(crowd.skill) == recipe.people
    for answer in crowd.answers:
        width, height = crowd.sizes[answer.image]
        for shape in answer.shapes:
            assert isinstance(shape, Box)
            x1, y1, x2, y2 = shape.xyxy
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height


def test_the_true_skill_is_what_people_reach_on_many_pictures() -> None:
    crowd = generate("mixed", 1, 200)

    reached = compare_people(crowd.answers, crowd.truth)

    # by identity there, by the best overlap here; 100 pictures each
    for name, tally in reached.items():
        assert tally.f1 == pytest.approx(crowd.skill[name], abs=0.05)
    assert max(crowd.skill.values()) - min(crowd.skill.values()) > 0.2


def test_three_people_in_ten_of_the_spammers_crowd_know_nothing() -> None:
    skill = generate("spammers", 1, 1, replace(RECIPES["spammers"], weight=0.1)).skill

    assert sum(value < 0.1 for value in skill.values()) == 3
    assert sum(value > 0.6 for value in skill.values()) == 7


def test_someone_who_always_sees_and_never_shakes_draws_the_truth() -> None:
    flawless = replace(
        TYPICAL, recall=(1 - 1e-12, 1 - 1e-12), jitter=(0.0, 0.0), floor_px=(0.0, 0.0), noise=(0.0, 0.0),
        lookalikes=(0.0, 0.0), confusion=(0.0, 0.0), shift=0.0, looseness=(0.0, 0.0), weight=0.02,
    )  # fmt: skip
    crowd = generate("flawless", 1, 10, flawless)

    people = compare_people(crowd.answers, crowd.truth).values()

    # the two sides' looseness varies by 1 % from person to person
    assert all(one.f1 == 1 and one.pq > 0.9 for one in people)
    assert min(crowd.skill.values()) == 1


def test_f1_and_panoptic_quality_by_hand() -> None:
    truth = (Box("1", 1, HERE), Box("2", 1, THERE), Box("3", 2, FAR))
    drawn = (Box("a", 1, LOWER), Box("b", 1, THERE), Box("c", 1, FAR))

    tally = compare(drawn, truth)

    assert (tally.matched, tally.surplus, tally.missed) == (2, 1, 1), "the class counts"
    assert tally.f1 == pytest.approx(2 / 3)
    assert tally.pq == pytest.approx((0.75 + 1) / 3)
    assert compare((), ()).f1 == 1


def test_average_precision_by_hand() -> None:
    truth = flat((HERE, 1, 1.0), (THERE, 1, 1.0))

    def ap(*rows: tuple[XYXY, int, float]) -> float:
        return mean_average_precision([(flat(*rows), truth)])

    assert ap((HERE, 1, 0.9), (THERE, 1, 0.8)) == 1
    assert ap((HERE, 1, 0.9), (THERE, 2, 0.8)) == pytest.approx(51 / 101), "recall .5 is reached at 51 of 101"
    assert ap((FAR, 1, 0.9), (HERE, 1, 0.8)) == pytest.approx(51 / 101 / 2), "one surplus halves precision"
    assert ap((FAR, 1, 0.7), (HERE, 1, 0.8)) == pytest.approx(51 / 101), "unless it is less sure"
    # IoU .75 is enough at .5, .55, .6, .65, .7 and .75
    assert ap((LOWER, 1, 0.9)) == pytest.approx(51 / 101 * 6 / 10)
    assert ap() == 0
    assert mean_average_precision([(flat(), flat())]) == 1


def test_average_precision_is_that_of_the_evaluation_of_models() -> None:
    crowd = generate("noisy", 5, 12, replace(RECIPES["noisy"], weight=0.01))
    random = np.random.default_rng(2)
    drawn: dict[str, Sequence[Box]] = {}
    for answer in crowd.answers:
        boxes = [one for one in answer.shapes if isinstance(one, Box)]
        drawn.setdefault(answer.image, [replace(one, score=float(random.random())) for one in boxes])
    pictures, examples, detections = [], [], []
    for image, true in crowd.truth.items():
        objects = [one for one in true if isinstance(one, Box)]
        pictures.append(
            (
                flat(*((one.xyxy, one.class_id, one.score or 0.0) for one in drawn[image])),
                flat(*((one.xyxy, one.class_id, 1.0) for one in objects)),
            )
        )
        width, height = crowd.sizes[image]
        examples.append(
            Example(image, width, height, "gold", tuple(Object(one.class_id, one.xyxy) for one in objects))
        )
        detections.append([Detection(one.class_id, one.score or 0.0, one.xyxy) for one in drawn[image]])
    classes = [DetectedClass(number, str(number)) for number in range(1, 7)]

    theirs = evaluate(examples, detections, classes).per_class.values()

    known = [one.ap for one in theirs if one.ap is not None]
    assert mean_average_precision(pictures) == pytest.approx(sum(known) / len(known), abs=1e-6)


def test_scores_of_settled_images_by_hand() -> None:
    truth = {"a": (Box("1", 1, HERE),), "b": (Box("2", 1, THERE),), "c": ()}
    images = [
        settled("a", 0.1, (HERE, 0.9)),
        settled("b", 0.8, (FAR, 0.6), (THERE, 0.4)),
        settled("c", 0.3),
        settled("unknown", 0.0, (FAR, 1.0)),
    ]

    scores = score(images, truth)

    assert scores.f1 == pytest.approx(2 / (2 + 1 + 1))
    assert scores.risk_auroc == 1, "the one image with an error has the highest risk"
    assert scores.ece == pytest.approx((0.1 + 0.6) / 2)
    assert scores.map == pytest.approx((51 + 50 * 2 / 3) / 101), "what was rejected counts too"


def test_rank_figures_by_hand() -> None:
    assert auroc([1, 2, 3, 4], [False, True, False, True]) == 0.75
    assert auroc([1, 2], [True, True]) is None
    assert spearman([1, 2, 3], [1, 1, 1]) is None
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert calibration_error([], []) is None
    assert calibration_error([0.8] * 10, [True] * 8 + [False] * 2) == pytest.approx(0.8 * 0.2 + 0.2 * 0.8), (
        "ten bins of one each"
    )
    assert calibration_error([0.8] * 100, [True] * 100) == pytest.approx(0.2)


def test_estimated_skill_is_compared_by_rank() -> None:
    def skill(name: str, recall: float) -> Skill:
        return Skill(name, "box", recall, 0.9, None, 5, (0, 1), (0, 1))

    skills = [skill("a", 0.9), skill("b", 0.7), skill("c", 0.5), replace(skill("a", 0.1), kind="tag")]

    assert skill_rho(skills, {"a": 0.8, "b": 0.6, "c": 0.3}) == pytest.approx(1)
    assert skill_rho(skills, {"a": 0.1, "b": 0.6, "c": 0.9}) == pytest.approx(-1)
    assert skill_rho(skills[:2], {"a": 0.1, "b": 0.6}) is None


def crowd_of(images: int) -> real.RealCrowd:
    """Two people who draw HERE, and five who draw nothing; an expert who draws HERE, too."""
    names = [f"image-{number:02d}" for number in range(images)]
    return real.RealCrowd(
        answers={
            name: tuple(
                Answer(name, f"p{person}", (Box("b", 1, HERE),) if person < 2 else ()) for person in range(7)
            )
            for name in names
        },
        expert={name: (Box("e", 1, HERE),) for name in names},
    )


def test_gold_is_a_share_of_all_images_and_never_scored() -> None:
    crowd = crowd_of(60)

    one, other = real.split(crowd, 0), real.split(crowd, 1)

    assert len(one.gold) == 3
    assert not set(one.gold) & set(one.scored)
    assert one.scored
    assert {**one.gold, **one.scored}.items() <= dict(crowd.expert).items()
    assert set(one.scored) - set(other.gold) <= set(other.scored), (
        "what is scored changes with the gold alone"
    )
    assert one.gold != other.gold
    assert len(one.first(2)) == 120
    assert real.split(crowd, 0) == one


def test_images_that_constants_were_chosen_by_are_not_scored() -> None:
    whole = crowd_of(60)
    crowd = real.RealCrowd(whole.answers, whole.expert, half=True)
    item = real.split(crowd, 0)

    assert 15 < len(crowd.scored) < 45
    assert set(item.scored) == set(crowd.scored) - set(item.gold)


def test_the_queue_asks_on_only_where_the_risk_is_high() -> None:
    item = real.split(crowd_of(12), 0)
    start = METHODS[DEFAULT_METHOD].fit(item.first(2), gold=item.gold).parameters

    never, always = real.ask_on(item, 1e9, start), real.ask_on(item, -1.0, start)

    assert set(never.answers.values()) == {2}
    assert set(always.answers.values()) == {7}
    assert never.cost(item.scored) == 2
    assert [one.image for one in always.settled] == list(item.order)


def test_answers_needed_are_read_between_the_points_of_the_curve() -> None:
    curve = [
        {"answers": 3.0, "f1": 0.9, "pq": 0.7},
        {"answers": 2.0, "f1": 0.8, "pq": 0.6},
        {"answers": 5.0, "f1": 0.92, "pq": 0.8},
    ]

    assert real.answers_needed(curve, {"f1": 0.85}) == 2.5
    assert real.answers_needed(curve, {"f1": 0.91, "pq": 0.75}) == 4.0
    assert real.answers_needed(curve, {"f1": 0.5}) == 2.0
    assert real.answers_needed(curve, {"f1": 0.95}) is None


def test_a_file_of_a_crowd_is_read_with_corners_from_sizes(tmp_path: Path) -> None:
    raw = {
        "images": {"a": {"width": 100, "height": 100}},
        "answers": [
            {"image": "a", "annotator": "w2", "boxes": [[10, 20, 30, 40]]},
            {"image": "a", "annotator": "w1", "boxes": []},
        ],
        "expert": [{"image": "a", "annotator": "e", "boxes": [[10, 20, 30, 41]]}],
    }
    path = tmp_path / "crowd.json"
    path.write_text(json.dumps(raw))

    crowd = real.load(path)

    assert [answer.annotator for answer in crowd.answers["a"]] == ["w1", "w2"]
    (box,) = crowd.answers["a"][1].shapes
    assert isinstance(box, Box)
    assert box.xyxy == (10, 20, 40, 60)
    assert len(crowd.expert["a"]) == 1
