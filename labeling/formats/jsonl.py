"""Our own lossless format: JSON, a line a picture, behind a first line that tells the schema.

    {"labelwheel":1,"content":"settled","schema":{"classes":[...]}}
    {"name":"a.jpg","sha256":"...","width":640,"height":480,"state":"settled","gold":false,"shapes":[...]}

Shapes are written as `labeling.shapes` dumps them, with their names in one order and their attributes sorted,
so that the same labels are the same bytes whatever database they lay in. A file of `answers` holds a line for
each person's answer instead; it is written for those who study them, and not read.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from labeling import schema as label_schema
from labeling import shapes as label_shapes
from labeling.formats.base import (
    MAX_PICTURE_SIDE,
    AnswerRow,
    Dataset,
    ImageLabels,
    LabelStream,
    PictureRow,
    Problem,
    UnreadableFileError,
)
from labeling.formats.report import LossLedger, LossReport
from labeling.schema import InvalidSchema, Schema
from labeling.shapes import InvalidShape, Json

FILE_NAME: Final = "labels.jsonl"
VERSION: Final = 1
MAX_LINE_BYTES: Final = 64 * 2**20
_FIELDS: Final = {"name", "sha256", "width", "height", "state", "gold", "shapes"}
_ORDER: Final = ("id", "kind", "class_id", "xyxy", "points", "provenance", "score")

Content: TypeAlias = Literal["settled", "answers"]


@dataclass(frozen=True, slots=True)
class Jsonl:
    name: str = "jsonl"

    def sniff(self, path: Path) -> bool:
        if path.suffix.lower() != ".jsonl":
            return False
        with path.open("rb") as file:
            return b'"labelwheel"' in file.read(200)

    def read(self, paths: Sequence[Path]) -> Dataset:
        """One file: another one's class ids may mean other classes."""
        if len(paths) != 1:
            raise ValueError("JSONL is read one file at a time; join the data sets")
        return self.open(paths[0]).dataset()

    def open(self, path: Path) -> "JsonlStream":
        return JsonlStream(path)

    def write(self, dataset: Dataset, folder: Path) -> LossReport:
        writer = JsonlWriter(dataset.schema)
        before, behind = writer.frame()
        with (folder / FILE_NAME).open("wb") as file:
            file.write(before)
            for image in dataset.images:
                row = PictureRow(
                    name=image.file_name,
                    width=image.width,
                    height=image.height,
                    shapes=label_shapes.dump_list(image.shapes),
                    sha256=image.sha256,
                    gold=image.gold,
                )
                file.writelines(writer.add(row))
                writer.losses.add("field of an image", len(image.attributes))
            file.write(behind)
        return writer.losses.report()

    def writer(self, schema: Schema) -> "JsonlWriter":
        return JsonlWriter(schema)


class JsonlWriter:
    """Lines of pictures, or with `content="answers"` of answers."""

    sections = ("lines",)
    skipped = 0

    def __init__(self, schema: Schema, content: Content = "settled") -> None:
        self.schema = schema
        self.content = content
        self.losses = LossLedger()

    def add(self, row: PictureRow) -> tuple[bytes, ...]:
        return (
            _line(
                {
                    "name": row.name,
                    "sha256": row.sha256,
                    "width": row.width,
                    "height": row.height,
                    "state": "settled",
                    "gold": row.gold,
                    "shapes": [_ordered(shape) for shape in row.shapes],
                }
            ),
        )

    def add_answer(self, row: AnswerRow) -> tuple[bytes, ...]:
        return (
            _line(
                {
                    "name": row.name,
                    "sha256": row.sha256,
                    "width": row.width,
                    "height": row.height,
                    "author": row.author,
                    "revision": row.revision,
                    "at": row.at,
                    "seconds_active": row.seconds_active,
                    "suggestions_from": row.suggestions_from,
                    "shapes": [_ordered(shape) for shape in row.shapes],
                }
            ),
        )

    def frame(self) -> tuple[bytes, ...]:
        header = {
            "labelwheel": VERSION,
            "content": self.content,
            "schema": label_schema.dump(self.schema),
        }
        return _line(header), b""

    def resume(self, sections: Sequence[Path]) -> None:
        """Lines know nothing of each other."""


