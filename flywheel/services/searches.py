"""Searching for better training settings: trials that Optuna proposes, as many at once as there are GPU workers.

The rows are the record: Optuna's study is made anew from them whenever it is asked, so nothing else is kept and a
search goes on after any kill. Trials are compared on the snapshot's validation pictures, never on gold, at the end
and before on rungs, after a ninth and a third of the steps: who is not in the better third there is stopped
(asynchronous successive halving: Li et al., 2020, "A System for Massively Parallel Hyperparameter Tuning").

Optional: the group `search`.
"""

import importlib.util
import logging
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction

from flywheel.models import Search, Snapshot, TrainingRun, Trial
from flywheel.services import promotion, training
from labeling.models import JobState, Project
from labeling.services import events, jobs, projects

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

log = logging.getLogger(__name__)

SPACE: Final[dict[str, dict[str, Any]]] = {
    "learning_rate": {"low": 2e-4, "high": 8e-3, "log": True},
    "mosaic": {"low": 0.0, "high": 0.5, "log": False},
    "hard": {"low": 0.0, "high": 0.5, "log": False},
    "batch": {"choices": [4, 8, 16]},
    "side": {"choices": [256, 320, 416]},
    "symmetry": {"choices": ["upright", "any"]},
    "warm_start": {"choices": [True, False]},
}
"""What can be searched, and where, unless the search names its own bounds or choices."""
USUAL: Final = ("learning_rate", "mosaic", "symmetry")
FACTOR: Final = 3
"""One in so many goes on from a rung; the next rung is so many times higher."""
MOST_TRIALS: Final = 200
MOST_AT_ONCE: Final = 64
HOPELESS: Final = 3
"""A search ends when so many trials were made and none of them trained to a figure."""
OPEN: Final = (JobState.QUEUED, JobState.RUNNING)


class CannotSearch(Exception):
    """The message says what is in the way."""


def start(
    *,
    project: Project,
    snapshot: Snapshot,
    trials: int,
    at_once: int = 1,
    space: Mapping[str, Any] | None = None,
    actor: AbstractBaseUser | None = None,
) -> Search:
    """A search; `space` maps a setting to its own bounds or choices, or to {} for those of `SPACE`.

    Raises `CannotSearch`.
    """
    if importlib.util.find_spec("optuna") is None:
        raise CannotSearch(
            "Searching needs Optuna: pip install --group search, for the service and its GPU workers."
        )
    if not 1 <= trials <= MOST_TRIALS:
        raise CannotSearch(f"A search has 1 to {MOST_TRIALS} trials.")
    if not 1 <= at_once <= MOST_AT_ONCE:
        raise CannotSearch(f"1 to {MOST_AT_ONCE} trials may run at once.")
    wanted = {name: {} for name in USUAL} if space is None else space
    checked = {name: _checked(name, values) for name, values in wanted.items()}
    if not checked:
        raise CannotSearch(f"Name a setting to search: {', '.join(SPACE)}.")
    for number in range(2):  # what no training could have is said now
        try:
            training.config_of(
                project,
                images=snapshot.images,
                own={name: _end(values, number) for name, values in checked.items()},
            )
        except training.BadTrainingSettings as error:
            raise CannotSearch(str(error)) from error
    try:
        with transaction.atomic():
            search = Search.objects.create(
                project=project,
                snapshot=snapshot,
                space=checked,
                metric=promotion.metric_of(project),
                wanted=trials,
                at_once=at_once,
                created_by=actor,  # type: ignore[misc]  # the user model of the settings
            )
            if actor is not None:
                events.record(project=project, actor=actor, verb="start_search", subject=search)
    except IntegrityError as error:
        raise CannotSearch("A search of this project goes on already; wait for it, or cancel it.") from error
    except promotion.UnknownMetric as error:
        raise CannotSearch(str(error)) from error
    return search


