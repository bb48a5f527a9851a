"""Consensus of rankings: in which order a group of items stands for most who ranked it, and whether it does at all.

What is predicted is an item's *average* rank, not its rank: the mean of the raters' ranks. A rater counts
(1 - d) / (d + .3), where d is the mean squared distance of their ranks to the mean of the others', 1 for a rater at
random; the others' mean is weighted so too, and all is done again until it stands. An average rank is as good an
estimate as the scores of Bradley and Terry (1952) or Plackett (1975) and Luce (1959), is always there, and its spread
says where raters agree.

Ranks are positions between 0 (first) and 1 (last), so that groups of all sizes count alike; in an answer that leaves
items out, those lie evenly among all.

>>> answers = [
...     RankingAnswer("birds", "ann", ("wren", "crow", "gull")),
...     RankingAnswer("birds", "ben", ("wren", "gull", "crow")),
...     RankingAnswer("birds", "cem", ("wren", "crow", "gull")),
... ]
>>> settled = Ranking().fit_predict(answers)
>>> settled.groups[0].order
('wren', 'crow', 'gull')
>>> settled.groups[0].verdict
'unknown'
"""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import numpy as np

from labeling.consensus.base import Interval, Parameters
from labeling.geometry import Floats, Ints

DISTANCE_FLOOR: Final = 0.3
"""Nobody counts above 1 / .3."""
LEAST_WEIGHT: Final = 0.04
"""Of a rater at random or worse."""
ROUNDS: Final = 10
RATER_STRENGTH: Final = 3.0
"""Groups that the pool's distance counts for in a rater's."""
LEAST_RATERS: Final = 5
"""With fewer, chance makes raters differ too often to say that there is no consensus."""
CONSENSUS_UP_TO: Final = 0.05
"""How rarely raters who rank at random may look as if they agreed."""
NO_CONSENSUS_FROM: Final = 0.25
"""Raters agree no better than one in four groups of raters at random: such a group is told to be without consensus,
which finds three in four of those where everybody ranks at random."""
NULL_DRAWS: Final = 1_000
INTERVAL_90: Final = 1.645
TIE_DIGITS: Final = 12
"""Average ranks that are equal to so many digits are equal."""

Verdict: TypeAlias = Literal["consensus", "no consensus", "unknown"]


@dataclass(frozen=True, slots=True)
class RankingAnswer:
    """One rater's order of a group's items, the best first; items may be left out. A rater's last counts."""

    group: str
    rater: str
    order: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SettledItem:
    """An item's average rank in 0 (first) … 1 (last), its standard error, and how many ranked it."""

    item: str
    average_rank: float
    error: float
    raters: int


@dataclass(frozen=True, slots=True)
class SettledGroup:
    """A group's items, best first; of equal ones the first by name.

    `spread` is the raters' weighted squared distance from the settled ranks, 1 where they rank at random and 0 where
    all agree. `chance` is how often as few raters who rank at random would agree so well.
    """

    group: str
    items: tuple[SettledItem, ...]
    raters: tuple[str, ...]
    spread: float
    chance: float
    verdict: Verdict

    @property
    def order(self) -> tuple[str, ...]:
        return tuple(item.item for item in self.items)


@dataclass(frozen=True, slots=True)
class RaterSkill:
    """`distance` is the mean squared distance to the others' mean rank, 1 for somebody who ranks at random."""

    rater: str
    distance: float
    interval: Interval
    """Of the distance, 90 %."""
    weight: float
    groups: int


@dataclass(frozen=True, slots=True)
class RankingFitted:
    parameters: Parameters
    raters: tuple[RaterSkill, ...]


@dataclass(frozen=True, slots=True)
class RankingConsensus:
    groups: tuple[SettledGroup, ...]
    raters: tuple[RaterSkill, ...]
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Sheet:
    """One group: the ranks (R, I) that raters gave items, in order of their names; NaN where left out."""

    group: str
    raters: tuple[str, ...]
    items: tuple[str, ...]
    ranks: Floats  # (R, I)


