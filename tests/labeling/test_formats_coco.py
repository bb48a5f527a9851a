import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling import schema as schemas
from labeling.formats import Coco, Dataset, ImageLabels, UnreadableFileError
from labeling.shapes import Box, Keypoints, Shape, Tag

COCO = Coco()
SCHEMA = schemas.parse(
    {
        "classes": [
            {"id": 2, "name": "Zelle ö", "kind": "box"},
            {
                "id": 5,
                "name": "mouse",
                "kind": "keypoints",
                "skeleton": {
                    "joints": ["nose", "ear a", "ear b"],
                    "edges": [[0, 1], [0, 2]],
                    "pairs": [[1, 2]],
                },
            },
            {"id": 9, "name": "blurred", "kind": "tag"},
        ]
    }
)

coordinates = st.floats(-1e5, 1e5)
extents = st.floats(1e-2, 1e4)
boxes_xyxy = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), coordinates, coordinates, extents, extents)
joints = st.one_of(st.just((0.0, 0.0, 0)), st.tuples(coordinates, coordinates, st.sampled_from([1, 2])))
attributes = st.dictionaries(
    st.sampled_from(["iscrowd", "area", "occluded", "note", "größe"]),
    st.one_of(st.booleans(), st.integers(-(10**9), 10**9), st.text("abcä ", max_size=9)),
)
drawn_boxes = st.builds(lambda box, kept: Box("x", 2, box, "imported", None, kept), boxes_xyxy, attributes)
drawn_animals = st.builds(
    lambda points, box, kept: Keypoints("x", 5, points, box, "imported", 0.5, kept),
    st.tuples(joints, joints, joints),
    st.none() | boxes_xyxy,
    attributes,
)
pictures = st.lists(st.lists(drawn_boxes | drawn_animals, max_size=4), max_size=3)


def numbered(pictures: list[list[Shape]]) -> Dataset:
    """The shapes with ids as COCO gives them: one count through the whole file."""
    images: list[ImageLabels] = []
    count = 0
    for index, drawn in enumerate(pictures):
        shapes: list[Shape] = []
        for shape in drawn:
            count += 1
            kind = type(shape)
            values = {name: getattr(shape, name) for name in shape.__dataclass_fields__}
            shapes.append(kind(**{**values, "id": f"coco-{count}"}))
        images.append(ImageLabels(f"ordner {index}/bild@1.jpg", 640, 480, tuple(shapes)))
    return Dataset(SCHEMA, tuple(images))


def read(document: object, folder: Path) -> Dataset:
    path = folder / "labels.json"
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text, encoding="utf-8")
    return COCO.read([path])


def document(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 3, "name": "cell"}],
        **changes,
    }


def annotated(**fields: Any) -> dict[str, Any]:
    return document(annotations=[{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], **fields}])


@settings(max_examples=60, deadline=None)
@given(pictures)
def test_what_is_exported_imports_back_equal(pictures: list[list[Shape]]) -> None:
    dataset = numbered(pictures)
    with TemporaryDirectory() as name:
        losses = COCO.write(dataset, Path(name))
        back = COCO.read([Path(name) / "annotations.json"])

    assert not losses
    assert not back.problems
    assert back.schema.by_id(2) is not None
    assert [(image.file_name, image.width, image.height) for image in back.images] == [
        (image.file_name, image.width, image.height) for image in dataset.images
    ]
    for image, original in zip(back.images, dataset.images, strict=True):
        for shape, expected in zip(image.shapes, original.shapes, strict=True):
            assert not isinstance(shape, Tag)
            assert not isinstance(expected, Tag)
            assert (shape.id, shape.class_id, type(shape)) == (expected.id, expected.class_id, type(expected))
            assert (shape.attributes, shape.score) == (expected.attributes, expected.score)
            assert (shape.xyxy is None) == (expected.xyxy is None)
            assert shape.xyxy is None or shape.xyxy == pytest.approx(expected.xyxy, abs=1e-6)
            if isinstance(shape, Keypoints) and isinstance(expected, Keypoints):
                assert shape.points == expected.points