class JsonlStream(LabelStream):
    """A file's pictures, line by line; never more than one line in memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.name)
        self.path = path
        header = self._header()
        try:
            self.schema = label_schema.parse(header.get("schema"))
        except InvalidSchema as error:
            raise UnreadableFileError(Problem(path.name, 1, error.field, error.message)) from None

    def images(self) -> Iterator[ImageLabels]:
        with self.path.open("rb") as file:
            file.readline(MAX_LINE_BYTES)
            number = 1
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if not raw.strip():
                    continue
                if len(raw) > MAX_LINE_BYTES:
                    reason = f"is longer than the {MAX_LINE_BYTES // 2**20} MiB that are read"
                    raise UnreadableFileError(Problem(self.file, number, "", reason))
                try:
                    yield self._picture(_parsed(raw))
                except InvalidShape as error:
                    self.problem(error.field, error.message, line=number)

    def _picture(self, raw: Mapping[str, Any]) -> ImageLabels:
        unknown = sorted(set(raw) - _FIELDS)
        if unknown:
            raise InvalidShape(unknown[0][:100], "is not a field of a picture")
        name = raw.get("name")
        if not isinstance(name, str) or not name or not _is_storable(name):
            raise InvalidShape("name", "must be the picture's name")
        sha256 = raw.get("sha256", "")
        if not isinstance(sha256, str) or (sha256 and not _is_sha256(sha256)):
            raise InvalidShape("sha256", "must be 64 hexadecimal digits")
        sides: list[int | None] = []
        for side in ("width", "height"):
            value = raw.get(side)
            if value is not None and (
                not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_PICTURE_SIDE
            ):
                raise InvalidShape(side, f"must be a whole number of pixels up to {MAX_PICTURE_SIDE}")
            sides.append(value)
        if raw.get("state", "settled") != "settled":
            raise InvalidShape("state", "must be settled")
        gold = raw.get("gold", False)
        if not isinstance(gold, bool):
            raise InvalidShape("gold", "must be true or false")
        shapes = label_shapes.parse_list(raw.get("shapes"))
        for index, shape in enumerate(shapes):
            problem = self.schema.problem_with(shape)
            if problem is not None:
                raise InvalidShape(f"shapes[{index}].{problem[0]}", problem[1])
        return ImageLabels(name, sides[0], sides[1], shapes, self.file, {}, sha256, gold)

    def _header(self) -> Mapping[str, Any]:
        with self.path.open("rb") as file:
            raw = file.readline(MAX_LINE_BYTES)
        try:
            header = _parsed(raw)
        except InvalidShape as error:
            raise UnreadableFileError(Problem(self.file, 1, error.field, error.message)) from None
        if header.get("labelwheel") != VERSION:
            reason = f"must be {VERSION}, the version of this format that is read here"
            raise UnreadableFileError(Problem(self.file, 1, "labelwheel", reason))
        if header.get("content") != "settled":
            reason = "must be settled; people's answers are written, not read"
            raise UnreadableFileError(Problem(self.file, 1, "content", reason))
        return header


def _parsed(raw: bytes) -> Mapping[str, Any]:
    """A line's object. Raises `InvalidShape`; NaN, infinities and huge integers become what no field accepts."""
    try:
        value = json.loads(raw.decode("utf-8-sig"), parse_int=_whole, parse_constant=float)
    except UnicodeDecodeError as error:
        raise InvalidShape("", f"is not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise InvalidShape("", f"is not JSON: {error.msg} (character {error.colno})") from None
    except RecursionError:
        raise InvalidShape("", "is nested too deeply") from None
    if not isinstance(value, Mapping):
        raise InvalidShape("", "must be an object")
    return value


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= 18 else float(digits)


def _is_storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)


def _ordered(shape: Json) -> Json:
    """The shape's JSON with its names in one order: PostgreSQL keeps them in an order of its own."""
    ordered = {name: shape[name] for name in _ORDER if name in shape}
    if shape.get("attributes"):
        ordered["attributes"] = dict(sorted(shape["attributes"].items()))
    return ordered


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _line(value: Json) -> bytes:
    return _encode(value).encode() + b"\n"
