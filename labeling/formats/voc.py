"""Pascal VOC's XML, one file per picture (host.robots.ox.ac.uk/pascal/VOC).

The original counts pixels from 1 and includes the last one, but most writers store 0-based edges. So edges
are read as they stand unless `one_based` is asked for: then xmin and ymin are one less, and xmax and ymax,
which included their pixel, stay.
"""

import re
import xml.sax.handler
import xml.sax.xmlreader
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Final
from xml.sax import SAXException

from defusedxml import DefusedXmlException
from defusedxml.sax import make_parser

from labeling import shapes
from labeling.formats.base import (
    MAX_DEPTH,
    MAX_PICTURE_SIDE,
    Dataset,
    DatasetStream,
    ImageLabels,
    LabelStream,
    Problem,
    UnreadableFileError,
    build_schema,
    read_bytes,
    relative_path,
)
from labeling.formats.report import LossLedger, LossReport
from labeling.shapes import XYXY, AttributeValue, Box, InvalidShape

SNIFF_BYTES: Final = 4_096
MAX_ELEMENTS: Final = 2_000_000
FLAGS: Final = ("truncated", "difficult", "occluded")
SPLITS: Final = ("train", "val", "test")
_EDGES: Final = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class Voc:
    """A flag that is 0 and a pose "Unspecified" say nothing, so they are no attributes."""

    one_based: bool = False
    name: str = "voc"

    def sniff(self, path: Path) -> bool:
        if path.suffix.lower() != ".xml":
            return False
        with path.open("rb") as file:
            return re.search(rb"<annotation[\s>]", file.read(SNIFF_BYTES).replace(b"\x00", b"")) is not None

    def read(self, paths: Sequence[Path]) -> Dataset:
        problems: list[Problem] = []
        losses = LossLedger()
        found = [_read(path, self.one_based, problems, losses) for path in paths]
        names = sorted({name for _, boxes in found for name, _ in boxes})
        schema = build_schema(
            [{"id": index, "name": name, "kind": "box"} for index, name in enumerate(names, start=1)],
            paths[0].parent.name if paths else "",
        )
        class_ids = {name: index for index, name in enumerate(names, start=1)}
        images = tuple(
            ImageLabels(
                image.file_name,
                image.width,
                image.height,
                tuple(
                    Box(box.id, class_ids[name], box.xyxy, "imported", None, box.attributes)
                    for name, box in boxes
                ),
                image.source,
            )
            for image, boxes in found
        )
        return Dataset(schema, images, tuple(problems), losses.report())

    def open(self, path: Path) -> LabelStream:
        return DatasetStream(self.read([path]), path.name)

    def write(self, dataset: Dataset, folder: Path) -> LossReport:
        losses = LossLedger()
        names = {item.id: item.name for item in dataset.schema.classes}
        taken: set[PurePosixPath] = set()
        for image in dataset.images:
            relative = relative_path(image.file_name)
            target = relative.with_suffix(".xml")
            if target in taken:
                target = relative.with_name(f"{relative.name}.xml")
            taken.add(target)
            path = folder / "Annotations" / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._document(image, names, losses), encoding="utf-8")
        return losses.report()

    def _document(self, image: ImageLabels, names: Mapping[int, str], losses: LossLedger) -> str:
        lines = ["<annotation>", f"  <filename>{_text(image.file_name)}</filename>"]
        if image.width is not None and image.height is not None:
            lines += [
                "  <size>",
                f"    <width>{image.width}</width>",
                f"    <height>{image.height}</height>",
                "    <depth>3</depth>",
                "  </size>",
            ]
        losses.add("field of an image", len(image.attributes))
        for shape in image.shapes:
            if not isinstance(shape, Box):
                losses.add(f"{shapes.kind_of(shape)} shape")
                continue
            losses.add("score of a shape", int(shape.score is not None))
            losses.add("provenance of a shape", int(shape.provenance != "imported"))
            for key, value in shape.attributes.items():
                kept = (key in FLAGS and isinstance(value, bool)) or (
                    key == "pose" and isinstance(value, str)
                )
                losses.add(f"attribute {key}", int(not kept))
            pose = shape.attributes.get("pose")
            lines += [
                "  <object>",
                f"    <name>{_text(names[shape.class_id])}</name>",
                f"    <pose>{_text(pose) if isinstance(pose, str) else 'Unspecified'}</pose>",
            ]
            lines += [f"    <{flag}>{int(shape.attributes.get(flag) is True)}</{flag}>" for flag in FLAGS]
            x1, y1, x2, y2 = shape.xyxy
            edges = (x1 + 1, y1 + 1, x2, y2) if self.one_based else shape.xyxy
            lines.append("    <bndbox>")
            lines += [
                f"      <{edge}>{_number(value)}</{edge}>" for edge, value in zip(_EDGES, edges, strict=True)
            ]
            lines += ["    </bndbox>", "  </object>"]
        return "\n".join([*lines, "</annotation>", ""])


