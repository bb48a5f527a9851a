"""What a folder holds: its pictures, the labels of each, and which are set apart as test."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeAlias, cast

from labeling.formats.base import Dataset, Format, ImageLabels, Problem, UnreadableFileError, relative_path
from labeling.formats.coco import Coco
from labeling.formats.dlc import Dlc
from labeling.formats.report import LossReport
from labeling.formats.voc import Voc, read_splits
from labeling.schema import COLORS, LabelClass, Schema
from labeling.shapes import Shape

PICTURE_SUFFIXES: Final = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
LABEL_SUFFIXES: Final = {".json", ".xml", ".csv"}
MAX_FILES: Final = 1_000_000

Split: TypeAlias = Literal["train", "val", "test"]
FOLDER_SPLITS: Final[Mapping[str, Split]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "gold": "test",
}

FORMATS: Final[Mapping[str, Format]] = {item.name: item for item in (Coco(), Voc(), Dlc())}
"""The formats by name. A new one is a class with `Format`'s functions and a place in this line."""


@dataclass(frozen=True, slots=True)
class PlannedPicture:
    """A picture of the folder; `labels` is nothing where no label file speaks of it."""

    path: PurePosixPath
    labels: ImageLabels | None
    split: Split | None


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """What an import of the folder would bring; `formats` counts the label files of each format."""

    pictures: tuple[PlannedPicture, ...]
    schema: Schema
    formats: Mapping[str, int]
    problems: tuple[Problem, ...]
    losses: LossReport
    extras: Mapping[str, Mapping[str, Any]]


def inspect(folder: Path, formats: Mapping[str, Format] = FORMATS) -> FolderPlan:
    """Reads all label files under the folder and finds each one's picture; links are not followed.

    A file that cannot be read at all is a problem in the list, and so are labels without a picture or with
    several that they could mean. Raises `ValueError` if the folder holds more than `MAX_FILES` files.
    """
    files = _files(folder)
    pictures = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
    finder = _Finder(pictures)
    problems: list[Problem] = []
    datasets: list[Dataset] = []
    counts: Counter[str] = Counter()
    for name, label_file in _labelled(folder, files, formats):
        try:
            dataset = formats[name].read([folder / label_file])
        except UnreadableFileError as error:
            problems.append(replace(error.problem, file=label_file.as_posix()))
            continue
        counts[name] += 1
        datasets.append(_from_file(dataset, label_file.as_posix()))
    joined = join(datasets)
    problems.extend(joined.problems)
    labels: dict[PurePosixPath, ImageLabels] = {}
    for image in joined.images:
        found = finder.find(image)
        if isinstance(found, str):
            problems.append(Problem(image.source, None, image.file_name, found))
        else:
            labels[found] = _with_more(labels[found], image) if found in labels else image
    splits: dict[str, str] = {}
    for path in sorted({path.parent for path in files if path.parts[-3:-1] == ("ImageSets", "Main")}):
        splits.update(read_splits(folder / path))
    return FolderPlan(
        pictures=tuple(
            PlannedPicture(path, labels.get(path), _split(path, labels.get(path), splits))
            for path in pictures
        ),
        schema=joined.schema,
        formats=dict(counts),
        problems=tuple(problems),
        losses=joined.losses,
        extras=joined.extras,
    )


def join(datasets: Sequence[Dataset]) -> Dataset:
    """Data sets as one: classes of the same name and kind become one class.

    A class keeps its id where it is free, else it gets the next; two classes of one name and different kinds
    (a person's box, a person's joints) stay apart, the later with its kind behind its name. Several label
    files of one picture remain several entries.
    """
    classes: dict[tuple[str, str, object], LabelClass] = {}
    images: list[ImageLabels] = []
    extras: dict[str, Mapping[str, Any]] = {}
    for dataset in datasets:
        renumbered: dict[int, int] = {}
        for item in dataset.schema.classes:
            key = (item.name, item.kind, item.skeleton and item.skeleton.joints)
            if key not in classes:
                classes[key] = _apart(item, classes.values())
            renumbered[item.id] = classes[key].id
        images.extend(
            replace(image, shapes=tuple(_with_class(shape, renumbered) for shape in image.shapes))
            for image in dataset.images
        )
        if len(datasets) == 1:
            extras = dict(dataset.extras)
    return Dataset(
        schema=Schema(tuple(classes.values())),
        images=tuple(images),
        problems=tuple(problem for dataset in datasets for problem in dataset.problems),
        losses=sum((dataset.losses for dataset in datasets), LossReport()),
        extras=extras,
    )


