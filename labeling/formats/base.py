"""What every format reads into and writes from, independent of any database."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from labeling.formats.report import LossLedger, LossReport
from labeling.schema import InvalidSchema, Schema
from labeling.schema import parse as parse_schema
from labeling.shapes import MAX_TEXT, AttributeValue, Json, Shape

MAX_FILE_BYTES: Final = 512 * 2**20
MAX_DEPTH: Final = 64
MAX_PROBLEMS: Final = 1_000
MAX_PICTURE_SIDE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that could not be read: `field` is a path like `annotations[3].bbox`, `line` counts from 1."""

    file: str
    line: int | None
    field: str
    reason: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{place}: {self.field}: {self.reason}" if self.field else f"{place}: {self.reason}"


class UnreadableFileError(ValueError):
    """A file of which nothing can be used; `problem` says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """The labels of one image: width and height in pixels where the file tells them.

    `file_name` is as the file says, `source` the label file itself. `attributes` hold what the format says of
    the image beside (a licence, an address). `sha256` and `gold` only our own format tells.
    """

    file_name: str
    width: int | None
    height: int | None
    shapes: tuple[Shape, ...]
    source: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    sha256: str = ""
    gold: bool = False


@dataclass(frozen=True, slots=True)
class Dataset:
    """All that was read: good records in `images`, bad ones in `problems`, inexpressible ones in `losses`.

    `extras` are a format's own words (COCO's info, licences and original category ids) by its name; the same
    format writes them back. The caller decides whether a data set with problems is taken.
    """

    schema: Schema
    images: tuple[ImageLabels, ...]
    problems: tuple[Problem, ...] = ()
    losses: LossReport = field(default_factory=LossReport)
    extras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class ProblemList:
    """The first `MAX_PROBLEMS` problems; of the others only how many there are."""

    def __init__(self, items: Iterable[Problem] = (), more: int = 0) -> None:
        self.items = list(items)
        self.more = more

    def __len__(self) -> int:
        return len(self.items) + self.more

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.items)

    def __getitem__(self, index: int) -> Problem:
        return self.items[index]

    def append(self, problem: Problem) -> None:
        if len(self.items) < MAX_PROBLEMS:
            self.items.append(problem)
        else:
            self.more += 1

    def extend(self, problems: Iterable[Problem], more: int = 0) -> None:
        for problem in problems:
            self.append(problem)
        self.more += more


class LabelStream:
    """A label file read picture by picture, so that memory does not grow with it.

    `schema` and `extras` are there from the beginning; `problems` and `losses` are whole behind the last picture.
    """

    schema: Schema
    extras: Mapping[str, Mapping[str, Any]]

    def __init__(self, file: str) -> None:
        self.file = file
        self.extras = {}
        self.problems = ProblemList()
        self.losses = LossLedger()

    def images(self) -> Iterator[ImageLabels]:
        """The pictures in the file's order, once. Raises `UnreadableFileError`."""
        raise NotImplementedError

    def dataset(self) -> Dataset:
        """All at once, for files that are small."""
        images = tuple(self.images())
        return Dataset(
            schema=self.schema,
            images=images,
            problems=tuple(self.problems),
            losses=self.losses.report(),
            extras=self.extras,
        )

    def problem(self, field: str, reason: str, *, line: int | None = None) -> None:
        self.problems.append(Problem(self.file, line, field, reason))


class DatasetStream(LabelStream):
    """A file that was read whole, as a stream."""

    def __init__(self, dataset: Dataset, file: str) -> None:
        super().__init__(file)
        self.whole = dataset
        self.schema = dataset.schema
        self.extras = dataset.extras
        self.problems.extend(dataset.problems)
        for what, count in dataset.losses.items:
            self.losses.add(what, count)

    def images(self) -> Iterator[ImageLabels]:
        return iter(self.whole.images)


@dataclass(frozen=True, slots=True)
class PictureRow:
    """A picture to write, its shapes as the JSON of `labeling.shapes`: what a stream is fed with, one by one."""

    name: str
    width: int | None
    height: int | None
    shapes: Sequence[Json]
    sha256: str = ""
    gold: bool = False
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One person's answer to a picture, to write."""

    name: str
    sha256: str
    width: int
    height: int
    author: str
    revision: int
    at: str
    seconds_active: float
    suggestions_from: str
    shapes: Sequence[Json]


