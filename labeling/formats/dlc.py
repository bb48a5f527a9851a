"""DeepLabCut's `CollectedData_<scorer>.csv`: joints by picture, of one animal or several.

Three header rows name scorer, bodyparts and coords (four with individuals), and the picture's path stands in
one column or, in newer files, in three. An empty coordinate is a joint that is not there. The file has no
object boxes. Coordinates are taken as they stand: DeepLabCut trains on them as continuous pixels.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

from labeling import shapes
from labeling.formats.base import (
    Dataset,
    DatasetStream,
    ImageLabels,
    LabelStream,
    Problem,
    UnreadableFileError,
    build_schema,
    left_right_pairs,
    read_text,
)
from labeling.formats.report import LossLedger, LossReport
from labeling.shapes import InvalidShape, Keypoints, Point, Shape

HEADERS: Final = ("scorer", "individuals", "bodyparts", "coords")
MAX_COLUMNS: Final = 20_000
SINGLE: Final = ""


@dataclass(frozen=True, slots=True)
class Dlc:
    """`class_name` names the animal, for which the file has no word; `scorer` signs what is written."""

    class_name: str = "animal"
    scorer: str = "labelwheel"
    name: str = "dlc"

    def sniff(self, path: Path) -> bool:
        if path.suffix.lower() != ".csv":
            return False
        with path.open("rb") as file:
            return file.read(16).removeprefix(b"\xef\xbb\xbf").startswith(b"scorer,")

    def read(self, paths: Sequence[Path]) -> Dataset:
        """Files with the same bodyparts share a class."""
        sheets = [_Sheet(path) for path in paths]
        skeletons: dict[tuple[str, ...], str] = {}
        for sheet in sheets:
            for individual, joints in sheet.joints.items():
                if joints not in skeletons:
                    skeletons[joints] = individual if skeletons and individual else self.class_name
        class_ids = {joints: index for index, joints in enumerate(skeletons, start=1)}
        schema = build_schema(
            [
                {
                    "id": class_ids[joints],
                    "name": name,
                    "kind": "keypoints",
                    "skeleton": {"joints": list(joints), "pairs": left_right_pairs(joints)},
                }
                for joints, name in skeletons.items()
            ],
            paths[0].name if paths else "",
        )
        images = tuple(image for sheet in sheets for image in sheet.images(class_ids))
        return Dataset(schema, images, tuple(problem for sheet in sheets for problem in sheet.problems))

    def open(self, path: Path) -> LabelStream:
        return DatasetStream(self.read([path]), path.name)

    def write(self, dataset: Dataset, folder: Path) -> LossReport:
        """One file for the first keypoints class; several animals in a picture give a multi-animal file."""
        losses = LossLedger()
        label_class = next((item for item in dataset.schema.classes if item.skeleton is not None), None)
        joints = label_class.skeleton.joints if label_class is not None and label_class.skeleton else ()
        class_id = label_class.id if label_class is not None else 0
        drawn = {
            image.file_name: [
                shape for shape in image.shapes if isinstance(shape, Keypoints) and shape.class_id == class_id
            ]
            for image in dataset.images
        }
        most = max((len(animals) for animals in drawn.values()), default=0)
        individuals = [f"individual{number}" for number in range(1, most + 1)] if most > 1 else [SINGLE]
        rows: list[list[str]] = []
        cells = [(individual, joint, axis) for individual in individuals for joint in joints for axis in "xy"]
        rows.append(["scorer", *(self.scorer for _ in cells)])
        if most > 1:
            rows.append(["individuals", *(individual for individual, _, _ in cells)])
        rows.append(["bodyparts", *(joint for _, joint, _ in cells)])
        rows.append(["coords", *(axis for _, _, axis in cells)])
        for image in dataset.images:
            for shape in image.shapes:
                _count_losses(shape, class_id, losses)
            losses.add("field of an image", len(image.attributes))
            places = [place for shape in drawn[image.file_name] for place in _places(shape)]
            rows.append([image.file_name, *places, *[""] * (len(cells) - len(places))])
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        (folder / f"CollectedData_{self.scorer}.csv").write_text(text.getvalue(), encoding="utf-8")
        return losses.report()


class _Sheet:
    """One file: `columns` are (individual, joint, column of x, column of y)."""

    def __init__(self, path: Path) -> None:
        self.file = path.name
        self.problems: list[Problem] = []
        reader = csv.reader(StringIO(read_text(path), newline=""))
        self.header: dict[str, list[str]] = {}
        self.rows: list[tuple[int, list[str]]] = []
        try:
            for row in reader:
                if len(row) > MAX_COLUMNS:
                    raise self.unreadable(reader.line_num, "", f"has more than {MAX_COLUMNS} columns")
                if "coords" not in self.header:
                    self.add_header(row, reader.line_num)
                elif any(row):
                    self.rows.append((reader.line_num, row))
        except csv.Error as error:
            raise self.unreadable(reader.line_num, "", f"is not CSV: {error}") from None
        missing = [name for name in HEADERS if name != "individuals" and name not in self.header]
        if missing:
            raise self.unreadable(len(self.header) + 1, missing[0], "is missing among the header rows")
        axes = self.header["coords"]
        self.index_columns = next((number for number, axis in enumerate(axes) if axis == "x"), 0)
        if self.index_columns == 0:
            raise self.unreadable(len(self.header), "coords", "must name x and y columns")
        self.columns = self.find_columns(axes)
        self.joints: dict[str, tuple[str, ...]] = {}
        for individual, joint, _, _ in self.columns:
            self.joints[individual] = (*self.joints.get(individual, ()), joint)

    def add_header(self, row: list[str], line: int) -> None:
        name = row[0].strip() if row else ""
        if name not in HEADERS or name in self.header:
            raise self.unreadable(line, "", f"must be a header row, one of {', '.join(HEADERS)}")
        self.header[name] = [cell.strip() for cell in row]

    def find_columns(self, axes: list[str]) -> list[tuple[str, str, int, int]]:
        bodyparts = self.header["bodyparts"]
        individuals = self.header.get("individuals", [SINGLE] * len(axes))
        if not len(bodyparts) == len(axes) == len(individuals):
            raise self.unreadable(len(self.header), "bodyparts", "must have as many columns as coords")
        places: dict[tuple[str, str], dict[str, int]] = {}
        for number in range(self.index_columns, len(axes)):
            places.setdefault((individuals[number], bodyparts[number]), {})[axes[number]] = number
        for (_, joint), place in places.items():
            if not {"x", "y"} <= set(place):
                raise self.unreadable(len(self.header), f"coords.{joint}", "must have x and y")
        return [(individual, joint, place["x"], place["y"]) for (individual, joint), place in places.items()]

    def images(self, class_ids: dict[tuple[str, ...], int]) -> list[ImageLabels]:
        images: list[ImageLabels] = []
        seen: set[str] = set()
        for line, row in self.rows:
            file_name = "/".join(cell.strip() for cell in row[: self.index_columns] if cell.strip())
            if not file_name or file_name in seen:
                reason = "is used by an earlier row" if file_name else "must be the picture's path"
                self.problems.append(Problem(self.file, line, "path", reason))
                continue
            seen.add(file_name)
            drawn: list[Shape] = []
            for number, (individual, joints) in enumerate(self.joints.items()):
                shape = self.shape(line, row, individual, f"dlc-{number}", class_ids[joints])
                if shape is not None:
                    drawn.append(shape)
            images.append(ImageLabels(file_name, None, None, tuple(drawn), self.file))
        return images

    def shape(self, line: int, row: list[str], individual: str, identity: str, class_id: int) -> Shape | None:
        points: list[tuple[float, float, int]] = []
        places = [place for place in self.columns if place[0] == individual]
        try:
            for _, joint, x_column, y_column in places:
                x, y = (_coordinate(row, column, joint) for column in (x_column, y_column))
                points.append((0.0, 0.0, 0) if x is None or y is None else (x, y, 2))
            if not any(v for _, _, v in points):
                return None
            return shapes.parse(
                {
                    "id": identity,
                    "kind": "keypoints",
                    "class_id": class_id,
                    "points": points,
                    "provenance": "imported",
                }
            )
        except InvalidShape as error:
            where = f"{individual}.{error.field}" if individual else error.field
            self.problems.append(Problem(self.file, line, where, error.message))
            return None

    def unreadable(self, line: int, where: str, reason: str) -> UnreadableFileError:
        return UnreadableFileError(Problem(self.file, line, where, reason))


def _coordinate(row: list[str], column: int, joint: str) -> float | None:
    text = row[column].strip() if column < len(row) else ""
    try:
        value = float(text) if text else math.nan
    except ValueError:
        raise InvalidShape(joint, f"must be a number of pixels, not {text[:40]!r}") from None
    return None if math.isnan(value) else value


def _places(shape: Keypoints) -> list[str]:
    return [text for point in shape.points for text in _cells(point)]


def _cells(point: Point) -> tuple[str, str]:
    x, y, v = point
    return (repr(float(x)), repr(float(y))) if v > 0 else ("", "")


def _count_losses(shape: Shape, class_id: int, losses: LossLedger) -> None:
    if not isinstance(shape, Keypoints):
        losses.add(f"{shapes.kind_of(shape)} shape")
        return
    if shape.class_id != class_id:
        losses.add("keypoints of another class")
        return
    losses.add("box around joints", int(shape.xyxy is not None))
    losses.add("hidden joint, written as visible", sum(v == 1 for _, _, v in shape.points))
    losses.add("object without a labelled joint", int(not any(v for _, _, v in shape.points)))
    losses.add("attribute of a shape", len(shape.attributes))
    losses.add("score of a shape", int(shape.score is not None))
    losses.add("provenance of a shape", int(shape.provenance != "imported"))
