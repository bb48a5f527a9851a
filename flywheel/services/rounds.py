"""A round's status, moved on step by step: each step is claimed by compare-and-set and may be run again.

    collecting → snapshotting → training → evaluating → deciding → predicting → selecting → done

Long steps are jobs, found again by their key. `tick` is the one periodic job that moves every open round.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import Max

from flywheel import selectors
from flywheel.models import (
    OPEN_STATUSES,
    Evaluation,
    ModelStatus,
    ModelVersion,
    Round,
    RoundStatus,
    Snapshot,
    TrainingRun,
    Trigger,
)
from flywheel.services import audits, promotion, searches, selection, training, triggers
from labeling.models import Job, JobState, Project, Task, TaskState
from labeling.services import events, jobs

logger = logging.getLogger(__name__)

MIN_NEW_LABELS: Final = 50
NEW_LABELS_SHARE: Final = 0.1
MAX_TARGET: Final = 2**31 - 1


class NoOpenRound(Exception):
    """The project has no round that this could be done to."""


def tick(*, now: datetime) -> int:
    """Moves every open round as far as it goes now, and opens the first round of new projects; how many moved."""
    for project in (
        Project.objects.exclude(rounds__status__in=OPEN_STATUSES).filter(tasks__isnull=False).distinct()
    ):
        open_next(project=project, now=now)
    searches.tick(now=now)
    moved = 0
    for round_id in Round.objects.filter(status__in=OPEN_STATUSES).values_list("pk", flat=True):
        try:
            steps = 0
            while advance(round_id=round_id, now=now):
                steps += 1
            moved += bool(steps)
        except Exception:  # one project's trouble must not stop the others' wheels
            logger.exception("round %s does not move", round_id)
    return moved


def nudge() -> None:
    """Asks for a tick now instead of at its next time."""
    jobs.send("flywheel.tasks.tick", [], "default")


def open_next(*, project: Project, now: datetime) -> Round:
    """The project's collecting round; a new one if no round is open."""
    settled = _settled(project)
    last = project.rounds.aggregate(last=Max("number"))["last"] or 0
    target = _asked_target(project) or max(MIN_NEW_LABELS, round(NEW_LABELS_SHARE * settled))
    before = project.rounds.exclude(snapshot=None).order_by("-number").first()
    trained_on = 0 if before is None or before.snapshot is None else before.snapshot.images
    ended = project.rounds.filter(number=last, status__in=[RoundStatus.FAILED, RoundStatus.CANCELLED])
    if ended.exists():
        trained_on = settled  # the same labels again would end the same way: wait for new ones, or a person
    try:
        with transaction.atomic():
            return Round.objects.create(
                project=project,
                number=last + 1,
                target_new_labels=target,
                settled_before=trained_on,
                history=[{"status": RoundStatus.COLLECTING, "at": now.isoformat()}],
            )
    except IntegrityError:  # another tick opened it
        return Round.objects.get(project=project, status__in=OPEN_STATUSES)


def start(*, project: Project, actor: AbstractBaseUser, now: datetime) -> Round:
    """Ends collecting at once, however few new labels there are."""
    turn = Round.objects.filter(project=project, status__in=OPEN_STATUSES).first()
    if turn is None:
        turn = open_next(project=project, now=now)
    with transaction.atomic():
        if Round.objects.filter(pk=turn.pk, status=RoundStatus.COLLECTING).update(start_requested=True):
            events.record(project=project, actor=actor, verb="start_round", subject=turn)
    turn.refresh_from_db()
    return turn


def cancel(*, turn: Round, actor: AbstractBaseUser, now: datetime) -> None:
    """Ends an open round; the champion stays. Raises `NoOpenRound`."""
    with transaction.atomic():
        if not Round.objects.filter(pk=turn.pk, status__in=OPEN_STATUSES).update(
            status=RoundStatus.CANCELLED, finished_at=now, reason="Cancelled by a person."
        ):
            raise NoOpenRound("this round has ended already")
        events.record(project=turn.project, actor=actor, verb="cancel_round", subject=turn)
    turn.refresh_from_db(fields=["job"])  # the step may have moved on since the caller looked
    if turn.job is not None:
        jobs.cancel(job=turn.job, actor=actor)


def new_labels(turn: Round) -> int:
    return max(0, _settled(turn.project) - turn.settled_before)


def advance(*, round_id: int, now: datetime) -> bool:
    """One step, if the round is ready for it; whether it moved."""
    turn = Round.objects.select_related(
        "project", "snapshot", "run", "control_run", "model_version", "job"
    ).get(pk=round_id)
    step = STEPS.get(RoundStatus(turn.status))
    if step is None:
        return False
    try:
        return step(turn, now)
    except (
        audits.BadAuditSetting,
        promotion.BadThresholds,
        promotion.UnknownMetric,
        selection.UnknownStrategy,
        training.BadTrainingSettings,
        triggers.BadSchedule,
    ) as error:
        return _end(turn, RoundStatus.FAILED, str(error), now)


