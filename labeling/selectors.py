"""Reads for pages and the API."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, TypeVar

from django.db import models
from django.db.models import Count, FloatField, Q, Sum
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, TruncDate

from labeling.models import Event, Project, Tally, TaskState

Row = TypeVar("Row", bound=models.Model)


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list in its order; `next` is the cursor of the following one, if there is any."""

    items: Sequence[Any]
    next: str | None


def page(rows: models.QuerySet[Row], *, cursor: str | None, limit: int, newest_first: bool = False) -> Page:
    """A page by keyset over `id`: as quick at the end of the list as at its beginning."""
    order = "-id" if newest_first else "id"
    if cursor and cursor.isdecimal() and len(cursor) < 19:
        rows = rows.filter(id__lt=int(cursor)) if newest_first else rows.filter(id__gt=int(cursor))
    found = list(rows.order_by(order)[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    return Page(found, str(found[-1].pk) if more else None)


def progress(project: Project) -> dict[str, int]:
    """How many tasks there are to label, how many of them in which state; beside them the gold, and all answers."""
    counts = dict.fromkeys(["tasks", "gold", *TaskState.values, "answers"], 0)
    rows = Tally.objects.filter(project=project).order_by().values_list("state", "is_gold")
    for state, is_gold, tasks, answers in rows.annotate(Sum("tasks"), Sum("answers")):
        counts["answers"] += answers
        counts["gold" if is_gold else "tasks"] += tasks
        if not is_gold:
            counts[state] += tasks
    return counts


@dataclass(frozen=True, slots=True)
class TimeSpent:
    """One person's work on one day, in UTC: answers and cards handed in, and the seconds they were at them."""

    day: date
    user_id: int
    username: str
    answers: int
    cards: int
    seconds_active: float


def time_spent(project: Project, *, first: date, last: date) -> list[TimeSpent]:
    """Who worked how long, by day, the newest first, from the record of what was handed in.

    Reads no more of the record than these days' part. A correction counts as another answer.
    """
    since, until = (datetime.combine(day, edge, UTC) for day, edge in ((first, time.min), (last, time.max)))
    rows = (
        Event.objects.filter(
            project=project, at__gte=since, at__lte=until, verb__in=["submit", "answer_card"]
        )
        .exclude(actor=None)
        .annotate(day=TruncDate("at", tzinfo=UTC))
        .values("day", "actor_id", "actor__username")
        .annotate(
            answers=Count("id", filter=Q(verb="submit")),
            cards=Count("id", filter=Q(verb="answer_card")),
            seconds=Sum(Cast(KeyTextTransform("seconds_active", "data"), FloatField())),
        )
        .order_by("-day", "actor__username")
    )
    return [
        TimeSpent(
            row["day"],
            row["actor_id"],
            row["actor__username"],
            row["answers"],
            row["cards"],
            row["seconds"] or 0.0,
        )
        for row in rows
    ]
