"""Which of several choices? Votes weighted by each annotator's accuracy.

The one-coin model of Dawid and Skene (1979): an annotator is right with one probability, whatever the truth,
and errs evenly among the other choices.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from labeling.geometry import Floats, Ints

ROUNDS: Final = 15
ACCURACY_PRIOR: Final = (9.0, 1.0)
POOL_STRENGTH: Final = 10.0


@dataclass(frozen=True, slots=True)
class Votes:
    """One row (N,) per vote: on which question (of M), by whom (of K), for which choice (of C)."""

    question: Ints
    annotator: Ints
    choice: Ints
    questions: int
    annotators: int
    choices: int


@dataclass(frozen=True, slots=True)
class VoteModel:
    accuracy: Floats  # (K,)
    prior: Floats  # (C,)
    pool: float


def fit(votes: Votes) -> VoteModel:
    """Expectation maximisation; accuracies are shrunk to the pool's, and that to 9 of 10."""
    own = np.bincount(votes.annotator, minlength=votes.annotators).astype(np.float64)
    start = ACCURACY_PRIOR[0] / sum(ACCURACY_PRIOR)
    model = VoteModel(np.full(votes.annotators, start), np.full(votes.choices, 1.0 / votes.choices), start)
    for _ in range(ROUNDS):
        belief = posterior(votes, model)
        right = np.bincount(
            votes.annotator, weights=belief[votes.question, votes.choice], minlength=votes.annotators
        )
        pool = float((right.sum() + ACCURACY_PRIOR[0]) / (own.sum() + sum(ACCURACY_PRIOR)))
        accuracy = (right + POOL_STRENGTH * pool) / (own + POOL_STRENGTH)
        prior = (belief.sum(axis=0) + 1.0) / (votes.questions + votes.choices)
        # an annotator below chance would be believed in reverse
        floor = 1.0 / votes.choices + 0.01
        model = VoteModel(np.clip(accuracy, min(floor, 0.98), 0.995), prior, pool)
    return model


def posterior(votes: Votes, model: VoteModel) -> Floats:
    """The probability (M, C) of each choice for each question; the prior where nobody voted."""
    if votes.choices == 1:
        return np.ones((votes.questions, 1))
    gain = np.log(model.accuracy) - np.log((1 - model.accuracy) / (votes.choices - 1))
    flat = votes.question * votes.choices + votes.choice
    evidence = np.bincount(flat, weights=gain[votes.annotator], minlength=votes.questions * votes.choices)
    logits = evidence.reshape(votes.questions, votes.choices) + np.log(model.prior)
    weight = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float64)
