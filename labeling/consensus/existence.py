"""Is a candidate a real object? Learnt from who drew it and who saw the image and did not.

A candidate is an *object*, a *lookalike* (a false positive that several people share: a poster, a reflection) or
one person's *noise*. Annotators draw an object with their own recall, which a shared slope ties to its size, and a
lookalike with their own rate of being taken in. Some objects are easier than others for everybody, and some
lookalikes more alike: that ease is a latent level of each candidate, without which three of seven people who drew
the same thing would be taken for certain. Objects that nobody drew are estimated from the recalls
(capture–recapture, with the same unequal ease).

Sources: Branson, Van Horn and Perona, "Lean Crowdsourcing" (CVPR 2017) for the three kinds of candidates; Rasch
(1960) for ease against skill; Otis et al. (1978), model M_h, for capture–recapture with unequal catchability.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from labeling.consensus.candidates import AnyCandidates, Looks
from labeling.geometry import Floats

ROUNDS: Final = 12
EASE: Final = np.array([-3.0, -1.5, 0.0, 1.5, 3.0])
"""Levels of ease, in log-odds of being drawn."""
EASE_SPREAD: Final = 1.0
EASE_PRIOR: Final = np.exp(-0.5 * EASE**2 / EASE_SPREAD**2) / np.exp(-0.5 * EASE**2 / EASE_SPREAD**2).sum()
EASE_STRENGTH: Final = 100.0
"""How many objects it takes to learn how unequal they are."""
RECALL_PRIOR: Final = 1.6
"""Log-odds that an object is drawn: .83."""
ALIKE_PRIOR: Final = -1.5
"""Log-odds that a lookalike is drawn: .18."""
PERSON_SPREAD: Final = 0.8
"""Standard deviation, in log-odds, of people about the pool."""
ALIKE_SPREAD: Final = 0.5
ALIKE_STRENGTH: Final = 1000.0
POOL_STRENGTH: Final = 30.0
"""How many looks the priors of the pool's recall and lookalike rate weigh as."""
SLOPE_PRIOR: Final = (0.5, 500.0)
"""Log-odds of recall for each e-fold of size; and how many looks that weighs as."""
SIZE_STRENGTH: Final = 10.0
LOOKALIKE_SHARE: Final = 0.35
LOOKALIKE_STRENGTH: Final = 0.2
NOISE_SHARE: Final = 0.05
RATE_STRENGTH_IMAGES: Final = 10.0
NOISE_STRENGTH_IMAGES: Final = 5.0
CHANCE_MEETING: Final = 0.02
"""How likely a second person's noise lands on the first's, where a picture holds one object or fewer.
The more objects it holds the smaller each one is, and the rarer such a meeting."""
STEP: Final = 1.0
"""No parameter moves by more log-odds than this in one round."""
BOUND: Final = 6.0
KEPT_RIGHT: Final = (0.97, 30.0)
"""How often people keep a suggestion that is right; and how many suggestions that weighs as."""
KEPT_WRONG: Final = (0.35, 30.0)

SIZE_NODES, SIZE_WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
SIZE_WEIGHTS = SIZE_WEIGHTS / SIZE_WEIGHTS.sum()


@dataclass(frozen=True, slots=True)
class ExistenceModel:
    """Rates are per image, arrays by annotator (K,); the pool's values are an average annotator's.

    `recall` and `alike` are log-odds to draw an object of typical size and ease, and a lookalike; `slope` is
    what an e-fold of size adds to the first. Sizes are natural logarithms of pixels: their mean and standard
    deviation over the objects. `ease` (G,) are the shares of objects on the levels `EASE`.
    """

    object_rate: float
    lookalike_rate: float
    recall: Floats
    alike: Floats
    noise_rate: Floats
    chance_meeting: float
    slope: float
    typical_size: float
    object_size: tuple[float, float]
    ease: Floats
    kept_right: float
    kept_wrong: float
    pool_recall: float
    pool_alike: float
    pool_noise_rate: float


