import json
from collections import Counter
from pathlib import Path

import pytest

from labeling.formats import FolderPlan, inspect

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def put(folder: Path, path: str, text: str = "") -> None:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def coco(*file_names: str) -> str:
    return json.dumps(
        {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(file_names)],
            "annotations": [
                {"id": number, "image_id": number, "category_id": 1, "bbox": [number, 0, 5, 5]}
                for number in range(len(file_names))
            ],
            "categories": [{"id": 1, "name": "cell"}],
        }
    )


def voc(name: str, *classes: str) -> str:
    objects = "".join(
        f"<object><name>{item}</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>"
        for item in classes
    )
    return f"<annotation><filename>{name}</filename>{objects}</annotation>"


def labelled(plan: FolderPlan) -> dict[str, int | None]:
    return {
        picture.path.as_posix(): None if picture.labels is None else len(picture.labels.shapes)
        for picture in plan.pictures
    }


def test_pictures_without_labels_are_planned_without(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.png", "c.webp", "notes.txt", ".hidden.png", "__MACOSX/a.jpg"):
        put(tmp_path, name)

    assert labelled(inspect(tmp_path)) == {"a.JPG": None, "b.png": None, "c.webp": None}


def test_labels_find_their_picture_by_path_then_by_name_then_by_stem(tmp_path: Path) -> None:
    for name in ("train/x.jpg", "val/x.jpg", "deep/down/y.jpg", "z.png"):
        put(tmp_path, name)
    put(tmp_path, "annotations/all.json", coco("val/x.jpg", "y.jpg", "z.jpg"))

    plan = inspect(tmp_path)

    assert labelled(plan) == {"deep/down/y.jpg": 1, "train/x.jpg": None, "val/x.jpg": 1, "z.png": 1}
    assert not plan.problems
    assert plan.formats == {"coco": 1}


def test_a_name_that_could_be_two_pictures_is_a_problem_and_so_is_one_that_is_none(tmp_path: Path) -> None:
    for name in ("one/x.jpg", "two/x.jpg"):
        put(tmp_path, name)
    put(tmp_path, "labels.json", coco("x.jpg", "nowhere.jpg"))

    plan = inspect(tmp_path)

    assert labelled(plan) == {"one/x.jpg": None, "two/x.jpg": None}
    assert [(problem.file, problem.field) for problem in plan.problems] == [
        ("labels.json", "x.jpg"),
        ("labels.json", "nowhere.jpg"),
    ]


def test_classes_of_many_files_are_joined_by_name_with_their_own_colours(tmp_path: Path) -> None:
    for number, classes in enumerate((["b"], ["a", "b"], [])):
        put(tmp_path, f"{number}.jpg")
        put(tmp_path, f"{number}.xml", voc(f"{number}.jpg", *classes))

    plan = inspect(tmp_path)

    assert [item.name for item in plan.schema.classes] == ["b", "a"]
    assert len({item.color for item in plan.schema.classes}) == 2
    assert labelled(plan) == {"0.jpg": 1, "1.jpg": 2, "2.jpg": 0}
    second = list(plan.pictures)[1].labels
    assert second is not None
    names = [plan.schema.by_id(shape.class_id) for shape in second.shapes]
    assert [item.name for item in names if item is not None] == ["a", "b"]


def test_two_label_files_of_one_picture_are_put_together_with_unique_ids(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    put(tmp_path, "one.json", coco("a.jpg"))
    put(tmp_path, "two.json", coco("a.jpg"))

    (picture,) = inspect(tmp_path).pictures

    assert picture.labels is not None
    assert [shape.id for shape in picture.labels.shapes] == ["coco-0", "coco-0-2"]


def test_splits_come_from_image_sets_or_from_the_folders_name(tmp_path: Path) -> None:
    for name in ("voc/JPEGImages/a.jpg", "voc/JPEGImages/b.jpg", "test/c.jpg", "d.jpg"):
        put(tmp_path, name)
    put(tmp_path, "voc/ImageSets/Main/train.txt", "a\n")
    put(tmp_path, "voc/ImageSets/Main/test.txt", "b\n")

    assert {item.path.name: item.split for item in inspect(tmp_path).pictures} == {
        "a.jpg": "train",
        "b.jpg": "test",
        "c.jpg": "test",
        "d.jpg": None,
    }


def test_a_broken_label_file_is_a_problem_and_the_others_are_read(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    put(tmp_path, "sub/broken.json", '{"images": [')
    put(tmp_path, "good.json", coco("a.jpg"))

    plan = inspect(tmp_path)

    assert labelled(plan) == {"a.jpg": 1}
    assert [(problem.file, problem.line) for problem in plan.problems] == [("sub/broken.json", 1)]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "outside/secret.jpg")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "a.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
    (tmp_path / "inside" / "more").symlink_to(tmp_path / "outside")

    assert list(inspect(tmp_path / "inside").pictures) == []


@pytest.mark.skipif(not (DATA / "bccd").is_dir(), reason="the bccd data set is not here")
def test_bccd_is_read_whole_but_for_its_two_boxes_without_area() -> None:
    plan = inspect(DATA / "bccd")

    assert len(plan.pictures) == 364
    assert sum(count or 0 for count in labelled(plan).values()) == 4_886
    assert Counter(item.split for item in plan.pictures) == {"train": 205, "val": 87, "test": 72}
    assert [(Path(problem.file).stem, problem.line) for problem in plan.problems] == [
        ("BloodImage_00338", 163),
        ("BloodImage_00343", 55),
    ]


@pytest.mark.skipif(
    not (DATA / "microcontrollers").is_dir(), reason="the microcontrollers data set is not here"
)
def test_microcontrollers_labels_lie_beside_their_pictures() -> None:
    plan = inspect(DATA / "microcontrollers")

    assert sum(count or 0 for count in labelled(plan).values()) == 177
    assert Counter(item.split for item in plan.pictures) == {"train": 142, "test": 7}
    assert not plan.problems


@pytest.mark.skipif(not (DATA / "dlc_openfield").is_dir(), reason="the dlc_openfield data set is not here")
def test_openfields_mouse_has_four_joints_in_every_picture() -> None:
    plan = inspect(DATA / "dlc_openfield")

    assert set(labelled(plan).values()) == {1}
    (mouse,) = plan.schema.classes
    assert mouse.skeleton is not None
    assert mouse.skeleton.joints == ("snout", "leftear", "rightear", "tailbase")
    assert mouse.skeleton.pairs == ((1, 2),)
