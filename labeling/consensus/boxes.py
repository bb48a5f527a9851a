"""Where is an object? Its sides from many people's: weighted by skill, freed of habits, robust to a slip of one hand.

Annotator k draws each side of object j at  z + μ_k·u + ε,  ε of spread σ_k·u, where u is the scale of errors of an
object of this extent: errors grow with a power of it (`growth`), which the crowd shows. Weights are those of
Student's t, for each side alone, because an occluded leg spoils one side and not the others. The habit μ_k (boxes
too loose, or shifted) is known only against other people: that of the weighted-median annotator is 0. What the
whole crowd does alike only gold can tell; then a `shift` mends it.

Sources: Branson, Van Horn and Perona, "Lean Crowdsourcing" (CVPR 2017) for skill-weighted boxes; Lange, Little and
Taylor, "Robust statistical modeling using the t distribution" (JASA 1989) for the weights.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from labeling.consensus.candidates import Flags
from labeling.geometry import Floats, Ints

ROUNDS: Final = 8
STEPS: Final = 3
FREEDOM: Final = 4.0
"""Degrees of freedom of Student's t: low enough that a box drawn around something else barely counts."""
FIRST_SPREAD: Final = 0.05
SPREAD_FLOOR: Final = 0.005
POOL_STRENGTH: Final = 10.0
FLOOR_PX: Final = 8.0
"""Added to an object's extent where errors are measured in extents: a hand is shaky by pixels too."""
REFERENCE_PX: Final = 100.0
"""An object of this extent has the scale of errors 100 px, whatever the growth."""
GROWTHS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""0: errors are so many pixels; 1: so many percent of the object."""
GROWTH_TARGETS: Final = 1000
HABIT_STRENGTH: Final = 15.0
"""How many objects an annotator's habit must be seen on to count for half."""
SHIFT_STRENGTH: Final = 4.0
COMMON_SPREAD: Final = 0.02
"""What all people of a crowd err alike, until gold shows it."""
COMMON_STRENGTH: Final = 10.0
WIDE_PROPORTIONS: Final = 0.5
"""Standard deviation of log(width / height) within a class, until its objects show another."""
NARROW_PROPORTIONS: Final = 0.1
PROPORTION_STRENGTH: Final = 10.0
PROPORTION_ROUNDS: Final = 5
AXIS: Final = np.array([0, 1, 0, 1])
"""The axis of each side of an xyxy box: spreads differ between across and along, not between left and right."""
OFF_BELOW: Final = 0.5
"""A box is off when its IoU with the object is below this."""
OFF_FROM: Final = 2.0 * (1.0 - OFF_BELOW) / (1.0 + OFF_BELOW)
"""The sides' errors, in all, in extents, at which a shifted box has that IoU."""
WILD: Final = 3.0
WILD_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Sides:
    """One row (N,) per drawn box, xyxy, of an object (target, of M) by an annotator (of K).

    `extents` (M, 2) are the objects' typical width and height in pixels; `cut` (M, 4) are the sides at which most
    people's box ends with the image; `weight` (N,) is 0 for a box that
    is no word of its own (a suggestion taken as it was), else 1.
    """

    values: Floats
    target: Ints
    annotator: Ints
    weight: Floats
    extents: Floats
    cut: Flags
    annotators: int

    @property
    def targets(self) -> int:
        return len(self.extents)


@dataclass(frozen=True, slots=True)
class PlaceModel:
    """Spreads (K, 2) across and along, habits (K, 4) of the sides, in shares of the scale of errors; the pool's.

    `shift` (4,) is added to a settled box, `common` is the standard deviation of what remains.
    """

    growth: float
    spread: Floats
    habit: Floats
    pool: Floats  # (2,)
    shift: Floats
    common: float


@dataclass(frozen=True, slots=True)
class Located:
    """The settled sides (M, 4), their standard errors (M, 4) in px; by row the residuals and the weights (N, 4)."""

    values: Floats
    error: Floats
    residual: Floats
    trust: Floats
    leverage: Floats


