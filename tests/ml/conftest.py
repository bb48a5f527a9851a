"""A small snapshot of drawn pictures, and a model that was trained on it for a few seconds."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from ml import synthetic
from ml.schema import DetectedClass, Example, Object, Point, write_labels
from ml.train import Fitted, TrainConfig, fit

TINY = TrainConfig(steps=24, batch=4, side=96, threads=1, warmup=4, checkpoint_steps=10, learning_rate=3e-3)


def write_snapshot(
    folder: Path,
    classes: Sequence[DetectedClass],
    pictures: Sequence[tuple[bytes, Example]],
) -> Path:
    (folder / "images").mkdir(parents=True)
    for content, example in pictures:
        (folder / "images" / example.sha256).write_bytes(content)
    manifest, labels = write_labels(
        classes=classes, examples=[example for _, example in pictures], about={"project": "test"}
    )
    (folder / "manifest.json").write_bytes(manifest)
    (folder / "labels.jsonl").write_bytes(labels)
    return folder


def drawn_pictures(folder: Path, count: int) -> tuple[list[DetectedClass], list[tuple[bytes, Example]]]:
    """The first two thirds train, the rest is val."""
    drawn = synthetic.draw(folder, count=count, seed=3)
    classes = [
        DetectedClass(
            category["id"],
            category["name"],
            tuple(category.get("keypoints", ())),
            tuple((a - 1, b - 1) for a, b in category.get("skeleton", ())),
            (0, 1, 4, 5, 2, 3, 7, 6) if "keypoints" in category else (),
        )
        for category in drawn["categories"]
    ]
    pictures = []
    for image in drawn["images"]:
        content = (folder / "images" / image["file_name"]).read_bytes()
        objects = []
        for annotation in drawn["annotations"]:
            if annotation["image_id"] == image["id"]:
                x, y, width, height = annotation["bbox"]
                raw = annotation.get("keypoints", [])
                points: tuple[Point, ...] = tuple(
                    (raw[i], raw[i + 1], raw[i + 2]) for i in range(0, len(raw), 3)
                )
                objects.append(Object(annotation["category_id"], (x, y, x + width, y + height), points))
        example = Example(
            hashlib.sha256(content).hexdigest(),
            image["width"],
            image["height"],
            "train" if image["id"] <= 2 * count / 3 else "val",
            tuple(objects),
        )
        pictures.append((content, example))
    return classes, pictures


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    classes, pictures = drawn_pictures(folder / "source", 12)
    return write_snapshot(folder / "snapshot", classes, pictures)


@pytest.fixture(scope="session")
def fitted(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return fit(snapshot, tmp_path_factory.mktemp("model"), config=TINY, code_version="abc")