class _Finder:
    """Finds the picture that a label file means."""

    def __init__(self, pictures: Sequence[PurePosixPath]) -> None:
        self.pictures = set(pictures)
        self.by_name: dict[str, list[PurePosixPath]] = {}
        self.by_stem: dict[str, list[PurePosixPath]] = {}
        for path in pictures:
            self.by_name.setdefault(path.name, []).append(path)
            self.by_stem.setdefault(path.stem, []).append(path)

    def find(self, image: ImageLabels) -> PurePosixPath | str:
        """The picture, or why there is none: by path from a folder around the labels, by name, by stem."""
        named = relative_path(image.file_name)
        if not named.name:
            return "is no picture's name"
        source = PurePosixPath(image.source)
        for parent in source.parents:
            for path in (parent / named, parent / named.name):
                if path in self.pictures:
                    return path
        same_name = self.by_name.get(named.name, [])
        same_end = [path for path in same_name if path.parts[-len(named.parts) :] == named.parts]
        for candidates in (same_end, same_name):
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                return f"could be {len(candidates)} pictures, like {candidates[0]} and {candidates[1]}"
        # a picture that was converted, or a name written without its ending
        stems = {named.stem, named.name, source.stem} if source.suffix == ".xml" else {named.stem, named.name}
        same_stem = sorted({path for stem in stems for path in self.by_stem.get(stem, [])})
        beside = [path for path in same_stem if path.parent == source.parent]
        for candidates in (beside, same_stem):
            if len(candidates) == 1:
                return candidates[0]
        return "could be several pictures" if same_stem else "is no picture in this folder"


def _files(folder: Path) -> list[PurePosixPath]:
    found: list[PurePosixPath] = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            relative = PurePosixPath(path.relative_to(folder).as_posix())
            if not any(part.startswith(".") or part == "__MACOSX" for part in relative.parts):
                found.append(relative)
        if len(found) > MAX_FILES:
            raise ValueError(f"more than {MAX_FILES} files in one folder")
    return sorted(found)


def _labelled(
    folder: Path, files: Iterable[PurePosixPath], formats: Mapping[str, Format]
) -> list[tuple[str, PurePosixPath]]:
    return [
        (name, path)
        for path in files
        if path.suffix.lower() in LABEL_SUFFIXES
        for name in [next((name for name, item in formats.items() if item.sniff(folder / path)), None)]
        if name is not None
    ]


def _from_file(dataset: Dataset, label_file: str) -> Dataset:
    """The data set with the label file's path in the folder for its bare name."""
    return replace(
        dataset,
        images=tuple(replace(image, source=label_file) for image in dataset.images),
        problems=tuple(replace(problem, file=label_file) for problem in dataset.problems),
    )


def _apart(item: LabelClass, others: Iterable[LabelClass]) -> LabelClass:
    taken = list(others)
    ids, names = {other.id for other in taken}, {other.name for other in taken}
    name = item.name
    if name in names:
        name = f"{item.name} ({item.kind})"
    number = 2
    while name in names:
        name = f"{item.name} ({item.kind} {number})"
        number += 1
    used = {other.color for other in taken}
    free = [color for color in (item.color, *COLORS) if color not in used]
    return replace(
        item,
        id=item.id if item.id not in ids else max(ids) + 1,
        name=name,
        color=free[0] if free else COLORS[len(taken) % len(COLORS)],
    )


def _with_class(shape: Shape, renumbered: Mapping[int, int]) -> Shape:
    return replace(shape, class_id=renumbered[shape.class_id])


def _with_more(image: ImageLabels, more: ImageLabels) -> ImageLabels:
    """One picture's labels from two files; a shape id that occurs in both gets its file's name behind."""
    used = {shape.id for shape in image.shapes}
    added = []
    for shape in more.shapes:
        identity, number = shape.id, 2
        while identity in used:
            identity, number = f"{shape.id}-{number}", number + 1
        used.add(identity)
        added.append(replace(shape, id=identity))
    return replace(
        image,
        width=image.width if image.width is not None else more.width,
        height=image.height if image.height is not None else more.height,
        shapes=(*image.shapes, *added),
        attributes={**more.attributes, **image.attributes},
    )


def _split(path: PurePosixPath, labels: ImageLabels | None, splits: Mapping[str, str]) -> Split | None:
    stems = [path.stem] if labels is None else [path.stem, PurePosixPath(labels.source).stem]
    for stem in stems:
        if stem in splits:
            return cast(Split, splits[stem])
    for part in reversed(path.parts[:-1]):
        if part.casefold() in FOLDER_SPLITS:
            return FOLDER_SPLITS[part.casefold()]
    return None