def scale_of(extents: Floats, growth: float) -> Floats:
    """The scale of errors (M, 4) in pixels of objects' sides."""
    return (REFERENCE_PX * ((extents + FLOOR_PX) / REFERENCE_PX) ** growth)[:, AXIS]


def unknown(annotators: int) -> PlaceModel:
    """What is believed of people of whom nothing is known."""
    return PlaceModel(
        growth=0.5,
        spread=np.full((annotators, 2), FIRST_SPREAD),
        habit=np.zeros((annotators, 4)),
        pool=np.full(2, FIRST_SPREAD),
        shift=np.zeros(4),
        common=COMMON_SPREAD,
    )


def fit(sides: Sides) -> PlaceModel:
    """Learns growth, spreads and habits from objects that several people drew. Unknown people are the pool."""
    start = unknown(sides.annotators)
    shared = np.bincount(sides.target, weights=(sides.weight > 0), minlength=sides.targets)[sides.target] > 1
    if not shared.any():
        return start
    few, held = _some(sides)
    start = replace(start, growth=_growth(few, start, shared[held]))
    middle = _medians(sides, sides.values)
    plain = _learn(sides, start, shared, middle, habits=False)
    if not _has_habits(sides, plain, shared, middle):
        return plain
    return _learn(sides, plain, shared, middle, habits=True)


def locate(sides: Sides, model: PlaceModel, start: Floats | None = None) -> Located:
    """Weighted means with Student-t weights for each side, started at the medians; without the shift."""
    scale = scale_of(sides.extents, model.growth)[sides.target]
    own = model.spread[sides.annotator][:, AXIS]
    base = sides.weight[:, None] / own**2
    freed = sides.values - model.habit[sides.annotator] * scale
    values = _medians(sides, freed) if start is None else start
    share = _shares(sides, base)
    trust = np.ones_like(base)
    for _ in range(STEPS):
        distance = ((freed - values[sides.target]) / scale / own) ** 2 / np.maximum(1.0 - share, 0.1)
        trust = (FREEDOM + 1.0) / (FREEDOM + distance)
        share = _shares(sides, base * trust)
        values = _sums(sides, share * freed)
    residual = (freed - values[sides.target]) / scale
    information = np.maximum(_sums(sides, base * trust), 1e-12)
    # people who agree less than their records promise say that this object is hard to place
    surprise = _sums(sides, trust * (residual / own) ** 2 * np.sign(base))
    freedom = np.maximum(_sums(sides, np.sign(base)) - 1.0, 0.0)
    difficulty = (FREEDOM + surprise) / (FREEDOM + freedom)
    error = np.sqrt(difficulty / information + model.common**2) * scale_of(sides.extents, model.growth)
    return Located(values, error, residual, trust, share)


def shifted(values: Floats, sides: Sides, model: PlaceModel) -> Floats:
    """The settled boxes (M, 4) with what gold says the whole crowd does alike undone; never inside out.

    A side on the image's edge stays there.
    """
    moved = values + np.where(sides.cut, 0.0, model.shift * scale_of(sides.extents, model.growth))
    good = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
    return np.where(good[:, None], moved, values)


def calibrate(
    model: PlaceModel, located: Floats, extents: Floats, truth: Floats, error: Floats
) -> PlaceModel:
    """Learns from gold, rows (G, 4) of settled and true boxes, what all people do alike; `error` in px."""
    if not len(truth):
        return model
    scale = scale_of(extents, model.growth)
    off = (truth - located) / scale
    shift = np.zeros(4)
    spread = np.maximum(1.4826 * np.median(np.abs(off - np.median(off, axis=0)), axis=0), SPREAD_FLOOR)
    weight = np.ones_like(off)
    for _ in range(10):
        weight = (FREEDOM + 1.0) / (FREEDOM + ((off - shift) / spread) ** 2)
        shift = (weight * off).sum(axis=0) / (weight.sum(axis=0) + SHIFT_STRENGTH)
    own = (error / scale) ** 2 - model.common**2
    beyond = (weight * np.maximum((off - shift) ** 2 - own, 0.0)).sum() + COMMON_STRENGTH * model.common**2
    common = math.sqrt(beyond / (weight.sum() + COMMON_STRENGTH))
    return replace(model, shift=shift, common=common)


