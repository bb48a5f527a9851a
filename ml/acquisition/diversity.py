"""Strategies that spread over the pictures, by distances between embeddings.

Each keeps, per candidate, the distance to the nearest labelled or chosen picture; a pick only lowers it. So a
pick costs one pass over the candidates instead of one over candidates × labelled.
"""

import numpy as np
from numpy.typing import NDArray

from ml.acquisition.base import Floats, Pick, Pool

BLOCK = 4096
LLOYD_STEPS = 10


def squared_distances(points: Floats, centre: Floats) -> NDArray[np.float64]:
    """[N, D] and [D] → [N]."""
    difference = points - centre
    squared: NDArray[np.float64] = np.einsum("nd,nd->n", difference, difference).astype(np.float64)
    return squared


def nearest_squared(points: Floats, others: Floats) -> NDArray[np.float64]:
    """Squared distance of each point to its nearest other: [N, D], [L, D] → [N]; +∞ without others."""
    nearest = np.full(len(points), np.inf)
    if not len(others):
        return nearest
    lengths = np.einsum("ld,ld->l", others, others)
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        table = np.einsum("nd,nd->n", block, block)[:, None] + lengths[None] - 2 * (block @ others.T)
        nearest[start : start + BLOCK] = table.min(1)
    return nearest.clip(min=0)


def k_center(pool: Pool, count: int, random: np.random.Generator) -> list[Pick]:
    """Each time the picture farthest from everything labelled or chosen (Sener & Savarese 2018)."""
    nearest = nearest_squared(pool.embeddings, pool.labelled)
    return [
        Pick(index, float(np.sqrt(distance)) if np.isfinite(distance) else 0.0, "diverse")
        for index, distance in _spread(pool.embeddings, nearest, count, None, random)
    ]


def weighted_k_means_pp(pool: Pool, count: int, random: np.random.Generator) -> list[Pick]:
    """k-means++ seeding (Arthur & Vassilvitskii 2007), each chance also in proportion to the score."""
    scores = pool.known_scores
    weights = scores if scores.any() else np.ones(len(pool))
    nearest = nearest_squared(pool.embeddings, pool.labelled)
    return [
        Pick(index, float(scores[index]), "diverse")
        for index, _ in _spread(pool.embeddings, nearest, count, weights, random)
    ]


def typical_first(pool: Pool, count: int, random: np.random.Generator) -> list[Pick]:
    """For a cold start: as many clusters as pictures wanted, and of each its most typical picture.

    With few labels typical pictures teach more than odd ones (Hacohen et al. 2022). Clusters where something
    is labelled already come last.
    """
    count = min(count, len(pool))
    if count == 0:
        return []
    none = Pool(pool.embeddings, pool.embeddings[:0])
    centres = pool.embeddings[[pick.index for pick in weighted_k_means_pp(none, count, random)]].copy()
    for _ in range(LLOYD_STEPS):
        owner = _nearest_centre(pool.embeddings, centres)
        for cluster in np.unique(owner):
            centres[cluster] = pool.embeddings[owner == cluster].mean(0)
    owner = _nearest_centre(pool.embeddings, centres)
    distance = np.array(
        [squared_distances(pool.embeddings[[i]], centres[owner[i]])[0] for i in range(len(pool))]
    )
    sizes = np.bincount(owner, minlength=count)
    taken = set(_nearest_centre(pool.labelled, centres).tolist()) if len(pool.labelled) else set()
    order = sorted(np.unique(owner).tolist(), key=lambda cluster: (cluster in taken, -sizes[cluster]))
    chosen = []
    for cluster in order:
        members = np.nonzero(owner == cluster)[0]
        chosen.append(int(members[distance[members].argmin()]))
    rest = np.setdiff1d(np.arange(len(pool)), chosen)  # clusters may have emptied
    chosen += random.permutation(rest)[: count - len(chosen)].tolist()
    return [Pick(index, float(sizes[owner[index]] / len(pool)), "diverse") for index in chosen]


def _spread(
    points: Floats,
    nearest: NDArray[np.float64],
    count: int,
    weights: NDArray[np.float64] | None,
    random: np.random.Generator,
) -> list[tuple[int, float]]:
    """(index, squared distance when chosen): the farthest, or a draw by weight · distance²."""
    nearest = nearest.copy()
    free = np.ones(len(points), dtype=np.bool_)
    chosen: list[tuple[int, float]] = []
    for _ in range(min(count, len(points))):
        distance = np.where(np.isfinite(nearest), nearest, 1.0)
        wish = np.where(free, distance if weights is None else distance * weights, 0.0)
        if not wish.any():
            wish = free.astype(np.float64)
        if weights is None and np.isfinite(nearest).any():
            index = int(np.where(free, wish, -1.0).argmax())
        else:
            index = int(random.choice(len(points), p=wish / wish.sum()))
        chosen.append((index, float(nearest[index])))
        free[index] = False
        nearest = np.minimum(nearest, squared_distances(points, points[index]))
    return chosen


def _nearest_centre(points: Floats, centres: Floats) -> NDArray[np.int64]:
    owner = np.empty(len(points), dtype=np.int64)
    lengths = np.einsum("kd,kd->k", centres, centres)
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        owner[start : start + BLOCK] = (lengths[None] - 2 * (block @ centres.T)).argmin(1)
    return owner
