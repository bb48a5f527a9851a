"""Reads for pages and the API."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import models
from django.db.models import Sum

from labeling.models import Project, Tally, TaskState

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
