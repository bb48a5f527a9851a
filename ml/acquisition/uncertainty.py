"""How unsure a model is about a picture, from its stored detections alone."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ml.acquisition.base import Pick, Pool

CONSIDERED = 100
"""Only this many detections of a picture count, so that a noisy model's haze does not outweigh everything."""


def binary_entropy(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """In bits, so in [0, 1]: how open a yes-or-no question is.

    >>> binary_entropy(np.array([0.0, 0.5, 1.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    p = probability.clip(1e-12, 1 - 1e-12)
    bits: NDArray[np.float64] = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return bits.round(9) + 0.0


def class_weights(labelled: Mapping[int, int]) -> dict[int, float]:
    """How much each class is wanted, from how many objects of it are labelled: rare ones more, mean 1.

    >>> class_weights({1: 100, 2: 25})
    {1: 0.6667, 2: 1.3333}
    """
    if not labelled:
        return {}
    raw = {class_id: 1.0 / np.sqrt(count + 1e-9 if count else 1.0) for class_id, count in labelled.items()}
    mean = sum(raw.values()) / len(raw)
    return {class_id: round(min(5.0, float(value / mean)), 4) for class_id, value in raw.items()}


def picture_score(
    scores: NDArray[np.float64],  # [detections]
    classes: NDArray[np.int64],  # [detections]
    weights: Mapping[int, float],
    joint_spread: float = 0.0,
) -> float:
    """Σ over detections of class weight × entropy of the score, plus what rivals disagree about joints.

    `joint_spread` is in box diagonals; a tenth of one counts as much as one wholly open detection, more does
    not.

    >>> picture_score(np.array([0.5, 0.99]), np.array([1, 1]), {1: 2.0})
    2.161586
    """
    best = np.argsort(-scores, kind="stable")[:CONSIDERED]
    importance = np.array([weights.get(class_id, 1.0) for class_id in classes[best].tolist()])
    return round(float(importance @ binary_entropy(scores[best])) + min(1.0, 10 * joint_spread), 6)


def most_uncertain(pool: Pool, count: int, random: np.random.Generator) -> list[Pick]:
    """The highest scores; ties, and a pool without scores, in random order."""
    scores = pool.known_scores
    order = np.lexsort((random.random(len(pool)), -scores))[:count]
    return [Pick(int(index), float(scores[index]), "uncertain") for index in order]
