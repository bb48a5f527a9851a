"""COCO's instances and person_keypoints JSON (cocodataset.org/#format-data).

Class ids are the file's category ids. Where one of them is not positive all are shifted up, and `extras`
remember the file's own for the way back. A category with joint names becomes a keypoints class; everything
else is boxes. Segmentations and crowd masks are counted as losses, their boxes stay (with `iscrowd`). Three
fields are our own, and other readers pass over them: `flip_pairs` of a category (1-based like `skeleton`),
`box_drawn: false` for an object whose box was made up from its joints because COCO wants one, and
`labelwheel_attributes`.
"""

import json
import math
import re
import sqlite3
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from labeling import shapes
from labeling.formats import json_stream
from labeling.formats.base import (
    MAX_PICTURE_SIDE,
    Dataset,
    ImageLabels,
    LabelStream,
    PictureRow,
    Problem,
    UnreadableFileError,
    attribute_value,
    build_schema,
    left_right_pairs,
    restored,
    storable,
)
from labeling.formats.report import LossLedger, LossReport
from labeling.schema import LabelClass, Schema
from labeling.shapes import XYXY, AttributeValue, InvalidShape, Json, Shape

FILE_NAME: Final = "annotations.json"
SNIFF_BYTES: Final = 65_536
OWN_ATTRIBUTES: Final = "labelwheel_attributes"
_IMAGE_FIELDS: Final = {"id", "file_name", "width", "height"}
_ANNOTATION_FIELDS: Final = {
    "id", "image_id", "category_id", "bbox", "keypoints", "num_keypoints", "segmentation", "score",
    "box_drawn", "attributes", OWN_ATTRIBUTES,
}  # fmt: skip
WAITING: Final = 5_000
MAX_LICENSES: Final = 1_000
_TABLES: Final = """
    PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA cache_size = -16000;
    CREATE TABLE image (number INTEGER PRIMARY KEY, key TEXT UNIQUE, file_name TEXT UNIQUE,
                        width INTEGER, height INTEGER, attributes TEXT);
    CREATE TABLE annotation (image TEXT, number INTEGER, record TEXT);
"""
_WRITTEN_ID: Final = re.compile(rb'\{"id":(\d+),"image_id":')


@dataclass(frozen=True, slots=True)
class Coco:
    name: str = "coco"

    def sniff(self, path: Path) -> bool:
        if path.suffix.lower() != ".json":
            return False
        with path.open("rb") as file:
            head = file.read(SNIFF_BYTES)
            file.seek(max(0, path.stat().st_size - SNIFF_BYTES))
            tail = file.read(SNIFF_BYTES)
        opens = head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
        return opens and any(word in head + tail for word in (b'"images"', b'"annotations"', b'"categories"'))

    def read(self, paths: Sequence[Path]) -> Dataset:
        """One file: another one's category ids may mean other classes, see `labeling.formats.folder.join`."""
        if len(paths) != 1:
            raise ValueError("COCO is read one file at a time; join the data sets")
        return self.open(paths[0]).dataset()

    def open(self, path: Path) -> "CocoStream":
        return CocoStream(path)

    def write(self, dataset: Dataset, folder: Path) -> LossReport:
        document, losses = document_of(dataset)
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        (folder / FILE_NAME).write_text(text, encoding="utf-8")
        return losses

    def writer(self, schema: Schema) -> "CocoWriter":
        return CocoWriter(schema)