def test_the_schema_with_edges_and_pairs_comes_back(tmp_path: Path) -> None:
    COCO.write(Dataset(SCHEMA, ()), tmp_path)

    back = COCO.read([tmp_path / "annotations.json"]).schema

    assert [(item.id, item.name, item.skeleton) for item in back.classes] == [
        (item.id, item.name, item.skeleton) for item in SCHEMA.classes if item.kind != "tag"
    ]


def test_tags_and_provenance_are_listed_as_lost(tmp_path: Path) -> None:
    image = ImageLabels("a.jpg", None, None, (Tag("t", 9), Box("b", 2, (0, 0, 1, 1), "human_drawn")))

    losses = COCO.write(Dataset(SCHEMA, (image,)), tmp_path)

    assert losses.items == (("provenance of a shape", 1), ("tag of a whole picture", 1))


def test_category_ids_with_gaps_are_kept(tmp_path: Path) -> None:
    categories = [{"id": 90, "name": "b", "supercategory": "s"}, {"id": 3, "name": "a"}]

    dataset = read(document(categories=categories), tmp_path)

    assert [item.id for item in dataset.schema.classes] == [90, 3]


def test_a_category_zero_shifts_all_and_comes_back_as_zero(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "a", "supercategory": "s"}, {"id": 3, "name": "b"}]
    dataset = read(document(categories=categories), tmp_path)

    assert [item.id for item in dataset.schema.classes] == [1, 4]
    assert dataset.images[0].shapes[0].class_id == 4

    COCO.write(dataset, tmp_path)
    written = json.loads((tmp_path / "annotations.json").read_text())
    assert [(item["id"], item["supercategory"]) for item in written["categories"]] == [(0, "s"), (3, "")]
    assert written["annotations"][0]["category_id"] == 3


def test_a_crowd_keeps_its_box_and_its_mask_is_listed_as_lost(tmp_path: Path) -> None:
    crowd = {"counts": [3, 5], "size": [80, 100]}

    dataset = read(annotated(iscrowd=1, segmentation=crowd, area=7.25), tmp_path)

    (shape,) = dataset.images[0].shapes
    assert shape.attributes == {"iscrowd": True, "area": 7.25}
    assert dataset.losses.items == (("run-length mask", 1),)


def test_area_licence_and_address_survive(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.jpg", "license": 4, "coco_url": "http://example.org/a.jpg"}]
    annotations = [{"id": 12, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 7.123456789}]
    source = document(
        images=images, annotations=annotations, licenses=[{"id": 4, "name": "CC"}], info={"year": 2014}
    )

    COCO.write(read(source, tmp_path), tmp_path)

    written = json.loads((tmp_path / "annotations.json").read_text())
    assert written["annotations"][0]["area"] == 7.123456789
    assert written["annotations"][0]["id"] == 12
    assert written["images"][0]["license"] == 4
    assert written["images"][0]["coco_url"] == "http://example.org/a.jpg"
    assert (written["licenses"], written["info"]) == ([{"id": 4, "name": "CC"}], {"year": 2014})


def test_images_without_annotations_stay_and_so_does_one_name_in_two_folders(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a/x.jpg"}, {"id": 2, "file_name": "b/x.jpg"}]

    dataset = read(document(images=images), tmp_path)

    assert [(image.file_name, len(image.shapes)) for image in dataset.images] == [
        ("a/x.jpg", 1),
        ("b/x.jpg", 0),
    ]


def test_keypoints_take_the_objects_own_box_one_based_edges_and_pairs_by_name(tmp_path: Path) -> None:
    category = {
        "id": 3,
        "name": "person",
        "keypoints": ["nose", "left_eye", "right_eye"],
        "skeleton": [[1, 2], [1, 3]],
    }
    annotations = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 3,
            "bbox": [0, 0, 50, 60],
            "keypoints": [10, 11, 2, 12, 13, 1, 99, 99, 0],
            "num_keypoints": 2,
        }
    ]

    dataset = read(document(categories=[category], annotations=annotations), tmp_path)

    skeleton = dataset.schema.classes[0].skeleton
    assert skeleton is not None
    assert (skeleton.edges, skeleton.pairs) == (((0, 1), (0, 2)), ((1, 2),))
    (shape,) = dataset.images[0].shapes
    assert isinstance(shape, Keypoints)
    assert shape.points == ((10.0, 11.0, 2), (12.0, 13.0, 1), (0.0, 0.0, 0))
    assert shape.xyxy == (0.0, 0.0, 50.0, 60.0)


