"""What a person draws on a picture: a `Box`, `Keypoints`, or a `Tag`.

Coordinates are continuous pixels of the oriented picture: (0, 0) is the top-left corner of the
top-left pixel, so a pixel's centre is at +0.5 and a box over the whole picture is (0, 0, width, height).

>>> box = parse({"id": "a", "kind": "box", "class_id": 1, "xyxy": [1, 2, 3.5, 4]})
>>> box.xyxy
(1.0, 2.0, 3.5, 4.0)
>>> dump(box)["xyxy"]
[1.0, 2.0, 3.5, 4.0]
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, cast, get_args

XYXY: TypeAlias = tuple[float, float, float, float]
Point: TypeAlias = tuple[float, float, int]
"""x, y in pixels and COCO's visibility: 0 absent (x = y = 0), 1 labelled but hidden, 2 visible."""

Provenance: TypeAlias = Literal[
    "human_drawn", "human_edited", "human_accepted", "consensus", "imported", "model_only"
]
PROVENANCES: Final = get_args(Provenance)

AttributeValue: TypeAlias = str | int | float | bool
Json: TypeAlias = dict[str, Any]

MAX_COORDINATE: Final = 1e6
MAX_SHAPES: Final = 20_000
MAX_POINTS: Final = 500
MAX_TEXT: Final = 200


class InvalidShape(ValueError):
    """A shape that cannot be stored; `field` is the path to the part that is wrong, like `points[3]`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box around one object. `xyxy` has x1 < x2 and y1 < y2."""

    id: str
    class_id: int
    xyxy: XYXY
    provenance: Provenance = "human_drawn"
    score: float | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Keypoints:
    """One object's joints, in the order of its class's skeleton; `xyxy` is the object's box, if one was drawn."""

    id: str
    class_id: int
    points: tuple[Point, ...]
    xyxy: XYXY | None = None
    provenance: Provenance = "human_drawn"
    score: float | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tag:
    """A statement about the whole picture."""

    id: str
    class_id: int
    provenance: Provenance = "human_drawn"
    score: float | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


Shape: TypeAlias = Box | Keypoints | Tag
Kind: TypeAlias = Literal["box", "keypoints", "tag"]


def parse(raw: object) -> Shape:
    """One shape from JSON. Raises `InvalidShape` naming the field; unknown fields are refused."""
    if not isinstance(raw, Mapping):
        raise InvalidShape("", "must be an object")
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidShape("kind", f"must be one of {', '.join(KINDS)}")
    return KINDS[kind](raw)


def parse_list(raw: object) -> tuple[Shape, ...]:
    """A whole answer from JSON. Raises `InvalidShape` with a path like `shapes[2].xyxy`."""
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        raise InvalidShape("shapes", "must be a list")
    if len(raw) > MAX_SHAPES:
        raise InvalidShape("shapes", f"at most {MAX_SHAPES} shapes in one picture")
    shapes: list[Shape] = []
    seen: set[str] = set()
    for index, item in enumerate(raw):
        try:
            shape = parse(item)
        except InvalidShape as error:
            path = f"shapes[{index}].{error.field}" if error.field else f"shapes[{index}]"
            raise InvalidShape(path, error.message) from None
        if shape.id in seen:
            raise InvalidShape(f"shapes[{index}].id", "occurs twice in this answer")
        seen.add(shape.id)
        shapes.append(shape)
    return tuple(shapes)


def dump(shape: Shape) -> Json:
    """The JSON of a shape; `parse(dump(shape)) == shape`."""
    raw: Json = {"id": shape.id, "kind": kind_of(shape), "class_id": shape.class_id}
    if not isinstance(shape, Tag) and shape.xyxy is not None:
        raw["xyxy"] = list(shape.xyxy)
    if isinstance(shape, Keypoints):
        raw["points"] = [list(point) for point in shape.points]
    raw["provenance"] = shape.provenance
    if shape.score is not None:
        raw["score"] = shape.score
    if shape.attributes:
        raw["attributes"] = dict(shape.attributes)
    return raw


def dump_list(shapes: Sequence[Shape]) -> list[Json]:
    return [dump(shape) for shape in shapes]


def kind_of(shape: Shape) -> Kind:
    if isinstance(shape, Box):
        return "box"
    return "keypoints" if isinstance(shape, Keypoints) else "tag"


def with_provenance(shape: Shape, provenance: Provenance) -> Shape:
    return replace(shape, provenance=provenance)


def clipped(shape: Shape, *, width: int, height: int) -> Shape:
    """The shape with its box cut to the picture; a box wholly outside is left as it is (the caller decides)."""
    if isinstance(shape, Tag) or shape.xyxy is None:
        return shape
    x1, y1, x2, y2 = shape.xyxy
    cut = (max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2))
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        return shape
    return replace(shape, xyxy=cut)