@dataclass(frozen=True, slots=True)
class Presence:
    """For each cluster the log-odds (M,) that it is an object, and the joint posterior over levels of ease."""

    log_odds: Floats  # (M,)
    as_object: Floats  # (M, G), sums to the probability of an object
    as_lookalike: Floats  # (M, G)

    @property
    def probability(self) -> Floats:
        return np.asarray(self.as_object.sum(axis=1), dtype=np.float64)


def log_sizes(candidates: AnyCandidates) -> Floats:
    """The natural logarithm (M,) of the mean of the members' sizes, √area in pixels."""
    box = candidates.extents
    size = np.sqrt((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))
    count = np.bincount(candidates.member_cluster, minlength=candidates.clusters)
    total = np.bincount(candidates.member_cluster, weights=size, minlength=candidates.clusters)
    return np.log(np.maximum(total / np.maximum(count, 1), 1.0))


def fit(
    candidates: AnyCandidates, looks: Looks, known: Floats | None = None, *, rounds: int = ROUNDS
) -> ExistenceModel:
    """Expectation maximisation over all images, from priors that hold for a single annotator too.

    `known` (M,) is 1 for clusters that gold says are objects, 0 for those it says are none, else NaN. Without
    any `rounds` it is what is believed of people of whom nothing is known.
    """
    people = len(candidates.annotators)
    images = max(len(candidates.images), 1)
    seen = np.bincount(candidates.seat_annotator, minlength=people).astype(np.float64)
    drawn = np.bincount(candidates.member_annotator, minlength=people).astype(np.float64)
    per_image = float((drawn.sum() + 1.0) / (seen.sum() + 1.0))
    size = log_sizes(candidates)
    typical = float(np.median(size)) if len(size) else 0.0
    spread = float(np.sqrt((((size - typical) ** 2).sum() + SIZE_STRENGTH) / (len(size) + SIZE_STRENGTH)))
    noise, lookalikes = NOISE_SHARE * per_image, LOOKALIKE_SHARE * per_image
    model = ExistenceModel(
        object_rate=per_image,
        lookalike_rate=lookalikes,
        recall=np.full(people, RECALL_PRIOR),
        alike=np.full(people, ALIKE_PRIOR),
        noise_rate=np.full(people, noise),
        chance_meeting=CHANCE_MEETING / max(1.0, per_image),
        slope=SLOPE_PRIOR[0],
        typical_size=typical,
        object_size=(typical, spread),
        ease=EASE_PRIOR,
        kept_right=KEPT_RIGHT[0],
        kept_wrong=KEPT_WRONG[0],
        pool_recall=RECALL_PRIOR,
        pool_alike=ALIKE_PRIOR,
        pool_noise_rate=noise,
    )
    own = np.where(looks.prompted[looks.member], 0.0, 1.0)  # what was drawn of one's own accord
    for _ in range(rounds):
        present = presence(candidates, looks, model, size, known)
        real = present.probability
        alike = np.asarray(present.as_lookalike.sum(axis=1), dtype=np.float64)
        missing = _unseen(candidates, model)  # (I, Z, G)
        model = _recalls(candidates, looks, model, present, missing, size)
        noisy = np.bincount(
            candidates.member_annotator,
            weights=own * np.clip(1.0 - real - alike, 0.0, 1.0)[candidates.member_cluster],
            minlength=people,
        )
        noise = float(
            (noisy.sum() + RATE_STRENGTH_IMAGES * NOISE_SHARE * per_image)
            / (seen.sum() + RATE_STRENGTH_IMAGES)
        )
        shares = present.as_object.sum(axis=0) + missing.sum(axis=(0, 1))
        model = replace(
            model,
            object_rate=float((real.sum() + missing.sum() + per_image) / (images + 1.0)),
            lookalike_rate=float(
                (alike.sum() + LOOKALIKE_STRENGTH * images * lookalikes)
                / (images + LOOKALIKE_STRENGTH * images)
            ),
            noise_rate=(noisy + NOISE_STRENGTH_IMAGES * noise) / (seen + NOISE_STRENGTH_IMAGES),
            pool_noise_rate=noise,
            ease=_normal_shares(shares),
            object_size=_size_of(size, real, typical, spread),
            kept_right=_kept(looks, real, KEPT_RIGHT),
            kept_wrong=_kept(looks, 1.0 - real, KEPT_WRONG),
        )
    return model