def test_num_keypoints_counts_the_labelled_ones(tmp_path: Path) -> None:
    shape = Keypoints("k", 5, ((1, 2, 1), (3, 4, 2), (0, 0, 0)), None, "imported")

    COCO.write(Dataset(SCHEMA, (ImageLabels("a.jpg", 9, 9, (shape,)),)), tmp_path)

    (written,) = json.loads((tmp_path / "annotations.json").read_text())["annotations"]
    assert written["num_keypoints"] == 2
    assert written["bbox"] == [1, 2, 2, 2]


def test_ids_as_strings_are_understood(tmp_path: Path) -> None:
    source = document(
        images=[{"id": "7", "file_name": "a.jpg"}],
        annotations=[{"id": "x1", "image_id": 7, "category_id": "3", "bbox": [1, 2, 3, 4]}],
    )

    dataset = read(source, tmp_path)

    assert not dataset.problems
    assert [shape.id for shape in dataset.images[0].shapes] == ["coco-x1"]


def test_a_byte_order_mark_and_windows_line_ends_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(document(), indent=1).replace("\n", "\r\n").encode())

    assert COCO.sniff(path)
    assert len(COCO.read([path]).images[0].shapes) == 1


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ('"bbox": [1, 2, NaN, 4]', "annotations[0].bbox"),
        ('"bbox": [1, 2, Infinity, 4]', "annotations[0].bbox"),
        (f'"bbox": [{"9" * 400}, 2, 3, 4]', "annotations[0].bbox"),
        ('"bbox": [1, 2, 0, 4]', "annotations[0].bbox"),
        ('"bbox": [1, 2, -3, 4]', "annotations[0].bbox"),
        ('"bbox": [1, 2, 3]', "annotations[0].bbox"),
        ('"bbox": ["1", 2, 3, 4]', "annotations[0].bbox"),
        ('"bbox": null', "annotations[0].bbox"),
        ('"bbox": [1, 2, 3, 4], "category_id": 4', "annotations[0].category_id"),
        ('"bbox": [1, 2, 3, 4], "image_id": 5', "annotations[0].image_id"),
        ('"bbox": [1, 2, 3, 4], "score": 7', "annotations[0].score"),
    ],
)
def test_a_bad_annotation_is_named_and_the_others_stay(fields: str, where: str, tmp_path: Path) -> None:
    bad = '{"id": 1, "image_id": 1, "category_id": 3, ' + fields + "}"
    good = '{"id": 2, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}'
    text = json.dumps(document(annotations=[])).replace(
        '"annotations": []', f'"annotations": [{bad}, {good}]'
    )

    dataset = read(text, tmp_path)

    (problem,) = dataset.problems
    assert problem.file == "labels.json"
    assert problem.field.startswith(where)
    assert [shape.id for shape in dataset.images[0].shapes] == ["coco-2"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "must be an object"),
        ('{"annotations": []}', "images: must be a list"),
        ('{"images": [1]}', r"images\[0\]: must be an object"),
        ('{"images": [],\n "annotations": [}', "line 2: is not JSON"),
        ('{"images": [{"id": ' + "[" * 200_000, "nested too deeply"),
        ('{"images": [], "categories": [{"id": 1.5, "name": "a"}]}', r"categories\[0\].id"),
        ('{"images": [], "categories": [{"id": 1, "name": ""}]}', r"classes\[0\].name"),
    ],
)
def test_an_unusable_file_is_refused_with_the_place(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        read(text, tmp_path)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_bytes('{"images": "ö"}'.encode("latin-1"))

    with pytest.raises(UnreadableFileError, match="UTF-8"):
        COCO.read([tmp_path / "labels.json"])


def test_ten_thousand_objects_in_one_image_are_read(tmp_path: Path) -> None:
    annotations = [{"id": n, "image_id": 1, "category_id": 3, "bbox": [n, 2, 3, 4]} for n in range(10_000)]

    assert len(read(document(annotations=annotations), tmp_path).images[0].shapes) == 10_000
