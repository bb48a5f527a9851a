"""Is a candidate a real object? Learnt from who drew it and who saw the image and did not.

A candidate is an object or noise. Objects occur at a rate per image and annotators draw them with their own
recall; noise has a rate per annotator, and noise of several people meets only by chance. Objects that nobody
drew count: their expected number follows from the recalls (capture–recapture). This is the existence part of
Branson, Van Horn and Perona, "Lean Crowdsourcing" (CVPR 2017).
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from labeling.consensus.candidates import AnyCandidates, Looks
from labeling.geometry import Floats

ROUNDS: Final = 15
RECALL_PRIOR: Final = (8.0, 2.0)
POOL_STRENGTH: Final = 10.0
"""How many objects an annotator's own record must hold to weigh as much as the pool's."""
NOISE_STRENGTH_IMAGES: Final = 3.0
FIRST_NOISE_SHARE: Final = 0.1
NOISE_PRIOR_IMAGES: Final = 10.0
CHANCE_MEETING: Final = 0.02
"""How likely a second person's noise lands on the first's, where a picture holds one object or fewer.
The more objects it holds the smaller each one is, and the rarer such a meeting."""


@dataclass(frozen=True, slots=True)
class ExistenceModel:
    """Rates are per image, arrays by annotator (K,); the pool's values are an average annotator's."""

    object_rate: float
    recall: Floats
    noise_rate: Floats
    chance_meeting: float
    pool_recall: float
    pool_noise_rate: float


def fit(candidates: AnyCandidates, looks: Looks) -> ExistenceModel:
    """Expectation maximisation over all images, from priors that hold for a single annotator too."""
    people = len(candidates.annotators)
    images = max(len(candidates.images), 1)
    seen = np.bincount(candidates.seat_annotator, minlength=people).astype(np.float64)
    drawn = np.bincount(candidates.member_annotator, minlength=people).astype(np.float64)
    per_image = (drawn.sum() + 1.0) / (seen.sum() + 1.0)
    recall = RECALL_PRIOR[0] / sum(RECALL_PRIOR)
    noise = FIRST_NOISE_SHARE * per_image
    model = ExistenceModel(
        per_image,
        np.full(people, recall),
        np.full(people, noise),
        CHANCE_MEETING / max(1.0, per_image),
        recall,
        noise,
    )
    prior_noise = NOISE_PRIOR_IMAGES * noise
    for _ in range(ROUNDS):
        real = posterior(candidates, looks, model)
        missed = unseen(candidates, model)
        weight = real[looks.cluster]
        drew = np.bincount(looks.annotator, weights=weight * looks.drew, minlength=people)
        chances = np.bincount(looks.annotator, weights=weight, minlength=people)
        chances = chances + np.bincount(
            candidates.seat_annotator, weights=missed[candidates.seat_image], minlength=people
        )
        recall = float((drew.sum() + RECALL_PRIOR[0]) / (chances.sum() + sum(RECALL_PRIOR)))
        noisy = np.bincount(
            candidates.member_annotator, weights=1.0 - real[candidates.member_cluster], minlength=people
        )
        noise = float((noisy.sum() + prior_noise) / (seen.sum() + NOISE_PRIOR_IMAGES))
        model = replace(
            model,
            object_rate=float((real.sum() + missed.sum() + per_image) / (images + 1.0)),
            recall=np.clip((drew + POOL_STRENGTH * recall) / (chances + POOL_STRENGTH), 0.02, 0.995),
            noise_rate=(noisy + NOISE_STRENGTH_IMAGES * noise) / (seen + NOISE_STRENGTH_IMAGES),
            pool_recall=min(recall, 0.995),
            pool_noise_rate=noise,
        )
    return model


def posterior(candidates: AnyCandidates, looks: Looks, model: ExistenceModel) -> Floats:
    """The probability (M,) that each cluster is an object."""
    clusters = candidates.clusters
    support = np.bincount(candidates.member_cluster, minlength=clusters)
    found, overlooked = np.log(model.recall), np.log1p(-model.recall)
    seen = np.where(looks.drew, found[looks.annotator], overlooked[looks.annotator])
    real = np.log(model.object_rate) + np.bincount(looks.cluster, weights=seen, minlength=clusters)
    noise = np.log(model.noise_rate)[candidates.member_annotator]
    chance = np.bincount(candidates.member_cluster, weights=noise, minlength=clusters)
    chance = chance + (support - 1) * np.log(model.chance_meeting)
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(chance - real, -700.0, 700.0))), dtype=np.float64)


def unseen(candidates: AnyCandidates, model: ExistenceModel) -> Floats:
    """The expected number (I,) of objects in each image that none of those who saw it drew."""
    missing = np.log1p(-model.recall)[candidates.seat_annotator]
    all_missed = np.bincount(candidates.seat_image, weights=missing, minlength=len(candidates.images))
    return np.asarray(model.object_rate * np.exp(all_missed), dtype=np.float64)
