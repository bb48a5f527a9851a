"""The records that go into training and come out of a model, and the snapshot folder that holds them.

A snapshot is a folder that never changes:

    manifest.json     what it is, in canonical JSON; the sha256 of these bytes is the snapshot's version
    labels.jsonl      one picture's labels a line, in the manifest's order; its sha256 stands in the manifest
    cache/            decoded pictures that training keeps; no part of the snapshot, may be deleted any time
    images/<sha256>   each picture's original bytes; EXIF orientation is applied when one is read

Coordinates are continuous pixels of the oriented picture, (0, 0) its top-left corner.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

XYXY: TypeAlias = tuple[float, float, float, float]
Point: TypeAlias = tuple[float, float, int]
"""x, y in pixels and COCO's visibility: 0 absent, 1 labelled but hidden, 2 visible."""
Split: TypeAlias = Literal["train", "val", "gold"]
"""`train` moves weights, `val` picks among checkpoints, `gold` is an expert's and only ever measures."""

FORMAT: Final = 1


class BrokenSnapshot(ValueError):
    """A snapshot folder that cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class DetectedClass:
    """A class that a detector learns. `joints` is empty for a class of plain boxes.

    `flip_index[j]` is the joint that joint j becomes in a mirrored picture; `mirror_id` is the class that
    this class becomes there (itself, unless the classes are a left/right pair).
    """

    id: int
    name: str
    joints: tuple[str, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()
    flip_index: tuple[int, ...] = ()
    mirror_id: int | None = None


@dataclass(frozen=True, slots=True)
class Object:
    """One labelled object. `xyxy` has an area; `points` is empty, or one point per joint of its class.

    `confidence` is the consensus's probability that the object is real and of this class, in (0, 1].
    """

    class_id: int
    xyxy: XYXY
    points: tuple[Point, ...] = ()
    confidence: float = 1.0
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """One picture with its settled labels; no objects means that a person saw there are none."""

    sha256: str
    width: int
    height: int
    split: Split
    objects: tuple[Object, ...]
    group: str = ""


@dataclass(frozen=True, slots=True)
class Detection:
    """One object that a model saw: `score` in [0, 1]; `points` are x, y, score per joint, or empty."""

    class_id: int
    score: float
    xyxy: XYXY
    points: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot folder, opened. `version` is the sha256 of its manifest."""

    folder: Path
    version: str
    classes: tuple[DetectedClass, ...]
    examples: tuple[Example, ...]
    about: Mapping[str, Any]

    def image_path(self, example: Example) -> Path:
        return self.folder / "images" / example.sha256

    def split(self, name: Split) -> tuple[Example, ...]:
        return tuple(example for example in self.examples if example.split == name)


@dataclass(frozen=True, slots=True)
class Layout:
    """How classes and their joints lie in a model's channels: joints of all classes stand one after another."""

    classes: tuple[DetectedClass, ...]

    @property
    def joint_starts(self) -> tuple[int, ...]:
        """The first joint channel of each class."""
        counts = [len(item.joints) for item in self.classes]
        return tuple(sum(counts[:index]) for index in range(len(counts)))

    @property
    def joint_count(self) -> int:
        return sum(len(item.joints) for item in self.classes)

    @property
    def channel_of(self) -> dict[int, int]:
        """Class id → channel."""
        return {item.id: channel for channel, item in enumerate(self.classes)}

    @property
    def class_mirror(self) -> tuple[int, ...]:
        """The channel that each class becomes in a mirrored picture."""
        channel_of = self.channel_of
        return tuple(
            channel if item.mirror_id is None else channel_of[item.mirror_id]
            for channel, item in enumerate(self.classes)
        )

    @property
    def joint_mirror(self) -> tuple[int, ...]:
        """The joint channel that each joint channel becomes in a mirrored picture.

        >>> ears = DetectedClass(7, "cat", ("left ear", "right ear"), flip_index=(1, 0))
        >>> Layout((DetectedClass(1, "dog", ("nose",)), ears)).joint_mirror
        (0, 2, 1)
        """
        starts = self.joint_starts
        return tuple(
            starts[mirrored] + (item.flip_index[joint] if item.flip_index else joint)
            for item, mirrored in zip(self.classes, self.class_mirror, strict=True)
            for joint in range(len(item.joints))
        )


