"""Where? A mean of what people drew, weighted by skill and robust to a slip of one hand."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from labeling.geometry import Floats, Ints

ROUNDS: Final = 10
STEPS: Final = 3
FREEDOM: Final = 4.0
"""Degrees of freedom of Student's t: low enough that a box drawn around something else barely counts."""
FIRST_SPREAD: Final = 0.05
SPREAD_FLOOR: Final = 0.005
POOL_STRENGTH: Final = 10.0
FLOOR_PX: Final = 8.0
"""Added to an object's size where places are measured in sizes: a hand is shaky by pixels too."""


@dataclass(frozen=True, slots=True)
class Places:
    """One row (N,) per drawn place: coordinates (N, D) and the sizes (N, D) that errors are measured in."""

    values: Floats
    sizes: Floats
    target: Ints
    annotator: Ints
    targets: int
    annotators: int


@dataclass(frozen=True, slots=True)
class Located:
    """The settled places (M, D), their standard errors (M,) in object sizes, the rows' weights (N,)."""

    values: Floats
    error: Floats
    trust: Floats
    leverage: Floats


def fit(places: Places) -> tuple[Floats, float]:
    """Each annotator's spread (K,) in object sizes, shrunk to the pool's, and the pool's."""
    spread, pool = np.full(places.annotators, FIRST_SPREAD), FIRST_SPREAD
    if not len(places.values):
        return spread, pool
    for _ in range(ROUNDS):
        located = locate(places, spread)
        residual = ((places.values - located.values[places.target]) / places.sizes) ** 2
        squared = located.trust * residual.mean(axis=1)
        # a member pulls the mean towards itself, so its residual is too small by its leverage
        freedom = 1.0 - located.leverage
        total = np.bincount(places.annotator, weights=squared, minlength=places.annotators)
        count = np.bincount(places.annotator, weights=freedom, minlength=places.annotators)
        variance = (total.sum() + POOL_STRENGTH * FIRST_SPREAD**2) / (count.sum() + POOL_STRENGTH)
        pool = float(np.sqrt(variance))
        spread = np.sqrt((total + POOL_STRENGTH * variance) / (count + POOL_STRENGTH))
        spread = np.maximum(spread, SPREAD_FLOOR)
    return spread, max(pool, SPREAD_FLOOR)


def locate(places: Places, spread: Floats) -> Located:
    """Weighted means with Student-t weights, started at the medians; `spread` (K,) in object sizes."""
    base = 1.0 / spread[places.annotator] ** 2
    values = _medians(places)
    trust = np.ones(len(base))
    for _ in range(STEPS):
        weight, leverage = _weights(places, base * trust)
        residual = ((places.values - values[places.target]) / places.sizes) ** 2
        distance = (residual * base[:, None]).sum(axis=1) / np.maximum(1.0 - leverage, 0.1)
        dimensions = places.values.shape[1]
        trust = (FREEDOM + dimensions) / (FREEDOM + distance)
        weight, leverage = _weights(places, base * trust)
        values = _sums(places, leverage[:, None] * places.values)
    information = np.bincount(places.target, weights=weight, minlength=places.targets)
    error = 1.0 / np.sqrt(np.maximum(information, 1e-12))
    return Located(values, error, trust, leverage)


def means(places: Places) -> Floats:
    """Plain means (M, D)."""
    _, share = _weights(places, np.ones(len(places.values)))
    return _sums(places, share[:, None] * places.values)


def _weights(places: Places, weight: Floats) -> tuple[Floats, Floats]:
    total = np.bincount(places.target, weights=weight, minlength=places.targets)
    return weight, weight / total[places.target]


def _sums(places: Places, values: Floats) -> Floats:
    columns = [
        np.bincount(places.target, weights=values[:, axis], minlength=places.targets)
        for axis in range(values.shape[1])
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _medians(places: Places) -> Floats:
    count = np.bincount(places.target, minlength=places.targets)
    start = np.cumsum(count) - count
    result = np.zeros((places.targets, places.values.shape[1]))
    held = count > 0
    low, high = (start + (count - 1) // 2)[held], (start + count // 2)[held]
    for axis in range(places.values.shape[1]):
        ordered = places.values[np.lexsort((places.values[:, axis], places.target)), axis]
        result[held, axis] = (ordered[low] + ordered[high]) / 2
    return result
