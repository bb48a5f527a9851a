"""The next best action, on hand-worked images."""

import pytest

from labeling.consensus.actions import Policy, expected_drop, next_action
from labeling.consensus.base import Causes, Settled, SettledShape, Skill
from labeling.shapes import Box


def shape(existence: float) -> SettledShape:
    box = Box(f"b{existence}", 1, (0.0, 0.0, 9.0, 9.0))
    accepted = existence >= 0.5
    causes: Causes = {"surplus": 1 - existence} if accepted else {"missed": existence}
    return SettledShape(box, existence, existence, accepted, (), 2, ((1, 1.0),), causes=causes)


def image(*existences: float) -> Settled:
    shapes = tuple(shape(value) for value in existences)
    return Settled("a", shapes, sum(item.risk for item in shapes), ("ann", "ben"))


def person(name: str, recall: float, precision: float) -> Skill:
    return Skill(name, "box", recall, precision, None, 50, (0.0, 1.0), (0.0, 1.0))


def test_a_sure_image_settles() -> None:
    assert next_action(image(0.99, 0.97), Policy(), answers=2).kind == "settle"


def test_a_sure_image_still_gets_its_first_answers() -> None:
    assert next_action(image(0.99), Policy(first=2), answers=1).kind == "ask"


def test_a_doubtful_image_asks_the_person_who_tells_most() -> None:
    people = [person("sloppy", 0.6, 0.6), person("careful", 0.95, 0.97), person("blind", 0.5, 0.5)]
    action = next_action(image(0.5, 0.6), Policy(), answers=2, free=people)

    assert (action.kind, action.annotator) == ("ask", "careful")
    assert action.drop > expected_drop(image(0.5, 0.6), people[0])


def test_of_equals_the_lower_name_is_asked() -> None:
    twins = [person("b", 0.9, 0.9), person("a", 0.9, 0.9)]
    assert next_action(image(0.5), Policy(), answers=2, free=twins).annotator == "a"


def test_with_nobody_free_or_enough_answers_a_doubtful_object_is_asked_about_alone() -> None:
    doubtful = image(0.99, 0.5)
    for action in (
        next_action(doubtful, Policy(cards=True), answers=2, free=[]),
        next_action(doubtful, Policy(cards=True, most=2), answers=2),
    ):
        assert action.kind == "card"
        assert [item.existence for item in action.shapes] == [0.5]


def test_what_no_card_can_settle_goes_to_an_expert() -> None:
    unseen = Settled("a", (), 0.5, ("ann",), causes={"unseen": 0.5})
    assert next_action(unseen, Policy(cards=True, most=2), answers=2).kind == "expert"
    assert next_action(image(0.5), Policy(most=2), answers=2).kind == "expert"


def test_somebody_who_guesses_tells_nothing() -> None:
    assert expected_drop(image(0.5, 0.9), person("coin", 0.5, 0.5)) == pytest.approx(0.0)


def test_a_perfect_person_removes_all_doubt_about_what_was_drawn() -> None:
    assert expected_drop(image(0.5, 0.9), person("perfect", 1.0, 1.0)) == pytest.approx(0.6)
