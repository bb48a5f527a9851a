"""From what is stored about each picture to the next batch."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ml.acquisition.base import Pick, Pool, Strategy
from ml.acquisition.diversity import k_center, typical_first, weighted_k_means_pp
from ml.acquisition.mix import default_mix, uniform
from ml.acquisition.uncertainty import class_weights, most_uncertain, picture_score


def ranked_batch(pool: Pool, count: int, random: np.random.Generator) -> list[Pick]:
    """See `ml.acquisition.ranked`, loaded only here: modAL loads torch where it is installed."""
    strategy: Strategy = importlib.import_module("ml.acquisition.ranked").ranked_batch
    return strategy(pool, count, random)


STRATEGIES: Mapping[str, Strategy] = {
    "default": default_mix,
    "random": uniform,
    "uncertain": most_uncertain,
    "k-center": k_center,
    "k-means++": weighted_k_means_pp,
    "typical": typical_first,
    "ranked-batch": ranked_batch,
}


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is stored about N pictures that may be labelled next; row i of each is the same picture.

    `scores` and `classes` are those of a picture's detections, `joint_spread` says how much rival detections
    disagree about joints (`ml.predict.Seen.spread`, the picture's highest), `class_counts` how many objects
    of each class id are labelled. `labelled` holds the embeddings of the pictures that are labelled already.
    """

    embeddings: NDArray[np.float32]  # [N, D]
    scores: Sequence[NDArray[np.float64]]  # N × [detections], in [0, 1]
    classes: Sequence[NDArray[np.int64]]  # N × [detections]
    joint_spread: NDArray[np.float64]  # [N]
    class_counts: Mapping[int, int] = field(default_factory=dict)
    labelled: NDArray[np.float32] | None = None  # [L, D]

    @property
    def pool(self) -> Pool:
        """Candidates with one score each."""
        weights = class_weights(self.class_counts)
        rows = zip(self.scores, self.classes, self.joint_spread.tolist(), strict=True)
        values = [picture_score(scores, classes, weights, spread) for scores, classes, spread in rows]
        labelled = self.embeddings[:0] if self.labelled is None else self.labelled
        return Pool(self.embeddings, labelled, np.array(values, dtype=np.float64))


def choose(candidates: Candidates, *, count: int, seed: int, strategy: str = "default") -> list[Pick]:
    """Up to `count` different candidates, the most wanted first; the same arguments choose the same.

    Raises KeyError for a strategy that is not in `STRATEGIES`.
    """
    return STRATEGIES[strategy](candidates.pool, count, np.random.default_rng(seed))