def to_json(model: ExistenceModel, names: Sequence[str]) -> dict[str, Any]:
    """Plain JSON; `names` (K,) are the annotators'."""
    rows = zip(names, model.recall.tolist(), model.alike.tolist(), model.noise_rate.tolist(), strict=True)
    return {
        "object_rate": model.object_rate,
        "lookalike_rate": model.lookalike_rate,
        "chance_meeting": model.chance_meeting,
        "slope": model.slope,
        "typical_size": model.typical_size,
        "object_size": list(model.object_size),
        "ease": model.ease.tolist(),
        "kept_right": model.kept_right,
        "kept_wrong": model.kept_wrong,
        "pool": [model.pool_recall, model.pool_alike, model.pool_noise_rate],
        "annotators": {name: [recall, alike, noise] for name, recall, alike, noise in rows},
    }


def from_json(raw: Mapping[str, Any], names: Sequence[str]) -> ExistenceModel:
    """The model of these annotators (K,); one without a record is an average one."""
    own = np.array([raw["annotators"].get(name, raw["pool"]) for name in names], dtype=np.float64).reshape(
        -1, 3
    )
    mean, deviation = raw["object_size"]
    pool_recall, pool_alike, pool_noise_rate = raw["pool"]
    return ExistenceModel(
        object_rate=raw["object_rate"],
        lookalike_rate=raw["lookalike_rate"],
        recall=np.ascontiguousarray(own[:, 0]),
        alike=np.ascontiguousarray(own[:, 1]),
        noise_rate=np.ascontiguousarray(own[:, 2]),
        chance_meeting=raw["chance_meeting"],
        slope=raw["slope"],
        typical_size=raw["typical_size"],
        object_size=(mean, deviation),
        ease=np.array(raw["ease"], dtype=np.float64),
        kept_right=raw["kept_right"],
        kept_wrong=raw["kept_wrong"],
        pool_recall=pool_recall,
        pool_alike=pool_alike,
        pool_noise_rate=pool_noise_rate,
    )


def presence(
    candidates: AnyCandidates,
    looks: Looks,
    model: ExistenceModel,
    size: Floats,
    known: Floats | None = None,
) -> Presence:
    """What each cluster is; `size` is `log_sizes`."""
    clusters = candidates.clusters
    bigger = model.slope * (size - model.typical_size)
    as_object = _levels(
        looks, model.recall[looks.annotator] + bigger[looks.cluster], clusters, model.kept_right
    )
    as_object += np.log(model.ease) + np.log(model.object_rate)
    as_lookalike = _levels(looks, model.alike[looks.annotator], clusters, model.kept_wrong)
    as_lookalike += np.log(EASE_PRIOR) + np.log(model.lookalike_rate)
    own = np.where(looks.prompted[looks.member], 0.0, 1.0)
    support = np.bincount(candidates.member_cluster, weights=own, minlength=clusters)
    noise = own * np.log(model.noise_rate)[candidates.member_annotator]
    as_noise = np.bincount(candidates.member_cluster, weights=noise, minlength=clusters)
    as_noise = as_noise + (support - 1) * np.log(model.chance_meeting)
    if looks.prompted.any():
        kept = np.where(looks.drew, np.log(model.kept_wrong), np.log1p(-model.kept_wrong))
        as_noise = as_noise + np.bincount(looks.cluster, weights=kept * looks.prompted, minlength=clusters)
    every = np.concatenate([as_object, as_lookalike, as_noise[:, None]], axis=1)
    levels = len(EASE)
    if known is not None:
        every[known == 1.0, levels:] = -1e4
        every[known == 0.0, :levels] = -1e4
    top = every.max(axis=1, keepdims=True)
    share = np.exp(every - top)
    false = np.log(np.maximum(share[:, levels:].sum(axis=1), 1e-300))
    log_odds = np.log(np.maximum(share[:, :levels].sum(axis=1), 1e-300)) - false
    share /= share.sum(axis=1, keepdims=True)
    return Presence(log_odds, share[:, :levels], share[:, levels : 2 * levels])


