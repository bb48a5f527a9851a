"""The only place where labeling's shapes become ml's records, and back."""

from collections.abc import Iterable, Sequence
from typing import Final

from labeling import schema as label_schema
from labeling.models import Image
from labeling.shapes import Box, Keypoints, Shape, Tag, clipped
from ml import schema as ml_schema

HULL_MARGIN: Final = 0.12
"""A pose without a box gets its joints' hull, wider by this share of the hull's diagonal on each side."""
VISIBLE_AT: Final = 0.5
HIDDEN_AT: Final = 0.2


def classes(schema: label_schema.Schema) -> tuple[ml_schema.DetectedClass, ...]:
    """What a detector learns of a project's schema: its boxes and skeletons, not its tags."""
    return tuple(_class(item) for item in schema.classes if item.kind != "tag")


def example(
    *,
    image: Image,
    shapes: Iterable[Shape],
    known_classes: set[int],
    split: ml_schema.Split,
    group: str,
) -> ml_schema.Example:
    """One settled picture as a training example; shapes outside the picture or of removed classes stay out."""
    objects = [
        item
        for shape in shapes
        if shape.class_id in known_classes
        for item in _object(shape, width=image.width, height=image.height)
    ]
    objects.sort(key=lambda item: (item.class_id, item.xyxy, item.points))
    return ml_schema.Example(
        sha256=image.sha256,
        width=image.width,
        height=image.height,
        split=split,
        objects=tuple(objects),
        group=group,
    )


def shapes(detections: Sequence[ml_schema.Detection], *, width: int, height: int) -> tuple[Shape, ...]:
    """A model's detections as shapes of a prediction, inside the picture, best first."""
    found: list[Shape] = []
    for index, item in enumerate(sorted(detections, key=lambda item: -item.score)):
        shape = _shape(item, f"m{index}")
        cut = clipped(shape, width=width, height=height)
        if isinstance(cut, Tag) or cut.xyxy is None or _is_inside(cut.xyxy, width, height):
            found.append(cut)
    return tuple(found)


def _class(item: label_schema.LabelClass) -> ml_schema.DetectedClass:
    if item.skeleton is None:
        return ml_schema.DetectedClass(item.id, item.name)
    return ml_schema.DetectedClass(
        item.id,
        item.name,
        joints=item.skeleton.joints,
        edges=item.skeleton.edges,
        flip_index=item.skeleton.flip_index,
    )


def _object(shape: Shape, *, width: int, height: int) -> list[ml_schema.Object]:
    if isinstance(shape, Tag):
        return []
    points = shape.points if isinstance(shape, Keypoints) else ()
    xyxy = shape.xyxy or _hull(points)
    if xyxy is None:
        return []
    x1, y1, x2, y2 = xyxy
    cut = (max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2))
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        return []
    return [
        ml_schema.Object(
            class_id=shape.class_id,
            xyxy=cut,
            points=points,
            confidence=max(shape.score if shape.score is not None else 1.0, 1e-6),
            crowd=bool(shape.attributes.get("iscrowd", False)),
        )
    ]


def _hull(points: Sequence[tuple[float, float, int]]) -> tuple[float, float, float, float] | None:
    seen = [(x, y) for x, y, v in points if v > 0]
    if not seen:
        return None
    left, right = min(x for x, _ in seen), max(x for x, _ in seen)
    top, bottom = min(y for _, y in seen), max(y for _, y in seen)
    margin = max(HULL_MARGIN * ((right - left) ** 2 + (bottom - top) ** 2) ** 0.5, 4.0)
    return left - margin, top - margin, right + margin, bottom + margin


def _shape(item: ml_schema.Detection, shape_id: str) -> Shape:
    if not item.points:
        return Box(shape_id, item.class_id, item.xyxy, provenance="model_only", score=item.score)
    points = tuple(
        (x, y, 2 if score >= VISIBLE_AT else 1) if score >= HIDDEN_AT else (0.0, 0.0, 0)
        for x, y, score in item.points
    )
    return Keypoints(
        shape_id, item.class_id, points, xyxy=item.xyxy, provenance="model_only", score=item.score
    )


def _is_inside(xyxy: tuple[float, float, float, float], width: int, height: int) -> bool:
    x1, y1, x2, y2 = xyxy
    return 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
