"""Starting a training, and keeping what came out of it."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from flywheel import selectors
from flywheel.models import ModelVersion, Snapshot, TrainingRun
from labeling.models import Job, JobState, Project
from labeling.services import events, jobs
from ml.schema import canonical_json
from ml.training.config import usual_rate

DEFAULTS: Final[dict[str, Any]] = {
    "architecture": "dense-small",
    "side": 320,
    "seed": 0,
    "warm_start": True,
    "control_every": 5,
}
LEAST: Final = {"control_every": 0, "steps": 1, "batch": 1, "side": 64, "seed": 0}
CHOICES: Final = {"symmetry": ("upright", "any"), "precision": ("auto", "float32", "bfloat16")}
MOST: Final = {"learning_rate": 1.0, "mosaic": 1.0, "hard": 1.0}
CURVE_POINTS: Final = 400
SETTABLE: Final = {*DEFAULTS, "steps", "batch", "learning_rate", "symmetry", "mosaic", "hard", "precision"}
"""What a project's `round_settings["training"]` may say; the rest is `ml.train.TrainConfig`'s own."""


class BadTrainingSettings(Exception):
    """The project's training settings name something that cannot be set."""


def config_of(project: Project, *, images: int, own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration of a training on this many pictures, `own` settings before the project's.

    Raises `BadTrainingSettings`.
    """
    wanted = project.round_settings.get("training", {})
    if not isinstance(wanted, dict):
        raise BadTrainingSettings("round_settings.training must be an object")
    wanted = {**wanted, **(own or {})}
    unknown = sorted(set(wanted) - SETTABLE)
    if unknown:
        raise BadTrainingSettings(f"round_settings.training.{unknown[0]} cannot be set")
    config: dict[str, Any] = DEFAULTS | {"steps": default_steps(images)} | wanted
    if not isinstance(config["architecture"], str):
        raise BadTrainingSettings("round_settings.training.architecture must be a name")
    config.setdefault("learning_rate", usual_rate(config["architecture"]))
    for name in LEAST.keys() & config.keys():
        if type(config[name]) is not int or config[name] < LEAST[name]:
            raise BadTrainingSettings(
                f"round_settings.training.{name} must be a whole number, at least {LEAST[name]}"
            )
    for name, choices in CHOICES.items():
        if config.get(name, choices[0]) not in choices:
            raise BadTrainingSettings(f"round_settings.training.{name} must be one of {', '.join(choices)}")
    for name, most in MOST.items():
        value = config.get(name, most)
        is_number = type(value) in (int, float) and math.isfinite(value)
        if not is_number or not 0 <= value <= most or (name == "learning_rate" and value == 0):
            raise BadTrainingSettings(f"round_settings.training.{name} must be a number up to {most:g}")
    if not isinstance(config["warm_start"], bool):
        raise BadTrainingSettings("round_settings.training.warm_start must be true or false")
    return config


def wants_control(project: Project, *, number: int) -> bool:
    """Whether this round also trains from scratch: a model that only ever goes on may be stuck.

    Every `round_settings.training.control_every` rounds, 0 for never. Raises `BadTrainingSettings`.
    """
    config = config_of(project, images=0)
    every: int = config["control_every"]
    return bool(config["warm_start"] and every and number % every == 0 and selectors.champion(project))


def default_steps(images: int) -> int:
    """Optimiser steps of eight pictures each: about 50 passes, bounded for the very small and the large.

    Later rounds start from the champion, so few passes do: on BCCD, chained over 16, 48 and 128 pictures, as
    many pictures as 160, 280 and 620 steps show gave AP50 .58, .82 and .89.

    >>> default_steps(16), default_steps(128), default_steps(100_000)
    (200, 800, 60000)
    """
    return max(200, min(50 * images // 8, 60_000))


def start(
    *,
    project: Project,
    snapshot: Snapshot,
    actor: AbstractBaseUser | None = None,
    title: str = "",
    from_scratch: bool = False,
    own: Mapping[str, Any] | None = None,
) -> TrainingRun:
    """The run of this snapshot, configuration and code, with its job; asked for twice it is the same run.

    `own` settings go before the project's.

    Raises `BadTrainingSettings`.
    """
    config = config_of(project, images=snapshot.images, own=own)
    del config["control_every"]  # says when there is a control, not how a model is trained
    if from_scratch:
        config["warm_start"] = False
    champion = selectors.champion(project)
    warm_start = champion if config["warm_start"] else None
    key = hashlib.sha256(
        canonical_json(
            [
                project.pk,
                snapshot.version,
                config,
                settings.VERSION,
                None if warm_start is None else warm_start.weights_sha256,
            ]
        )
    ).hexdigest()
    with transaction.atomic():
        run, _ = TrainingRun.objects.get_or_create(
            key=key,
            defaults={
                "project": project,
                "snapshot": snapshot,
                "config": config,
                "code_version": settings.VERSION,
                "warm_start": warm_start,
            },
        )
        if run.job is None:
            run.job = jobs.enqueue(
                kind="train",
                key=f"train:{key}",
                queue="gpu",
                project=project,
                params={"run": run.pk, "title": title},
                created_by=actor,
            )
            run.save(update_fields=["job"])
        else:
            _try_again(run.job)
    return run


def _try_again(job: Job) -> None:
    """A training that was cancelled or failed is not reused as such: who starts a round wants it run."""
    Job.objects.filter(pk=job.pk, state=JobState.RUNNING).update(cancel_requested=False)
    jobs.retry(job=job)


def write_curve(*, run: TrainingRun, curve: Sequence[dict[str, Any]]) -> None:
    """What a run has reached so far. Call it while the job is held."""
    TrainingRun.objects.filter(pk=run.pk).update(curve=thinned(curve))


def thinned(curve: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `CURVE_POINTS` points on a grid that only ever doubles, so that a growing curve keeps its points,
    and the newest.

    >>> [point["step"] for point in thinned([{"step": 10 * (row + 1)} for row in range(801)])][-3:]
    [7980, 8000, 8010]
    """
    every = 1
    while len(curve) // every > CURVE_POINTS:
        every *= 2
    points = list(curve[every - 1 :: every])
    return points if len(curve) % every == 0 else [*points, curve[-1]]


def keep(
    *, run: TrainingRun, weights_sha256: str, card: dict[str, Any], curve: list[dict[str, Any]]
) -> ModelVersion:
    """The model that a run made, as the project's next version; kept once. Call it while the job is held."""
    known = ModelVersion.objects.filter(run=run).first()
    if known is not None:
        return known
    Project.objects.select_for_update(no_key=True).get(pk=run.project_id)
    last = ModelVersion.objects.filter(project=run.project).aggregate(last=Max("number"))["last"] or 0
    model = ModelVersion.objects.create(
        project=run.project, number=last + 1, run=run, weights_sha256=weights_sha256, card=card
    )
    TrainingRun.objects.filter(pk=run.pk).update(curve=thinned(curve), finished_at=timezone.now())
    events.record(
        project=run.project,
        actor=None,
        verb="train",
        subject=model,
        data={"snapshot": run.snapshot.version, "name": model.name},
    )
    return model