class CocoStream(LabelStream):
    """A file of any size: it is gone through once, and its records wait in a temporary database.

    There an annotation finds its image wherever in the file the two stand.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path.name)
        self.rows = sqlite3.connect("")  # SQLite's own temporary file: gone with the connection
        weakref.finalize(self, self.rows.close)
        self.rows.executescript(_TABLES)
        self.info: object = {}
        self.licenses: list[Any] = []
        self.categories: list[Mapping[str, Any]] = []
        self._take_in(path)
        self.schema, originals = self.classes()
        self.class_ids = {str(original["id"]): class_id for class_id, original in originals.items()}
        self.extras = {
            "coco": {
                "info": self.info,
                "licenses": self.licenses,
                "categories": {str(class_id): dict(original) for class_id, original in originals.items()},
            }
        }

    def _take_in(self, path: Path) -> None:
        waiting: list[tuple[str, int, str]] = []
        has_images = False
        for name, index, value, text in json_stream.members(path):
            if name == "info" and index is None:
                self.info = value
            elif name in ("images", "annotations", "categories") and index is None:
                if value is None and name != "images":
                    continue
                if not isinstance(value, list):
                    raise self.unreadable(name, "must be a list")
                has_images = has_images or name == "images"
            elif index is None:
                continue
            elif name == "licenses":
                if len(self.licenses) < MAX_LICENSES:
                    self.licenses.append(value)
            elif name in ("images", "annotations", "categories"):
                if not isinstance(value, Mapping):
                    raise self.unreadable(f"{name}[{index}]", "must be an object")
                if name == "images":
                    self._keep_image(value, f"images[{index}]")
                elif name == "categories":
                    self.categories.append(value)
                else:
                    waiting.append((storable(str(value.get("image_id"))), index, storable(text)))
                    if len(waiting) == WAITING:
                        self.rows.executemany("INSERT INTO annotation VALUES (?, ?, ?)", waiting)
                        waiting.clear()
        if not has_images:
            raise self.unreadable("images", "must be a list")
        self.rows.executemany("INSERT INTO annotation VALUES (?, ?, ?)", waiting)
        self.rows.execute("CREATE INDEX by_image ON annotation (image, number)")

    def _keep_image(self, raw: Mapping[str, Any], path: str) -> None:
        image = self.image(raw, path)
        if image is None:
            return
        key = storable(str(raw.get("id")))
        row = (key, storable(image.file_name), image.width, image.height, json.dumps(dict(image.attributes)))
        added = self.rows.execute(
            "INSERT INTO image (key, file_name, width, height, attributes) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            row,
        )
        if not added.rowcount:
            same_id = self.rows.execute("SELECT 1 FROM image WHERE key = ?", [key]).fetchone()
            self.problem(f"{path}.{'id' if same_id else 'file_name'}", "is used by an earlier image")

    def images(self) -> Iterator[ImageLabels]:
        for key, file_name, width, height, attributes in self.rows.execute(
            "SELECT key, file_name, width, height, attributes FROM image ORDER BY number"
        ):
            annotations = self.rows.execute(
                "SELECT number, record FROM annotation WHERE image = ? ORDER BY number", [key]
            )
            collected: list[Shape] = []
            used: set[str] = set()
            for index, record in annotations:
                path = f"annotations[{index}]"
                raw = json_stream.decode(restored(record))
                class_id = self.class_ids.get(str(raw.get("category_id")))
                label_class = None if class_id is None else self.schema.by_id(class_id)
                if label_class is None:
                    self.problem(f"{path}.category_id", "is no category of this file")
                    continue
                if len(collected) >= shapes.MAX_SHAPES:
                    self.problem(path, f"is beyond the {shapes.MAX_SHAPES} shapes that one image can have")
                    continue
                shape = self.shape(raw, label_class, path, index, used)
                if shape is not None:
                    used.add(shape.id)
                    collected.append(shape)
            yield ImageLabels(
                restored(file_name), width, height, tuple(collected), self.file, json.loads(attributes)
            )
        for (index,) in self.rows.execute(
            "SELECT number FROM annotation WHERE image NOT IN (SELECT key FROM image) ORDER BY number"
        ):
            self.problem(f"annotations[{index}].image_id", "is no image of this file")

    def classes(self) -> tuple[Schema, Mapping[int, Mapping[str, Any]]]:
        """The schema, and what each class was in the file: its id and supercategory."""
        rows: list[tuple[int, Mapping[str, Any]]] = []
        seen: set[int] = set()
        for index, raw in enumerate(self.categories):
            number = _whole(raw.get("id"))
            if number is None or number in seen:
                reason = "must be a whole number" if number is None else "is used by an earlier category"
                raise self.unreadable(f"categories[{index}].id", reason)
            seen.add(number)
            rows.append((number, raw))
        shift = 1 - min(min(seen, default=1), 1)
        originals: dict[int, Mapping[str, Any]] = {}
        classes: list[Mapping[str, Any]] = []
        for number, raw in rows:
            original: dict[str, Any] = {"id": number}
            supercategory = attribute_value(raw.get("supercategory"))
            if isinstance(supercategory, str):
                original["supercategory"] = supercategory
            originals[number + shift] = original
            joints = raw.get("keypoints")
            kind = (
                "keypoints"
                if isinstance(joints, Sequence) and not isinstance(joints, str) and joints
                else "box"
            )
            entry: dict[str, Any] = {"id": number + shift, "name": raw.get("name"), "kind": kind}
            if kind == "keypoints":
                entry["skeleton"] = self.skeleton(raw)
            classes.append(entry)
        return build_schema(classes, self.file), originals

    def skeleton(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        joints = raw["keypoints"]
        names = [str(joint) for joint in joints]
        pairs = raw.get("flip_pairs")
        return {
            "joints": joints,
            "edges": _from_one_based(raw.get("skeleton") or []),
            "pairs": list(left_right_pairs(names)) if pairs is None else _from_one_based(pairs),
        }

    def image(self, raw: Mapping[str, Any], path: str) -> ImageLabels | None:
        file_name = raw.get("file_name")
        if not isinstance(file_name, str) or not file_name:
            self.problem(f"{path}.file_name", "must be the picture's file name")
            return None
        if "id" not in raw or isinstance(raw["id"], bool) or not isinstance(raw["id"], int | str):
            self.problem(f"{path}.id", "must be a whole number or text")
            return None
        size: list[int | None] = []
        for side in ("width", "height"):
            value = _whole(raw.get(side))
            if side in raw and (value is None or not 0 < value <= MAX_PICTURE_SIDE):
                self.problem(f"{path}.{side}", f"must be a whole number of pixels up to {MAX_PICTURE_SIDE}")
                value = None
            size.append(value)
        attributes: dict[str, AttributeValue] = {}
        for key, item in raw.items():
            if key in _IMAGE_FIELDS or item is None:
                continue
            kept = attribute_value(item)
            if kept is None:
                self.losses.add(f"image field {key}")
            else:
                attributes[key] = kept
        return ImageLabels(file_name, size[0], size[1], (), self.file, attributes)

    def shape(
        self, raw: Mapping[str, Any], label_class: LabelClass, path: str, index: int, used: set[str]
    ) -> Shape | None:
        identity = f"coco-{raw['id']}" if isinstance(raw.get("id"), int | str) else f"coco-record-{index}"
        if identity in used or len(identity) > shapes.MAX_TEXT:
            identity = f"coco-record-{index}"
        if isinstance(raw.get("segmentation"), Mapping):
            self.losses.add("run-length mask")
        elif raw.get("segmentation"):
            self.losses.add("polygon")
        entry: dict[str, Any] = {
            "id": identity,
            "kind": label_class.kind,
            "class_id": label_class.id,
            "provenance": "imported",
            "attributes": self.attributes(raw),
        }
        if raw.get("score") is not None:
            entry["score"] = raw["score"]
        try:
            if raw.get("box_drawn") is not False:
                entry["xyxy"] = self.box(raw.get("bbox"), required=label_class.kind == "box")
            if label_class.kind == "keypoints" and label_class.skeleton is not None:
                entry["points"] = _points(raw.get("keypoints"), len(label_class.skeleton.joints))
            elif raw.get("keypoints"):
                self.losses.add("keypoints of a category without joint names")
            return shapes.parse(entry)
        except InvalidShape as error:
            self.problem(f"{path}.{_coco_field(error.field)}", error.message)
            return None

    def box(self, value: object, *, required: bool) -> XYXY | None:
        if value is None and not required:
            return None
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 4:
            raise InvalidShape("bbox", "must be [x, y, width, height]")
        if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
            raise InvalidShape("bbox", "must hold four numbers")
        x, y, width, height = value
        if width == 0 or height == 0:
            raise InvalidShape("bbox", "has no area")
        return x, y, x + width, y + height

    def attributes(self, raw: Mapping[str, Any]) -> dict[str, AttributeValue]:
        kept: dict[str, AttributeValue] = {}
        if raw.get("iscrowd") in (1, True, "1"):
            kept["iscrowd"] = True
        nested = raw.get("attributes")
        own = raw.get(OWN_ATTRIBUTES)
        plain = {
            key: value for key, value in raw.items() if key not in _ANNOTATION_FIELDS and key != "iscrowd"
        }
        for source in (plain, nested, own):
            if not isinstance(source, Mapping):
                continue
            for key, value in source.items():
                item = attribute_value(value)
                if item is None:
                    self.losses.add(f"annotation field {str(key)[:60]}")
                else:
                    kept[str(key)] = item
        if isinstance(own, Mapping) and "area" not in own:
            # our own file: the area is the format's, computed at export
            kept.pop("area", None)
        return kept

    def unreadable(self, field: str, reason: str) -> UnreadableFileError:
        return UnreadableFileError(Problem(self.file, None, field, reason))


class CocoWriter:
    """Pictures and annotations as records of a COCO file, one picture after the other.

    `extras` are those that a COCO file was read with; what COCO cannot say is counted in `losses`.
    """

    sections = ("images", "annotations")
    skipped = 2

    def __init__(self, schema: Schema, extras: Mapping[str, Any] | None = None) -> None:
        own = extras or {}
        originals: Mapping[str, Mapping[str, Any]] = own.get("categories", {})
        self.losses = LossLedger()
        self.category_ids = {
            item.id: originals.get(str(item.id), {}).get("id", item.id) for item in schema.classes
        }
        if len(set(self.category_ids.values())) < len(self.category_ids):
            # classes added since the import may have met an original id; then ours are as good as any
            self.category_ids = {class_id: class_id for class_id in self.category_ids}
        self.info = own.get("info", {})
        self.licenses = own.get("licenses", [])
        self.categories = [
            _category(item, self.category_ids[item.id], originals.get(str(item.id), {}))
            for item in schema.classes
            if item.kind != "tag"
        ]
        self.images = 0
        self.numbers = _Numbers()

    def records(self, row: PictureRow) -> tuple[Json, list[Json]]:
        """The picture's record and those of its shapes."""
        self.images += 1
        entry: Json = {**row.attributes, "id": self.images, "file_name": row.name}
        if row.width is not None:
            entry["width"] = row.width
        if row.height is not None:
            entry["height"] = row.height
        annotations: list[Json] = []
        lost = 0
        for shape in row.shapes:
            if shape["kind"] == "tag":
                self.losses.add("tag of a whole picture")
                continue
            lost += shape["provenance"] != "imported"
            annotations.append(
                {
                    "id": self.numbers.take(shape["id"]),
                    "image_id": self.images,
                    "category_id": self.category_ids[shape["class_id"]],
                    **_annotation(shape),
                }
            )
        self.losses.add("provenance of a shape", lost)
        return entry, annotations

    def add(self, row: PictureRow) -> tuple[bytes, ...]:
        image, annotations = self.records(row)
        return b",\n" + _json(image), b",\n" + _json(annotations)[1:-1] if annotations else b""

    def frame(self) -> tuple[bytes, ...]:
        begin = b'{"info":' + _json(self.info) + b',"licenses":' + _json(self.licenses)
        return (
            begin + b',"images":[\n',
            b'\n],"annotations":[\n',
            b'\n],"categories":' + _json(self.categories) + b"}\n",
        )

    def resume(self, sections: Sequence[Path]) -> None:
        images, annotations = sections
        with images.open("rb") as file:
            self.images = sum(1 for line in file if line.strip(b",\n"))
        with annotations.open("rb") as file:
            for line in file:
                for written in _WRITTEN_ID.finditer(line):
                    self.numbers.use(int(written[1]))