class RowWriter(Protocol):
    """Turns rows into the bytes of one file, whose sections grow side by side and are joined at the end.

    A section may be written in many sittings: nothing depends on the rows before but what `resume` takes in.
    """

    @property
    def sections(self) -> tuple[str, ...]: ...

    @property
    def losses(self) -> LossLedger: ...

    def add(self, row: PictureRow) -> tuple[bytes, ...]:
        """The row's bytes for each section."""
        ...

    def frame(self) -> tuple[bytes, ...]:
        """What stands before, between and behind the sections: one more than there are sections."""
        ...

    @property
    def skipped(self) -> int:
        """How many bytes of each section's beginning are left out (the comma before the first record)."""
        ...

    def resume(self, sections: Sequence[Path]) -> None:
        """Takes in what was written before, to go on behind it."""
        ...


class Format(Protocol):
    """A way to store labels in files."""

    @property
    def name(self) -> str: ...

    def sniff(self, path: Path) -> bool:
        """Whether the file looks like this format, judged from its name and a few bytes."""
        ...

    def read(self, paths: Sequence[Path]) -> Dataset:
        """These files' labels together. Raises `UnreadableFileError`; single bad records are listed."""
        ...

    def open(self, path: Path) -> LabelStream:
        """One file's labels, picture by picture. Raises `UnreadableFileError`."""
        ...

    def write(self, dataset: Dataset, folder: Path) -> LossReport:
        """Writes the labels under a folder, which exists, and tells what could not be expressed."""
        ...


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises `UnreadableFileError` if it is larger than `MAX_FILE_BYTES`."""
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise UnreadableFileError(
            Problem(
                path.name,
                None,
                "",
                f"is larger than the {MAX_FILE_BYTES // 2**20} MiB that are read",
            )
        )
    return path.read_bytes()


def read_text(path: Path) -> str:
    """The file's text in UTF-8, with or without a byte order mark."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            Problem(path.name, None, "", f"is not UTF-8 text (byte {error.start})")
        ) from None


def build_schema(classes: Sequence[Mapping[str, Any]], file: str) -> Schema:
    """A schema from a file's classes; a repeated name gets its id behind. Raises `UnreadableFileError`."""
    seen: set[object] = set()
    named: list[Mapping[str, Any]] = []
    for item in classes:
        name = item["name"]
        if isinstance(name, str) and name in seen:
            name = f"{name} ({item['id']})"
        seen.add(name)
        named.append({**item, "name": name})
    if not named:
        return Schema(())
    try:
        return parse_schema({"classes": named})
    except InvalidSchema as error:
        raise UnreadableFileError(Problem(file, None, error.field, error.message)) from None


def left_right_pairs(joints: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """(left, right) indices of joints whose names differ in their side alone.

    >>> left_right_pairs(["nose", "left_eye", "right_eye", "leftear", "rightear", "R_hip", "L_hip"])
    ((1, 2), (3, 4), (6, 5))
    """
    number = {joint.casefold(): index for index, joint in enumerate(joints)}
    pairs = []
    for joint, left in number.items():
        right = next((number[name] for name in _other_sides(joint) if name in number), None)
        if right is not None:
            pairs.append((left, right))
    return tuple(pairs)


def _other_sides(joint: str) -> list[str]:
    names = []
    if "left" in joint:
        names.append(joint.replace("left", "right", 1))
    for mark in ("_", "-", " ", "."):
        if joint.startswith(f"l{mark}"):
            names.append(f"r{joint[1:]}")
        if joint.endswith(f"{mark}l"):
            names.append(f"{joint[:-1]}r")
    return names


def attribute_value(value: object) -> AttributeValue | None:
    """The value if an attribute can hold it, else nothing."""
    if isinstance(value, str):
        storable = "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
        return value if storable and len(value) <= MAX_TEXT else None
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and abs(value) < 2**53:  # refuses NaN as well
        return value
    return None


def storable(text: str) -> str:
    """The text, or if it has a lone surrogate, which SQLite takes for no text, a form of it that `restored` reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "\x00" + text.encode("utf-16-le", "surrogatepass").hex()
    return text


def restored(text: str) -> str:
    return bytes.fromhex(text[1:]).decode("utf-16-le", "surrogatepass") if text.startswith("\x00") else text


def relative_path(file_name: str) -> PurePosixPath:
    """A file's name as a path that cannot lead out of a folder: no drive, no root, no `..`.

    >>> relative_path("C:\\\\data\\\\..\\\\a.jpg").as_posix()
    'data/a.jpg'
    """
    parts = [part for part in file_name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if parts and parts[0].endswith(":"):
        parts = parts[1:]
    return PurePosixPath(*parts)