def unseen(candidates: AnyCandidates, model: ExistenceModel) -> Floats:
    """The expected number (I,) of objects in each image that none of those who saw it drew."""
    return np.asarray(_unseen(candidates, model).sum(axis=(1, 2)), dtype=np.float64)


def _levels(looks: Looks, log_odds: Floats, clusters: int, kept: float) -> Floats:
    """The log-likelihood (M, G) of who drew it and who did not, on each level of ease."""
    at = log_odds[:, None] + EASE  # (E, G)
    signed = np.where(looks.drew[:, None], at, -at)
    loss = -_softplus(-signed)
    if looks.prompted.any():
        loss[looks.prompted] = np.where(looks.drew, np.log(kept), np.log1p(-kept))[looks.prompted][:, None]
    return np.stack(
        [
            np.bincount(looks.cluster, weights=loss[:, level], minlength=clusters)
            for level in range(len(EASE))
        ],
        axis=1,
    ).astype(np.float64)


def _unseen(candidates: AnyCandidates, model: ExistenceModel) -> Floats:
    """The expected number (I, Z, G) of objects nobody drew, by size and ease."""
    images = len(candidates.images)
    mean, deviation = model.object_size
    bigger = model.slope * (mean + deviation * SIZE_NODES - model.typical_size)
    recall = model.recall[:, None, None] + bigger[:, None] + EASE  # (K, Z, G)
    missed = -_softplus(recall)
    flat = missed.reshape(len(model.recall), -1)[candidates.seat_annotator]
    total = np.stack(
        [
            np.bincount(candidates.seat_image, weights=flat[:, column], minlength=images)
            for column in range(flat.shape[1])
        ],
        axis=1,
    )
    rate = model.object_rate * SIZE_WEIGHTS[:, None] * model.ease
    return rate * np.exp(total).reshape(images, len(SIZE_NODES), len(EASE))


