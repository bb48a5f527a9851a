"""Our own format: what is written is read back equal, and a bad line is named."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling.formats import Dataset, ImageLabels, Jsonl, UnreadableFileError
from labeling.shapes import Json, Shape, Tag
from tests.labeling.test_formats_coco import SCHEMA, drawn_animals, drawn_boxes

JSONL = Jsonl()
SHA256 = "0123456789abcdef" * 4
HEADER: Json = {
    "labelwheel": 1,
    "content": "settled",
    "schema": {"classes": [{"id": 2, "name": "c", "kind": "box"}]},
}
BOX: Json = {"id": "a", "kind": "box", "class_id": 2, "xyxy": [1, 2, 3, 4]}

tags = st.builds(lambda score: Tag("x", 9, "consensus", score), st.none() | st.floats(0, 1))
pictures = st.lists(st.lists(drawn_boxes | drawn_animals | tags, max_size=4), max_size=3)


def numbered(drawn: list[list[Shape]]) -> Dataset:
    images = []
    for index, shapes in enumerate(drawn):
        named: list[Shape] = []
        for number, shape in enumerate(shapes):
            values = {name: getattr(shape, name) for name in shape.__dataclass_fields__}
            named.append(type(shape)(**{**values, "id": f"ä{number}"}))
        images.append(
            ImageLabels(f"ordner {index}/é@1.jpg", 640, 480, tuple(named), "", {}, SHA256, bool(index % 2))
        )
    return Dataset(SCHEMA, tuple(images))


@settings(max_examples=60, deadline=None)
@given(pictures)
def test_what_is_written_is_read_back_equal_and_written_again_byte_for_byte(drawn: list[list[Shape]]) -> None:
    dataset = numbered(drawn)
    with TemporaryDirectory() as name:
        first, second = Path(name, "1"), Path(name, "2")
        first.mkdir()
        second.mkdir()
        losses = JSONL.write(dataset, first)
        back = JSONL.read([first / "labels.jsonl"])
        JSONL.write(back, second)

        assert (first / "labels.jsonl").read_bytes() == (second / "labels.jsonl").read_bytes()
    assert not losses
    assert back.schema == SCHEMA
    assert not back.problems
    assert [(image.file_name, image.shapes, image.gold, image.sha256) for image in back.images] == [
        (image.file_name, image.shapes, image.gold, image.sha256) for image in dataset.images
    ]


def read(folder: Path, *lines: Any) -> Dataset:
    path = folder / "labels.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return JSONL.read([path])


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ({"shapes": []}, "name"),
        ({"name": "a\x00", "shapes": []}, "name"),
        ({"name": "a", "shapes": [BOX | {"xyxy": [1, 2, 1, 4]}]}, "shapes[0].xyxy"),
        ({"name": "a", "shapes": [BOX | {"class_id": 3}]}, "shapes[0].class_id"),
        ({"name": "a", "shapes": [BOX, BOX]}, "shapes[1].id"),
        ({"name": "a", "shapes": [BOX | {"colour": 1}]}, "shapes[0].colour"),
        ({"name": "a", "shapes": [], "sha256": "abc"}, "sha256"),
        ({"name": "a", "shapes": [], "width": 0}, "width"),
        ({"name": "a", "shapes": [], "gold": 1}, "gold"),
        ({"name": "a", "shapes": [], "state": "queued"}, "state"),
        ({"name": "a", "shapes": [], "more": 1}, "more"),
        ('{"name": "a", "shapes": [', ""),
        ('{"name": "a", "width": ' + "9" * 400 + ', "shapes": []}', "width"),
        ("[" * 100_000, ""),
        ("[]", ""),
    ],
)
def test_a_bad_line_is_named_by_its_number_and_field_and_the_others_stay(
    line: object, field: str, tmp_path: Path
) -> None:
    dataset = read(
        tmp_path, HEADER, {"name": "one", "shapes": [BOX]}, line, "", {"name": "two", "shapes": []}
    )

    (problem,) = dataset.problems
    assert (problem.file, problem.line, problem.field) == ("labels.jsonl", 3, field)
    assert [image.file_name for image in dataset.images] == ["one", "two"]


@pytest.mark.parametrize(
    ("header", "field"),
    [
        (HEADER | {"labelwheel": 2}, "labelwheel"),
        (HEADER | {"content": "answers"}, "content"),
        (HEADER | {"schema": {"classes": []}}, "classes"),
        ("nothing", ""),
    ],
)
def test_a_header_that_is_not_ours_refuses_the_file(header: object, field: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError) as refused:
        read(tmp_path, header, {"name": "a", "shapes": []})

    assert (refused.value.problem.line, refused.value.problem.field) == (1, field)