def _checked(name: str, values: object) -> dict[str, Any]:
    """Bounds or choices of one setting. Raises `CannotSearch`."""
    if name not in SPACE:
        raise CannotSearch(f"{name} cannot be searched; what can: {', '.join(SPACE)}.")
    if not isinstance(values, dict) or set(values) - set(SPACE[name]):
        raise CannotSearch(f"{name}: give {', '.join(SPACE[name])}, or nothing for the usual ones.")
    found = SPACE[name] | values
    if "choices" in found:
        choices = found["choices"]
        if not isinstance(choices, list) or not choices:
            raise CannotSearch(f"{name}.choices must be a list.")
        return found
    low, high = found["low"], found["high"]
    if any(type(bound) not in (int, float) or not math.isfinite(bound) for bound in (low, high)):
        raise CannotSearch(f"{name}.low and {name}.high must be numbers.")
    if not low < high or not isinstance(found["log"], bool) or (found["log"] and low <= 0):
        raise CannotSearch(f"{name}: low must be below high, and above 0 where log is true.")
    return found


def _end(values: Mapping[str, Any], number: int) -> Any:
    return values["choices"][-number] if "choices" in values else values[("low", "high")[number]]


def tick(*, now: datetime) -> None:
    """Moves every search on: what has ended is counted, and the next trials begin."""
    for search in Search.objects.filter(finished_at=None).select_related("project", "snapshot"):
        try:
            advance(search=search, now=now)
        except Exception:  # one search's trouble must not stop the wheels
            log.exception("search %s does not move", search.pk)


def advance(*, search: Search, now: datetime) -> None:
    """Starts trials while fewer than `at_once` go on; ends the search after its last one."""
    trials = trials_of(search)
    while True:
        going = [trial for trial in trials if is_open(trial)]
        if any(is_unmeasured(trial) for trial in trials):
            _finish(search, now, "A trial ended without a figure: there are no pictures to validate on yet.")
            return
        if is_hopeless(trials):
            _finish(search, now, "None of the first trials came to its end: see what their runs say.")
            return
        if len(trials) >= search.wanted:
            if not going:
                _finish(search, now, "")
            return
        if len(going) >= search.at_once:
            return
        if not _begin(search, trials):
            return
        trials = trials_of(search)


def _begin(search: Search, trials: Sequence[Trial]) -> bool:
    """One more trial; false where another tick begins it, or the search was cancelled meanwhile."""
    wanted = _proposed(search, trials)
    try:
        with transaction.atomic():
            if (
                not Search.objects.select_for_update(no_key=True)
                .filter(pk=search.pk, finished_at=None)
                .exists()
            ):
                return False
            run = training.start(
                project=search.project,
                snapshot=search.snapshot,
                title=f"Search {search.pk}: trial {len(trials) + 1} of {search.wanted}",
                own=wanted,
            )
            Trial.objects.create(search=search, number=len(trials) + 1, run=run, settings=wanted)
    except IntegrityError:
        return False
    except training.BadTrainingSettings as error:  # the project's own were changed meanwhile
        _finish(search, search.created_at, str(error))
        return False
    return True


def _finish(search: Search, now: datetime, reason: str) -> None:
    Search.objects.filter(pk=search.pk, finished_at=None).update(finished_at=now, reason=reason)


@transaction.atomic
def cancel(*, search: Search, now: datetime, actor: AbstractBaseUser | None = None) -> None:
    """Ends a search and its trials that go on; their checkpoints stay. One that has ended stays as it is."""
    Search.objects.select_for_update(no_key=True).get(pk=search.pk)
    if not Search.objects.filter(pk=search.pk, finished_at=None).update(
        finished_at=now, reason="Cancelled by a person."
    ):
        return
    for trial in trials_of(search):
        if is_open(trial) and trial.run.job is not None:
            jobs.cancel(job=trial.run.job)
    if actor is not None:
        events.record(project=search.project, actor=actor, verb="cancel_search", subject=search)


def use(*, trial: Trial, actor: AbstractBaseUser) -> Project:
    """Makes a trial's settings the project's: the next round trains with them, and its gate decides."""
    project = Project.objects.get(pk=trial.search.project_id)
    asked = project.round_settings.get("training", {})
    own = {**asked, **trial.settings} if isinstance(asked, dict) else dict(trial.settings)
    return projects.change(
        project=project,
        changes={"round_settings": {**project.round_settings, "training": own}},
        actor=actor,
    )


def trials_of(search: Search) -> list[Trial]:
    return list(
        Trial.objects.filter(search=search)
        .select_related("search", "run__job", "run__model_version")
        .order_by("number")
    )


def trial_of(run: TrainingRun) -> Trial | None:
    """The trial, in a search that goes on, for which this run is trained; one once stopped is not judged again."""
    if run.rounds.exists() or run.controlled_rounds.exists():
        return None
    trials = Trial.objects.filter(run=run, search__finished_at=None, pruned=False)
    return trials.select_related("search").order_by("-pk").first()


