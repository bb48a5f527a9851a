import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from ml import synthetic


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    synthetic.draw(folder, count=30, seed=0)
    return folder


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def test_the_same_seed_draws_the_same_pictures(drawn: Path, tmp_path: Path) -> None:
    synthetic.draw(tmp_path / "again", count=30, seed=0)
    assert digest(tmp_path / "again") == digest(drawn)
    synthetic.draw(tmp_path / "other", count=30, seed=1)
    assert digest(tmp_path / "other") != digest(drawn)


def test_more_pictures_begin_with_the_same_ones(drawn: Path, tmp_path: Path) -> None:
    synthetic.draw(tmp_path, count=2, seed=0)
    for name in ("0001.jpg", "0002.jpg"):
        assert (tmp_path / "images" / name).read_bytes() == (drawn / "images" / name).read_bytes()


def test_labels_lie_in_their_pictures_and_joints_in_their_boxes(drawn: Path) -> None:
    labels = json.loads((drawn / "labels.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in labels["images"]}
    for image in labels["images"]:
        with Image.open(drawn / "images" / image["file_name"]) as picture:
            assert picture.size == sizes[image["id"]]
    for item in labels["annotations"]:
        x, y, width, height = item["bbox"]
        right, bottom = sizes[item["image_id"]]
        assert x >= 0
        assert y >= 0
        assert x + width <= right + 0.01
        assert y + height <= bottom + 0.01
        assert width > 4
        assert height > 4
        joints = item.get("keypoints", [])
        assert item.get("num_keypoints", 0) == sum(value > 0 for value in joints[2::3])
        for jx, jy, visible in zip(joints[::3], joints[1::3], joints[2::3], strict=True):
            if visible:
                assert x - 0.01 <= jx <= x + width + 0.01
                assert y - 0.01 <= jy <= y + height + 0.01


def test_every_class_occurs_and_tents_are_rare(drawn: Path) -> None:
    labels = json.loads((drawn / "labels.json").read_text())
    counts = Counter(item["category_id"] for item in labels["annotations"])
    assert set(counts) == {1, 2, 3, 4}
    assert counts[3] == min(counts.values())
    assert len({item["id"] for item in labels["annotations"]}) == len(labels["annotations"])


def test_the_skeleton_is_counted_from_one_and_its_left_is_the_viewers_right(drawn: Path) -> None:
    labels = json.loads((drawn / "labels.json").read_text())
    [figure] = [item for item in labels["categories"] if "keypoints" in item]
    names = figure["keypoints"]
    assert {joint for edge in figure["skeleton"] for joint in edge} == set(range(1, len(names) + 1))
    left, right = names.index("left elbow"), names.index("right elbow")
    for item in labels["annotations"]:
        joints = item.get("keypoints")
        if joints and joints[3 * left + 2] and joints[3 * right + 2]:
            assert joints[3 * left] > joints[3 * right]


def test_pictures_of_another_size_fill_it(tmp_path: Path) -> None:
    labels = synthetic.draw(tmp_path, count=2, seed=0, size=(128, 128))
    assert {(image["width"], image["height"]) for image in labels["images"]} == {(128, 128)}
    with Image.open(tmp_path / "images" / "0001.jpg") as picture:
        assert picture.size == (128, 128)
