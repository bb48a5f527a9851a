import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeling import shapes
from labeling.shapes import Box, InvalidShape, Keypoints, Shape, Tag

GOOD_BOX = {"id": "a", "kind": "box", "class_id": 1, "xyxy": [0, 0, 2, 2]}

numbers = st.floats(-1e5, 1e5)
sides = st.tuples(numbers, st.floats(1e-3, 1e5))
attributes = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8),
    st.one_of(st.booleans(), st.integers(-(2**50), 2**50), st.floats(-1e9, 1e9)),
    max_size=3,
)
boxes = st.builds(
    lambda x, y, kept: Box("b", 3, (x[0], y[0], x[0] + x[1], y[0] + y[1]), attributes=kept),
    sides,
    sides,
    attributes,
)
points = st.one_of(st.just((0.0, 0.0, 0)), st.tuples(numbers, numbers, st.sampled_from([1, 2])))
keypoints = st.builds(
    lambda joints: Keypoints("k", 4, tuple(joints)), st.lists(points, min_size=1, max_size=5)
)
any_shape = st.one_of(boxes, keypoints, st.just(Tag("t", 5, score=0.25)))


@given(any_shape)
def test_what_is_dumped_parses_back_equal(shape: Shape) -> None:
    assert shapes.parse(shapes.dump(shape)) == shape


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "polygon"}, "kind"),
        ({"class_id": 0}, "class_id"),
        ({"class_id": True}, "class_id"),
        ({"class_id": "1"}, "class_id"),
        ({"xyxy": [0, 0, 0, 2]}, "xyxy"),
        ({"xyxy": [0, 0, math.nan, 2]}, "xyxy[2]"),
        ({"xyxy": [0, 0, math.inf, 2]}, "xyxy[2]"),
        ({"xyxy": [0, 0, 10**30, 2]}, "xyxy[2]"),
        ({"xyxy": "0022"}, "xyxy"),
        ({"id": ""}, "id"),
        ({"id": "a\x00"}, "id"),
        ({"id": "\ud800"}, "id"),
        ({"score": 1.5}, "score"),
        ({"provenance": "guessed"}, "provenance"),
        ({"attributes": {"pose": None}}, "attributes.pose"),
        ({"points": []}, "points"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_field_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidShape) as caught:
        shapes.parse({**GOOD_BOX, **change})

    assert caught.value.field == field


def test_an_absent_joint_has_no_place() -> None:
    shape = shapes.parse({"id": "a", "kind": "keypoints", "class_id": 1, "points": [[7, 8, 0], [1, 2, 2]]})

    assert isinstance(shape, Keypoints)
    assert shape.points == ((0.0, 0.0, 0), (1.0, 2.0, 2))


def test_an_answer_with_one_id_twice_is_refused_at_the_second() -> None:
    with pytest.raises(InvalidShape, match=r"shapes\[1\].id"):
        shapes.parse_list([GOOD_BOX, GOOD_BOX])


def test_an_answer_of_too_many_shapes_is_refused() -> None:
    with pytest.raises(InvalidShape, match="at most"):
        shapes.parse_list([GOOD_BOX] * (shapes.MAX_SHAPES + 1))


def test_clipping_cuts_to_the_picture_and_leaves_what_is_wholly_outside() -> None:
    crossing, outside = Box("a", 1, (-5, -5, 5, 5)), Box("b", 1, (20, 20, 30, 30))

    assert shapes.clipped(crossing, width=10, height=10) == Box("a", 1, (0, 0, 5, 5))
    assert shapes.clipped(outside, width=10, height=10) == outside
