"""Consensus of rankings: a simulated pool of raters orders groups of items with a known truth, or with none.

An item's true score is normal with variance 1; a rater sees it with a noise of their own (Thurstone, 1927), and
some raters order at random. In a group without consensus every rater goes by scores of their own. `tau` is Kendall's,
of the settled order with the true one, over the groups that have one; a group's raters are drawn from the pool.

The difficulty (`NOISE`) was fixed on seeds from 900 on, where the plain average rank comes to .63 at 5 raters, before
the weighted one was run on it; how raters' weights follow from their distances was chosen on those seeds too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final, TypeAlias

import numpy as np

from labeling.consensus.ranking import Ranking, RankingAnswer, Sheet, gather
from labeling.geometry import Floats, Ints

GROUPS: Final = 400
QUICK_GROUPS: Final = 120
POOL: Final = 30
ITEMS: Final = (4, 10)
NOISE: Final = 1.12
"""The median rater's, in standard deviations of the true scores."""
NOISE_SPREAD: Final = 0.5
"""Standard deviation of its logarithm over raters."""
CARELESS: Final = 0.15
NO_CONSENSUS: Final = 0.25
RATERS: Final = (3, 5, 9)
KEMENY_ITEMS: Final = 6
STEPS: Final = 40
PRIOR: Final = 0.1
"""Pseudo-counts of Bradley–Terry's and Plackett–Luce's fits: without them a clear winner's score is infinite."""

Say: TypeAlias = Callable[[str], None]
Orders: TypeAlias = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Crowd:
    answers: tuple[RankingAnswer, ...]
    truth: Mapping[str, tuple[str, ...] | None]
    """The true order by group; nothing for a group without consensus."""


def generate(groups: int, raters: int, seed: int) -> Crowd:
    random = np.random.default_rng((seed, raters))
    noise = NOISE * np.exp(NOISE_SPREAD * random.standard_normal(POOL))
    careless = random.random(POOL) < CARELESS
    answers: list[RankingAnswer] = []
    truth: dict[str, tuple[str, ...] | None] = {}
    for number in range(groups):
        group = f"group-{number:04d}"
        items = [f"item-{k}" for k in range(int(random.integers(ITEMS[0], ITEMS[1] + 1)))]
        score = random.standard_normal(len(items))
        agreed = random.random() >= NO_CONSENSUS
        truth[group] = _by_score(items, score) if agreed else None
        for who in sorted(random.choice(POOL, raters, replace=False).tolist()):
            own = score if agreed else random.standard_normal(len(items))
            seen = own + noise[who] * random.standard_normal(len(items))
            if careless[who]:
                seen = random.standard_normal(len(items))
            answers.append(RankingAnswer(group, f"rater-{who:02d}", _by_score(items, seen)))
    return Crowd(tuple(answers), truth)


def weighted(crowd: Crowd) -> Orders:
    return {group.group: group.order for group in Ranking().fit_predict(crowd.answers).groups}


def borda(crowd: Crowd) -> Orders:
    """The plain average rank."""
    settled = Ranking(weighted=False).fit_predict(crowd.answers)
    return {group.group: group.order for group in settled.groups}


def bradley_terry(crowd: Crowd) -> Orders:
    """By the probability of beating another, fitted by minorisation (Hunter, 2004)."""
    return {sheet.group: _by_score(sheet.items, _bradley_terry(sheet)) for sheet in gather(crowd.answers)}


def plackett_luce(crowd: Crowd) -> Orders:
    """By the probability of being chosen first, again and again of those left, fitted by minorisation."""
    return {sheet.group: _by_score(sheet.items, _plackett_luce(sheet)) for sheet in gather(crowd.answers)}


def kemeny(crowd: Crowd) -> Orders:
    """The order with the fewest contradicted pairs, of groups of at most `KEMENY_ITEMS` items; else as Borda."""
    rest = borda(crowd)
    return {
        sheet.group: _kemeny(sheet) if len(sheet.items) <= KEMENY_ITEMS else rest[sheet.group]
        for sheet in gather(crowd.answers)
    }


METHODS: Final[Mapping[str, Callable[[Crowd], Orders]]] = {
    "borda": borda,
    "bradley_terry": bradley_terry,
    "plackett_luce": plackett_luce,
    "kemeny": kemeny,
    "weighted": weighted,
}


def tau(order: Sequence[str], truth: Sequence[str]) -> float:
    """Kendall's: the share of pairs in the true order less that of the others; -1…1.

    >>> tau("acb", "abc")
    0.3333333333333333
    """
    place = {item: index for index, item in enumerate(order)}
    ranks = np.array([place[item] for item in truth])
    signs = np.sign(ranks[None, :] - ranks[:, None])[np.triu_indices(len(ranks), 1)]
    return float(signs.mean())


