"""What to do next about an image: settle it, ask one more person and whom, ask about one object, or call an expert.

Labels cost time, and most images need few: one more answer is asked only while the expected number of errors
is above the target, of the person whose answer is expected to lower it most (the value of information of a
yes-or-no observation). When enough people have answered and the doubt is about single objects, a look at each of
these alone is cheaper than a whole answer; what then stays in doubt goes to an expert.

Sources: Branson, Van Horn and Perona, "Lean Crowdsourcing" (CVPR 2017) for stopping by risk; Raiffa and Schlaifer,
"Applied Statistical Decision Theory" (1961) for the value of an observation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from labeling.consensus.base import Settled, SettledShape, Skill

ActionKind: TypeAlias = Literal["settle", "ask", "card", "expert"]
DOUBTFUL: Final = (0.25, 0.75)
"""An object whose confidence lies between is worth a look of its own."""
UNKNOWN_PERSON: Final = (0.85, 0.9)
"""Recall and precision of somebody without a record."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`target_risk`: expected errors in an image that may stand. `first` answers are asked in any case, and never
    more than `most`. With `cards` doubtful objects are asked about alone before an expert is called."""

    target_risk: float = 0.15
    first: int = 2
    most: int = 5
    cards: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """What to do. `annotator` is the best one to ask ("" for anybody), `shapes` those to ask about alone,
    `drop` the errors that the next answer is expected to remove."""

    kind: ActionKind
    annotator: str = ""
    shapes: tuple[SettledShape, ...] = ()
    drop: float = 0.0


def next_action(
    settled: Settled, policy: Policy, *, answers: int, free: Sequence[Skill] | None = None
) -> Action:
    """The next best action for an image that this many people have answered.

    `free` are those who may be asked: none of them ends the asking, nothing (None) means anybody. Of equals
    the one with the lower name is asked.

    >>> next_action(Settled("a", (), 0.05, ("ann", "ben")), Policy(), answers=2).kind
    'settle'
    >>> next_action(Settled("a", (), 0.4, ("ann", "ben")), Policy(), answers=2).kind
    'ask'
    >>> next_action(Settled("a", (), 0.4, ("ann", "ben")), Policy(most=2), answers=2).kind
    'expert'
    """
    wanted = answers < min(policy.first, policy.most) or (
        settled.risk > policy.target_risk and answers < policy.most
    )
    if wanted and (free is None or free):
        best = min(
            free or (), key=lambda skill: (-expected_drop(settled, skill), skill.annotator), default=None
        )
        name = "" if best is None else best.annotator
        return Action("ask", annotator=name, drop=expected_drop(settled, best))
    if settled.risk <= policy.target_risk:
        return Action("settle")
    doubtful = tuple(item for item in settled.shapes if DOUBTFUL[0] <= item.confidence < DOUBTFUL[1])
    if policy.cards and doubtful:
        return Action("card", shapes=doubtful)
    return Action("expert")


def expected_drop(settled: Settled, skill: Skill | None = None) -> float:
    """By how many errors this person's answer is expected to lower the risk of wrong existence; at least 0.

    A candidate of probability p is wrong with min(p, 1 - p). The person draws it with their recall where it is
    there, and where it isn't at a rate that makes their precision come out for p = ½.
    """
    recall, precision = UNKNOWN_PERSON if skill is None else (skill.recall, skill.precision)
    fooled = min(recall * (1.0 - precision) / max(precision, 1e-6), 1.0)
    drop = settled.causes.get("unseen", 0.0) * recall
    for item in settled.shapes:
        p = item.existence
        drew = p * recall + (1.0 - p) * fooled
        wrong = min(p * recall, (1.0 - p) * fooled) + min(p * (1.0 - recall), (1.0 - p) * (1.0 - fooled))
        drop += max(0.0, min(p, 1.0 - p) - wrong) if 0.0 < drew < 1.0 else 0.0
    return drop