def _parse_box(raw: Mapping[str, Any]) -> Box:
    _only(raw, {"xyxy"})
    return Box(
        id=_text(raw, "id"),
        class_id=_class_id(raw),
        xyxy=_xyxy(raw.get("xyxy")),
        provenance=_provenance(raw),
        score=_score(raw),
        attributes=_attributes(raw),
    )


def _parse_keypoints(raw: Mapping[str, Any]) -> Keypoints:
    _only(raw, {"xyxy", "points"})
    points = raw.get("points")
    if not isinstance(points, Sequence) or isinstance(points, str) or not 0 < len(points) <= MAX_POINTS:
        raise InvalidShape("points", f"must be a list of 1 to {MAX_POINTS} [x, y, v]")
    return Keypoints(
        id=_text(raw, "id"),
        class_id=_class_id(raw),
        points=tuple(_point(item, f"points[{index}]") for index, item in enumerate(points)),
        xyxy=None if raw.get("xyxy") is None else _xyxy(raw["xyxy"]),
        provenance=_provenance(raw),
        score=_score(raw),
        attributes=_attributes(raw),
    )


def _parse_tag(raw: Mapping[str, Any]) -> Tag:
    _only(raw, set())
    return Tag(
        id=_text(raw, "id"),
        class_id=_class_id(raw),
        provenance=_provenance(raw),
        score=_score(raw),
        attributes=_attributes(raw),
    )


KINDS: Final[Mapping[str, Callable[[Mapping[str, Any]], Shape]]] = {
    "box": _parse_box,
    "keypoints": _parse_keypoints,
    "tag": _parse_tag,
}
"""The registry of shape kinds: a new kind is one dataclass, one parser and one line here."""

_COMMON = {"id", "kind", "class_id", "provenance", "score", "attributes"}


def _only(raw: Mapping[str, Any], own: set[str]) -> None:
    unknown = sorted(str(key) for key in raw if key not in _COMMON | own)
    if unknown:
        raise InvalidShape(unknown[0][:MAX_TEXT], "is not a field of this kind of shape")


def _storable_text(value: object, path: str) -> str:
    """Text that both databases store: no NUL, no lone surrogate, bounded."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise InvalidShape(path, f"must be text of at most {MAX_TEXT} characters")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidShape(path, "has a character that cannot be stored")
    return value


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = _storable_text(raw.get(name), name)
    if not value:
        raise InvalidShape(name, "must not be empty")
    return value


def _class_id(raw: Mapping[str, Any]) -> int:
    value = raw.get("class_id")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise InvalidShape("class_id", "must be the id of a class of this project")
    return value


def _number(value: object, path: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidShape(path, "must be a number")
    if not (abs(value) <= MAX_COORDINATE):  # also refuses NaN and infinities
        raise InvalidShape(path, f"must be a finite number of pixels within ±{MAX_COORDINATE:.0f}")
    return float(value)


def _xyxy(value: object) -> XYXY:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 4:
        raise InvalidShape("xyxy", "must be [x1, y1, x2, y2]")
    x1, y1, x2, y2 = (_number(item, f"xyxy[{index}]") for index, item in enumerate(value))
    if not (x1 < x2 and y1 < y2):
        raise InvalidShape("xyxy", "must have an area: x1 < x2 and y1 < y2")
    return x1, y1, x2, y2


def _point(value: object, path: str) -> Point:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        raise InvalidShape(path, "must be [x, y, v]")
    x, y, v = value
    if v not in (0, 1, 2) or isinstance(v, bool):
        raise InvalidShape(path, "v must be 0 (absent), 1 (hidden) or 2 (visible)")
    if v == 0:
        return 0.0, 0.0, 0
    return _number(x, path), _number(y, path), int(v)


def _provenance(raw: Mapping[str, Any]) -> Provenance:
    value = raw.get("provenance", "human_drawn")
    if not isinstance(value, str) or value not in PROVENANCES:
        raise InvalidShape("provenance", f"must be one of {', '.join(PROVENANCES)}")
    return cast(Provenance, value)


def _score(raw: Mapping[str, Any]) -> float | None:
    value = raw.get("score")
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not (0.0 <= value <= 1.0):
        raise InvalidShape("score", "must be between 0 and 1")
    return float(value)


def _attributes(raw: Mapping[str, Any]) -> dict[str, AttributeValue]:
    value = raw.get("attributes", {})
    if not isinstance(value, Mapping) or len(value) > 50:
        raise InvalidShape("attributes", "must be an object of at most 50 names")
    attributes: dict[str, AttributeValue] = {}
    for key, item in value.items():
        name = _storable_text(key, "attributes")
        path = f"attributes.{name}"
        if isinstance(item, str):
            attributes[name] = _storable_text(item, path)
        elif isinstance(item, bool) or (
            isinstance(item, int | float) and abs(item) < 2**53  # also refuses NaN and infinities
        ):
            attributes[name] = item
        else:
            raise InvalidShape(path, "must be text, a number, or true or false")
    return attributes
