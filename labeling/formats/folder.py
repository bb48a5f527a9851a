"""What a folder holds: its pictures, the labels of each, and which are set apart as test."""

import json
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeAlias, cast

from labeling.formats.base import (
    Dataset,
    Format,
    ImageLabels,
    LabelStream,
    Problem,
    ProblemList,
    UnreadableFileError,
    relative_path,
    restored,
    storable,
)
from labeling.formats.coco import Coco
from labeling.formats.dlc import Dlc
from labeling.formats.jsonl import Jsonl
from labeling.formats.report import LossReport
from labeling.formats.voc import Voc, read_splits
from labeling.schema import COLORS, LabelClass, Schema
from labeling.shapes import Shape, dump_list, parse_list

PICTURE_SUFFIXES: Final = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
LABEL_SUFFIXES: Final = {".json", ".jsonl", ".xml", ".csv"}
MAX_FILES: Final = 5_000_000

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

FORMATS: Final[Mapping[str, Format]] = {item.name: item for item in (Jsonl(), Coco(), Voc(), Dlc())}
"""The formats by name. A new one is a class with `Format`'s functions and a place in this line."""


@dataclass(frozen=True, slots=True)
class PlannedPicture:
    """A picture to take; `labels` is nothing where no label file speaks of it.

    `position` grows from picture to picture and is the same whenever the same files are planned. `known` names
    a picture that the caller has already, which no file of this folder holds.
    """

    path: PurePosixPath
    labels: ImageLabels | None
    split: Split | None
    position: int = 0
    known: int | None = None


Known: TypeAlias = Callable[[], Iterable[tuple[int, str, str]]]
"""The pictures that the caller has already: number, name and sha256."""


