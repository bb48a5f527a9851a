from typing import Any

import pytest

from labeling import schema
from labeling.schema import InvalidSchema
from labeling.shapes import Box, Keypoints

MOUSE = {
    "id": 2,
    "name": "mouse",
    "kind": "keypoints",
    "skeleton": {"joints": ["nose", "left ear", "right ear"], "edges": [[0, 1]], "pairs": [[1, 2]]},
}
CELL = {"id": 1, "name": "cell", "kind": "box", "key": "1"}


def test_what_is_dumped_parses_back_equal() -> None:
    parsed = schema.parse({"classes": [CELL, MOUSE]})

    assert schema.parse(schema.dump(parsed)) == parsed


def test_a_mirrored_picture_swaps_left_and_right() -> None:
    skeleton = schema.parse({"classes": [MOUSE]}).classes[0].skeleton

    assert skeleton is not None
    assert skeleton.flip_index == (0, 2, 1)


@pytest.mark.parametrize(
    ("classes", "field"),
    [
        ([], "classes"),
        ([CELL, {**CELL, "name": "other", "key": ""}], "classes[1].id"),
        ([CELL, {**CELL, "id": 2, "key": ""}], "classes[1].name"),
        ([CELL, {**CELL, "id": 2, "name": "other"}], "classes[1].key"),
        ([{**CELL, "color": "red"}], "classes[0].color"),
        ([{**CELL, "id": -1}], "classes[0].id"),
        ([{**CELL, "name": " "}], "classes[0].name"),
        ([{**CELL, "kind": "polygon"}], "classes[0].kind"),
        ([{**MOUSE, "skeleton": None}], "classes[0].skeleton"),
        ([{**MOUSE, "skeleton": {"joints": ["a", "a"]}}], "classes[0].skeleton.joints"),
        ([{**MOUSE, "skeleton": {"joints": ["a", "b"], "edges": [[0, 2]]}}], "classes[0].skeleton.edges"),
        (
            [{**MOUSE, "skeleton": {"joints": ["a", "b", "c"], "pairs": [[0, 1], [1, 2]]}}],
            "classes[0].skeleton.pairs",
        ),
    ],
)
def test_a_bad_schema_is_refused_by_field(classes: list[dict[str, Any]], field: str) -> None:
    with pytest.raises(InvalidSchema) as caught:
        schema.parse({"classes": classes})

    assert caught.value.field == field


def test_a_shape_must_fit_its_class() -> None:
    parsed = schema.parse({"classes": [CELL, MOUSE]})

    assert parsed.problem_with(Box("a", 1, (0, 0, 1, 1))) is None
    assert parsed.problem_with(Box("a", 9, (0, 0, 1, 1))) is not None
    for shape, field in ((Box("a", 2, (0, 0, 1, 1)), "kind"), (Keypoints("a", 2, ((1, 1, 2),)), "points")):
        problem = parsed.problem_with(shape)
        assert problem is not None
        assert problem[0] == field