def document_of(dataset: Dataset) -> tuple[dict[str, Any], LossReport]:
    """The COCO document of a data set, and what it cannot say: tags, provenance."""
    writer = CocoWriter(dataset.schema, dataset.extras.get("coco"))
    images: list[Json] = []
    annotations: list[Json] = []
    for row in _rows(dataset):
        image, own = writer.records(row)
        images.append(image)
        annotations.extend(own)
    document = {
        "info": writer.info,
        "licenses": writer.licenses,
        "images": images,
        "annotations": annotations,
        "categories": writer.categories,
    }
    return document, writer.losses.report()


def _rows(dataset: Dataset) -> Iterator[PictureRow]:
    for image in dataset.images:
        yield PictureRow(
            name=image.file_name,
            width=image.width,
            height=image.height,
            shapes=shapes.dump_list(image.shapes),
            attributes=image.attributes,
        )


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _json(value: object) -> bytes:
    return _encode(value).encode()


class _Numbers:
    """Annotation ids: the number a shape was imported with where it is free, else the next.

    Which numbers are taken is kept as bits, 1,024 to a block, so that ten million take a few megabytes. A file
    whose ids lie too far apart for that has those beyond `MAX_BLOCKS` numbered anew.
    """

    MAX_BLOCKS: Final = 100_000

    def __init__(self) -> None:
        self.blocks: dict[int, int] = {}
        self.last = 0

    def take(self, shape_id: str) -> int:
        if shape_id.startswith("coco-"):
            digits = shape_id[5:]
            if digits.isascii() and digits.isdecimal() and len(digits) <= 15:
                number = int(digits)
                if not self._is_used(number) and self.use(number):
                    return number
        self.last += 1
        while self._is_used(self.last):
            self.last += 1
        self._set(self.last)
        return self.last

    def use(self, number: int) -> bool:
        """Marks a number as taken; whether there was room to remember it."""
        if number >> 10 not in self.blocks and len(self.blocks) >= self.MAX_BLOCKS:
            return False
        self._set(number)
        return True

    def _is_used(self, number: int) -> bool:
        return bool(self.blocks.get(number >> 10, 0) >> (number & 1023) & 1)

    def _set(self, number: int) -> None:
        self.blocks[number >> 10] = self.blocks.get(number >> 10, 0) | 1 << (number & 1023)