class FolderPlan:
    """What an import of the folder would bring; `formats` counts the label files of each format.

    The plan lies in a temporary database, so that memory does not grow with the folder.
    """

    def __init__(self, known: Known | None = None) -> None:
        self.schema = Schema(())
        self.formats: dict[str, int] = {}
        self.problems = ProblemList()
        self.losses = LossReport()
        self.extras: Mapping[str, Mapping[str, Any]] = {}
        self.splits: dict[str, str] = {}
        self._rows = sqlite3.connect("", isolation_level=None)  # SQLite's own file: gone with the connection
        weakref.finalize(self, self._rows.close)
        self._rows.executescript(_TABLES)
        self._known = known
        self._known_are_rows = False

    @property
    def pictures(self) -> "Pictures":
        """First those with labels, in the order of the label files, then the others by path."""
        return Pictures(self)

    def after(self, position: int) -> Iterator[PlannedPicture]:
        """The pictures behind a position."""
        rows = self._rows.execute(
            "SELECT id, path, position, known FROM picture WHERE position > ? ORDER BY position", [position]
        )
        for number, named, at, known in rows:
            path = PurePosixPath(restored(named))
            labels = self._labels(number)
            yield PlannedPicture(path, labels, _split(path, labels, self.splits), at, known)

    def __len__(self) -> int:
        (count,) = self._rows.execute("SELECT count(*) FROM picture WHERE position IS NOT NULL").fetchone()
        return int(count)

    def _labels(self, number: int) -> ImageLabels | None:
        labels: ImageLabels | None = None
        for facts, drawn in self._rows.execute(
            "SELECT facts, shapes FROM label WHERE picture = ? ORDER BY id", [number]
        ):
            file_name, width, height, source, attributes, sha256, gold = json.loads(facts)
            shapes = parse_list(json.loads(drawn))
            more = ImageLabels(file_name, width, height, shapes, source, attributes, sha256, gold)
            labels = more if labels is None else _with_more(labels, more)
        return labels

    def _add_pictures(self, pictures: Iterable[tuple[str, str]]) -> None:
        self._rows.executemany(
            "INSERT INTO picture (path, name, stem, sha256) VALUES (?, ?, ?, ?)",
            (
                (storable(path), storable(pure.name), storable(pure.stem), sha256)
                for path, sha256 in pictures
                for pure in [PurePosixPath(path)]
            ),
        )

    def _add_labels(self, image: ImageLabels) -> None:
        """Keeps a picture's labels with the picture that they mean, or a problem."""
        found = self._find(image)
        if isinstance(found, str):
            self.problems.append(Problem(image.source, None, image.file_name, found))
            return
        facts = [
            image.file_name, image.width, image.height, image.source, dict(image.attributes), image.sha256,
            image.gold,
        ]  # fmt: skip
        added = self._rows.execute(
            "INSERT INTO label (picture, facts, shapes) VALUES (?, ?, ?)",
            [found, json.dumps(facts), json.dumps(dump_list(image.shapes))],
        )
        self._rows.execute(
            "UPDATE picture SET position = ? WHERE id = ? AND position IS NULL", [added.lastrowid, found]
        )

    def _find(self, image: ImageLabels) -> int | str:
        """The picture that a label file means, or why there is none: among the files, then among the known."""
        found = self._find_among(image, known=False)
        if isinstance(found, int) or self._known is None:
            return found
        if not self._known_are_rows:
            self._take_in(self._known)
            self._known_are_rows = True
        elsewhere = self._find_among(image, known=True)
        if isinstance(elsewhere, str) and elsewhere == NOWHERE:
            return f"{found}, nor in the project" if found == NOWHERE else found
        return elsewhere

    def _take_in(self, known: Known) -> None:
        self._rows.executemany(
            "INSERT INTO picture (path, name, stem, sha256, known) VALUES (?, ?, ?, ?, ?)",
            (
                (storable(name), storable(pure.name), storable(pure.stem), sha256, number)
                for number, name, sha256 in known()
                for pure in [PurePosixPath(name)]
            ),
        )

    def _find_among(self, image: ImageLabels, *, known: bool) -> int | str:
        """By sha256, by path from a folder around the labels, by name, by stem."""
        if image.sha256:
            found = self._where("sha256", image.sha256, known)
            if found:
                return found[0][0]
        named = relative_path(image.file_name)
        if not named.name:
            return "is no picture's name"
        source = PurePosixPath(image.source)
        for parent in source.parents:
            for path in (parent / named, parent / named.name):
                found = self._where("path", path.as_posix(), known)
                if len(found) == 1:
                    return found[0][0]
        same_name = self._where("name", named.name, known)
        same_end = [item for item in same_name if item[1].parts[-len(named.parts) :] == named.parts]
        for candidates in (same_end, same_name):
            if len(candidates) == 1:
                return candidates[0][0]
            if candidates:
                first, second = candidates[0][1], candidates[1][1]
                return f"could be several pictures, like {first} and {second}"
        # a picture that was converted, or a name written without its ending
        stems = {named.stem, named.name, source.stem} if source.suffix == ".xml" else {named.stem, named.name}
        same_stem = sorted({item for stem in stems for item in self._where("stem", stem, known)})
        beside = [item for item in same_stem if item[1].parent == source.parent]
        for candidates in (beside, same_stem):
            if len(candidates) == 1:
                return candidates[0][0]
        return "could be several pictures" if same_stem else NOWHERE

    def _where(self, column: str, value: str, known: bool) -> list[tuple[int, PurePosixPath]]:
        """At most a few pictures: two are as good as more, to say that there is not just one."""
        rows = self._rows.execute(_WHERE[column], [storable(value), known])
        return [(number, PurePosixPath(restored(path))) for number, path in rows]

    def _take_file(self, stream: LabelStream, label_file: str, joiner: "_Joiner") -> None:
        """A label file's pictures, all or, if it cannot be read to its end, none."""
        before = joiner.copy()
        at = len(self.problems.items), self.problems.more, self._known_are_rows
        self._rows.execute("SAVEPOINT file")
        try:
            renumbered = joiner.take(stream.schema)
            for image in stream.images():
                shapes = tuple(_with_class(shape, renumbered) for shape in image.shapes)
                self._add_labels(replace(image, source=label_file, shapes=shapes))
        except UnreadableFileError as error:
            self._rows.execute("ROLLBACK TO file")
            joiner.restore(before)
            del self.problems.items[at[0] :]
            self.problems.more, self._known_are_rows = at[1], at[2]
            self.problems.append(replace(error.problem, file=label_file))
            return
        finally:
            self._rows.execute("RELEASE file")
        self.problems.extend(
            (replace(problem, file=label_file) for problem in stream.problems), stream.problems.more
        )
        self.losses = self.losses + stream.losses.report()

    def _close(self, joiner: "_Joiner") -> None:
        self.schema = joiner.schema()
        self._rows.execute(
            "UPDATE picture SET position = ? + id WHERE position IS NULL AND known IS NULL", [_UNLABELLED]
        )


class Pictures:
    """A plan's pictures: as often as they are asked for, never all in memory."""

    def __init__(self, plan: FolderPlan) -> None:
        self.plan = plan

    def __iter__(self) -> Iterator[PlannedPicture]:
        return self.plan.after(0)

    def __len__(self) -> int:
        return len(self.plan)


NOWHERE: Final = "is no picture in this folder"
_UNLABELLED: Final = 10**15
"""Positions of pictures without labels begin here."""
_SELECT: Final = "SELECT id, path FROM picture WHERE"
_REST: Final = "AND (known IS NOT NULL) = ? ORDER BY path LIMIT 100"
_WHERE: Final = {name: f"{_SELECT} {name} = ? {_REST}" for name in ("sha256", "path", "name", "stem")}
_WITH_SUFFIX: Final = "SELECT path FROM found WHERE suffix IN (SELECT value FROM json_each(?)) ORDER BY path"
_TABLES: Final = """
    PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; PRAGMA cache_size = -16000;
    CREATE TABLE picture (id INTEGER PRIMARY KEY, path TEXT, name TEXT, stem TEXT, sha256 TEXT,
                          known INTEGER, position INTEGER);
    CREATE TABLE label (id INTEGER PRIMARY KEY, picture INTEGER, facts TEXT, shapes TEXT);
    CREATE TABLE label_file (path TEXT, format TEXT);
    CREATE INDEX picture_path ON picture (path);
    CREATE INDEX picture_name ON picture (name);
    CREATE INDEX picture_stem ON picture (stem);
    CREATE INDEX picture_sha256 ON picture (sha256) WHERE sha256 <> '';
    CREATE INDEX picture_position ON picture (position);
    CREATE INDEX label_picture ON label (picture);
"""