def _collecting(turn: Round, now: datetime) -> bool:
    trigger = Trigger.PERSON if turn.start_requested else triggers.due(turn, new=new_labels(turn), now=now)
    if trigger is None:
        return False
    training.config_of(turn.project, images=0)  # what cannot be set is said now, not after hours of training
    promotion.metric_of(turn.project)
    promotion.thresholds_of(turn.project)
    selection.strategy_of(turn.project)
    return _move(turn, RoundStatus.SNAPSHOTTING, now, trigger=trigger)


def _snapshotting(turn: Round, now: datetime) -> bool:
    champion = selectors.champion(turn.project)
    job = _step_job(
        turn,
        kind="freeze",
        queue="default",
        params={
            "project": turn.project_id,
            "since": _collecting_since(turn),
            "model": "" if champion is None else champion.name,
        },
    )
    if not _is_done(turn, job, now):
        return False
    snapshot = Snapshot.objects.get(pk=job.result["snapshot"])
    metrics = {"collection": job.result["collection"]}
    return _move(turn, RoundStatus.TRAINING, now, snapshot=snapshot, metrics=metrics)


def _training(turn: Round, now: datetime) -> bool:
    assert turn.snapshot is not None
    if turn.run is None:
        turn.run = training.start(
            project=turn.project, snapshot=turn.snapshot, title=f"Round {turn.number}: train a model"
        )
        assert turn.run.job is not None
        _remember(turn, turn.run.job, run=turn.run)
    assert turn.run.job is not None
    if not _is_done(turn, turn.run.job, now):
        return False
    model = ModelVersion.objects.get(run=turn.run)
    if model.status != ModelStatus.CHALLENGER:
        told = f"Nothing new: these labels with these settings already made {model.name}, and it was judged."
        return _end(turn, RoundStatus.DONE, told, now) and bool(open_next(project=turn.project, now=now))
    if not _has_control(turn, now):
        return False
    return _move(turn, RoundStatus.EVALUATING, now, model_version=model)


def _has_control(turn: Round, now: datetime) -> bool:
    """Whether the control, if this round wants one, has been trained."""
    assert turn.snapshot is not None
    if turn.control_run is None:
        if not training.wants_control(turn.project, number=turn.number):
            return True
        control = training.start(
            project=turn.project,
            snapshot=turn.snapshot,
            title=f"Round {turn.number}: train a control from scratch",
            from_scratch=True,
        )
        if control == turn.run:
            return True
        assert control.job is not None
        turn.control_run = control
        _remember(turn, control.job, control_run=control)
    assert turn.control_run.job is not None
    return _is_done(turn, turn.control_run.job, now)


def _evaluating(turn: Round, now: datetime) -> bool:
    assert turn.snapshot is not None
    assert turn.model_version is not None
    champion = selectors.champion(turn.project)
    control = _undecided(turn.control_run)
    job = _step_job(
        turn,
        kind="evaluate",
        queue="gpu",
        params={
            "snapshot": turn.snapshot.pk,
            "challenger": turn.model_version.pk,
            "control": None if control is None else control.pk,
            "champion": None if champion is None else champion.pk,
            "metric": promotion.metric_of(turn.project),
        },
        about=f":{0 if champion is None else champion.pk}",
    )
    if not _is_done(turn, job, now):
        return False
    better = ModelVersion.objects.get(pk=job.result["challenger_id"])
    return _move(turn, RoundStatus.DECIDING, now, metrics=turn.metrics | job.result, model_version=better)


def _undecided(run: TrainingRun | None) -> ModelVersion | None:
    return ModelVersion.objects.filter(run=run, status=ModelStatus.CHALLENGER).first() if run else None


def _deciding(turn: Round, now: datetime) -> bool:
    """Decides, and moves on, in one transaction: killed in between, it decides the same again."""
    assert turn.snapshot is not None
    assert turn.model_version is not None
    model = turn.model_version
    champion_id = turn.metrics.get("champion_id")
    champion = selectors.champion(turn.project)
    if champion_id != (None if champion is None else champion.pk):
        return _move(turn, RoundStatus.EVALUATING, now)  # somebody promoted or rolled back meanwhile
    scores = {
        item.model_version_id: item.metrics
        for item in Evaluation.objects.filter(
            snapshot=turn.snapshot, model_version_id__in=[model.pk, champion_id or model.pk]
        )
    }
    decision = promotion.decide(
        metric=turn.metrics["metric"],
        challenger=scores[model.pk],
        champion=scores.get(champion_id) if champion_id else None,
        gain=turn.metrics.get("gain"),
        slices=turn.metrics["slices"],
        thresholds=promotion.thresholds_of(turn.project),
    )
    reason = decision.reason + _about_control(turn.metrics.get("control"), turn.metrics["metric"])
    with transaction.atomic():
        told = "promoted" if decision.promote else "rejected"
        if not _move(
            turn,
            RoundStatus.PREDICTING,
            now,
            decision=told,
            reason=reason,
            metrics=turn.metrics | {"better": decision.better},
        ):
            return False
        for run in (turn.run, turn.control_run):
            other = _undecided(run)
            if other is not None and other != model:
                promotion.reject(model=other, reason=f"{model.name} of the same round is better.")
        if decision.promote:
            promotion.promote(model=model, actor=None, now=now)
        else:
            promotion.reject(model=model, reason=decision.reason)
    return True