def auroc(score: Floats, positive: Ints) -> float:
    """How often a positive scores above a negative; a tie counts half."""
    above, below = score[positive == 1], score[positive == 0]
    wins = (above[:, None] > below[None, :]).mean() + 0.5 * (above[:, None] == below[None, :]).mean()
    return float(wins)


def run(*, quick: bool, seeds: Sequence[int], say: Say) -> dict[str, Any]:
    """`tau_5` and `auroc_5`, `auroc_9` are the weighted average rank's; `tau` has every method's by raters.

    `verdicts` tells by raters how often groups with and without consensus are said to have none, and to have one.
    """
    groups = QUICK_GROUPS if quick else GROUPS
    result: dict[str, Any] = {"tau": {}, "auroc": {}, "verdicts": {}}
    for raters in RATERS:
        say(f"rankings by {raters} raters")
        crowds = [generate(groups, raters, seed) for seed in seeds]
        result["tau"][raters] = {
            name: _mean([_tau_of(settle(crowd), crowd) for crowd in crowds])
            for name, settle in METHODS.items()
        }
        result["auroc"][raters] = {
            "weighted": _mean([_auroc_of(Ranking(), crowd) for crowd in crowds]),
            "plain": _mean([_auroc_of(Ranking(weighted=False), crowd) for crowd in crowds]),
        }
        result["verdicts"][raters] = _verdicts(crowds)
    return {
        "tau_5": result["tau"][5]["weighted"],
        "auroc_5": result["auroc"][5]["weighted"],
        "auroc_9": result["auroc"][9]["weighted"],
        **result,
    }


def _tau_of(orders: Orders, crowd: Crowd) -> float:
    return float(np.mean([tau(orders[group], true) for group, true in crowd.truth.items() if true]))


def _auroc_of(method: Ranking, crowd: Crowd) -> float:
    settled = method.fit_predict(crowd.answers).groups
    none = np.array([crowd.truth[group.group] is None for group in settled], dtype=np.int64)
    return auroc(np.array([group.spread for group in settled]), none)


def _verdicts(crowds: Sequence[Crowd]) -> dict[str, dict[str, float]]:
    said: dict[str, list[str]] = {"with": [], "without": []}
    for crowd in crowds:
        for group in Ranking().fit_predict(crowd.answers).groups:
            said["with" if crowd.truth[group.group] else "without"].append(group.verdict)
    return {
        kind: {
            verdict: round(verdicts.count(verdict) / len(verdicts), 3)
            for verdict in ("consensus", "no consensus", "unknown")
        }
        for kind, verdicts in said.items()
    }


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def _by_score(items: Sequence[str], score: Floats) -> tuple[str, ...]:
    """The highest first; of equals the first by name."""
    return tuple(
        items[index] for index in sorted(range(len(items)), key=lambda index: (-score[index], items[index]))
    )


def _beats(sheet: Sheet) -> Floats:
    """How many raters (I, I) put the row's item before the column's."""
    return np.asarray((sheet.ranks[:, :, None] < sheet.ranks[:, None, :]).sum(axis=0), dtype=np.float64)


def _bradley_terry(sheet: Sheet) -> Floats:
    beats = _beats(sheet) + PRIOR
    np.fill_diagonal(beats, 0.0)
    strength = np.ones(len(sheet.items))
    for _ in range(STEPS):
        met = (beats + beats.T) / (strength[:, None] + strength[None, :])
        strength = beats.sum(axis=1) / met.sum(axis=1)
        strength /= strength.mean()
    return strength


def _plackett_luce(sheet: Sheet) -> Floats:
    orders = np.argsort(sheet.ranks, axis=1, kind="stable")  # (R, I); everybody ranks all items here
    chosen = np.bincount(orders[:, :-1].ravel(), minlength=len(sheet.items))
    strength = np.ones(len(sheet.items))
    for _ in range(STEPS):
        left = np.cumsum(strength[orders][:, ::-1], axis=1)[:, ::-1]
        stages = np.cumsum(1.0 / left[:, :-1], axis=1)
        stages = np.concatenate([stages, stages[:, -1:]], axis=1)
        total = np.bincount(orders.ravel(), weights=stages.ravel(), minlength=len(sheet.items))
        strength = (chosen + PRIOR) / (total + PRIOR)
        strength /= strength.mean()
    return strength


def _kemeny(sheet: Sheet) -> tuple[str, ...]:
    beats = _beats(sheet)
    orders = np.array(list(permutations(range(len(sheet.items)))))
    agreed = np.zeros(len(orders))
    for first in range(len(sheet.items)):
        for second in range(first + 1, len(sheet.items)):
            agreed += beats[orders[:, first], orders[:, second]]
    return tuple(sheet.items[index] for index in orders[int(agreed.argmax())].tolist())
