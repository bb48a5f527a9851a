"""What ends collecting and begins a training, beside a person: enough labels, the clock, drift, new classes."""

import re
from datetime import datetime, timedelta
from typing import Any, Final

from flywheel import selectors, translate
from flywheel.models import Round, Trigger
from flywheel.services import collection
from labeling.models import Project
from labeling.services import projects
from ml import schema as ml_schema

DRIFT_POINTS: Final = 0.10
DRIFT_BOXES: Final = 200
LOOK_EVERY: Final = timedelta(minutes=15)
"""How often the answers of an open round are counted for drift."""
MAX_HOURS: Final = 24 * 366
DAILY: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


class BadSchedule(Exception):
    """`round_settings.schedule` is none; the message says what it may be."""


def due(turn: Round, *, new: int, now: datetime) -> Trigger | None:
    """What begins this round's training now, with so many `new` labels. Without a new label nothing does.

    `round_settings.automatic` false leaves it to a person. Raises `BadSchedule`.
    """
    if not turn.project.round_settings.get("automatic", True):
        return None
    if new >= turn.target_new_labels:
        return Trigger.LABELS
    if new < 1:
        return None
    if is_scheduled(turn.project.round_settings.get("schedule"), since=turn.created_at, now=now):
        return Trigger.SCHEDULE
    if has_new_classes(turn.project):
        return Trigger.SCHEMA
    if has_drifted(turn, now=now):
        return Trigger.DRIFT
    return None


def is_scheduled(schedule: object, *, since: datetime, now: datetime) -> bool:
    """Whether the time has come for a round open `since`.

    A schedule is `{"every_hours": 24}` or `{"daily_at": "02:30"}`, in UTC. Raises `BadSchedule`.
    """
    if schedule is None:
        return False
    if not isinstance(schedule, dict) or len(schedule) != 1 or set(schedule) - {"every_hours", "daily_at"}:
        raise BadSchedule('round_settings.schedule must be {"every_hours": HOURS} or {"daily_at": "HH:MM"}')
    if "every_hours" in schedule:
        hours = schedule["every_hours"]
        if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 < hours <= MAX_HOURS:
            raise BadSchedule(f"round_settings.schedule.every_hours must be above 0 and at most {MAX_HOURS}")
        return now >= since + timedelta(hours=hours)
    daily = schedule["daily_at"]
    if not isinstance(daily, str) or not DAILY.fullmatch(daily):
        raise BadSchedule('round_settings.schedule.daily_at must be a time of day in UTC, like "02:30"')
    hour, minute = map(int, daily.split(":"))
    last = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if last > now:
        last -= timedelta(days=1)
    return since < last


def has_new_classes(project: Project) -> bool:
    """Whether the champion was trained for other classes or joints than the schema has now."""
    champion = selectors.champion(project)
    if champion is None or "classes" not in champion.card:
        return False
    wanted = [
        ml_schema.dump_class(item) for item in translate.classes(projects.current_schema(project).schema)
    ]
    return _essence(wanted) != _essence(champion.card["classes"])


def has_drifted(turn: Round, *, now: datetime) -> bool:
    """Whether suggestions are accepted 10 points less than in the round before, over 200 of them at least.

    Counted at most every `LOOK_EVERY`; when it was, is kept in the round's metrics.
    """
    champion = selectors.champion(turn.project)
    before = _accepted_before(turn)
    if champion is None or before is None:
        return False
    looked = turn.metrics.get("drift", {}).get("at")
    if looked is not None and now < datetime.fromisoformat(looked) + LOOK_EVERY:
        return False
    found = collection.measure(project=turn.project, since=turn.created_at, model=champion.name)
    suggested = found["accepted"] + found["edited"] + found["deleted"]
    share = found["accepted_share"]
    drift: dict[str, Any] = {
        "at": now.isoformat(),
        "suggested": suggested,
        "accepted": share,
        "before": before,
    }
    Round.objects.filter(pk=turn.pk, status=turn.status).update(metrics=turn.metrics | {"drift": drift})
    return suggested >= DRIFT_BOXES and share is not None and share <= before - DRIFT_POINTS


def _accepted_before(turn: Round) -> float | None:
    """The share accepted in the last round in which enough were suggested to tell."""
    for earlier in turn.project.rounds.filter(number__lt=turn.number).order_by("-number")[:5]:
        found = earlier.metrics.get("collection", {})
        if found.get("accepted", 0) + found.get("edited", 0) + found.get("deleted", 0) >= DRIFT_BOXES:
            share: float | None = found.get("accepted_share")
            return share
    return None


def _essence(classes: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((item["id"], item["name"], tuple(item["joints"])) for item in classes)
