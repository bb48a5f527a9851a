"""Cards: yes-or-no questions about one disputed object each, for people who have not answered its task.

`Card.slots` says how many more people may be asked. A person holds a card with a row that has no verdict yet.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction
from django.db.models import F

from labeling import shapes as label_shapes
from labeling.models import Annotation, Card, CardAnswer, CardVerdict, Project, Task, TaskState
from labeling.services import consensus, events, projects
from labeling.shapes import Keypoints, Tag

MAX_BATCH: Final = 20
EXPIRE_ON_DEMAND: Final = 50
SHOWN_AROUND: Final = 0.5
MIN_MARGIN_PX: Final = 24.0


class OwnTask(Exception):
    """This person answered the task that the card is about, and is no third person."""


class VerdictGiven(Exception):
    """This person said something else about this card before."""


def claim(*, project: Project, user: AbstractBaseUser, count: int, now: datetime) -> list[Card]:
    """This person's cards, those they hold already first, filled up to `count` with the riskiest tasks' cards."""
    wanted = min(count, MAX_BATCH)
    held = _fill(project, user, wanted, now)
    if len(held) < wanted and expire(now=now, limit=EXPIRE_ON_DEMAND):
        held = _fill(project, user, wanted, now)
    return held


def answer(
    *, card: Card, user: AbstractBaseUser, verdict: CardVerdict, seconds_active: float, now: datetime
) -> CardAnswer:
    """Says whether the object is there; the same again changes nothing. Raises `OwnTask`, `VerdictGiven`.

    The answer counts if the person holds the card or a slot is free; otherwise it is kept beside. The one that
    decides the card has its task settled.
    """
    given, decided = _store(card, user, verdict, seconds_active, now)
    if decided:
        consensus.settle_soon(task_id=card.task_id)
    return given


@transaction.atomic
def _store(
    card: Card, user: AbstractBaseUser, verdict: CardVerdict, seconds_active: float, now: datetime
) -> tuple[CardAnswer, bool]:
    # The task first, as settling does: whoever locked the card first would wait for the other for ever.
    task = consensus.lock(card.task_id)
    card = Card.objects.select_for_update().get(pk=card.pk)
    own = CardAnswer.objects.filter(card=card, user_id=user.pk).first()
    if own is not None and own.verdict:
        if own.verdict != verdict:
            raise VerdictGiven(f"you have said “{own.verdict}” about this object already")
        return own, False
    if own is None and Annotation.objects.filter(task=task, author_id=user.pk).exists():
        raise OwnTask("you have answered this picture; its cards are for other people")
    counts = card.decided_at is None and (own is not None or card.slots > 0)
    if counts and own is None:
        card.slots -= 1
    given = own or CardAnswer(card=card, user_id=user.pk, created_at=now)
    given.verdict, given.seconds_active = verdict, seconds_active
    given.expires_at, given.answered_at = None, now
    given.save()
    decided = counts and _count(card, task, verdict, now)
    events.record(
        project=task.project,
        actor=user,
        verb="answer_card",
        subject=card,
        data={"task": task.pk, "verdict": verdict, "seconds_active": seconds_active, "counts": counts},
    )
    return given, decided


def region(card: Card) -> list[float]:
    """The part of the picture to show for a card, xyxy: the object and what is around it; for a tag all of it."""
    width, height = float(card.task.image.width), float(card.task.image.height)
    shape = label_shapes.parse(card.shape)
    if isinstance(shape, Tag):
        return [0.0, 0.0, width, height]
    seen = [(x, y) for x, y, v in shape.points if v > 0] if isinstance(shape, Keypoints) else []
    corners = seen if shape.xyxy is None else [shape.xyxy[:2], shape.xyxy[2:]]
    if not corners:
        return [0.0, 0.0, width, height]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    margin = max(SHOWN_AROUND * max(max(xs) - min(xs), max(ys) - min(ys)), MIN_MARGIN_PX)
    left, top = max(0.0, min(xs) - margin), max(0.0, min(ys) - margin)
    return [left, top, min(width, max(xs) + margin), min(height, max(ys) + margin)]


def expire(*, now: datetime, limit: int = 200) -> int:
    """Gives the slots of cards that were held too long back; how many."""
    count = 0
    overdue = CardAnswer.objects.filter(verdict="", expires_at__lt=now).order_by("expires_at")
    for pk, card_id in overdue.values_list("pk", "card_id")[:limit]:
        with transaction.atomic():
            card = Card.objects.select_for_update().get(pk=card_id)
            ended, _ = CardAnswer.objects.filter(pk=pk, verdict="", expires_at__lt=now).delete()
            if ended and card.decided_at is None and _is_asked(card):
                Card.objects.filter(pk=card.pk).update(slots=F("slots") + 1)
            count += bool(ended)
    return count


@transaction.atomic
def _fill(project: Project, user: AbstractBaseUser, wanted: int, now: datetime) -> list[Card]:
    # Otherwise two of one person's tabs could take one card.
    projects.wait_for_own_tabs(project_id=project.pk, user_id=user.pk)
    until = now + timedelta(seconds=project.lease_seconds)
    own = CardAnswer.objects.filter(
        user_id=user.pk, verdict="", expires_at__gte=now, card__task__project=project
    )
    missing = wanted - own.update(expires_at=until)
    if missing > 0:
        CardAnswer.objects.bulk_create(
            CardAnswer(card_id=card_id, user_id=user.pk, created_at=now, expires_at=until)
            for card_id in _take(project, user, missing)
        )
    held = own.select_related("card__task__image").order_by("card_id")[:wanted]
    return [item.card for item in held]


def _take(project: Project, user: AbstractBaseUser, count: int) -> Sequence[int]:
    chosen = """
        SELECT c.id FROM labeling_task t JOIN labeling_card c ON c.task_id = t.id
        WHERE t.project_id = %(project)s AND t.state IN ('needs_review', 'disputed') AND t.state = 'disputed'
          AND c.slots > 0
          AND NOT EXISTS (SELECT 1 FROM labeling_annotation a
                          WHERE a.task_id = t.id AND a.author_id = %(user)s LIMIT 1 OFFSET 0)
          AND NOT EXISTS (SELECT 1 FROM labeling_cardanswer x
                          WHERE x.card_id = c.id AND x.user_id = %(user)s LIMIT 1 OFFSET 0)
        ORDER BY t.project_id, t.state, t.risk DESC, t.id, c.id LIMIT %(count)s"""
    if connection.vendor == "postgresql":
        inner = f"= ANY(ARRAY({chosen} FOR NO KEY UPDATE OF c SKIP LOCKED))"
    else:
        inner = f"IN ({chosen})"
    statement = f"UPDATE labeling_card SET slots = slots - 1 WHERE slots > 0 AND id {inner} RETURNING id"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(statement, {"project": project.pk, "user": user.pk, "count": count})
        return [int(row[0]) for row in cursor.fetchall()]


def _count(card: Card, task: Task, verdict: CardVerdict, now: datetime) -> bool:
    """Counts an answer; whether it decides the card."""
    if verdict == CardVerdict.KEEP:
        card.keeps += 1
    else:
        card.drops += 1
    wanted = max(1, task.project.cards_per_dispute)
    more = max(card.keeps, card.drops)
    # Decided as soon as those still to be asked cannot change it.
    if 2 * more > wanted or card.keeps + card.drops >= wanted:
        card.decided_at, card.slots = now, 0
        if card.keeps != card.drops:
            card.verdict = CardVerdict.KEEP if card.keeps > card.drops else CardVerdict.DROP
        Task.objects.filter(pk=task.pk).update(consensus_stale=True)
    card.save(update_fields=["keeps", "drops", "slots", "verdict", "decided_at"])
    return card.decided_at is not None


def _is_asked(card: Card) -> bool:
    """Whether the card's task still waits for it: after a reviewer's decision nobody is asked any more."""
    return Task.objects.filter(pk=card.task_id, state=TaskState.DISPUTED).exists()