def canonical_json(value: object) -> bytes:
    """The one spelling of a value: sorted keys, no spaces, UTF-8; NaN is refused."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def write_labels(
    *, classes: Sequence[DetectedClass], examples: Iterable[Example], about: Mapping[str, Any]
) -> tuple[bytes, bytes]:
    """(manifest.json, labels.jsonl) as bytes; the same contents in any order give the same bytes.

    `about` holds what else the version depends on (project, schema version, consensus revisions), JSON only.
    """
    ordered = sorted(examples, key=lambda example: example.sha256)
    labels = b"".join(canonical_json(_dump_example(example)) + b"\n" for example in ordered)
    manifest = {
        "format": FORMAT,
        "classes": [dump_class(item) for item in sorted(classes, key=lambda item: item.id)],
        "images": [
            {
                "sha256": example.sha256,
                "width": example.width,
                "height": example.height,
                "split": example.split,
                "group": example.group,
            }
            for example in ordered
        ],
        "labels_sha256": hashlib.sha256(labels).hexdigest(),
        "about": dict(about),
    }
    return canonical_json(manifest) + b"\n", labels


def read_snapshot(folder: Path) -> Snapshot:
    """Opens a snapshot folder. Raises `BrokenSnapshot` when a hash or a record does not fit."""
    try:
        manifest_bytes = (folder / "manifest.json").read_bytes()
        labels_bytes = (folder / "labels.jsonl").read_bytes()
        manifest = json.loads(manifest_bytes)
    except (OSError, ValueError) as error:
        raise BrokenSnapshot(f"{folder}: {error}") from error
    if manifest.get("format") != FORMAT:
        raise BrokenSnapshot(f"{folder}/manifest.json: format {manifest.get('format')!r} is not {FORMAT}")
    if hashlib.sha256(labels_bytes).hexdigest() != manifest["labels_sha256"]:
        raise BrokenSnapshot(f"{folder}/labels.jsonl: its sha256 is not the one in the manifest")
    try:
        images = manifest["images"]
        objects = [json.loads(line) for line in labels_bytes.splitlines()]
        examples = tuple(_parse_example(image, row) for image, row in zip(images, objects, strict=True))
        classes = tuple(parse_class(item) for item in manifest["classes"])
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenSnapshot(f"{folder}: {error!r}") from error
    version = hashlib.sha256(manifest_bytes).hexdigest()
    return Snapshot(folder, version, classes, examples, manifest["about"])


def dump_class(item: DetectedClass) -> dict[str, Any]:
    """As it stands in a manifest and in a model's card."""
    return {
        "id": item.id,
        "name": item.name,
        "joints": list(item.joints),
        "edges": [list(edge) for edge in item.edges],
        "flip_index": list(item.flip_index),
        "mirror_id": item.mirror_id,
    }


def parse_class(raw: Mapping[str, Any]) -> DetectedClass:
    """The inverse of `dump_class`. Raises KeyError or TypeError."""
    return DetectedClass(
        id=raw["id"],
        name=raw["name"],
        joints=tuple(raw["joints"]),
        edges=tuple((a, b) for a, b in raw["edges"]),
        flip_index=tuple(raw["flip_index"]),
        mirror_id=raw["mirror_id"],
    )


def _dump_example(example: Example) -> dict[str, Any]:
    return {
        "sha256": example.sha256,
        "objects": [
            {
                "class_id": item.class_id,
                "xyxy": list(item.xyxy),
                "points": [list(point) for point in item.points],
                "confidence": item.confidence,
                "crowd": item.crowd,
            }
            for item in example.objects
        ],
    }


def _parse_example(image: Mapping[str, Any], row: Mapping[str, Any]) -> Example:
    if image["sha256"] != row["sha256"]:
        raise ValueError(f"labels.jsonl has {row['sha256']} where the manifest has {image['sha256']}")
    return Example(
        sha256=image["sha256"],
        width=image["width"],
        height=image["height"],
        split=image["split"],
        group=image["group"],
        objects=tuple(_parse_object(item) for item in row["objects"]),
    )


def _parse_object(raw: Mapping[str, Any]) -> Object:
    x1, y1, x2, y2 = raw["xyxy"]
    return Object(
        class_id=raw["class_id"],
        xyxy=(x1, y1, x2, y2),
        points=tuple((x, y, v) for x, y, v in raw["points"]),
        confidence=raw["confidence"],
        crowd=raw["crowd"],
    )
