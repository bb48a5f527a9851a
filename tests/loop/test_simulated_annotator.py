"""The simulated annotator: what it decides about suggestions, how it errs, and what its work costs."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bench.annotator import (
    AVERAGE,
    CAREFUL,
    HIGH,
    LOW,
    NOMINAL,
    SLOPPY,
    Answer,
    Picture,
    SimulatedAnnotator,
    Skill,
    Step,
)
from bench.quality import classes_without_boxes, compare
from labeling import schema as label_schema
from labeling.geometry import MatchCounts, iou_xyxy
from labeling.shapes import Box, Keypoints, Shape, dump_list, parse_list

SCHEMA = label_schema.parse(
    {
        "classes": [
            {"id": 1, "name": "cell", "kind": "box"},
            {"id": 2, "name": "seed", "kind": "box"},
            {
                "id": 3,
                "name": "mouse",
                "kind": "keypoints",
                "skeleton": {"joints": ["nose", "left ear", "right ear", "tail"], "pairs": [[1, 2]]},
            },
        ]
    }
)
FLAWLESS = Skill(
    misses=0,
    misses_small=0,
    jitter=0,
    false_alarms=0,
    confuses=0,
    slips=0,
    swaps=0,
    accepts_wrong=0,
)
CELL = Box("t1", 1, (100, 100, 200, 180), provenance="imported")
MOUSE = Keypoints(
    "t2", 3, ((300, 100, 2), (290, 130, 2), (310, 130, 1), (300, 220, 2)), provenance="imported"
)


def person(skill: Skill = FLAWLESS, **changes: float) -> SimulatedAnnotator:
    return SimulatedAnnotator("ann", replace(skill, **changes), SCHEMA)


def picture(*truth: Shape, name: str = "a.jpg") -> Picture:
    return Picture(name, 640, 480, truth)


def suggested(shape: Box | Keypoints, **changes: object) -> Box | Keypoints:
    return replace(shape, id="m0", provenance="model_only", score=0.8, **changes)  # type: ignore[arg-type]


def actions(answer: Answer) -> Counter[str]:
    return Counter(step.action for step in answer.steps)


def box_of(answer: Answer) -> tuple[float, float, float, float]:
    (shape,) = answer.shapes
    assert isinstance(shape, Box | Keypoints)
    assert shape.xyxy is not None
    return shape.xyxy


def many(skill: Skill, truth: tuple[Shape, ...], count: int = 200) -> list[Answer]:
    annotator = SimulatedAnnotator("ann", skill, SCHEMA)
    return [annotator.by_hand(picture(*truth, name=f"{number}.jpg")) for number in range(count)]


# --- seconds ----------------------------------------------------------------------------------------------


def test_seconds_are_the_sum_of_the_actions_prices() -> None:
    answer = Answer((), (Step("open"), Step("draw"), Step("place_joint"), Step("sweep")))
    assert answer.seconds() == pytest.approx(2.0 + 7.0 + 2.0 + 1.5)


def test_haste_scales_the_price_of_its_own_action() -> None:
    assert Answer((), (Step("draw", 2.0), Step("delete"))).seconds() == pytest.approx(14.0 + 2.9)


def test_low_costs_less_and_high_costs_more_than_nominal_for_every_action() -> None:
    for action in ("open", "sweep", "accept", "nudge_pair", "relabel", "delete", "draw", "move_joint"):
        assert getattr(LOW, action) < getattr(NOMINAL, action) < getattr(HIGH, action)


def test_a_hand_is_as_quick_as_the_price_on_average() -> None:
    answers = many(FLAWLESS, (CELL,))
    assert np.mean([answer.seconds() for answer in answers]) == pytest.approx(2.0 + 7.0 + 1.5, rel=0.05)
    assert np.std([answer.seconds() for answer in answers]) > 1.0


# --- decisions about suggestions --------------------------------------------------------------------------


def test_without_suggestions_everything_is_drawn() -> None:
    answer = person().by_hand(picture(CELL, MOUSE))
    assert actions(answer) == {"open": 1, "draw": 1, "place_joint": 4, "sweep": 1}
    assert [shape.provenance for shape in answer.shapes] == ["human_drawn", "human_drawn"]


def test_a_good_suggestion_is_accepted_as_it_is() -> None:
    near = suggested(CELL, xyxy=(102, 101, 203, 180))
    answer = person().answer(picture(CELL), [near])
    assert actions(answer) == {"open": 1, "accept": 1, "sweep": 1}
    assert box_of(answer) == near.xyxy
    assert answer.shapes[0].provenance == "human_accepted"


def test_a_shifted_suggestion_has_its_edges_nudged_onto_the_object() -> None:
    shifted = suggested(CELL, xyxy=(130, 100, 230, 180))
    answer = person().answer(picture(CELL), [shifted])
    assert actions(answer) == {"open": 1, "nudge_pair": 1, "sweep": 1}
    assert iou_xyxy([box_of(answer)], [CELL.xyxy])[0, 0] > 0.95
    assert answer.shapes[0].provenance == "human_edited"


def test_a_suggestion_beside_the_object_is_deleted_and_the_object_drawn() -> None:
    answer = person().answer(picture(CELL), [suggested(CELL, xyxy=(300, 300, 400, 380))])
    assert actions(answer) == {"open": 1, "delete": 1, "draw": 1, "sweep": 1}
    assert answer.shapes[0].provenance == "human_drawn"


def test_the_second_suggestion_for_one_object_is_deleted() -> None:
    twice = [suggested(CELL), replace(suggested(CELL), id="m1")]
    assert actions(person().answer(picture(CELL), twice)) == {"open": 1, "accept": 1, "delete": 1, "sweep": 1}


def test_a_wrong_class_is_relabelled() -> None:
    answer = person().answer(picture(CELL), [suggested(CELL, class_id=2)])
    assert actions(answer) == {"open": 1, "relabel": 1, "sweep": 1}
    assert answer.shapes[0].class_id == 1
    assert answer.shapes[0].provenance == "human_edited"


def test_a_box_is_no_suggestion_for_a_pose() -> None:
    hull = Box("m0", 1, (285, 90, 315, 230), provenance="model_only", score=0.9)
    assert actions(person().answer(picture(MOUSE), [hull]))["delete"] == 1


def test_a_good_pose_is_accepted_joint_by_joint() -> None:
    answer = person().answer(picture(MOUSE), [suggested(MOUSE)])
    assert actions(answer) == {"open": 1, "accept": 1, "accept_joint": 4, "sweep": 1}


def test_only_the_joint_that_is_off_is_moved() -> None:
    points = (*MOUSE.points[:3], (340, 260, 2))
    answer = person().answer(picture(MOUSE), [suggested(MOUSE, points=points)])
    assert actions(answer) == {"open": 1, "accept_joint": 4, "move_joint": 1, "sweep": 1}
    (pose,) = answer.shapes
    assert isinstance(pose, Keypoints)
    assert np.hypot(pose.points[3][0] - 300, pose.points[3][1] - 220) < 3


def test_a_joint_that_the_model_left_out_is_placed() -> None:
    points = (*MOUSE.points[:3], (0.0, 0.0, 0))
    wider = suggested(MOUSE, points=points, xyxy=(285, 90, 315, 230))
    assert actions(person().answer(picture(MOUSE), [wider]))["place_joint"] == 1


def test_a_pose_with_every_joint_off_is_drawn_anew_because_that_is_quicker() -> None:
    points = tuple((x + 25, y, v) for x, y, v in MOUSE.points)
    answer = person().answer(picture(MOUSE), [suggested(MOUSE, points=points)])
    assert actions(answer) == {"open": 1, "delete": 1, "place_joint": 4, "sweep": 1}


def test_a_pose_with_a_good_box_keeps_it_while_its_joints_are_moved() -> None:
    boxed = replace(MOUSE, xyxy=(250, 80, 350, 240))
    points = tuple((x + 25, y, v) for x, y, v in MOUSE.points)
    answer = person().answer(picture(boxed), [suggested(boxed, points=points)])
    assert actions(answer) == {"open": 1, "accept_joint": 4, "move_joint": 4, "sweep": 1}
    assert box_of(answer) == boxed.xyxy


def test_no_score_and_no_model_provenance_reach_the_answer() -> None:
    answer = person(accepts_wrong=1.0).answer(picture(CELL), [suggested(CELL), suggested(MOUSE)])
    assert {shape.score for shape in answer.shapes} == {None}
    assert {shape.provenance for shape in answer.shapes} == {"human_accepted"}


# --- errors -----------------------------------------------------------------------------------------------


def test_a_false_suggestion_passes_as_often_as_the_skill_says() -> None:
    annotator = person(accepts_wrong=0.1)
    ghost = suggested(CELL)
    kept = [annotator.answer(picture(name=f"{number}.jpg"), [ghost]).shapes for number in range(1000)]
    assert sum(map(len, kept)) / 1000 == pytest.approx(0.1, abs=0.03)


def test_small_objects_are_overlooked_more_often_than_large_ones() -> None:
    skill = replace(FLAWLESS, misses=0.02, misses_small=0.3)
    small = Box("t9", 1, (10, 10, 40, 40), provenance="imported")
    seen_small = sum(len(answer.shapes) for answer in many(skill, (small,), 500))
    seen_large = sum(len(answer.shapes) for answer in many(skill, (CELL,), 500))
    assert seen_small / 500 == pytest.approx(0.7, abs=0.06)
    assert seen_large / 500 == pytest.approx(0.98, abs=0.02)


def test_edges_shake_by_the_share_of_the_side_that_the_skill_says() -> None:
    lefts = np.array([box_of(answer)[0] for answer in many(replace(FLAWLESS, jitter=0.05), (CELL,), 500)])
    assert np.std(lefts) == pytest.approx(0.05 * 100, rel=0.15)
    assert np.mean(lefts) == pytest.approx(100, abs=1)


def test_false_alarms_are_boxes_inside_the_picture_that_cost_a_drawing() -> None:
    answers = many(replace(FLAWLESS, false_alarms=0.5), (CELL,), 400)
    extra = [shape for answer in answers for shape in answer.shapes[1:]]
    assert len(extra) / 400 == pytest.approx(0.5, abs=0.12)
    assert sum(answer.count("draw") for answer in answers) == 400 + len(extra)
    for shape in extra:
        assert isinstance(shape, Box)
        assert 0 <= shape.xyxy[0] < shape.xyxy[2] <= 640
        assert 0 <= shape.xyxy[1] < shape.xyxy[3] <= 480


def test_a_confused_class_is_another_one_of_the_same_kind() -> None:
    classes = {answer.shapes[0].class_id for answer in many(replace(FLAWLESS, confuses=0.5), (CELL,))}
    assert classes == {1, 2}
    assert {answer.shapes[0].class_id for answer in many(replace(FLAWLESS, confuses=1.0), (MOUSE,))} == {3}


def test_a_swapped_pose_has_its_left_where_its_right_is() -> None:
    (pose,) = person(swaps=1.0).by_hand(picture(MOUSE)).shapes
    assert isinstance(pose, Keypoints)
    assert pose.points[1][0] > pose.points[2][0]


def test_the_same_person_answers_the_same_question_in_the_same_way() -> None:
    annotator = SimulatedAnnotator("ann", SLOPPY, SCHEMA)
    first, again = (annotator.by_hand(picture(CELL, MOUSE)) for _ in range(2))
    assert first == again
    assert first != replace(annotator, name="bob").by_hand(picture(CELL, MOUSE))


def test_every_answer_is_one_that_the_service_takes() -> None:
    suggestions = [suggested(CELL, xyxy=(0, 0, 640, 480)), replace(suggested(MOUSE), id="m1")]
    edge = Box("t4", 2, (0, 0, 30, 20), provenance="imported")
    for number in range(300):
        seen = picture(CELL, edge, MOUSE, name=f"{number}.jpg")
        answer = SimulatedAnnotator("ann", SLOPPY, SCHEMA).answer(seen, suggestions)
        shapes = parse_list(dump_list(answer.shapes))
        assert shapes == answer.shapes
        assert all(SCHEMA.problem_with(shape) is None for shape in shapes)


def test_better_people_agree_more_with_the_truth() -> None:
    def f1(skill: Skill) -> float:
        counts = [
            compare(answer.shapes, (CELL, MOUSE), frozenset({3})) for answer in many(skill, (CELL, MOUSE))
        ]
        return sum(counts, MatchCounts()).f1

    assert f1(FLAWLESS) == 1.0
    assert f1(CAREFUL) > f1(AVERAGE) > f1(SLOPPY) > 0.5


# --- comparing with the truth -----------------------------------------------------------------------------


def test_poses_without_boxes_are_compared_by_their_joints() -> None:
    by_joints = classes_without_boxes([(CELL,), (CELL, MOUSE)])
    assert by_joints == {3}
    moved = replace(MOUSE, points=tuple((x + 60, y, v) for x, y, v in MOUSE.points))
    assert compare((CELL, MOUSE), (CELL, MOUSE), by_joints) == MatchCounts(2, 0, 0)
    assert compare((moved,), (MOUSE,), by_joints) == MatchCounts(0, 1, 1)
    assert compare((), (MOUSE,), by_joints) == MatchCounts(0, 0, 1)