def is_open(trial: Trial) -> bool:
    return not trial.pruned and trial.run.job is not None and trial.run.job.state in OPEN


def value_of(trial: Trial) -> float | None:
    """The metric of the finished model."""
    model = getattr(trial.run, "model_version", None)
    return None if model is None else model.card.get("metrics", {}).get(trial.search.metric)


def is_unmeasured(trial: Trial) -> bool:
    """Trained to its end, and there was nothing to measure it on."""
    return getattr(trial.run, "model_version", None) is not None and value_of(trial) is None


def best(trials: Sequence[Trial]) -> Trial | None:
    """The finished trial with the best figure; the first of equals."""
    finished = [(value, -trial.number, trial) for trial in trials if (value := value_of(trial)) is not None]
    return max(finished)[2] if finished else None


def is_hopeless(trials: Sequence[Trial]) -> bool:
    ended = [trial for trial in trials if not is_open(trial)]
    return len(ended) >= HOPELESS and not any(trial.pruned or value_of(trial) is not None for trial in ended)


def rungs_of(steps: int) -> tuple[int, ...]:
    """After which steps a trial is compared: about a ninth and a third, multiples of ten.

    >>> rungs_of(800), rungs_of(100)
    ((90, 270), (10, 30))
    """
    lowest = max(10, round(steps / FACTOR**2 / 10) * 10)
    return tuple(step for step in (lowest, FACTOR * lowest) if step < steps)


def goes_on(*, trial: Trial, step: int, value: float | None) -> bool:
    """Keeps what a trial reached on a rung, and says whether it is among the better third there so far."""
    trial.refresh_from_db()
    trial.rungs = {**trial.rungs, str(step): value or 0.0}
    others = [other for other in trials_of(trial.search) if other.pk != trial.pk and other.rungs]
    trial.pruned = _is_pruned(trial, others)
    trial.save(update_fields=["rungs", "pruned"])
    return not trial.pruned


def _proposed(search: Search, trials: Sequence[Trial]) -> dict[str, Any]:
    """The next settings: of the tree-structured Parzen estimator, which knows every trial so far."""
    study = _study(search, trials)
    trial = study.ask(_distributions(search.space))
    return dict(trial.params)


def _is_pruned(trial: Trial, others: Sequence[Trial]) -> bool:
    from optuna.pruners import SuccessiveHalvingPruner

    study = _study(trial.search, [*others, trial], arriving=trial.pk)
    lowest = rungs_of(trial.run.config["steps"])[0]
    pruner = SuccessiveHalvingPruner(
        min_resource=lowest, reduction_factor=FACTOR, min_early_stopping_rate=0, bootstrap_count=0
    )
    return bool(pruner.prune(study, study.get_trials()[-1]))


def _passed(rungs: Mapping[int, float], *, arrives: bool) -> dict[str, float]:
    """What the pruner itself would have written on each rung; of one that arrives on its last, that is still to do."""
    passed = sorted(rungs)[: -1 if arrives else None]
    return {f"completed_rung_{number}": rungs[step] for number, step in enumerate(passed)}


def _study(search: Search, trials: Sequence[Trial], *, arriving: int | None = None) -> "Study":
    """Optuna's view of the trials so far, in their order; those that go on count as such."""
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=search.pk * 1_000 + len(trials), constant_liar=True, n_startup_trials=min(10, search.wanted // 3)
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = _distributions(search.space)
    for trial in trials:
        value = value_of(trial)
        rungs = {int(step): figure for step, figure in trial.rungs.items()}
        if value is not None:
            state = TrialState.COMPLETE
        elif trial.pruned:
            state, value = TrialState.PRUNED, rungs[max(rungs)]
        else:
            state = TrialState.RUNNING if is_open(trial) else TrialState.FAIL
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=value,
                params=trial.settings,
                distributions=distributions,
                intermediate_values=rungs,
                system_attrs=_passed(rungs, arrives=trial.pk == arriving),
            )
        )
    return study


def _distributions(space: Mapping[str, Mapping[str, Any]]) -> dict[str, "BaseDistribution"]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        name: CategoricalDistribution(values["choices"])
        if "choices" in values
        else FloatDistribution(values["low"], values["high"], log=values["log"])
        for name, values in space.items()
    }
