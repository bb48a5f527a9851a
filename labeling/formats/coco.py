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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from labeling import shapes
from labeling.formats.base import (
    MAX_PICTURE_SIDE,
    Dataset,
    ImageLabels,
    Problem,
    UnreadableFileError,
    attribute_value,
    build_schema,
    left_right_pairs,
    read_text,
)
from labeling.formats.report import LossLedger, LossReport
from labeling.schema import LabelClass, Schema
from labeling.shapes import XYXY, AttributeValue, InvalidShape, Keypoints, Shape, Tag

FILE_NAME: Final = "annotations.json"
SNIFF_BYTES: Final = 65_536
OWN_ATTRIBUTES: Final = "labelwheel_attributes"
_IMAGE_FIELDS: Final = {"id", "file_name", "width", "height"}
_ANNOTATION_FIELDS: Final = {
    "id", "image_id", "category_id", "bbox", "keypoints", "num_keypoints", "segmentation", "score",
    "box_drawn", "attributes", OWN_ATTRIBUTES,
}  # fmt: skip
_WRITTEN_PLAIN: Final = {"iscrowd", "area"}


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
        return _Reader(paths[0]).dataset()

    def write(self, dataset: Dataset, folder: Path) -> LossReport:
        document, losses = document_of(dataset)
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        (folder / FILE_NAME).write_text(text, encoding="utf-8")
        return losses


def load_json(path: Path) -> Any:
    """The document; NaN, infinities and integers beyond 18 digits become floats that no field accepts."""
    try:
        return json.loads(
            read_text(path), parse_int=lambda digits: int(digits) if len(digits) <= 18 else float(digits)
        )
    except json.JSONDecodeError as error:
        raise UnreadableFileError(Problem(path.name, error.lineno, "", f"is not JSON: {error.msg}")) from None
    except RecursionError:
        raise UnreadableFileError(Problem(path.name, None, "", "is nested too deeply")) from None


class _Reader:
    def __init__(self, path: Path) -> None:
        self.file = path.name
        self.problems: list[Problem] = []
        self.losses = LossLedger()
        document = load_json(path)
        if not isinstance(document, Mapping):
            raise self.unreadable("", "must be an object with images, annotations and categories")
        self.document = document

    def dataset(self) -> Dataset:
        schema, originals = self.classes()
        by_original = {str(original["id"]): class_id for class_id, original in originals.items()}
        images: dict[str, tuple[ImageLabels, list[Shape], set[str]]] = {}
        file_names: set[str] = set()
        for index, raw in enumerate(self.records("images", required=True)):
            image = self.image(raw, f"images[{index}]")
            if image is None:
                continue
            key = str(raw.get("id"))
            if key in images or image.file_name in file_names:
                repeated = "id" if key in images else "file_name"
                self.problem(f"images[{index}].{repeated}", "is used by an earlier image")
                continue
            file_names.add(image.file_name)
            images[key] = (image, [], set())
        for index, raw in enumerate(self.records("annotations")):
            path = f"annotations[{index}]"
            key = str(raw.get("image_id"))
            if key not in images:
                self.problem(f"{path}.image_id", "is no image of this file")
                continue
            class_id = by_original.get(str(raw.get("category_id")))
            label_class = None if class_id is None else schema.by_id(class_id)
            if label_class is None:
                self.problem(f"{path}.category_id", "is no category of this file")
                continue
            _, collected, used = images[key]
            if len(collected) >= shapes.MAX_SHAPES:
                self.problem(path, f"is beyond the {shapes.MAX_SHAPES} shapes that one image can have")
                continue
            shape = self.shape(raw, label_class, path, index, used)
            if shape is not None:
                used.add(shape.id)
                collected.append(shape)
        extras = {
            "info": self.document.get("info", {}),
            "licenses": self.document.get("licenses", []),
            "categories": {str(class_id): dict(original) for class_id, original in originals.items()},
        }
        return Dataset(
            schema=schema,
            images=tuple(
                ImageLabels(
                    image.file_name, image.width, image.height, tuple(collected), self.file, image.attributes
                )
                for image, collected, _ in images.values()
            ),
            problems=tuple(self.problems),
            losses=self.losses.report(),
            extras={"coco": extras},
        )

    def classes(self) -> tuple[Schema, Mapping[int, Mapping[str, Any]]]:
        """The schema, and what each class was in the file: its id and supercategory."""
        rows: list[tuple[int, Mapping[str, Any]]] = []
        seen: set[int] = set()
        for index, raw in enumerate(self.records("categories")):
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

    def records(self, name: str, *, required: bool = False) -> list[Mapping[str, Any]]:
        """The list of that name; what is not an object stands as an empty record, so that numbers stay."""
        items = self.document.get(name)
        if items is None and not required:
            return []
        if not isinstance(items, list):
            raise self.unreadable(name, "must be a list")
        records: list[Mapping[str, Any]] = []
        for index, item in enumerate(items):
            if not isinstance(item, Mapping):
                raise self.unreadable(f"{name}[{index}]", "must be an object")
            records.append(item)
        return records

    def problem(self, field: str, reason: str) -> None:
        self.problems.append(Problem(self.file, None, field, reason))

    def unreadable(self, field: str, reason: str) -> UnreadableFileError:
        return UnreadableFileError(Problem(self.file, None, field, reason))