def _category(item: LabelClass, category_id: int, original: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": category_id,
        "name": item.name,
        "supercategory": original.get("supercategory", ""),
    }
    if item.skeleton is not None:
        entry["keypoints"] = list(item.skeleton.joints)
        entry["skeleton"] = [[a + 1, b + 1] for a, b in item.skeleton.edges]
        entry["flip_pairs"] = [[left + 1, right + 1] for left, right in item.skeleton.pairs]
    return entry


def _annotation(shape: Json) -> Json:
    entry: Json = {}
    attributes = shape.get("attributes") or {}
    box = shape.get("xyxy")
    if shape["kind"] == "keypoints":
        points = shape["points"]
        entry["keypoints"] = [value for point in points for value in point]
        entry["num_keypoints"] = sum(point[2] > 0 for point in points)
        if box is None:
            entry["box_drawn"] = False
            box = _hull(points)
    x1, y1, x2, y2 = box or (0.0, 0.0, 0.0, 0.0)
    width, height = x2 - x1, y2 - y1
    entry["bbox"] = [x1, y1, width, height]
    entry["area"] = attributes.get("area", width * height)
    entry["iscrowd"] = int(attributes.get("iscrowd") is True)
    if shape.get("score") is not None:
        entry["score"] = shape["score"]
    entry[OWN_ATTRIBUTES] = dict(sorted(attributes.items()))
    return entry


