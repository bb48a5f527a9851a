"""Disputed objects: where a vote is too close to call, other people are asked about the object alone.

Which objects of a consensus are disputed, the cards that ask about them, and what the verdicts make of it.
The cards' way to people and back stands in `cards`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from labeling import shapes as label_shapes
from labeling.consensus import Answer, Cause, Causes, Settled, SettledShape
from labeling.models import Card, CardAnswer, CardVerdict, Task

SURE_TO_KEEP: Final = 0.75
SURE_TO_DROP: Final = 0.25
"""Between these the vote errs more often than once in four objects, and one more look costs less than the error.

An object that three of seven people drew is a coin flip; one that five drew is there nine times in ten.
"""
CARD_ACCURACY: Final = 0.9
"""How often one look at a single object is taken to be right, until it is measured."""
CARDS_DECIDED: Final = "+cards"
"""Ends the method's name of a consensus to which verdicts were applied."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the cards make of a consensus: `waiting` while verdicts are out, `tied` if people stayed divided."""

    settled: Settled
    decided: bool = False
    waiting: bool = False
    tied: bool = False


def resolve(*, task: Task, settled: Settled, answers: Sequence[Answer], ask: bool) -> Outcome:
    """Applies the verdicts, once all are in; if not and `ask`, makes the cards that are missing.

    The caller holds the task's row. The same answers and verdicts give the same outcome in any order.
    """
    asked = {card.digest: card for card in Card.objects.select_for_update().filter(task=task).order_by("id")}
    digests = _digests(settled, answers)
    missing = {
        key: item
        for key, item in zip(digests, settled.shapes, strict=True)
        if is_disputed(item) and not _is_decided(asked.get(key))
    }
    if missing and ask and task.project.cards_per_dispute:
        _ask(task, asked, missing)
        return Outcome(settled, waiting=True)
    if any(card.slots for card in asked.values()):
        close(task=task)
    found = [asked.get(key) for key in digests]
    return Outcome(
        _with_verdicts(settled, found),
        decided=any(card is not None and _is_decided(card) and card.verdict for card in found),
        tied=any(card is not None and _is_decided(card) and not card.verdict for card in found),
    )


def with_verdicts(*, task: Task, settled: Settled, answers: Sequence[Answer]) -> Settled:
    """What the verdicts that are in make of a consensus; nothing is asked or closed."""
    asked = {card.digest: card for card in Card.objects.filter(task=task)}
    return _with_verdicts(settled, [asked.get(key) for key in _digests(settled, answers)])


def is_disputed(item: SettledShape) -> bool:
    return is_close(item.accepted, item.confidence)


def is_close(accepted: bool, confidence: float) -> bool:
    """Whether a vote that accepted an object, or did not, is too close to call.

    >>> is_close(True, 0.7), is_close(True, 0.8), is_close(False, 0.3)
    (True, False, True)
    """
    return confidence < SURE_TO_KEEP if accepted else confidence >= SURE_TO_DROP


def digest(item: SettledShape, drawn: Mapping[tuple[str, str], label_shapes.Shape]) -> str:
    """Names an object by what people drew: learning more about these people does not make it another."""
    parts = [[*member, label_shapes.dump(drawn[member])] for member in item.members if member in drawn]
    content = [item.shape.class_id, label_shapes.kind_of(item.shape), parts]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def close(*, task: Task) -> None:
    """Nobody is asked any more; what was answered stays, and an answer on its way is kept beside."""
    Card.objects.filter(task=task, slots__gt=0).update(slots=0)


def _ask(task: Task, asked: Mapping[str, Card], missing: Mapping[str, SettledShape]) -> None:
    wanted = task.project.cards_per_dispute
    held = Counter(
        CardAnswer.objects.filter(card__in=asked.values(), verdict="").values_list("card_id", flat=True)
    )
    for key, card in asked.items():
        open_slots = max(0, wanted - card.keeps - card.drops - held[card.pk]) if key in missing else 0
        if open_slots != card.slots:
            Card.objects.filter(pk=card.pk).update(slots=open_slots)
    Card.objects.bulk_create(
        Card(
            task=task,
            shape=label_shapes.dump(replace(item.shape, score=None)),
            digest=key,
            confidence=item.confidence,
            slots=wanted,
        )
        for key, item in missing.items()
        if key not in asked
    )


def _is_decided(card: Card | None) -> bool:
    return card is not None and card.decided_at is not None


def _digests(settled: Settled, answers: Sequence[Answer]) -> list[str]:
    drawn = {(item.annotator, shape.id): shape for item in answers for shape in item.shapes}
    return [digest(item, drawn) for item in settled.shapes]


def _with_verdicts(settled: Settled, cards: Sequence[Card | None]) -> Settled:
    """The consensus with each decided object as its card has it, and the risk that is left."""
    shapes = tuple(_with_verdict(item, card) for item, card in zip(settled.shapes, cards, strict=True))
    changed = sum(_risk(item) for item in shapes) - sum(_risk(item) for item in settled.shapes)
    if shapes == settled.shapes:
        return settled
    causes = dict(settled.causes)
    for before, after in zip(settled.shapes, shapes, strict=True):
        for cause in {*before.causes, *after.causes} if before is not after else ():
            more = after.causes.get(cause, 0.0) - before.causes.get(cause, 0.0)
            causes[cause] = max(0.0, causes.get(cause, 0.0) + more)
    return replace(settled, shapes=shapes, risk=max(0.0, settled.risk + changed), causes=causes)


def _with_verdict(item: SettledShape, card: Card | None) -> SettledShape:
    """The shape as the verdict has it, its confidence moved by each look like odds by a likelihood ratio."""
    if card is None or not _is_decided(card) or not card.verdict:
        return item
    prior = min(max(item.confidence, 1e-6), 1 - 1e-6)
    odds = prior / (1 - prior) * (CARD_ACCURACY / (1 - CARD_ACCURACY)) ** (card.keeps - card.drops)
    looked_at = replace(item, accepted=card.verdict == CardVerdict.KEEP, confidence=odds / (1 + odds))
    return replace(looked_at, causes=_causes(item, looked_at))


def _causes(before: SettledShape, after: SettledShape) -> Causes:
    """An object's part of the risk after a verdict: whether it is there was asked, where and what it is was not."""
    kept = {
        cause: value
        for cause, value in before.causes.items()
        if cause not in ("surplus", "missed", "class") and after.accepted
    }
    doubt: Cause = "surplus" if after.accepted else "missed"
    return kept | {doubt: _risk(after)}


def _risk(item: SettledShape) -> float:
    return 1 - item.confidence if item.accepted else item.confidence
