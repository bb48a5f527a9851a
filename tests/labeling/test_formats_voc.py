from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling import schema as schemas
from labeling.formats import Dataset, ImageLabels, UnreadableFileError, Voc, read_splits
from labeling.shapes import Box, Keypoints

OBJECT = """
  <object>
    <name>{name}</name><pose>{pose}</pose><truncated>{truncated}</truncated><difficult>0</difficult>
    <bndbox><ymin>2</ymin><xmin>1</xmin><xmax>{xmax}</xmax><ymax>5.5</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>10</xmax><ymax>10</ymax></bndbox></part>
  </object>"""
SCHEMA = schemas.parse(
    {"classes": [{"id": 1, "name": "a&b <c>", "kind": "box"}, {"id": 4, "name": "ö", "kind": "box"}]}
)

coordinates = st.floats(-1e5, 1e5)
extents = st.floats(1e-2, 1e4)
attributes = st.fixed_dictionaries(
    {},
    optional={
        "truncated": st.just(True),
        "difficult": st.just(True),
        "pose": st.sampled_from(["Left", "Ober <"]),
    },
)
boxes = st.builds(
    lambda class_id, x, y, w, h, kept: Box("voc-0", class_id, (x, y, x + w, y + h), "imported", None, kept),
    st.sampled_from([1, 4]),
    coordinates,
    coordinates,
    extents,
    extents,
    attributes,
)


def annotation(name: str = "cell", pose: str = "Unspecified", truncated: int = 0, xmax: str = "4") -> str:
    drawn = OBJECT.format(name=name, pose=pose, truncated=truncated, xmax=xmax)
    return f"<annotation verified='yes'>\n<filename>a.jpg</filename>{drawn}\n</annotation>"


def read(text: str, folder: Path, voc: Voc | None = None) -> Dataset:
    path = folder / "a.xml"
    path.write_text(text, encoding="utf-8")
    return (voc or Voc()).read([path])


@settings(max_examples=60, deadline=None)
@given(box=boxes, one_based=st.booleans())
def test_what_is_exported_imports_back_equal(box: Box, one_based: bool) -> None:
    voc = Voc(one_based=one_based)
    dataset = Dataset(SCHEMA, (ImageLabels("ordner/bild ö.jpg", 640, 480, (box,)),))
    with TemporaryDirectory() as name:
        assert not voc.write(dataset, Path(name))
        back = voc.read([Path(name) / "Annotations" / "ordner" / "bild ö.xml"])

    (image,) = back.images
    (shape,) = image.shapes
    label_class = back.schema.by_id(shape.class_id)
    original = SCHEMA.by_id(box.class_id)
    assert label_class is not None
    assert original is not None
    assert (image.file_name, image.width, image.height) == ("ordner/bild ö.jpg", 640, 480)
    assert isinstance(shape, Box)
    assert shape.xyxy == pytest.approx(box.xyxy, abs=1e-6)
    assert (label_class.name, shape.attributes) == (original.name, box.attributes)


def test_edges_are_read_as_they_stand_by_their_name_and_not_by_their_order(tmp_path: Path) -> None:
    (image,) = read(annotation(), tmp_path).images

    assert image.shapes == (Box("voc-0", 1, (1.0, 2.0, 4.0, 5.5), "imported"),)


def test_one_based_inclusive_pixels_lose_one_on_the_near_sides_only(tmp_path: Path) -> None:
    (image,) = read(annotation(), tmp_path, Voc(one_based=True)).images

    assert image.shapes == (Box("voc-0", 1, (0.0, 1.0, 4.0, 5.5), "imported"),)


def test_flags_and_pose_survive_and_parts_are_listed_as_lost(tmp_path: Path) -> None:
    dataset = read(annotation(pose="Frontal", truncated=1), tmp_path)

    assert dataset.images[0].shapes[0].attributes == {"truncated": True, "pose": "Frontal"}
    assert dataset.losses.items == (("part of an object", 1),)


@pytest.mark.parametrize("xmax", ["1", "0", "nan", "inf", "wide", ""])
def test_a_bad_box_is_named_with_its_line(xmax: str, tmp_path: Path) -> None:
    dataset = read(annotation(xmax=xmax), tmp_path)

    (problem,) = dataset.problems
    assert (problem.file, problem.line) == ("a.xml", 5)
    assert problem.field.startswith("object[0].bndbox")
    assert dataset.images[0].shapes == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation>\n<object></annotation>", "line 2: is not XML"),
        ("<html/>", "outermost"),
        ("<a>" * 100, "nested too deeply"),
        ('<!DOCTYPE x [<!ENTITY e "boom">]><annotation>&e;</annotation>', "not allowed"),
        ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hosts">]><annotation>&e;</annotation>', "not allowed"),
    ],
)
def test_unusable_and_hostile_files_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        read(text, tmp_path)


def test_cvats_annotations_are_not_taken_for_voc(tmp_path: Path) -> None:
    for name, text, expected in (("v", annotation(), True), ("c", "<annotations></annotations>", False)):
        path = tmp_path / f"{name}.xml"
        path.write_text(text)
        assert Voc().sniff(path) is expected


def test_what_voc_cannot_say_is_listed(tmp_path: Path) -> None:
    box = Box("b", 1, (0, 0, 1, 1), "human_drawn", 0.5, {"stain": "HE", "truncated": True})
    image = ImageLabels("a.jpg", None, None, (box, Keypoints("k", 4, ((1, 1, 2),))))

    losses = Voc().write(Dataset(SCHEMA, (image,)), tmp_path)

    assert dict(losses.items) == {
        "keypoints shape": 1,
        "provenance of a shape": 1,
        "score of a shape": 1,
        "attribute stain": 1,
    }


def test_a_name_that_climbs_out_of_the_folder_is_written_inside_it(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()

    Voc().write(Dataset(SCHEMA, (ImageLabels("../../evil.jpg", None, None, ()),)), inside)

    assert [path.name for path in tmp_path.rglob("*.xml")] == ["evil.xml"]
    assert (inside / "Annotations" / "evil.xml").is_file()


def test_splits_are_read_from_lists_with_and_without_flags(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a\r\nbild 1\r\n")
    (tmp_path / "test.txt").write_text("b  1\nc -1\n\n")

    assert read_splits(tmp_path) == {"a": "train", "bild 1": "train", "b": "test", "c": "test"}
