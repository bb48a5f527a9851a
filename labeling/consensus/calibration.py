"""What gold says about the consensus' own certainty: probabilities that mean what they say.

A logistic map of (log-odds, share of support, logarithm of size), pulled to the identity where gold is scarce
(Platt, 1999, with a Gaussian prior), and the rate of objects that nobody drew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from labeling.geometry import Floats

PRIOR: Final = np.array([0.0, 1.5, 0.0, 0.0])
"""Per unit of the features: log-odds are divided by 3, so 3 would be the identity; crowds are surer than right."""
STRENGTH: Final = 3.0
LEAST_CANDIDATES: Final = 40
STEPS: Final = 25
LOG_ODDS_BOUND: Final = 6.0
SUPPORT_MIDDLE: Final = 0.6
OVERLOOKED_RATE: Final = 0.01
"""Objects an image that everybody overlooks for reasons no record shows, until gold tells."""
OVERLOOKED_STRENGTH_IMAGES: Final = 20.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """`weights` (4,) of the features, or nothing where there was too little gold; `overlooked` objects an image
    beyond those that the recalls explain: what is hard to see is so for everybody."""

    weights: tuple[float, ...] | None = None
    overlooked: float = OVERLOOKED_RATE


def fit(features: Floats, real: Floats) -> tuple[float, ...] | None:
    """From gold's candidates: features (G, 4), whether real (G,).

    Nothing is learnt from fewer than `LEAST_CANDIDATES`. Newton's method; the prior makes the optimum unique.
    """
    if len(real) < LEAST_CANDIDATES:
        return None
    weights = PRIOR.copy()
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-_dot(features, weights)))
        gradient = (features * (real - p)[:, None]).sum(axis=0) - STRENGTH * (weights - PRIOR)
        bend = (features[:, :, None] * features[:, None, :] * (p * (1.0 - p))[:, None, None]).sum(axis=0)
        weights = weights + np.linalg.solve(bend + STRENGTH * np.eye(len(PRIOR)), gradient)
    return tuple(weights.tolist())


def overlooked(objects: float, images: float) -> float:
    """The rate of objects nobody drew beyond the expected, from `objects` of them in gold's `images`."""
    prior = OVERLOOKED_RATE * OVERLOOKED_STRENGTH_IMAGES
    return (max(0.0, objects) + prior) / (images + OVERLOOKED_STRENGTH_IMAGES)


def features_of(log_odds: Floats, share: Floats, size: Floats) -> Floats:
    """Features (M, 4) of log-odds, the share of those who saw it that drew it, and relative log size, each (M,)."""
    bounded = np.clip(log_odds, -LOG_ODDS_BOUND, LOG_ODDS_BOUND) / 3.0
    columns = (np.ones_like(log_odds), bounded, 3.0 * (share - SUPPORT_MIDDLE), np.clip(size, -2.0, 2.0))
    return np.stack(columns, axis=1)


def probability(calibration: Calibration, log_odds: Floats, share: Floats, size: Floats) -> Floats:
    """The probability (M,) that each candidate is there."""
    if calibration.weights is not None:
        log_odds = _dot(features_of(log_odds, share, size), np.array(calibration.weights))
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -700.0, 700.0))), dtype=np.float64)


def to_json(calibration: Calibration) -> dict[str, Any]:
    weights = calibration.weights
    return {"weights": None if weights is None else list(weights), "overlooked": calibration.overlooked}


def from_json(raw: Mapping[str, Any]) -> Calibration:
    weights = raw["weights"]
    return Calibration(None if weights is None else tuple(weights), raw["overlooked"])


def _dot(features: Floats, weights: Floats) -> Floats:
    """Row by row, so that a row's sum is the same whatever rows stand beside it."""
    return np.asarray(
        sum(features[:, column] * weights[column] for column in range(len(weights))), dtype=np.float64
    )