def inspect(
    folder: Path,
    formats: Mapping[str, Format] = FORMATS,
    *,
    pictures: Iterable[tuple[str, str]] | None = None,
    known: Known | None = None,
) -> FolderPlan:
    """Reads all label files under the folder and finds each one's picture; links are not followed.

    `pictures`, each with its path and sha256 and in the order of the paths, are those that lie elsewhere; without
    them they are looked for in the folder. `known` pictures are those that labels may mean beside.

    A file that cannot be read at all is a problem in the list, and so are labels without a picture or with
    several that they could mean. Raises `ValueError` if the folder holds more than `MAX_FILES` files.
    """
    plan = FolderPlan(known)
    rows = plan._rows
    rows.execute("BEGIN")
    rows.execute("CREATE TEMP TABLE found (path TEXT, suffix TEXT)")
    rows.executemany("INSERT INTO found VALUES (?, ?)", _files(folder))
    if pictures is None:
        paths = rows.execute(_WITH_SUFFIX, [json.dumps(sorted(PICTURE_SUFFIXES))])
        plan._add_pictures((restored(path), "") for (path,) in paths)
    else:
        plan._add_pictures(pictures)
    for (path,) in rows.execute("SELECT path FROM found WHERE path LIKE '%ImageSets/Main/%' ORDER BY path"):
        parent = PurePosixPath(restored(path)).parent
        if parent.parts[-2:] == ("ImageSets", "Main"):
            plan.splits.update(read_splits(folder / parent))
    joiner = _Joiner()
    for (path,) in rows.execute(_WITH_SUFFIX, [json.dumps(sorted(LABEL_SUFFIXES))]):
        label_file = restored(path)
        name = next((name for name, item in formats.items() if item.sniff(folder / label_file)), None)
        if name is None:
            continue
        try:
            stream = formats[name].open(folder / label_file)
        except UnreadableFileError as error:
            plan.problems.append(replace(error.problem, file=label_file))
            continue
        plan._take_file(stream, label_file, joiner)
        plan.formats[name] = plan.formats.get(name, 0) + 1
        plan.extras = stream.extras if sum(plan.formats.values()) == 1 else {}
    plan._close(joiner)
    rows.execute("COMMIT")
    return plan


def join(datasets: Sequence[Dataset]) -> Dataset:
    """Data sets as one: classes of the same name and kind become one class.

    A class keeps its id where it is free, else it gets the next; two classes of one name and different kinds
    (a person's box, a person's joints) stay apart, the later with its kind behind its name. Several label
    files of one picture remain several entries.
    """
    joiner = _Joiner()
    images: list[ImageLabels] = []
    extras: dict[str, Mapping[str, Any]] = {}
    for dataset in datasets:
        renumbered = joiner.take(dataset.schema)
        images.extend(
            replace(image, shapes=tuple(_with_class(shape, renumbered) for shape in image.shapes))
            for image in dataset.images
        )
        if len(datasets) == 1:
            extras = dict(dataset.extras)
    return Dataset(
        schema=joiner.schema(),
        images=tuple(images),
        problems=tuple(problem for dataset in datasets for problem in dataset.problems),
        losses=sum((dataset.losses for dataset in datasets), LossReport()),
        extras=extras,
    )


class _Joiner:
    """The classes of many files, one after the other."""

    def __init__(self) -> None:
        self.classes: dict[tuple[str, str, object], LabelClass] = {}

    def take(self, schema: Schema) -> dict[int, int]:
        """Takes in a file's classes: its class ids → the joined ones."""
        renumbered: dict[int, int] = {}
        for item in schema.classes:
            key = (item.name, item.kind, item.skeleton and item.skeleton.joints)
            if key not in self.classes:
                self.classes[key] = _apart(item, self.classes.values())
            renumbered[item.id] = self.classes[key].id
        return renumbered

    def schema(self) -> Schema:
        return Schema(tuple(self.classes.values()))

    def copy(self) -> dict[tuple[str, str, object], LabelClass]:
        return dict(self.classes)

    def restore(self, classes: dict[tuple[str, str, object], LabelClass]) -> None:
        self.classes = classes


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Path and suffix of every file that is no link and not hidden."""
    count = 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            relative = path.relative_to(folder)
            if not any(part.startswith(".") or part == "__MACOSX" for part in relative.parts):
                count += 1
                yield storable(relative.as_posix()), storable(relative.suffix.lower())
        if count > MAX_FILES:
            raise ValueError(f"more than {MAX_FILES} files in one folder")


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