def _recalls(
    candidates: AnyCandidates,
    looks: Looks,
    model: ExistenceModel,
    present: Presence,
    missing: Floats,
    size: Floats,
) -> ExistenceModel:
    """One Newton step for the recalls, the slope and the lookalike rates."""
    people = len(candidates.annotators)
    who = looks.annotator
    relative = (size - model.typical_size)[looks.cluster]
    unprompted = ~looks.prompted[:, None]
    weight = present.as_object[looks.cluster] * unprompted  # (E, G)
    drawn = _sigmoid((model.recall[who] + model.slope * relative)[:, None] + EASE)
    gain = (weight * (looks.drew[:, None] - drawn)).sum(axis=1)
    bend = (weight * drawn * (1.0 - drawn)).sum(axis=1)
    slope_gain, slope_bend = (gain * relative).sum(), (bend * relative**2).sum()
    own_gain = np.bincount(who, weights=gain, minlength=people)
    own_bend = np.bincount(who, weights=bend, minlength=people)
    # what nobody drew was overlooked by all who saw the image
    mean, deviation = model.object_size
    bigger = mean + deviation * SIZE_NODES - model.typical_size
    at = _sigmoid(model.recall[:, None, None] + (model.slope * bigger)[:, None] + EASE)  # (K, Z, G)
    lost = np.stack(
        [
            np.bincount(
                candidates.seat_annotator,
                weights=missing.reshape(len(missing), -1)[candidates.seat_image, column],
                minlength=people,
            )
            for column in range(len(SIZE_NODES) * len(EASE))
        ],
        axis=1,
    ).reshape(people, len(SIZE_NODES), len(EASE))
    own_gain = own_gain - (lost * at).sum(axis=(1, 2))
    own_bend = own_bend + (lost * at * (1.0 - at)).sum(axis=(1, 2))
    slope_gain -= (lost * at * bigger[:, None]).sum()
    slope_bend += (lost * at * (1.0 - at) * bigger[:, None] ** 2).sum()
    taken = present.as_lookalike[looks.cluster] * unprompted
    fooled = _sigmoid(model.alike[who][:, None] + EASE)
    alike_gain = np.bincount(
        who, weights=(taken * (looks.drew[:, None] - fooled)).sum(axis=1), minlength=people
    )
    alike_bend = np.bincount(who, weights=(taken * fooled * (1.0 - fooled)).sum(axis=1), minlength=people)
    pool_recall, recall = _shrunk(
        model.recall, own_gain, own_bend, model.pool_recall, (RECALL_PRIOR, POOL_STRENGTH), PERSON_SPREAD
    )
    pool_alike, alike = _shrunk(
        model.alike,
        alike_gain.astype(np.float64),
        alike_bend.astype(np.float64),
        model.pool_alike,
        (ALIKE_PRIOR, ALIKE_STRENGTH),
        ALIKE_SPREAD,
    )
    prior, strength = SLOPE_PRIOR
    step = (slope_gain + 0.25 * strength * (prior - model.slope)) / (slope_bend + 0.25 * strength)
    return replace(
        model,
        recall=recall,
        alike=alike,
        pool_recall=pool_recall,
        pool_alike=pool_alike,
        slope=float(np.clip(model.slope + np.clip(step, -STEP, STEP), 0.0, 2.5)),
    )


def _shrunk(
    values: Floats, gain: Floats, bend: Floats, pool: float, prior: tuple[float, float], spread: float
) -> tuple[float, Floats]:
    """Newton steps for people (K,) about their pool, and for the pool about its prior."""
    precision = 1.0 / spread**2
    step = (gain + precision * (pool - values)) / (bend + precision)
    moved = np.clip(values + np.clip(step, -STEP, STEP), -BOUND, BOUND)
    # a person counts for the pool as far as the data fix their value
    firm = bend / (bend + precision)
    middle, strength = prior
    anchor = strength / 4.0
    mean = (precision * (firm * moved).sum() + anchor * middle) / (precision * firm.sum() + anchor)
    return float(mean), moved


def _normal_shares(shares: Floats) -> Floats:
    """The levels' shares (G,) of a normal distribution about 0 that has the spread of these."""
    variance = (shares * EASE**2).sum() + EASE_STRENGTH * EASE_SPREAD**2
    variance /= shares.sum() + EASE_STRENGTH
    fitted = np.exp(-0.5 * EASE**2 / variance)
    return np.asarray(fitted / fitted.sum(), dtype=np.float64)


def _kept(looks: Looks, weight: Floats, prior: tuple[float, float]) -> float:
    shown = weight[looks.cluster] * looks.prompted
    mean, strength = prior
    return float(((shown * looks.drew).sum() + mean * strength) / (shown.sum() + strength))


def _size_of(size: Floats, weight: Floats, mean: float, deviation: float) -> tuple[float, float]:
    total = weight.sum() + SIZE_STRENGTH
    centre = float(((weight * size).sum() + SIZE_STRENGTH * mean) / total)
    variance = ((weight * (size - centre) ** 2).sum() + SIZE_STRENGTH * deviation**2) / total
    return centre, float(np.sqrt(variance))


def _softplus(x: Floats) -> Floats:
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))), dtype=np.float64)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=np.float64)