def _hull(points: Sequence[Sequence[float]]) -> XYXY:
    labelled = [(x, y) for x, y, v in points if v > 0] or [(0.0, 0.0)]
    xs, ys = zip(*labelled, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _points(value: object, joints: int) -> list[list[Any]]:
    if value is None or value == []:
        return [[0.0, 0.0, 0]] * joints
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3 * joints:
        raise InvalidShape(
            "keypoints", f"must hold {3 * joints} numbers, x, y, v for each of {joints} joints"
        )
    return [list(value[index : index + 3]) for index in range(0, len(value), 3)]


def _coco_field(field: str) -> str:
    joint = re.fullmatch(r"points\[(\d+)\]", field)
    if joint:
        return f"keypoints[{3 * int(joint[1])}]"
    return "bbox" if field.startswith("xyxy") else field


def _from_one_based(pairs: object) -> object:
    if not isinstance(pairs, Sequence) or isinstance(pairs, str):
        return pairs
    return [
        [_less_one(joint) for joint in pair]
        if isinstance(pair, Sequence) and not isinstance(pair, str)
        else pair
        for pair in pairs
    ]


def _less_one(joint: object) -> object:
    return joint - 1 if isinstance(joint, int) and not isinstance(joint, bool) else joint


def _whole(value: object) -> int | None:
    """A whole number, written as one, as 3.0 or as "3"."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,15}", value):
        return int(value)
    return None
