"""The default: a random slice that keeps us honest, and unsure pictures that do not resemble each other."""

import math

import numpy as np

from ml.acquisition.base import Floats, Pick, Pool
from ml.acquisition.diversity import typical_first, weighted_k_means_pp

RANDOM_SHARE = 0.15
SHORTLIST = 4
"""Diversity chooses among this many times the wanted number, the best by score."""


def uniform(pool: Pool, count: int, random: np.random.Generator) -> list[Pick]:
    """Without replacement; each picture had the same chance, count / N."""
    count = min(count, len(pool))
    scores = pool.known_scores
    chosen = random.permutation(len(pool))[:count]
    return [Pick(int(index), float(scores[index]), "random", count / len(pool)) for index in chosen]


def default_mix(pool: Pool, count: int, random: np.random.Generator) -> list[Pick]:
    """15 % uniform with its probability kept; the rest by weighted k-means++ among the 4 × rest best scores.

    The uniform slice is drawn first from the whole pool, so that its probability is exact, and is spread
    through the queue. Without scores, that is without a model, typical pictures are taken instead of unsure
    ones.
    """
    count = min(count, len(pool))
    honest = uniform(pool, math.ceil(RANDOM_SHARE * count), random)
    rest = np.setdiff1d(np.arange(len(pool)), [pick.index for pick in honest])
    wanted = count - len(honest)
    scores = pool.known_scores
    cold = pool.scores is None
    if cold:
        shortlist, strategy = rest, typical_first
    else:
        shortlist = rest[np.argsort(-scores[rest], kind="stable")][: SHORTLIST * wanted]
        strategy = weighted_k_means_pp
    drawn = pool.embeddings[[pick.index for pick in honest]]
    taken: Floats = np.concatenate((pool.labelled.astype(drawn.dtype), drawn)).astype(np.float32)
    inner = Pool(pool.embeddings[shortlist], taken, None if cold else scores[shortlist])
    chosen = []
    for pick in strategy(inner, wanted, random):
        unsure = not cold and pick.index < wanted  # the shortlist is in order: in by its score alone
        index = int(shortlist[pick.index])
        chosen.append(Pick(index, float(scores[index]), "uncertain" if unsure else "diverse"))
    return _interleave(chosen, honest)


def _interleave(many: list[Pick], few: list[Pick]) -> list[Pick]:
    """`few` at even distances among `many`."""
    places = (
        {round((rank + 0.5) * (len(many) + len(few)) / len(few)) for rank in range(len(few))}
        if few
        else set()
    )
    few_left, many_left, merged = list(few), list(many), []
    for place in range(len(many) + len(few)):
        source = few_left if (place in places and few_left) or not many_left else many_left
        merged.append(source.pop(0))
    return merged
