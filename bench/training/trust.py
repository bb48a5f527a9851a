"""May one leave it alone at night? Kills, sabotaged set-ups, and healthy ones that must not raise an alarm."""

import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from bench.training import kills
from bench.training.sets import RealSet, bccd, drawn, microcontrollers, openfield
from ml.boxes import Targets
from ml.models.dense import DenseDetector
from ml.schema import XYXY, Example
from ml.train import TrainConfig, TrainingError, fit

Losses = Callable[[DenseDetector, Tensor, Targets], dict[str, Tensor]]
SHORT: Final = TrainConfig(steps=60, threads=1)


@dataclass(frozen=True, slots=True)
class Sabotage:
    """What is done to a set-up, and the names of which one has to be told."""

    name: str
    told: tuple[str, ...]
    boxes: Callable[[XYXY], XYXY] | None = None
    pictures: Callable[[Sequence[Example]], Sequence[Example]] | None = None
    losses: Callable[[Losses], Losses] | None = None
    rate: float = 1.0
    frozen: bool = False


def _shuffled(train: Sequence[Example]) -> list[Example]:
    """Each picture with the labels of another one, cut to its size."""
    away = len(train) // 3
    return [
        replace(item, objects=_inside(train[(row + away) % len(train)], item))
        for row, item in enumerate(train)
    ]


def _inside(source: Example, target: Example) -> Any:
    x, y = target.width / source.width, target.height / source.height
    return tuple(
        replace(one, xyxy=(one.xyxy[0] * x, one.xyxy[1] * y, one.xyxy[2] * x, one.xyxy[3] * y), points=())
        for one in source.objects
    )


def _without_first_class(train: Sequence[Example]) -> list[Example]:
    gone = min(one.class_id for item in train for one in item.objects)
    return [
        replace(item, objects=tuple(one for one in item.objects if one.class_id != gone)) for item in train
    ]


SABOTAGES: Final = (
    Sabotage("boxes_xywh", ("box_format",), boxes=lambda b: (b[0], b[1], b[2] - b[0], b[3] - b[1])),
    Sabotage(
        "boxes_cxcywh",
        ("box_format",),
        boxes=lambda b: ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0], b[3] - b[1]),
    ),
    Sabotage("swapped_axes", ("box_axes",), boxes=lambda b: (b[1], b[0], b[3], b[2])),
    Sabotage(
        "loss_sign",
        ("loss_sign",),
        losses=lambda whole: lambda *given: {name: -part for name, part in whole(*given).items()},
    ),
    Sabotage("rate_x1000", ("learning_rate",), rate=1000.0),
    Sabotage("shuffled_labels", ("labels_fit_pictures",), pictures=_shuffled),
    Sabotage(
        "empty_labels",
        ("class_counts",),
        pictures=lambda train: [replace(item, objects=()) for item in train],
    ),
    Sabotage("class_missing", ("class_counts",), pictures=_without_first_class),
    Sabotage("frozen_head", ("gradients",), frozen=True),
    Sabotage(
        "not_normalised",
        ("input_normalised",),
        losses=lambda whole: (
            lambda model, pictures, targets: whole(model, pictures.float() * 57 + 114, targets)
        ),
    ),
    Sabotage(
        "nan_pixels",
        ("input_finite",),
        losses=lambda whole: lambda model, pictures, targets: whole(model, pictures * math.nan, targets),
    ),
)


def run(*, quick: bool, sets: Path, work: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """`kills`, `sabotages` and `healthy`; `quick` kills twice and trains shorter."""
    cells = bccd(sets)
    short = cells.snapshot(work / "kills-snapshot", train=cells.train[:24])
    killed = kills.survived(short, work / "kills", kills=2 if quick else 20, seed=seeds[0])
    rows = [
        attempted(real, item, work / "sabotages")
        for real in (cells, drawn(work / "drawn"))
        for item in SABOTAGES
    ]
    steps = 30 if quick else 300
    healthy = [
        untouched(real, work / "healthy", seed=seed, steps=steps)
        for real in (cells, microcontrollers(sets), openfield(sets), drawn(work / "drawn"))
        for seed in ([0] if quick else [0, 1, 2] if real.name in ("bccd", "drawn") else [0, 1])
    ]
    return {
        "kills": killed,
        "sabotages": {"tried": len(rows), "caught": sum(row["caught"] for row in rows), "each": rows},
        "healthy": {
            "runs": len(healthy),
            "false_alarms": sum(bool(row["alarms"]) for row in healthy),
            "each": healthy,
        },
    }


def attempted(real: RealSet, item: Sabotage, work: Path) -> dict[str, Any]:
    """Trains the sabotaged set-up; `caught`: its name was told, by a refusal or by a warning of the finished model."""
    train = list(real.train)
    rewrite = item.boxes
    if rewrite is not None:
        train = [
            replace(one, objects=tuple(replace(each, xyxy=rewrite(each.xyxy)) for each in one.objects))
            for one in train
        ]
    if item.pictures is not None:
        train = list(item.pictures(train))
    folder = work / f"{real.name}-{item.name}"
    shutil.rmtree(folder, ignore_errors=True)
    config = replace(SHORT, learning_rate=SHORT.learning_rate * item.rate)
    with _spoilt(item):
        told = _told(real.snapshot(folder / "snapshot", train=train), folder / "out", config)
    caught = any(line.startswith(f"{name}: ") or f" {name}: " in line for name in item.told for line in told)
    row = {"set": real.name, "sabotage": item.name, "caught": caught, "told": [line[:200] for line in told]}
    print(f"{real.name} {item.name}: caught {caught}", file=sys.stderr, flush=True)
    return row


def untouched(real: RealSet, work: Path, *, seed: int, steps: int) -> dict[str, Any]:
    """A set as it is, a fifth of its training pictures as validation; `alarms`: all that was told against it."""
    folder = work / f"{real.name}-{seed}"
    train, val = real.train[: len(real.train) * 4 // 5], real.train[len(real.train) * 4 // 5 :]
    snapshot = real.snapshot(folder / "snapshot", train=train, val=val)
    config = replace(SHORT, steps=steps, seed=seed, symmetry="any" if real.symmetry == "any" else "upright")
    alarms = _told(snapshot, folder / "out", config)
    print(f"{real.name} {seed} healthy: {alarms}", file=sys.stderr, flush=True)
    return {"set": real.name, "seed": seed, "steps": steps, "alarms": alarms}


def _told(snapshot: Path, out: Path, config: TrainConfig) -> list[str]:
    try:
        return list(fit(snapshot, out, config=config).card["warnings"])
    except TrainingError as error:
        return [str(error)]


@contextmanager
def _spoilt(item: Sabotage) -> Iterator[None]:
    """The detector with the sabotage in it, as if someone had written it so."""
    losses, init = DenseDetector.losses, DenseDetector.__init__

    def frozen(model: DenseDetector, *given: Any) -> None:
        init(model, *given)
        model.box_head.requires_grad_(False)

    if item.losses is not None:
        DenseDetector.losses = item.losses(losses)  # type: ignore[method-assign,assignment]
    if item.frozen:
        DenseDetector.__init__ = frozen  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        DenseDetector.losses, DenseDetector.__init__ = losses, init  # type: ignore[method-assign]