class Ranking:
    """The weighted average rank. With `weighted` off everybody counts alike: Borda's count (1781)."""

    def __init__(self, *, weighted: bool = True) -> None:
        self.weighted = weighted

    def fit(self, answers: Iterable[RankingAnswer]) -> RankingFitted:
        """Every rater's distance from the others, all weighing the same at first."""
        sheets = gather(answers)
        raters = tuple(sorted({name for sheet in sheets for name in sheet.raters}))
        pool = 1.0
        distances = dict.fromkeys(raters, 0.5)
        skills: tuple[RaterSkill, ...] = ()
        for _ in range(ROUNDS):
            weights = {name: _weight(distance) for name, distance in distances.items()}
            measured = _distances(sheets, weights if self.weighted else {})
            every = [value for name in raters for value in measured[name]]
            pool = math.fsum(every) / len(every) if every else 1.0
            skills = tuple(_skill(name, measured[name], pool, self.weighted) for name in raters)
            before, distances = distances, {skill.rater: skill.distance for skill in skills}
            if not self.weighted or before == distances:
                break
        return RankingFitted(
            {"weighted": self.weighted, "pool": pool, "raters": distances if self.weighted else {}}, skills
        )

    def predict(self, answers: Iterable[RankingAnswer], parameters: Parameters) -> tuple[SettledGroup, ...]:
        """Settles these groups with frozen weights; an unknown rater is an average one."""
        known: Mapping[str, float] = parameters["raters"]
        return tuple(
            _settle(
                sheet,
                np.array(
                    [
                        _weight(known.get(name, parameters["pool"])) if parameters["weighted"] else 1.0
                        for name in sheet.raters
                    ]
                ),
            )
            for sheet in gather(answers)
        )

    def fit_predict(self, answers: Iterable[RankingAnswer]) -> RankingConsensus:
        every = tuple(answers)
        fitted = self.fit(every)
        return RankingConsensus(self.predict(every, fitted.parameters), fitted.raters, fitted.parameters)


def gather(answers: Iterable[RankingAnswer]) -> tuple[Sheet, ...]:
    """The groups in order of their names. An item twice in an answer counts where it stands first."""
    orders: dict[str, dict[str, tuple[str, ...]]] = {}
    for answer in answers:
        order = tuple(dict.fromkeys(answer.order))
        if order:
            orders.setdefault(answer.group, {})[answer.rater] = order
    sheets: list[Sheet] = []
    for group, own in sorted(orders.items()):
        raters = tuple(sorted(own))
        items = tuple(sorted({item for order in own.values() for item in order}))
        column = {item: index for index, item in enumerate(items)}
        ranks = np.full((len(raters), len(items)), np.nan)
        for row, name in enumerate(raters):
            positions = np.array([column[item] for item in own[name]])
            ranks[row, positions] = (np.arange(len(positions)) + 0.5) / len(positions)
        sheets.append(Sheet(group, raters, items, ranks))
    return tuple(sheets)


def _distances(sheets: Sequence[Sheet], weights: Mapping[str, float]) -> dict[str, list[float]]:
    """By rater, for each group that others ranked too, the mean squared distance from the others' mean rank.

    In units of what a random order is expected to have.
    """
    found: dict[str, list[float]] = {}
    for sheet in sheets:
        weight = np.array([weights.get(name, 1.0) for name in sheet.raters])
        ranked = ~np.isnan(sheet.ranks)
        ranks = np.where(ranked, sheet.ranks, 0.0)
        total = _down(weight[:, None] * ranks)
        count = _down(weight[:, None] * ranked)
        many = ranked.sum(axis=0)
        for row, name in enumerate(sheet.raters):
            own = found.setdefault(name, [])
            shared = ranked[row] & (many > 1)
            if int(shared.sum()) < 2:
                continue
            left = (total - weight[row] * ranks[row])[shared] / (count - weight[row] * ranked[row])[shared]
            squares = (ranks[row][shared] - left) ** 2
            usual = (ranks[row][shared] - 0.5) ** 2
            # a random order varies by itself and knows nothing of where the others' means lie
            random = math.fsum(usual.tolist()) + math.fsum(((left - 0.5) ** 2).tolist())
            if random > 0.0:
                own.append(math.fsum(squares.tolist()) / random)
    return found


def _skill(rater: str, distances: Sequence[float], pool: float, weighted: bool) -> RaterSkill:
    """The mean distance, shrunk to the pool's; its interval is normal, with the spread of distances about it."""
    count = len(distances)
    distance = (math.fsum(distances) + RATER_STRENGTH * pool) / (count + RATER_STRENGTH)
    squares = math.fsum((value - distance) ** 2 for value in distances)
    deviation = math.sqrt((squares + RATER_STRENGTH * pool**2) / (count + RATER_STRENGTH))
    reach = INTERVAL_90 * deviation / math.sqrt(count + RATER_STRENGTH)
    return RaterSkill(
        rater=rater,
        distance=distance,
        interval=(max(0.0, distance - reach), distance + reach),
        weight=_weight(distance) if weighted else 1.0,
        groups=count,
    )