@dataclass(frozen=True, slots=True)
class Proportions:
    """What objects of a class are like: mean and standard deviation of log(width / height)."""

    mean: float
    deviation: float


def proportions(boxes: Floats, error: Floats, weight: Floats) -> Proportions:
    """Learns the proportions from settled boxes (M, 4), their errors in px, and how likely they are real (M,).

    Objects that are cut off have others: they count by Student's t. From few objects little is concluded.
    """
    shape, across, along = _log_proportions(boxes, error)
    blur = across + along
    mean, variance = 0.0, WIDE_PROPORTIONS**2
    if len(shape):
        mean = float(np.median(shape))
    for _ in range(PROPORTION_ROUNDS):
        off = shape - mean
        trust = weight * (FREEDOM + 1.0) / (FREEDOM + off**2 / (variance + blur))
        own = ((trust * np.maximum(off**2 - blur, 0.0)).sum() + PROPORTION_STRENGTH * WIDE_PROPORTIONS**2) / (
            trust.sum() + PROPORTION_STRENGTH
        )
        variance = max(float(own), NARROW_PROPORTIONS**2)
        say = trust / (variance + blur)
        mean = float((say * shape).sum() / say.sum()) if say.sum() > 0 else mean
    return Proportions(mean, math.sqrt(variance))