def read_splits(image_sets: Path) -> dict[str, str]:
    """The split ("train", "val" or "test") of each picture's stem, from an `ImageSets/Main` folder.

    A list in which every line ends in 1, 0 or -1 is one of a class: its flags are no part of the names.
    """
    splits: dict[str, str] = {}
    for split in SPLITS:
        path = image_sets / f"{split}.txt"
        if not path.is_file():
            continue
        text = read_bytes(path).decode("utf-8-sig", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        flagged = all(re.fullmatch(r".*\S\s+(1|0|-1)", line) for line in lines)
        splits.update((line.rsplit(maxsplit=1)[0] if flagged else line, split) for line in lines)
    return splits


@dataclass(slots=True)
class _Element:
    tag: str
    line: int
    text: str = ""
    children: list["_Element"] = field(default_factory=list)

    def child(self, tag: str) -> "_Element | None":
        return next((item for item in self.children if item.tag == tag), None)

    def value(self, tag: str) -> str:
        found = self.child(tag)
        return "" if found is None else found.text.strip()


class _Builder(xml.sax.handler.ContentHandler):
    """Elements with the line they begin on, which the tree parsers forget."""

    def __init__(self) -> None:
        super().__init__()
        self.root = _Element("", 0)
        self.open = [self.root]
        self.count = 0
        self.locator: xml.sax.xmlreader.Locator | None = None

    def setDocumentLocator(self, locator: xml.sax.xmlreader.Locator) -> None:  # noqa: N802 (SAX's name)
        self.locator = locator

    def startElement(self, name: str, attrs: object) -> None:  # noqa: N802 (SAX's name)
        self.count += 1
        if len(self.open) > MAX_DEPTH or self.count > MAX_ELEMENTS:
            raise SAXException("is nested too deeply or has too many elements")
        line = self.locator.getLineNumber() if self.locator is not None else None
        element = _Element(name, line or 0)
        self.open[-1].children.append(element)
        self.open.append(element)

    def endElement(self, name: str) -> None:  # noqa: N802 (SAX's name)
        self.open.pop()

    def characters(self, content: str) -> None:
        self.open[-1].text += content


def _read(
    path: Path, one_based: bool, problems: list[Problem], losses: LossLedger
) -> tuple[ImageLabels, list[tuple[str, Box]]]:
    root = _parse(path)

    def problem(line: int, where: str, reason: str) -> None:
        problems.append(Problem(path.name, line, where, reason))

    sides: list[int | None] = []
    size = root.child("size")
    for side in ("width", "height"):
        text = size.value(side) if size is not None else ""
        value = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
        if text and value > MAX_PICTURE_SIDE:
            problem(size.line if size is not None else 0, f"size.{side}", "must be a whole number of pixels")
        # 0 is what some writers put for "unknown"
        sides.append(value if 0 < value <= MAX_PICTURE_SIDE else None)
    boxes: list[tuple[str, Box]] = []
    for index, element in enumerate(item for item in root.children if item.tag == "object"):
        where = f"object[{index}]"
        name = element.value("name")
        bounds = element.child("bndbox")
        if not name or bounds is None:
            problem(element.line, f"{where}.{'bndbox' if name else 'name'}", "is missing")
            continue
        losses.add("part of an object", sum(item.tag == "part" for item in element.children))
        losses.add("polygon", sum(item.tag in ("polygon", "segmentation") for item in element.children))
        try:
            shape = shapes.parse(
                {
                    "id": f"voc-{index}",
                    "kind": "box",
                    "class_id": 1,
                    "xyxy": _edges(bounds, one_based),
                    "attributes": _attributes(element),
                }
            )
        except InvalidShape as error:
            edge = error.field.replace("xyxy", "bndbox")
            problem(bounds.line, f"{where}.{edge}", error.message)
            continue
        if isinstance(shape, Box):
            boxes.append((name, shape))
    file_name = root.value("filename") or path.stem
    return ImageLabels(file_name, sides[0], sides[1], (), path.name), boxes


def _parse(path: Path) -> _Element:
    builder = _Builder()
    parser = make_parser()
    parser.setContentHandler(builder)
    try:
        parser.parse(BytesIO(read_bytes(path)))
    except DefusedXmlException as error:
        reason = f"holds XML that is not allowed ({type(error).__name__})"
        raise UnreadableFileError(Problem(path.name, None, "", reason)) from None
    except xml.sax.SAXParseException as error:
        raise UnreadableFileError(
            Problem(path.name, error.getLineNumber(), "", f"is not XML: {error.getMessage()}")
        ) from None
    except (SAXException, ValueError, LookupError) as error:
        raise UnreadableFileError(Problem(path.name, None, "", str(error))) from None
    root = builder.root.child("annotation")
    if root is None:
        raise UnreadableFileError(
            Problem(path.name, 1, "", "must have <annotation> as its outermost element")
        )
    return root


def _edges(bounds: _Element, one_based: bool) -> XYXY:
    values: list[float] = []
    for edge in _EDGES:
        try:
            values.append(float(bounds.value(edge)))
        except ValueError:
            raise InvalidShape(f"bndbox.{edge}", "must be a number") from None
    x1, y1, x2, y2 = values
    return (x1 - 1, y1 - 1, x2, y2) if one_based else (x1, y1, x2, y2)


def _attributes(element: _Element) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {flag: True for flag in FLAGS if _is_set(element.value(flag))}
    pose = element.value("pose")
    if pose and pose.casefold() != "unspecified":
        attributes["pose"] = pose
    return attributes


def _is_set(text: str) -> bool:
    return text.casefold() in ("1", "true", "yes")


def _text(value: str) -> str:
    """Escaped, without the control characters that XML cannot hold at all."""
    return escape("".join(_storable(value)), quote=False)


def _storable(value: str) -> Iterable[str]:
    return (character for character in value if character >= " " or character in "\t\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
