from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling import schema as schemas
from labeling.formats import Dataset, Dlc, ImageLabels, UnreadableFileError
from labeling.shapes import Box, Keypoints, Shape

SINGLE = """scorer,Ann,Ann,Ann,Ann
bodyparts,leftear,leftear,rightear,rightear
coords,x,y,x,y
labeled-data/m/img0.png,1.5,2,,
labeled-data/m/img1.png,,,NaN,nan
"""
SCHEMA = schemas.parse(
    {
        "classes": [
            {"id": 3, "name": "animal", "kind": "keypoints", "skeleton": {"joints": ["L_ear", "R_ear"]}}
        ]
    }
)
coordinates = st.floats(-1e5, 1e5)
joint = st.tuples(coordinates, coordinates, st.just(2))
animal = st.tuples(joint, joint | st.just((0.0, 0.0, 0)))


def read(text: str, folder: Path) -> Dataset:
    path = folder / "CollectedData_Ann.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return Dlc().read([path])


def points(dataset: Dataset) -> list[list[tuple[tuple[float, float, int], ...]]]:
    return [
        [shape.points for shape in image.shapes if isinstance(shape, Keypoints)] for image in dataset.images
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(animal, max_size=3), min_size=1, max_size=3))
def test_what_is_exported_imports_back_equal(
    pictures: list[list[tuple[tuple[float, float, int], ...]]],
) -> None:
    images = tuple(
        ImageLabels(
            f"ordner, ö/{index}.png",
            None,
            None,
            tuple(
                Keypoints(f"dlc-{number}", 3, joints, None, "imported") for number, joints in enumerate(drawn)
            ),
        )
        for index, drawn in enumerate(pictures)
    )
    with TemporaryDirectory() as name:
        assert not Dlc().write(Dataset(SCHEMA, images), Path(name))
        back = Dlc().read([Path(name) / "CollectedData_labelwheel.csv"])

    assert not back.problems
    assert [image.file_name for image in back.images] == [image.file_name for image in images]
    assert points(back) == [list(map(tuple, drawn)) for drawn in pictures]


def test_empty_coordinates_are_absent_joints_and_a_picture_without_any_is_a_negative(tmp_path: Path) -> None:
    dataset = read(SINGLE, tmp_path)

    assert points(dataset) == [[((1.5, 2.0, 2), (0.0, 0.0, 0))], []]
    (label_class,) = dataset.schema.classes
    assert label_class.name == "animal"
    assert label_class.skeleton is not None
    assert label_class.skeleton.pairs == ((0, 1),)


def test_three_path_columns_windows_line_ends_and_a_byte_order_mark_are_understood(tmp_path: Path) -> None:
    text = (
        SINGLE.replace(",Ann,Ann", ",,,Ann,Ann", 1)
        .replace("bodyparts,", "bodyparts,,,")
        .replace("coords,", "coords,,,")
    )
    text = "\ufeff" + text.replace("labeled-data/m/", "labeled-data,m,").replace("\n", "\r\n")

    dataset = read(text, tmp_path)

    assert Dlc().sniff(tmp_path / "CollectedData_Ann.csv")
    assert dataset.images[0].file_name == "labeled-data/m/img0.png"
    assert points(dataset)[0] == [((1.5, 2.0, 2), (0.0, 0.0, 0))]


def test_individuals_become_several_shapes_of_one_class(tmp_path: Path) -> None:
    text = "scorer,A,A,A,A\nindividuals,one,one,two,two\nbodyparts,nose,nose,nose,nose\ncoords,x,y,x,y\na.png,1,2,3,4\n"

    dataset = read(text, tmp_path)

    assert points(dataset) == [[((1.0, 2.0, 2),), ((3.0, 4.0, 2),)]]
    assert len(dataset.schema.classes) == 1


@pytest.mark.parametrize("cell", ["wide", "inf", "1e300"])
def test_a_bad_cell_is_named_with_its_line(cell: str, tmp_path: Path) -> None:
    dataset = read(SINGLE.replace("1.5", cell), tmp_path)

    (problem,) = dataset.problems
    assert (problem.file, problem.line) == ("CollectedData_Ann.csv", 4)
    assert points(dataset) == [[], []]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "scorer"),
        ("scorer,A\na.png,1\n", "header row"),
        ("scorer,A,A\nbodyparts,nose,nose\ncoords,y,y\n", "must name x and y"),
        ("scorer,A,A\nbodyparts,nose\ncoords,x,y\n", "as many columns"),
    ],
)
def test_an_unusable_file_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        read(text, tmp_path)


def test_what_dlc_cannot_say_is_listed(tmp_path: Path) -> None:
    drawn: tuple[Shape, ...] = (
        Keypoints("k", 3, ((1, 1, 1), (2, 2, 2)), (0, 0, 3, 3), "human_drawn"),
        Box("b", 3, (0, 0, 1, 1)),
    )

    losses = Dlc().write(Dataset(SCHEMA, (ImageLabels("a.png", None, None, drawn),)), tmp_path)

    assert dict(losses.items) == {
        "box shape": 1,
        "box around joints": 1,
        "hidden joint, written as visible": 1,
        "provenance of a shape": 1,
    }
