"""Learning how reliable the annotators are, and settling the whole project again: as a job, and undoable.

What is learnt is a row, a *fit*; the project points to the one in force. To undo a refit is to put an earlier one
in force and to settle again with it. The same answers make the same fit, to the last bit.
"""

import hashlib
import heapq
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any, Final
from uuid import uuid4

from django.contrib.auth.models import AbstractBaseUser
from django.db import models, transaction
from django.db.models import Q

from labeling import consensus as methods
from labeling.consensus import Answer
from labeling.models import Consensus, ConsensusFit, ConsensusSource, Job, Project, Skill, Task, TaskState
from labeling.services import consensus, crowd, events, fits, jobs, overlap, projects
from labeling.services.projects import OPEN
from labeling.shapes import Json, Shape

MOST_TASKS: Final = 20_000
"""From so many tasks the annotators are learnt; of more, those with an expert's answer, and then always the same."""
KEPT: Final = 30
"""So many fits of a project are kept, and the one in force."""
CHUNK: Final = 200
"""Tasks between two checkpoints; those that a killed worker's successor settles again."""
SETTLED_BY_ANSWERS: Final = Q(
    state__in=[TaskState.SETTLED, TaskState.NEEDS_REVIEW, TaskState.DISPUTED],
    consensus__source=ConsensusSource.ANSWERS,
)


def start(*, project: Project, actor: AbstractBaseUser) -> Job:
    """A job that learns anew from all answers and settles the project with that; the open one if there is one."""
    return _start(project, actor, {})


def start_with(*, fit: ConsensusFit, actor: AbstractBaseUser) -> Job:
    """A job that puts a fit of before in force and settles the project again with it.

    Until a person starts a refit, the hourly one then leaves the project alone.
    """
    title = f"Go back to what fit {fit.number} knew of the annotators"
    return _start(fit.project, actor, {"fit": fit.pk, "title": title})


def _start(project: Project, actor: AbstractBaseUser, params: dict[str, Any]) -> Job:
    waiting = Job.objects.filter(project=project, kind="refit", state__in=jobs.OPEN, cancel_requested=False)
    for job in waiting.order_by("id"):
        if job.params.get("fit") == params.get("fit"):
            return job
    return jobs.enqueue(
        kind="refit",
        key=f"refit:{project.pk}:{uuid4()}",
        project=project,
        params={"project": project.pk, "by_hand": True} | params,
        created_by=actor,
    )


def is_undone(project: Project) -> bool:
    """Whether a person went back to an earlier fit than the newest."""
    newest = ConsensusFit.objects.filter(project=project).order_by("-number").values_list("pk", flat=True)
    return project.consensus_fit_id is not None and newest.first() != project.consensus_fit_id


def is_outdated(project: Project) -> bool:
    """Whether the fit in force was learnt by another method than the project's."""
    fit = fits.in_force(project)
    return fit is not None and fit.method != project.consensus_method


def run(*, running: jobs.Running) -> dict[str, Any]:
    """Does the job. A worker that takes it over goes on with the same fit, behind the last checkpoint."""
    project = Project.objects.get(pk=running.params["project"])
    checkpoint = running.checkpoint
    if "fit" not in checkpoint:
        running.report(0.02, "learning the annotators' skills")
        fit = _wanted(running, project)
        if fit is None:
            return {"tasks": 0, "annotators": 0}
        checkpoint = {"fit": fit.pk, "after": 0, "tasks": 0}
        with running.holding():
            put_in_force(project=project, fit=fit, actor=running.job.created_by)
            running.keep(0.3, "settling", checkpoint)
    fit = ConsensusFit.objects.get(pk=checkpoint["fit"])
    before = checkpoint["tasks"]
    total = before + _to_settle(project, checkpoint["after"]).count()
    for last, count in settle_again(project=project, after=checkpoint["after"]):
        done = before + count
        checkpoint = {"fit": fit.pk, "after": last, "tasks": done}
        running.left = f"Fit {fit.number} is in force; {done} of {total} pictures are settled with it so far."
        running.report(0.3 + 0.7 * done / max(1, total), f"settled {done} of {total} pictures", checkpoint)
    return _told(fit, checkpoint["tasks"])


