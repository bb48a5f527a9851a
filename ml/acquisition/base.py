"""What a strategy is given, what it answers, and what every strategy is."""

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64] | NDArray[np.float32]
Reason: TypeAlias = Literal["random", "uncertain", "diverse"]


@dataclass(frozen=True, slots=True)
class Pool:
    """The N pictures to choose from and the L already labelled.

    `scores` say how much a model would learn from each (see `uncertainty`), None when there is no model yet.
    Raises ValueError when the shapes do not fit.
    """

    embeddings: Floats  # [N, D]
    labelled: Floats  # [L, D]
    scores: NDArray[np.float64] | None = field(default=None)  # [N], ≥ 0

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or self.labelled.ndim != 2:
            raise ValueError("embeddings and labelled need two dimensions: pictures and features")
        if len(self.labelled) and self.labelled.shape[1] != self.embeddings.shape[1]:
            raise ValueError("the labelled pictures' embeddings have another length than the candidates'")
        if self.scores is not None and self.scores.shape != (len(self),):
            raise ValueError("one score per candidate is needed")

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def known_scores(self) -> NDArray[np.float64]:
        """The scores, zeros without a model."""
        return np.zeros(len(self)) if self.scores is None else self.scores


@dataclass(frozen=True, slots=True)
class Pick:
    """One chosen candidate.

    `probability` is the chance that this picture had of being drawn by the uniform random slice, only for
    those drawn by it: figures measured on them can be weighted back to the whole pool.
    """

    index: int
    score: float
    reason: Reason
    probability: float | None = None


class Strategy(Protocol):
    """Chooses up to `count` different candidates, the most wanted first. The same seed chooses the same."""

    def __call__(self, pool: Pool, count: int, random: np.random.Generator) -> list[Pick]: ...
