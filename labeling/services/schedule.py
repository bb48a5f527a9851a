"""Work that comes round: each slot of time is one job, however many ask for it and however often.

A slot is the number of whole periods since 1970 by the database's clock, and part of the job's key. Whoever
sweeps makes what the current slot lacks; after a pause that is the newest slot alone, never those in between.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

from django.db import transaction

from labeling import selectors
from labeling.models import Job, JobState, Project
from labeling.services import jobs, refits

Due: TypeAlias = Callable[[set[int | None]], Iterable[tuple[Project | None, dict[str, Any]]]]
"""The projects that need a job, each with its parameters, but for those that have theirs; `None` is the service."""


@dataclass(frozen=True, slots=True)
class Periodic:
    kind: str
    every_s: int
    due: Due


def _with_new_answers(made: set[int | None]) -> Iterable[tuple[Project | None, dict[str, Any]]]:
    """Projects whose number of answers is another than at their last refit, or whose method is.

    Not where a person went back to an earlier fit: until one asks for a refit, that stays.
    """
    for project in Project.objects.exclude(pk__in=[pk for pk in made if pk is not None]).order_by("id"):
        answers = selectors.progress(project)["answers"]
        last = Job.objects.filter(project=project, kind="refit", state=JobState.DONE).order_by("-id").first()
        known = 0 if last is None else last.params.get("answers", 0)
        if (answers != known or refits.is_outdated(project)) and not refits.is_undone(project):
            yield project, {"project": project.pk, "answers": answers}


def _once(made: set[int | None]) -> Iterable[tuple[Project | None, dict[str, Any]]]:
    return [] if None in made else [(None, {})]


TABLE: Final = (
    Periodic("refit", 3_600, _with_new_answers),
    Periodic("prune", 86_400, _once),
)

_looked_at: dict[str, int] = {}
"""By kind, the last slot that this process went through: it need not ask again every few seconds."""


def make_due(*, now: datetime, table: Iterable[Periodic] = TABLE) -> int:
    """Makes the jobs of the slots that `now` is in; how many were made."""
    count = 0
    for periodic in table:
        slot = int(now.timestamp() // periodic.every_s)
        if _looked_at.get(periodic.kind) == slot:
            continue
        this_slot = Job.objects.filter(kind=periodic.kind, key__endswith=f":{slot}")
        for project, params in periodic.due(set(this_slot.values_list("project_id", flat=True))):
            _make(periodic, project, params, slot)
            count += 1
        _looked_at[periodic.kind] = slot
    return count


@transaction.atomic
def _make(periodic: Periodic, project: Project | None, params: dict[str, Any], slot: int) -> None:
    of = "service" if project is None else project.pk
    job = jobs.enqueue(kind=periodic.kind, key=f"{periodic.kind}:{of}:{slot}", params=params, project=project)
    # Of the slots before, what nobody has begun is not done any more: this one does it.
    earlier = Job.objects.filter(
        kind=periodic.kind,
        project=project,
        state=JobState.QUEUED,
        attempts=0,
        id__lt=job.pk,
        key__startswith=f"{periodic.kind}:{of}:",
    )
    earlier.update(state=JobState.CANCELLED, finished_at=job.created_at, error="A later one took its place.")
