"""Real sets as snapshot folders: labels read by the product's own importer, splits that never change."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flywheel.config.settings")
django.setup()

from PIL import Image as Pillow  # noqa: E402  (after django.setup)

from flywheel import translate  # noqa: E402
from labeling.formats import inspect  # noqa: E402
from labeling.models import Image  # noqa: E402
from ml import synthetic  # noqa: E402
from ml.schema import DetectedClass, Example, Split, write_labels  # noqa: E402

SETS: Final = os.environ.get("LABEL_SETS", "")
"""Where the real sets lie, each in a folder of its own name."""
OPENFIELD_TEST: Final = 26


class NoSuchSet(Exception):
    """The folder of a set is not there; the message names it."""


@dataclass(frozen=True, slots=True)
class RealSet:
    """Pictures with their labels; `train` and `test` are fixed. `paths` maps a picture's sha256 to its file."""

    name: str
    classes: tuple[DetectedClass, ...]
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    paths: Mapping[str, Path]
    symmetry: str

    def snapshot(
        self, folder: Path, *, train: Sequence[Example] | None = None, val: Sequence[Example] = ()
    ) -> Path:
        """Writes a snapshot folder, of all train pictures if none are named; the test pictures are its gold."""
        chosen = [replace(item, split="train") for item in (self.train if train is None else train)]
        examples = [*chosen, *(replace(item, split="val") for item in val), *self.test]
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for item in examples:
            link = folder / "images" / item.sha256
            if not link.exists():
                link.symlink_to(self.paths[item.sha256])
        manifest, labels = write_labels(classes=self.classes, examples=examples, about={"set": self.name})
        (folder / "manifest.json").write_bytes(manifest)
        (folder / "labels.jsonl").write_bytes(labels)
        return folder


def bccd(sets: Path) -> RealSet:
    """Blood cells: 292 train and val pictures to learn from, the 72 test pictures of its own split."""
    folder = _there(sets / "bccd" / "BCCD")
    test = set((folder / "ImageSets" / "Main" / "test.txt").read_text().split())
    return _read("bccd", folder, lambda path, _: path.stem in test, symmetry="any")


def openfield(sets: Path) -> RealSet:
    """A mouse with four joints: the 26 test frames are those with the lowest hash of their names."""
    folder = _there(sets / "dlc_openfield")
    frames = sorted(path.name for path in folder.glob("labeled-data/**/*.png"))
    test = set(sorted(frames, key=lambda name: hashlib.sha256(name.encode()).digest())[:OPENFIELD_TEST])
    return _read("openfield", folder, lambda path, _: path.name in test, symmetry="upright")


def microcontrollers(sets: Path) -> RealSet:
    """Four boards: its own test split has 7 pictures, so every fifth of the others by hash is tested on too."""
    folder = _there(sets / "microcontrollers" / "images")

    def is_test(path: Path, split: str | None) -> bool:
        return split == "test" or hashlib.sha256(path.name.encode()).digest()[0] % 5 == 0

    return _read("microcontrollers", folder, is_test, symmetry="upright")


def drawn(folder: Path) -> RealSet:
    """Pictures that the product draws itself, for where a mistake in the pipeline must show on more than one set."""
    if not (folder / "labels.json").exists():
        synthetic.draw(folder, count=120, seed=3)
    return _read("drawn", folder, lambda path, _: int(path.stem) % 3 == 0, symmetry="upright")


def _there(folder: Path) -> Path:
    if not folder.is_dir():
        raise NoSuchSet(f"there is no {folder.name} in the folder of sets (environment variable LABEL_SETS)")
    return folder


def _read(name: str, folder: Path, is_test: Callable[[Path, str | None], bool], *, symmetry: str) -> RealSet:
    plan = inspect(folder)
    known = {item.id for item in plan.schema.classes}
    train: list[Example] = []
    test: list[Example] = []
    paths: dict[str, Path] = {}
    for picture in sorted(plan.pictures, key=lambda item: item.path):
        if picture.labels is None:
            continue
        path = folder / picture.path
        content = path.read_bytes()
        with Pillow.open(path) as opened:
            width, height = opened.size
        sha256 = hashlib.sha256(content).hexdigest()
        split: Split = "gold" if is_test(path, picture.split) else "train"
        example = translate.example(
            image=Image(sha256=sha256, width=width, height=height),
            shapes=picture.labels.shapes,
            known_classes=known,
            split=split,
            group="",
        )
        paths[sha256] = path
        (test if split == "gold" else train).append(example)
    return RealSet(name, translate.classes(plan.schema), _once(train), _once(test), paths, symmetry)


def _once(examples: Iterable[Example]) -> tuple[Example, ...]:
    return tuple({item.sha256: item for item in examples}.values())
