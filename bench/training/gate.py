"""The gate and the way back: how often chance is taken for progress, what is let through, how long a roll-back takes.

Real predictions of models that differ in their seed alone, on pictures that none of them learnt from. Gold sets of
several sizes are drawn from these pictures with replacement. Pairs of equal quality are made by exchanging two
models' predictions picture by picture at random, so that in truth neither is better; a model is made worse by losing
or displacing detections until its AP50 on all pictures is three points lower.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.training import rollback
from bench.training.sets import RealSet, bccd
from flywheel.services import promotion
from ml import metrics, slices
from ml.metrics import Scores
from ml.predict import Predictor
from ml.schema import Detection
from ml.train import TrainConfig, fit

STEPS: Final = 260
GOLD_SIZES: Final = (36, 72, 144, 288, 576)
POINTS: Final = 0.03
TRIALS: Final = 200
ROUNDS: Final = 500
TRUSTED: Final = 0.8
"""The share of trials from which a gold set is said to be large enough."""
Seen = list[list[Detection]]
Damage = Callable[[Seen, float, int], Seen]


def run(*, quick: bool, sets: Path, work: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """`gate`: rates by gold pictures, and the real pairs' decisions; `rollback_s`: the slowest of each database.

    A roll-back is measured on SQLite, and on the PostgreSQL server that LABELWHEEL_DATABASE_URL names, if any.
    """
    real = bccd(sets)
    seeds = seeds if len(seeds) > 1 else (seeds[0], seeds[0] + 1)  # it takes two to be compared
    looked = [_looked(real, work, seed, STEPS // 4 if quick else STEPS) for seed in seeds]
    began = time.process_time()
    gate = rates(looked, trials=TRIALS // 8 if quick else TRIALS)
    gate["ap50"] = [one.scores.ap50 for one in looked]
    gate["pairs"] = [
        _pair(looked[a], looked[b], real) | {"challenger": seeds[a], "champion": seeds[b]}
        for a in range(len(looked))
        for b in range(len(looked))
        if a != b
    ]
    gate["core_seconds"] = round(time.process_time() - began, 1)
    postgres = os.environ.get("LABELWHEEL_DATABASE_URL") or None
    back = rollback.run(tasks=1000 if quick else 10_000, postgres=postgres)
    return {"gate": gate, "rollback_s": max(item["rollback_s"] for item in back.values()), "rollback": back}


def rates(looked: Sequence[slices.Looked], *, trials: int) -> dict[str, Any]:
    """What becomes of equal, worse and better challengers; worse is the easier of the two ways to be it.

    `aa_promoted` is the share promoted as better at the size of gold where it is largest, `worse_blocked` the share
    not promoted at all where that is smallest.
    """
    spoilt = {
        name: [_worse(one, damage) for one in looked]
        for name, damage in {"dropped": drop, "displaced": displace}.items()
    }
    rows = []
    for size in GOLD_SIZES:
        random = np.random.default_rng(size)
        row: dict[str, Any] = {"gold": size}
        equal = [_trial(looked, looked, size, random) for _ in range(trials)]
        row["aa_promoted_better"] = _share(item.promote and item.better for item in equal)
        row["aa_promoted_not_worse"] = _share(item.promote and not item.better for item in equal)
        row["aa_told_too_few"] = _share("too few" in item.reason for item in equal)
        for name, worse in spoilt.items():
            lost = [_trial(worse, looked, size, random) for _ in range(trials)]
            row[f"worse_{name}_blocked"] = _share(not item.promote for item in lost)
            won = [_trial(looked, worse, size, random) for _ in range(trials)]
            row[f"better_{name}_promoted"] = _share(item.promote for item in won)
        _say(str(row))
        rows.append(row)
    return {
        "aa_promoted": max(row["aa_promoted_better"] for row in rows),
        "worse_blocked": min(row[f"worse_{name}_blocked"] for row in rows for name in spoilt),
        "gold_for_three_points": _enough(rows, [f"better_{name}_promoted" for name in spoilt]),
        "gold_for_equals": _enough(rows, ["aa_promoted"]),
        "points": 100 * POINTS,
        "trials": trials,
        "by_gold": rows,
    }


def _enough(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> int | None:
    """The smallest gold set at which every one of these shares is `TRUSTED`; None if none of those tried is."""
    for row in rows:
        known = row | {"aa_promoted": row["aa_promoted_better"] + row["aa_promoted_not_worse"]}
        if all(known[name] >= TRUSTED for name in names):
            size: int = row["gold"]
            return size
    return None


def _trial(
    challengers: Sequence[slices.Looked],
    champions: Sequence[slices.Looked],
    size: int,
    random: np.random.Generator,
) -> promotion.Decision:
    """One gate decision in the overall metric; slices could only add reasons to keep the champion."""
    one, other = random.choice(len(challengers), size=2, replace=False)
    pictures = len(challengers[0].examples)
    counts = np.bincount(random.integers(2 * pictures, size=size), minlength=2 * pictures)
    challenger = _both_ways(challengers[one], challengers[other])
    champion = _both_ways(champions[other], champions[one])
    return _decide(challenger, champion, counts=counts)


def _both_ways(one: slices.Looked, other: slices.Looked) -> Scores:
    """Each picture twice, with each model's predictions; its rival has them the other way round.

    Whichever is drawn, neither side is better in truth, and each drawn picture is exchanged by a coin of its own.
    """
    return replace(one.scores, matches=(*one.scores.matches, *other.scores.matches))


def _decide(
    challenger: Scores,
    champion: Scores,
    *,
    counts: NDArray[np.int64] | None = None,
    rows: Sequence[dict[str, Any]] = (),
) -> promotion.Decision:
    """On gold that has each picture so many times, once if nothing is said."""
    rounds = 1000 if counts is None else ROUNDS
    gain = metrics.paired_bootstrap(challenger, champion, counts=counts, rounds=rounds)
    pictures = len(challenger.matches) if counts is None else int(counts.sum())

    def figures(scores: Scores) -> dict[str, Any]:
        return {
            "split": "gold",
            "ap50": metrics.measured(scores, "ap50"),
            "trivial": {"ap50": 0.0},
            "pictures": pictures,
        }

    return promotion.decide(
        metric="ap50",
        challenger=figures(challenger),
        champion=figures(champion),
        gain={"mean": gain.gain, "low": gain.low, "high": gain.high},
        slices=rows,
    )


def _pair(challenger: slices.Looked, champion: slices.Looked, real: RealSet) -> dict[str, Any]:
    """What the gate says, slices included, of two models as they are."""
    found = [item.dump() for item in slices.slices(challenger, real.classes, against=champion)]
    decision = _decide(challenger.scores, champion.scores, rows=found)
    return {"promote": decision.promote, "better": decision.better, "reason": decision.reason}


def drop(seen: Seen, amount: float, seed: int) -> Seen:
    """Loses this share of the detections; a larger amount loses the same ones and more."""
    random = np.random.default_rng(seed)
    kept = []
    for detections in seen:
        luck = random.random(len(detections))
        kept.append([item for item, own in zip(detections, luck, strict=True) if own >= amount])
    return kept


def displace(seen: Seen, amount: float, seed: int) -> Seen:
    """Shifts every detection by a normal error of this share of its sides."""
    random = np.random.default_rng(seed)
    moved = []
    for detections in seen:
        shifts = amount * random.standard_normal((len(detections), 2))
        moved.append([_shifted(item, *own) for item, own in zip(detections, shifts.tolist(), strict=True)])
    return moved


def _shifted(item: Detection, right: float, down: float) -> Detection:
    x1, y1, x2, y2 = item.xyxy
    across, along = right * (x2 - x1), down * (y2 - y1)
    return replace(item, xyxy=(x1 + across, y1 + along, x2 + across, y2 + along))


def _worse(looked: slices.Looked, damage: Damage, seed: int = 7) -> slices.Looked:
    """The model, damaged by as much as takes `POINTS` of AP50 away; by bisection."""
    wanted = metrics.measured(looked.scores, "ap50") - POINTS
    low, high = 0.0, 0.5
    spoilt = looked
    for _ in range(9):
        amount = (low + high) / 2
        detections = damage([list(one) for one in looked.detections], amount, seed)
        matches = tuple(
            metrics.match(example, own) for example, own in zip(looked.examples, detections, strict=True)
        )
        spoilt = slices.Looked(looked.examples, detections, replace(looked.scores, matches=matches))
        if metrics.measured(spoilt.scores, "ap50") > wanted:
            low = amount
        else:
            high = amount
    return spoilt


def _looked(real: RealSet, work: Path, seed: int, steps: int) -> slices.Looked:
    snapshot = real.snapshot(work / "gate-bccd")
    config = TrainConfig(
        steps=steps, symmetry="any" if real.symmetry == "any" else "upright", seed=seed, threads=1
    )
    began = time.process_time()
    fitted = fit(snapshot, work / f"gate-{steps}-{seed}", config=config)
    predictor = Predictor.load(fitted.folder, "cpu")
    paths = [real.paths[example.sha256] for example in real.test]
    detections = [seen.detections for _, seen in predictor.predict_files(paths)]
    scores = metrics.evaluate(real.test, detections, real.classes)
    _say(f"seed {seed}: AP50 {scores.ap50:.3f}, {time.process_time() - began:.0f} core-seconds")
    return slices.Looked(real.test, detections, scores)


def _share(of: Any) -> float:
    return round(float(np.mean(list(of))), 3)


def _say(told: str) -> None:
    print(told, file=sys.stderr, flush=True)
