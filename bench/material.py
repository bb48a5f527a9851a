"""What the demo labels: pictures whose labels are known, split into a pool to label and gold to measure on."""

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from labeling.formats import Dataset, ImageLabels, PlannedPicture, inspect
from labeling.formats.coco import document_of
from labeling.schema import Schema

GOLD_SHARE: Final = 0.225
LEAST_GOLD: Final = 20
"""A folder's own test split is gold if it holds at least so many pictures."""
MOST_GOLD: Final = 200
POOL_PER_LABELLED: Final = 4
UPLOAD_BATCH: Final = 16


class NothingToLabel(Exception):
    """The folder does not hold what the demo needs; the message says what."""


@dataclass(frozen=True, slots=True)
class Known:
    """A picture and its true labels; `name` is what the service calls it."""

    name: str
    path: Path
    labels: ImageLabels


@dataclass(frozen=True, slots=True)
class Material:
    """`told` says where it comes from and how gold was chosen."""

    schema: Schema
    pool: tuple[Known, ...]
    gold: tuple[Known, ...]
    told: str


def read(folder: Path, *, labelled: int, seed: int = 0) -> Material:
    """The folder's labelled pictures in random order: gold is its test split if large enough, else a draw.

    At most `POOL_PER_LABELLED` times as many as shall be `labelled` go into the pool. Raises `NothingToLabel`.
    """
    if not folder.is_dir():
        raise NothingToLabel(f"There is no folder {folder}.")
    plan = inspect(folder)
    labelled_pictures = sorted(
        (picture for picture in plan.pictures if picture.labels is not None), key=lambda item: item.path
    )
    if not any(item.labels is not None and item.labels.shapes for item in labelled_pictures):
        problems = "".join(f"\n  {problem}" for problem in list(plan.problems)[:5])
        raise NothingToLabel(
            f"{folder} has no pictures with labels in COCO, Pascal VOC or DeepLabCut's CSV.{problems}"
        )
    known = _named(folder, labelled_pictures)
    draw = random.Random(seed)
    draw.shuffle(known)
    splits = {folder / picture.path: picture.split for picture in labelled_pictures}
    test = [item for item in known if splits[item.path] == "test"]
    if len(test) >= LEAST_GOLD:
        gold, pool = test, [item for item in known if splits[item.path] != "test"]
        chosen = "the folder's test split"
    else:
        cut = max(2, round(GOLD_SHARE * len(known)))
        gold, pool = known[:cut], known[cut:]
        chosen = f"drawn at random, seed {seed}"
    if len(pool) < 2:
        raise NothingToLabel(f"{folder} has only {len(known)} pictures with labels; the demo needs more.")
    gold, pool = gold[:MOST_GOLD], pool[: POOL_PER_LABELLED * labelled]
    told = f"{len(pool)} pictures to label, {len(gold)} with known labels as gold ({chosen})"
    return Material(plan.schema, tuple(pool), tuple(gold), told)


def batches(pictures: Sequence[Known]) -> Iterator[list[tuple[str, bytes]]]:
    """Pictures as files to upload. Their order stays that of the draw, batch by batch."""
    for start in range(0, len(pictures), UPLOAD_BATCH):
        yield [(item.name, item.path.read_bytes()) for item in pictures[start : start + UPLOAD_BATCH]]


def batches_with_labels(material: Material) -> Iterator[list[tuple[str, bytes]]]:
    """The gold pictures, each batch with a COCO file of its labels."""
    for start in range(0, len(material.gold), UPLOAD_BATCH):
        chosen = material.gold[start : start + UPLOAD_BATCH]
        images = tuple(replace(item.labels, file_name=item.name) for item in chosen)
        document, _ = document_of(Dataset(material.schema, images))
        files = [(item.name, item.path.read_bytes()) for item in chosen]
        yield [*files, ("labels.json", json.dumps(document).encode())]


def _named(folder: Path, pictures: Sequence[PlannedPicture]) -> list[Known]:
    """Each picture under its bare name; those that share one keep their folders in it."""
    counts = Counter(picture.path.name for picture in pictures)
    return [
        Known(
            picture.path.name if counts[picture.path.name] == 1 else "__".join(picture.path.parts),
            folder / picture.path,
            picture.labels,
        )
        for picture in pictures
        if picture.labels is not None
    ]