def _weight(distance: float) -> float:
    return max(1.0 - distance, LEAST_WEIGHT) / (distance + DISTANCE_FLOOR)


def _settle(sheet: Sheet, weight: Floats) -> SettledGroup:
    ranked = ~np.isnan(sheet.ranks)
    ranks = np.where(ranked, sheet.ranks, 0.0)
    count = _down(weight[:, None] * ranked)
    mean = _down(weight[:, None] * ranks) / count
    squares = _down(weight[:, None] * np.where(ranked, (sheet.ranks - mean) ** 2, 0.0))
    # the effective number of raters of each item
    many = count**2 / _down(weight[:, None] ** 2 * ranked)
    variance = np.where(many > 1, squares / count * many / np.maximum(many - 1, 1e-9), 1.0 / 12.0)
    error = np.sqrt(variance / many)
    raters = ranked.sum(axis=0)
    spread = _spread(ranks, ranked, weight)
    chance = _chance(spread, ranked, weight)
    order = sorted(range(len(sheet.items)), key=lambda i: (round(float(mean[i]), TIE_DIGITS), sheet.items[i]))
    verdict: Verdict = "unknown"
    if chance <= CONSENSUS_UP_TO:
        verdict = "consensus"
    elif chance >= NO_CONSENSUS_FROM and len(sheet.raters) >= LEAST_RATERS:
        verdict = "no consensus"
    return SettledGroup(
        group=sheet.group,
        items=tuple(
            SettledItem(sheet.items[i], float(mean[i]), float(error[i]), int(raters[i])) for i in order
        ),
        raters=sheet.raters,
        spread=spread,
        chance=chance,
        verdict=verdict,
    )


def _spread(ranks: Floats, ranked: Floats | Ints, weight: Floats) -> float:
    """Raters' weighted squared distance from their mean, over that from the middle; in 0…1.

    It is one less Kendall's coefficient of concordance W, with weights. 1 for one rater alone: they show no
    agreement.
    """
    count = _down(weight[:, None] * ranked)
    mean = _down(weight[:, None] * ranks) / count
    within = _down(weight[:, None] * np.where(ranked, (ranks - mean) ** 2, 0.0))
    whole = _down(weight[:, None] * np.where(ranked, (ranks - 0.5) ** 2, 0.0))
    total = math.fsum(whole.tolist())
    if len(weight) < 2 or total == 0.0:
        return 1.0
    return math.fsum(within.tolist()) / total


def _chance(spread: float, ranked: Floats | Ints, weight: Floats) -> float:
    """How often raters who shuffle their items have no larger spread: a test by `NULL_DRAWS` random rankings.

    A permutation test: the rate at which groups without any true order are said to have a consensus is
    `CONSENSUS_UP_TO`, whatever the group's size, the raters' weights and what they left out.
    """
    if len(weight) < 2:
        return 1.0
    rounded = np.round(weight / weight.max(), 2)
    null = _null(np.packbits(np.asarray(ranked, dtype=bool)).tobytes(), ranked.shape, tuple(rounded.tolist()))
    return float((np.searchsorted(null, spread + 1e-12, side="right") + 1) / (len(null) + 1))


@lru_cache(maxsize=4_096)
def _null(packed: bytes, shape: tuple[int, int], weight: tuple[float, ...]) -> Floats:
    """Spreads of random rankings in which the same items are left out, ascending; always the same draws."""
    raters, items = shape
    ranked = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=raters * items).reshape(shape)
    random = np.random.default_rng(zlib.crc32(repr((packed, shape, weight)).encode()))
    draws = np.zeros((NULL_DRAWS, raters, items))
    for row in range(raters):
        where = np.flatnonzero(ranked[row])
        keys = random.random((NULL_DRAWS, len(where)))
        draws[:, row, where] = (np.argsort(np.argsort(keys, axis=1), axis=1) + 0.5) / len(where)
    w = np.array(weight)[:, None]
    count = (w * ranked).sum(axis=0)
    mean = (w * draws).sum(axis=1) / count
    within = (w * ranked * (draws - mean[:, None, :]) ** 2).sum(axis=(1, 2))
    whole = (w * ranked * (draws - 0.5) ** 2).sum(axis=(1, 2))
    return np.sort(within / np.maximum(whole, 1e-12))


def _down(table: Floats) -> Floats:
    """Column sums, one rater after another."""
    total = np.zeros(table.shape[1])
    for row in table:
        total = total + row
    return total