def _about_control(control: dict[str, Any] | None, metric: promotion.Metric) -> str:
    """What training from scratch showed, as a sentence to add."""
    if control is None or control.get("gain") is None:
        return ""
    points = 100 * control["gain"]["mean"]
    name = promotion.METRICS[metric]
    return f" Trained from scratch on the same labels, {control['name']} has {points:+.1f} points of {name}."


def _predicting(turn: Round, now: datetime) -> bool:
    champion = selectors.champion(turn.project)
    if champion is None:
        return _move(turn, RoundStatus.SELECTING, now)
    job = _step_job(turn, kind="predict", queue="gpu", params={"model": champion.pk})
    if not _is_done(turn, job, now):
        return False
    return _move(turn, RoundStatus.SELECTING, now)


def _selecting(turn: Round, now: datetime) -> bool:
    wanted = _asked_target(turn.project) or turn.target_new_labels
    job = _step_job(turn, kind="select", queue="default", params={"round": turn.pk, "wanted": wanted})
    if not _is_done(turn, job, now):
        return False
    audits.after_round(turn=turn)
    if not _end(turn, RoundStatus.DONE, turn.reason, now):
        return False
    open_next(project=turn.project, now=now)
    return True


STEPS: Final[dict[RoundStatus, Callable[[Round, datetime], bool]]] = {
    RoundStatus.COLLECTING: _collecting,
    RoundStatus.SNAPSHOTTING: _snapshotting,
    RoundStatus.TRAINING: _training,
    RoundStatus.EVALUATING: _evaluating,
    RoundStatus.DECIDING: _deciding,
    RoundStatus.PREDICTING: _predicting,
    RoundStatus.SELECTING: _selecting,
}


TITLES: Final = {
    "freeze": "freeze the settled labels",
    "evaluate": "measure the model",
    "predict": "look at the open pictures",
    "select": "choose what to label next",
}


def _step_job(turn: Round, *, kind: str, queue: str, params: dict[str, Any], about: str = "") -> Job:
    """The job of this step: its key is the round, the step and what it is about, so a step run again finds it."""
    key = f"round:{turn.pk}:{turn.status}{about}"
    title = f"Round {turn.number}: {TITLES[kind]}"
    job = jobs.enqueue(
        kind=kind, key=key, queue=queue, project=turn.project, params=params | {"title": title}
    )
    if turn.job_id != job.pk:
        _remember(turn, job)
    return job


def _remember(turn: Round, job: Job, **changes: Any) -> None:
    """Names the step's job in the round; if the round was cancelled in between, so is the job."""
    if not Round.objects.filter(pk=turn.pk, status=turn.status).update(job=job, **changes):
        jobs.cancel(job=job)


def _is_done(turn: Round, job: Job, now: datetime) -> bool:
    """Whether the step's job has a result; one that ended without one ends the round."""
    job.refresh_from_db()
    if job.state == JobState.CANCELLED:
        _end(turn, RoundStatus.CANCELLED, "Cancelled by a person.", now)
    elif job.state in (JobState.FAILED, JobState.PARKED):
        _end(turn, RoundStatus.FAILED, job.error, now)
    return job.state == JobState.DONE


def _move(turn: Round, status: RoundStatus, now: datetime, **changes: Any) -> bool:
    """The compare-and-set: goes on only from the status that was seen."""
    history = [*turn.history, {"status": status, "at": now.isoformat()}]
    won = Round.objects.filter(pk=turn.pk, status=turn.status).update(
        status=status, history=history, **changes
    )
    if won:
        logger.info("round %s: %s → %s", turn.pk, turn.status, status)
    return bool(won)


def _end(turn: Round, status: RoundStatus, reason: str, now: datetime) -> bool:
    return _move(turn, status, now, reason=reason, finished_at=now)


def _asked_target(project: Project) -> int | None:
    """The project's own target, if it can be one: another's bad setting must not stop the tick for all projects."""
    asked: object = project.round_settings.get("target_new_labels")
    if isinstance(asked, bool) or not isinstance(asked, int) or not 0 < asked <= MAX_TARGET:
        return None
    return asked


def _collecting_since(turn: Round) -> str:
    """From when answers count as this round's: the last freeze, so those given during a training count too.

    The first round counts from the project's beginning, for people work before the tick that opens it.
    """
    before = turn.project.rounds.filter(number__lt=turn.number).exclude(snapshot=None).order_by("-number")
    frozen = before.values_list("snapshot__created_at", flat=True).first()
    return (frozen or turn.project.created_at).isoformat()


def _settled(project: Project) -> int:
    return Task.objects.filter(project=project, state=TaskState.SETTLED, is_gold=False).count()
