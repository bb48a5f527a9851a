"""Whether seeing what the champion gets wrong twice as often makes the next model better, in the same time.

Half of BCCD's training pictures make a champion; the next model goes on from it on four fifths of them, and is
measured on the fifth that is left. The test pictures take no part: this decides a setting.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.training.sets import RealSet, bccd
from ml.train import TrainConfig, fit

SHARES: Final = (0.0, 0.25, 0.5)
CHAMPION_SECONDS: Final = 60
SECONDS: Final = 90


def run(*, quick: bool, sets: Path, work: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Each share's AP50 and AP by seed, and their mean gain over share 0 with its standard error."""
    cells = bccd(sets)
    share = 1 / 6 if quick else 1.0
    rows = [_one(cells, work / str(seed), seed, share) for seed in (seeds[:1] if quick else seeds)]
    gains = {}
    for hard in SHARES[1:]:
        for figure in ("ap50", "ap"):
            each = np.array([row[f"{hard:g}"][figure] - row["0"][figure] for row in rows])
            error = float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else None
            gains[f"{figure}_gain_{hard:g}"] = {"mean": float(each.mean()), "standard_error": error}
    return {"hard": {"seeds": list(seeds), **gains, "each": rows}}


def _one(cells: RealSet, work: Path, seed: int, share: float) -> dict[str, Any]:
    order = np.random.default_rng(seed).permutation(len(cells.train)).tolist()
    fifth = len(order) // 5
    val = [cells.train[index] for index in order[:fifth]]
    train = [cells.train[index] for index in order[fifth:]]
    first = cells.snapshot(work / "first", train=train[: len(train) // 2], val=val)
    both = cells.snapshot(work / "both", train=train, val=val)
    champion = fit(first, work / "champion", config=_config(CHAMPION_SECONDS * share, len(train) // 2, seed))
    row: dict[str, Any] = {"seed": seed, "champion": _figures(champion.metrics)}
    for hard in SHARES:
        config = replace(_config(SECONDS * share, len(train), seed), hard=hard)
        fitted = fit(both, work / f"hard-{hard}", config=config, warm_start=champion.folder)
        row[f"{hard:g}"] = {**_figures(fitted.metrics), "pictures": fitted.card["hard_pictures"]}
    print(row, file=sys.stderr, flush=True)
    return row


def _config(seconds: float, images: int, seed: int) -> TrainConfig:
    config = TrainConfig.for_budget(seconds=seconds, images=images, threads=1)
    return replace(config, seed=seed, symmetry="any")


def _figures(found: Any) -> dict[str, float]:
    return {name: found[name] for name in ("ap50", "ap")}