def document_of(dataset: Dataset) -> tuple[dict[str, Any], LossReport]:
    """The COCO document of a data set, and what it cannot say: tags, provenance."""
    own = dataset.extras.get("coco", {})
    originals: Mapping[str, Mapping[str, Any]] = own.get("categories", {})
    losses = LossLedger()
    category_ids = {
        item.id: originals.get(str(item.id), {}).get("id", item.id) for item in dataset.schema.classes
    }
    if len(set(category_ids.values())) < len(category_ids):
        # classes added since the import may have met an original id; then ours are as good as any
        category_ids = {class_id: class_id for class_id in category_ids}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    numbers = _Numbers()
    for index, image in enumerate(dataset.images):
        entry: dict[str, Any] = {**image.attributes, "id": index + 1, "file_name": image.file_name}
        for side, value in (("width", image.width), ("height", image.height)):
            if value is not None:
                entry[side] = value
        images.append(entry)
        for shape in image.shapes:
            if isinstance(shape, Tag):
                losses.add("tag of a whole picture")
                continue
            if shape.provenance != "imported":
                losses.add("provenance of a shape")
            annotations.append(
                {
                    "id": numbers.take(shape.id),
                    "image_id": index + 1,
                    "category_id": category_ids[shape.class_id],
                    **_annotation(shape),
                }
            )
    categories = [
        _category(item, category_ids[item.id], originals.get(str(item.id), {}))
        for item in dataset.schema.classes
        if item.kind != "tag"
    ]
    document = {
        "info": own.get("info", {}),
        "licenses": own.get("licenses", []),
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    return document, losses.report()


class _Numbers:
    """Annotation ids: the number a shape was imported with where it is free, else the next."""

    def __init__(self) -> None:
        self.used: set[int] = set()
        self.last = 0

    def take(self, shape_id: str) -> int:
        imported = re.fullmatch(r"coco-([0-9]{1,15})", shape_id)
        number = int(imported[1]) if imported else 0
        if not imported or number in self.used:
            while self.last + 1 in self.used:
                self.last += 1
            number = self.last + 1
        self.used.add(number)
        return number


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


def _annotation(shape: Shape) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    box = None if isinstance(shape, Tag) else shape.xyxy
    if isinstance(shape, Keypoints):
        entry["keypoints"] = [value for point in shape.points for value in point]
        entry["num_keypoints"] = sum(v > 0 for _, _, v in shape.points)
        if box is None:
            entry["box_drawn"] = False
            box = _hull(shape)
    x1, y1, x2, y2 = box if box is not None else (0.0, 0.0, 0.0, 0.0)
    entry["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    entry["area"] = shape.attributes.get("area", (x2 - x1) * (y2 - y1))
    entry["iscrowd"] = int(shape.attributes.get("iscrowd") is True)
    if shape.score is not None:
        entry["score"] = shape.score
    entry[OWN_ATTRIBUTES] = dict(shape.attributes)
    return entry


def _hull(shape: Keypoints) -> XYXY:
    labelled = [(x, y) for x, y, v in shape.points if v > 0] or [(0.0, 0.0)]
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