def refit(*, project: Project) -> dict[str, Any]:
    """The same at once. Where a person went back to an earlier fit, that one stays in force."""
    if is_undone(project):
        fit: ConsensusFit | None = project.consensus_fit
    else:
        fit = learn(project=project)
    if fit is None:
        return {"tasks": 0, "annotators": 0}
    put_in_force(project=project, fit=fit)
    return _told(fit, sum(count for _, count in settle_again(project=project)))


def learn(*, project: Project, actor: AbstractBaseUser | None = None) -> ConsensusFit | None:
    """A fit to the project's answers, not in force yet: the newest one, if it is the same; nothing without answers."""
    method = methods.METHODS[project.consensus_method]
    task_ids = _sample(project)
    answers = list(_answers(project, task_ids))
    if not answers:
        return None
    gold = _gold(project, task_ids)
    schema = projects.current_schema(project).schema
    fitted = method.fit(answers, schema=schema, gold=gold)
    parameters = json.loads(json.dumps(fitted.parameters))
    content = json.dumps([method.name, parameters], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    agreement = _dump_agreement(methods.agree(answers, schema=schema))
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        newest = ConsensusFit.objects.filter(project=project).order_by("-number").first()
        if newest is not None and newest.digest == digest and newest.method == method.name:
            return newest
        fit = ConsensusFit.objects.create(
            project=project,
            number=1 if newest is None else newest.number + 1,
            method=method.name,
            parameters=parameters,
            digest=digest,
            agreement=agreement,
            tasks=len(task_ids),
            answers=len(crowd.people(answers)),
            gold=len(gold),
            created_by_id=None if actor is None else actor.pk,
        )
        _write_skills(fit, fitted.skills)
        _forget_old(fit)
    return fit


@transaction.atomic
def put_in_force(*, project: Project, fit: ConsensusFit, actor: AbstractBaseUser | None = None) -> None:
    """From now on tasks are settled by what this fit knows."""
    locked = Project.objects.select_for_update(no_key=True).only("consensus_fit_id").get(pk=project.pk)
    project.consensus_fit = fit
    if locked.consensus_fit_id == fit.pk:
        return
    Project.objects.filter(pk=project.pk).update(consensus_fit=fit)
    events.record(project=project, actor=actor, verb="put_in_force", subject=fit, data={"number": fit.number})


def settle_again(*, project: Project, after: int = 0) -> Iterator[tuple[int, int]]:
    """Settles what the answers settle, by the fit in force; after each chunk its last task and how many so far.

    Where the overlap is adaptive also what is open and has answers: their risk may be another by now.
    """
    count, last = 0, after
    while chunk := list(_to_settle(project, last).values_list("pk", flat=True)[:CHUNK]):
        for task_id in chunk:
            consensus.settle(task_id=task_id)
        count, last = count + len(chunk), chunk[-1]
        yield last, count


def _to_settle(project: Project, after: int) -> models.QuerySet[Task]:
    which = SETTLED_BY_ANSWERS
    if overlap.is_adaptive(project):
        which = which | Q(state__in=OPEN, answers__gt=0)
    return Task.objects.filter(which, project=project, pk__gt=after).order_by("pk")


def _wanted(running: jobs.Running, project: Project) -> ConsensusFit | None:
    """The fit that this job puts in force: the one that was asked for, else one learnt now."""
    asked_for = running.params.get("fit")
    if asked_for is None:
        if is_undone(project) and not running.params.get("by_hand"):
            return project.consensus_fit
        return learn(project=project, actor=running.job.created_by)
    fit = ConsensusFit.objects.filter(project=project, pk=asked_for).first()
    if fit is None:
        raise jobs.CannotRun(f"This fit is not kept any more: the newest {KEPT} of a project are.")
    return fit


def _told(fit: ConsensusFit, tasks: int) -> dict[str, Any]:
    people = fit.skills.exclude(user=None).values("user").distinct().count()
    return {"tasks": tasks, "annotators": people, "fit": fit.number}


def _sample(project: Project) -> list[int]:
    """The tasks to learn from, in order of their ids. Those of more than can be taken are drawn by their own hash,
    so that the same tasks are taken each time and a new one takes the place of few."""
    answered = Task.objects.filter(project=project, answers__gt=0)
    by_experts = set(
        answered.filter(consensus__source=ConsensusSource.EXPERT).values_list("pk", flat=True).iterator()
    )

    def place(task_id: int) -> tuple[bool, bytes]:
        return task_id not in by_experts, hashlib.sha256(f"fit:{project.pk}:{task_id}".encode()).digest()

    every = answered.order_by().values_list("pk", flat=True).iterator()
    return sorted(heapq.nsmallest(MOST_TASKS, every, key=place))


def _answers(project: Project, task_ids: Sequence[int]) -> Iterator[Answer]:
    for start in range(0, len(task_ids), CHUNK):
        yield from crowd.of_tasks(project, task_ids[start : start + CHUNK])


def _gold(project: Project, task_ids: Sequence[int]) -> dict[str, tuple[Shape, ...]]:
    """Experts' answers to these tasks."""
    found: dict[str, tuple[Shape, ...]] = {}
    for start in range(0, len(task_ids), CHUNK):
        in_force = Task.objects.filter(pk__in=task_ids[start : start + CHUNK]).values("consensus_id")
        experts = Consensus.objects.filter(pk__in=in_force, source=ConsensusSource.EXPERT)
        found |= {str(row.task_id): row.parsed for row in experts.only("task_id", "shapes")}
    return found


def _dump_agreement(found: methods.Agreement) -> Json:
    return {
        "images": found.images,
        "sampled": found.sampled,
        "left_out": found.left_out,
        "alpha": {kind: asdict(alpha) for kind, alpha in sorted(found.alpha.items())},
        "by_class": [
            {"class_id": class_id} | asdict(item) for class_id, item in sorted(found.by_class.items())
        ],
        "pairs": [
            {"one": one, "other": other} | asdict(item) for (one, other), item in sorted(found.pairs.items())
        ],
    }


def _write_skills(fit: ConsensusFit, skills: Sequence[methods.Skill]) -> None:
    rows = []
    figures: dict[int, list[float]] = {}
    for skill in skills:
        row = _skill_row(fit, skill)
        rows.append(row)
        if row.user_id is not None:
            both = skill.recall + skill.precision
            figures.setdefault(row.user_id, []).append(
                2 * skill.recall * skill.precision / both if both else 0.0
            )
    better = fits.better_half({user_id: fmean(own) for user_id, own in figures.items()})
    for row in rows:
        row.preferred = row.user_id in better
    Skill.objects.bulk_create(rows)


def _skill_row(fit: ConsensusFit, skill: methods.Skill) -> Skill:
    model = crowd.model_name(skill.annotator)
    measured = {
        "class_accuracy": skill.class_accuracy,
        "swap_rate": skill.swap_rate,
        "visibility_accuracy": skill.visibility_accuracy,
    }
    details: dict[str, Any] = {name: asdict(value) for name, value in measured.items() if value is not None}
    if skill.bias is not None:
        details["bias"] = list(skill.bias)
    if skill.confusion:
        details["confusion"] = {
            str(true): {str(said): share for said, share in sorted(row.items())}
            for true, row in sorted(skill.confusion.items())
        }
    return Skill(
        project_id=fit.project_id,
        fit=fit,
        user_id=None if model else int(skill.annotator),
        model=model,
        kind=skill.kind,
        recall=skill.recall,
        recall_low=skill.recall_interval[0],
        recall_high=skill.recall_interval[1],
        precision=skill.precision,
        precision_low=skill.precision_interval[0],
        precision_high=skill.precision_interval[1],
        spread_px=skill.spread_px,
        spread=skill.spread,
        seconds_per_image=skill.seconds_per_image,
        details=details,
        answers=skill.answers,
        **{name: None if value is None else value.value for name, value in measured.items()},
    )


def _forget_old(newest: ConsensusFit) -> None:
    in_force = Project.objects.filter(pk=newest.project_id).values("consensus_fit_id")
    old = ConsensusFit.objects.filter(project_id=newest.project_id, number__lte=newest.number - KEPT)
    old.exclude(pk__in=in_force).delete()
