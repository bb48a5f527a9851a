"""How good a detector is after so many core-seconds on one core, on real sets and from scratch."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.training.sets import RealSet, bccd, microcontrollers, openfield
from ml import metrics
from ml.predict import Predictor
from ml.schema import read_snapshot
from ml.train import TrainConfig, fit


def run(*, quick: bool, sets: Path, work: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """`bccd_240`, `bccd_600`, `bccd_warm`, `openfield`, `microcontrollers`; `quick` gives a sixth of the seconds."""
    share = 1 / 6 if quick else 1.0
    cells, mouse, boards = bccd(sets), openfield(sets), microcontrollers(sets)
    chosen = seeds[:1] if quick else seeds
    return {
        "bccd_240": _mean([_measured(cells, work, seed, 240 * share) for seed in chosen]),
        "bccd_600": _mean([_measured(cells, work, seed, 600 * share) for seed in chosen[:1]]),
        "bccd_warm": _mean([_warm(cells, work, seed, share) for seed in chosen[:1]]),
        "openfield": _mean([_measured(mouse, work, seed, 300 * share) for seed in chosen[:1]]),
        "microcontrollers": _mean([_measured(boards, work, seed, 300 * share) for seed in chosen[:1]]),
    }


def _warm(real: RealSet, work: Path, seed: int, share: float) -> dict[str, Any]:
    """100 pictures in 120 core-seconds, from the model that the first 50 of them made."""
    order = np.random.default_rng(seed).permutation(len(real.train))[:100].tolist()
    pictures = [real.train[index] for index in order]
    first = _fit(replace(real, train=tuple(pictures[:50])), work / "first", seed, 120 * share, None)
    return _measured(replace(real, train=tuple(pictures)), work / "warm", seed, 120 * share, warm_start=first)


def _fit(real: RealSet, work: Path, seed: int, seconds: float, warm_start: Path | None) -> Path:
    snapshot = real.snapshot(work / f"{real.name}-snapshot")
    config = replace(
        TrainConfig.for_budget(seconds=seconds, images=len(real.train), threads=1),
        seed=seed,
        symmetry="any" if real.symmetry == "any" else "upright",
    )
    out = work / f"{real.name}-{seconds:.0f}-{seed}"
    return fit(snapshot, out, config=config, warm_start=warm_start).folder


def _measured(
    real: RealSet, work: Path, seed: int, seconds: float, warm_start: Path | None = None
) -> dict[str, Any]:
    began = time.process_time()
    model = _fit(real, work, seed, seconds, warm_start)
    spent = time.process_time() - began
    opened = read_snapshot(work / f"{real.name}-snapshot")
    examples = opened.split("gold")
    predictor = Predictor.load(model, "cpu")
    paths = [opened.image_path(item) for item in examples]
    seen = [one.detections for _, one in predictor.predict_files(paths, score_threshold=0.01)]
    scores = metrics.evaluate(examples, seen, opened.classes)
    errors = [
        float(np.hypot(found[0] - wanted[0], found[1] - wanted[1]))
        for example, row in zip(examples, seen, strict=True)
        for item in example.objects
        if item.points and row
        for found, wanted in zip(row[0].points, item.points, strict=True)
        if wanted[2] > 0
    ]
    row = {"seed": seed, "core_seconds": round(spent), "ap50": scores.ap50, "ap": scores.ap}
    if errors:
        row |= {"pck5": scores.pck, "error_px": float(np.mean(errors))}
    print(f"{real.name}, {seconds:.0f} s: {row}", file=sys.stderr, flush=True)
    return row


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = [name for name in rows[0] if name != "seed"]
    return {name: float(np.mean([row[name] for row in rows])) for name in names} | {"per_seed": list(rows)}