def proportioned(boxes: Floats, error: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Settled boxes (M, 4) drawn towards their class's proportions (M,), as far as they are uncertain.

    A box 20 px wide whose sides are known to 4 px is mended much, one of 200 px not at all.
    """
    shape, across, along = _log_proportions(boxes, error)
    blur = across + along
    off = mean - shape
    total = blur + deviation**2
    step = off * blur / total * np.minimum(1.0, (FREEDOM + 1.0) / (FREEDOM + off**2 / total))
    wider = np.exp(step * across / blur)
    higher = np.exp(-step * along / blur)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * np.stack([wider, higher], axis=1)
    return np.concatenate([middle - half, middle + half], axis=1)


def _log_proportions(boxes: Floats, error: Floats) -> tuple[Floats, Floats, Floats]:
    """log(width / height) (M,), and the variances of log width and of log height."""
    extent = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    relative = (error[:, :2] ** 2 + error[:, 2:] ** 2) / extent**2 + 1e-12
    return np.log(extent[:, 0] / extent[:, 1]), relative[:, 0], relative[:, 1]


def off_probability(boxes: Floats, error: Floats) -> Floats:
    """How likely (M,) the IoU of a settled box with its object is below `OFF_BELOW`; `error` (M, 4) in px.

    Four sides off by a share L of the extent, in all, leave an IoU of 1 - L (a box too tight), (2 - L) / (2 + L)
    (shifted) or 1 / (1 + L) (too loose): the middle one is taken. Each |error| is half-normal; now and then
    all of an object's errors are three times the usual.
    """
    extent = np.maximum((boxes[:, 2:] - boxes[:, :2])[:, AXIS], 1e-9)
    relative = error / extent
    mean = math.sqrt(2 / math.pi) * relative.sum(axis=1)
    deviation = np.sqrt((1 - 2 / math.pi) * (relative**2).sum(axis=1)) + 1e-9
    usual = _beyond((OFF_FROM - mean) / deviation)
    wild = _beyond((OFF_FROM - WILD * mean) / (WILD * deviation))
    return (1.0 - WILD_SHARE) * usual + WILD_SHARE * wild


def _beyond(z: Floats) -> Floats:
    """The upper tail of the normal distribution."""
    return np.array([0.5 * math.erfc(value / math.sqrt(2)) for value in z.tolist()], dtype=np.float64)


def to_json(model: PlaceModel, names: Sequence[str]) -> dict[str, Any]:
    """Plain JSON; `names` (K,) are the annotators'."""
    rows = zip(names, model.spread.tolist(), model.habit.tolist(), strict=True)
    return {
        "growth": model.growth,
        "shift": model.shift.tolist(),
        "common": model.common,
        "pool": model.pool.tolist(),
        "annotators": {name: {"spread": spread, "habit": habit} for name, spread, habit in rows},
    }


def from_json(raw: Mapping[str, Any], names: Sequence[str]) -> PlaceModel:
    """The model of these annotators (K,); one without a record is an average one without habits."""
    average = {"spread": raw["pool"], "habit": [0.0] * 4}
    own = [raw["annotators"].get(name, average) for name in names]
    return PlaceModel(
        growth=raw["growth"],
        spread=np.array([item["spread"] for item in own], dtype=np.float64).reshape(-1, 2),
        habit=np.array([item["habit"] for item in own], dtype=np.float64).reshape(-1, 4),
        pool=np.array(raw["pool"], dtype=np.float64),
        shift=np.array(raw["shift"], dtype=np.float64),
        common=raw["common"],
    )


def means(sides: Sides) -> Floats:
    """Plain means (M, 4)."""
    return _sums(sides, _shares(sides, np.ones_like(sides.values)) * sides.values)


def _some(sides: Sides) -> tuple[Sides, Flags]:
    """Evenly chosen objects, enough to see how errors grow, and the rows that these hold."""
    step = -(-sides.targets // GROWTH_TARGETS)
    chosen = np.arange(sides.targets) % step == 0
    held = chosen[sides.target]
    number = np.cumsum(chosen) - 1
    few = replace(
        sides,
        values=sides.values[held],
        target=number[sides.target[held]],
        annotator=sides.annotator[held],
        weight=sides.weight[held],
        extents=sides.extents[chosen],
        cut=sides.cut[chosen],
    )
    return few, held


def _learn(sides: Sides, model: PlaceModel, shared: Flags, middle: Floats, *, habits: bool) -> PlaceModel:
    people, who = sides.annotators, sides.annotator
    counts = (shared * sides.weight)[:, None]
    for _ in range(ROUNDS):
        located = locate(sides, model, middle)
        # a member pulls the mean towards itself, so its residual is too small by its leverage
        freedom = counts * (1.0 - located.leverage)
        squared = counts * located.trust * located.residual**2
        total = _by_axis(squared, who, people)
        count = _by_axis(freedom, who, people)
        pool = (total.sum(axis=0) + POOL_STRENGTH * FIRST_SPREAD**2) / (count.sum(axis=0) + POOL_STRENGTH)
        spread = np.sqrt((total + POOL_STRENGTH * pool) / (count + POOL_STRENGTH))
        model = replace(
            model,
            spread=np.maximum(spread, SPREAD_FLOOR),
            pool=np.maximum(np.sqrt(pool), SPREAD_FLOOR),
        )
        if habits:
            model = replace(model, habit=_habits(sides, model, located, freedom))
    return model


def _habits(sides: Sides, model: PlaceModel, located: Located, freedom: Floats) -> Floats:
    """Each person's mean deviation (K, 4), shrunk to 0, that of the weighted-median person being 0."""
    people, who = sides.annotators, sides.annotator
    weight = located.trust * freedom
    deviation = located.residual + model.habit[who]
    total, count = _by_person(weight * deviation, who, people), _by_person(weight, who, people)
    habit = total / (count + HABIT_STRENGTH)
    say = count / model.spread[:, AXIS] ** 2
    middle = np.array([_weighted_median(habit[:, side], say[:, side]) for side in range(4)])
    return np.where(count > 0, habit - middle, 0.0)


def _has_habits(sides: Sides, plain: PlaceModel, shared: Flags, middle: Floats) -> bool:
    """Whether habits learnt on one half of the objects make the other half's people agree more."""
    half = np.arange(sides.targets) % 2
    gain = 0.0
    for held_out in (0, 1):
        seen, unseen = shared & (half[sides.target] != held_out), shared & (half[sides.target] == held_out)
        if not seen.any() or not unseen.any():
            return False
        located = locate(sides, plain, middle)
        habit = _habits(sides, plain, located, (seen * sides.weight)[:, None] * (1.0 - located.leverage))
        tried = locate(sides, replace(plain, habit=habit), middle)
        gain += _fit_of(sides, plain, tried, unseen) - _fit_of(sides, plain, located, unseen)
    return gain > 0.0


def _growth(sides: Sides, model: PlaceModel, shared: Flags) -> float:
    """The growth under which people's deviations are most likely."""
    if not shared.any():
        return model.growth
    middle = _medians(sides, sides.values)
    best, most = model.growth, -math.inf
    for growth in GROWTHS:
        tried = replace(model, growth=growth)
        for _ in range(3):
            located = locate(sides, tried, middle)
            counts = (shared * sides.weight)[:, None]
            squared = (counts * located.trust * located.residual**2).sum(axis=0)
            count = (counts * (1.0 - located.leverage)).sum(axis=0)
            pool = np.array([squared[[0, 2]].sum(), squared[[1, 3]].sum()])
            pool = np.sqrt(pool / np.maximum(np.array([count[[0, 2]].sum(), count[[1, 3]].sum()]), 1e-9))
            pool = np.maximum(pool, SPREAD_FLOOR)
            tried = replace(tried, pool=pool, spread=np.tile(pool, (sides.annotators, 1)))
        likely = _fit_of(sides, tried, locate(sides, tried, middle), shared)
        if likely > most + 1e-9:
            best, most = growth, likely
    return best


def _fit_of(sides: Sides, model: PlaceModel, located: Located, rows: Flags) -> float:
    """The log-likelihood of these rows' deviations, per row and side, up to a constant."""
    own = model.spread[sides.annotator][:, AXIS]
    scale = scale_of(sides.extents, model.growth)[sides.target]
    distance = (located.residual / own) ** 2 / np.maximum(1.0 - located.leverage, 0.1)
    density = -np.log(own * scale) - (FREEDOM + 1.0) / 2.0 * np.log1p(distance / FREEDOM)
    return float(density[rows].mean())


def _weighted_median(values: Floats, weight: Floats) -> float:
    order = np.lexsort((weight, values))
    total = np.cumsum(weight[order])
    if total[-1] <= 0:
        return 0.0
    return float(values[order][np.searchsorted(total, total[-1] / 2.0)])


def _shares(sides: Sides, weight: Floats) -> Floats:
    total = _sums(sides, weight)[sides.target]
    return np.asarray(weight / np.where(total > 0, total, 1.0), dtype=np.float64)


def _sums(sides: Sides, values: Floats) -> Floats:
    return _by_person(values, sides.target, sides.targets)


def _by_person(values: Floats, group: Ints, groups: int) -> Floats:
    columns = [np.bincount(group, weights=values[:, column], minlength=groups) for column in range(4)]
    return np.stack(columns, axis=1).astype(np.float64)


def _by_axis(values: Floats, group: Ints, groups: int) -> Floats:
    each = _by_person(values, group, groups)
    return np.stack([each[:, 0] + each[:, 2], each[:, 1] + each[:, 3]], axis=1)


def _medians(sides: Sides, values: Floats) -> Floats:
    counted = sides.weight > 0
    target = sides.target[counted]
    count = np.bincount(target, minlength=sides.targets)
    start = np.cumsum(count) - count
    result = np.zeros((sides.targets, 4))
    held = count > 0
    low, high = (start + (count - 1) // 2)[held], (start + count // 2)[held]
    for side in range(4):
        column = values[counted, side]
        ordered = column[np.lexsort((column, target))]
        result[held, side] = (ordered[low] + ordered[high]) / 2
    return result
