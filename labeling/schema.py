"""What a project labels: its classes, each for boxes, for skeletons of joints, or for whole-picture tags.

A class's `id` never changes and is never used again, so renaming a class keeps every answer. A schema is
immutable; editing it makes the next version.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from labeling.shapes import Json, Keypoints, Kind, Shape, kind_of

COLORS: Final = (  # Okabe–Ito, told apart by colour-blind eyes; black left out
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
MAX_CLASSES: Final = 2_000
MAX_NAME: Final = 100


class InvalidSchema(ValueError):
    """A schema that cannot be used; `field` is the path to the part that is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Named joints; `edges` and `pairs` hold 0-based joint indices, a pair being (left, right)."""

    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def flip_index(self) -> tuple[int, ...]:
        """The joint that each joint becomes in a mirrored picture.

        >>> Skeleton(("nose", "left eye", "right eye"), pairs=((1, 2),)).flip_index
        (0, 2, 1)
        """
        index = list(range(len(self.joints)))
        for left, right in self.pairs:
            index[left], index[right] = right, left
        return tuple(index)


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One thing to label. `key` is the keyboard key that picks it ("" for none)."""

    id: int
    name: str
    kind: Kind
    color: str
    key: str = ""
    skeleton: Skeleton | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    classes: tuple[LabelClass, ...]

    def by_id(self, class_id: int) -> LabelClass | None:
        return next((item for item in self.classes if item.id == class_id), None)

    def by_name(self, name: str) -> LabelClass | None:
        return next((item for item in self.classes if item.name == name), None)

    def problem_with(self, shape: Shape) -> tuple[str, str] | None:
        """(field, message) if the shape does not fit this schema, else nothing."""
        label_class = self.by_id(shape.class_id)
        if label_class is None:
            return "class_id", "is no class of this project's schema"
        if label_class.kind != kind_of(shape):
            return "kind", f"class {label_class.name} is for {label_class.kind}"
        if isinstance(shape, Keypoints) and label_class.skeleton is not None:
            expected = len(label_class.skeleton.joints)
            if len(shape.points) != expected:
                return "points", f"class {label_class.name} has {expected} joints"
        return None


def parse(raw: object) -> Schema:
    """A schema from JSON `{"classes": [...]}`. Raises `InvalidSchema` naming the field.

    >>> schema = parse({"classes": [{"id": 1, "name": "cell", "kind": "box"}]})
    >>> schema.classes[0].color
    '#E69F00'
    """
    items = raw.get("classes") if isinstance(raw, Mapping) else None
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        raise InvalidSchema("classes", "must be a list with at least one class")
    if len(items) > MAX_CLASSES:
        raise InvalidSchema("classes", f"at most {MAX_CLASSES} classes")
    classes = tuple(_parse_class(item, index) for index, item in enumerate(items))
    for name in ("id", "name", "key"):
        seen: set[object] = set()
        for index, item in enumerate(classes):
            value = getattr(item, name)
            if value != "" and value in seen:
                raise InvalidSchema(f"classes[{index}].{name}", f"{value!r} is used by an earlier class")
            seen.add(value)
    return Schema(classes)


def dump(schema: Schema) -> Json:
    """The JSON of a schema; `parse(dump(schema)) == schema`."""
    return {"classes": [_dump_class(item) for item in schema.classes]}


def _dump_class(item: LabelClass) -> Json:
    raw: Json = {"id": item.id, "name": item.name, "kind": item.kind, "color": item.color, "key": item.key}
    if item.skeleton is not None:
        raw["skeleton"] = {
            "joints": list(item.skeleton.joints),
            "edges": [list(edge) for edge in item.skeleton.edges],
            "pairs": [list(pair) for pair in item.skeleton.pairs],
        }
    return raw


def _parse_class(raw: object, index: int) -> LabelClass:
    path = f"classes[{index}]"
    if not isinstance(raw, Mapping):
        raise InvalidSchema(path, "must be an object")
    class_id = raw.get("id")
    if not isinstance(class_id, int) or isinstance(class_id, bool) or not 0 < class_id < 2**31:
        raise InvalidSchema(f"{path}.id", "must be a positive whole number")
    kind = raw.get("kind")
    if kind not in ("box", "keypoints", "tag"):
        raise InvalidSchema(f"{path}.kind", "must be box, keypoints or tag")
    color = raw.get("color") or COLORS[index % len(COLORS)]
    if not isinstance(color, str) or not re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        raise InvalidSchema(f"{path}.color", "must be a colour like #56B4E9")
    key = raw.get("key", "")
    if not isinstance(key, str) or not re.fullmatch(r"[0-9]?", key):
        raise InvalidSchema(f"{path}.key", "must be a digit, so that it never collides with a tool's key")
    skeleton = _parse_skeleton(raw.get("skeleton"), path) if kind == "keypoints" else None
    return LabelClass(
        class_id, _name(raw.get("name"), f"{path}.name"), cast(Kind, kind), color, key, skeleton
    )


def _parse_skeleton(raw: object, path: str) -> Skeleton:
    if not isinstance(raw, Mapping):
        raise InvalidSchema(f"{path}.skeleton", "a keypoints class needs a skeleton with joints")
    joints = raw.get("joints")
    if not isinstance(joints, Sequence) or isinstance(joints, str) or not 0 < len(joints) <= 500:
        raise InvalidSchema(f"{path}.skeleton.joints", "must be a list of 1 to 500 names")
    names = tuple(_name(joint, f"{path}.skeleton.joints[{i}]") for i, joint in enumerate(joints))
    if len(set(names)) < len(names):
        raise InvalidSchema(f"{path}.skeleton.joints", "must have different names")
    return Skeleton(
        names,
        edges=_index_pairs(raw, "edges", len(names), path),
        pairs=_index_pairs(raw, "pairs", len(names), path),
    )


def _index_pairs(raw: Mapping[str, Any], name: str, count: int, path: str) -> tuple[tuple[int, int], ...]:
    items = raw.get(name, [])
    problem = InvalidSchema(
        f"{path}.skeleton.{name}", f"must be pairs of joint numbers from 0 to {count - 1}"
    )
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise problem
    pairs: list[tuple[int, int]] = []
    for item in items:
        if not isinstance(item, Sequence) or len(item) != 2:
            raise problem
        a, b = item
        if (
            not all(isinstance(j, int) and not isinstance(j, bool) and 0 <= j < count for j in (a, b))
            or a == b
        ):
            raise problem
        pairs.append((a, b))
    if name == "pairs" and len({joint for pair in pairs for joint in pair}) < 2 * len(pairs):
        raise InvalidSchema(f"{path}.skeleton.pairs", "a joint can be in one pair only")
    return tuple(pairs)


def _name(value: object, path: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_NAME:
        raise InvalidSchema(path, f"must be a name of at most {MAX_NAME} characters")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidSchema(path, "has a character that cannot be stored")
    return value
