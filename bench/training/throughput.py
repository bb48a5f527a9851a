"""Do the pictures arrive faster than the model learns from them? Each part alone and the whole step, in one run."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from bench.training.sets import bccd
from ml.data import cached_pictures
from ml.schema import read_snapshot
from ml.train import TrainConfig
from ml.training.run import Run

PRECISION: Final = "bfloat16"
DECODED: Final = 96
"""Pictures whose decoding is timed; each is decoded once in a training's life."""


def run(*, quick: bool, sets: Path, work: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Images/s of `decode`, `load_augment`, `model` (forward, backward) and the `whole_step`, on BCCD at full size.

    The parts take turns, so that a busy machine slows all of them alike; each is the median of its turns.
    `load_over_model`: above 1 the model is what a step waits for. `threads`: of each part.
    """
    snapshot = bccd(sets).snapshot(work / "throughput-snapshot")
    opened = read_snapshot(snapshot)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = replace(
        TrainConfig(seed=seeds[0], threads=1, early=0.0), batch=32 if device.type == "cuda" else 8
    )
    was = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        few = replace(opened, examples=opened.examples[: 16 if quick else DECODED])
        with tempfile.TemporaryDirectory() as fresh:
            decode = len(few.examples) / _seconds(
                lambda: cached_pictures(few, config.side, Path(fresh)), device
            )
        pictures = cached_pictures(opened, config.side, snapshot / "cache")
        training = Run(opened, pictures, config, device, PRECISION)
        training.model.train()
        rates = _rates(training, turns=3 if quick else 30)
    finally:
        torch.set_num_threads(was)
    figures = {
        "device": device.type if device.type == "cpu" else torch.cuda.get_device_name(),
        "precision": PRECISION,
        "threads": config.threads,
        "batch": config.batch,
        "decode": round(decode, 1),
        **{name: round(value, 1) for name, value in rates.items()},
        "load_over_model": round(rates["load_augment"] / rates["model"], 2),
        "decode_over_model": round(decode / rates["model"], 2),
    }
    print(f"throughput: {figures}", file=sys.stderr, flush=True)
    return {"throughput": figures}


def _rates(training: Run, turns: int) -> dict[str, float]:
    """Images/s of each part; the first turn of each, in which memory is laid out, does not count."""
    taken: dict[str, list[float]] = {"load_augment": [], "model": [], "whole_step": []}
    for turn in range(turns + 1):
        training.step = turn
        random = torch.Generator().manual_seed(turn)
        pictures, targets = training.batches.at(turn, random)
        parts: dict[str, Callable[[], object]] = {
            "load_augment": partial(training.batches.at, turn, random),
            "model": partial(training.backward, pictures, targets),
            "whole_step": training.one_step,
        }
        for name, part in parts.items():
            taken[name].append(_seconds(part, training.device))
    return {name: training.config.batch / statistics.median(rows[1:]) for name, rows in taken.items()}


def _seconds(part: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    part()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
