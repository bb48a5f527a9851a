"""The gate: a challenger becomes champion only if it is not worse on gold; and the way back."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, cast

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from flywheel import selectors
from flywheel.models import ModelStatus, ModelVersion
from labeling.models import Prediction, Project
from labeling.services import events, jobs, predictions, projects

Metric: TypeAlias = Literal["ap", "ap50", "pck"]
METRICS: Final[dict[Metric, str]] = {"ap50": "AP50", "ap": "AP", "pck": "PCK"}
MAX_LOSS: Final = 0.005
"""The lower 90 % bound of the gain on gold may be this far below zero (half a point)."""
SHOW_AT: Final = 0.36
"""The calibrated precision from which showing a suggestion saves time: D / (W + D − F), in seconds
2.9 to delete, 7.0 to draw, 1.8 to accept."""


class UnknownMetric(Exception):
    """The project's settings name a metric that there is not."""


class NothingToGoBackTo(Exception):
    """No earlier champion is left."""


@dataclass(frozen=True, slots=True)
class Decision:
    promote: bool
    reason: str


def metric_of(project: Project) -> Metric:
    """The metric that the project optimises: what its round settings name, else AP50, or PCK for poses alone.

    Raises `UnknownMetric`.
    """
    wanted: object = project.round_settings.get("metric")
    if isinstance(wanted, str) and wanted in METRICS:
        return cast(Metric, wanted)
    if wanted is not None:
        raise UnknownMetric(f"round_settings.metric must be one of {', '.join(METRICS)}")
    kinds = {item.kind for item in projects.current_schema(project).schema.classes} - {"tag"}
    return "pck" if kinds == {"keypoints"} else "ap50"


def decide(
    *,
    metric: Metric,
    challenger: dict[str, Any],
    champion: dict[str, Any] | None,
    gain: dict[str, float] | None,
) -> Decision:
    """Whether to promote, from both models' figures on the same gold and the paired gain in the metric.

    `gain` holds `mean`, `low` and `high` (a 90 % paired bootstrap interval, from −1 to 1).
    """
    name, value = METRICS[metric], challenger[metric]
    measured = "gold" if challenger["split"] == "gold" else "validation (there is no gold)"
    if value is None:
        return Decision(False, f"There is nothing on {measured} to measure {name} on.")
    trivial = challenger["trivial"][metric] or 0.0
    if value <= trivial:
        return Decision(
            False,
            f"{name} {value:.3f} on {measured} is no better than always guessing the mean box ({trivial:.3f}).",
        )
    if champion is None or gain is None:
        return Decision(True, f"The first model: {name} {value:.3f} on {measured}.")
    told = (
        f"{name} {value:.3f} against the champion's {champion[metric] or 0.0:.3f} on {measured}: "
        f"gain {100 * gain['mean']:+.1f} points, 90 % interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}"
    )
    if gain["low"] < -MAX_LOSS:
        return Decision(False, f"{told}; it may be worse, so the champion stays.")
    return Decision(True, f"{told}.")


@transaction.atomic
def promote(*, model: ModelVersion, actor: AbstractBaseUser | None, now: datetime) -> None:
    """Makes a model the champion; people see its predictions as soon as they are there.

    A person's promotion has them made at once; in a round that is the next step.
    """
    project = Project.objects.select_for_update(no_key=True).get(pk=model.project_id)
    _retire_champion(project)
    ModelVersion.objects.filter(pk=model.pk).update(status=ModelStatus.CHAMPION, promoted_at=now)
    if Prediction.objects.filter(model=model.name, task__project=project).exists():
        predictions.show(project=project, model=model.name, threshold=SHOW_AT)
    events.record(project=project, actor=actor, verb="promote", subject=model, data={"name": model.name})
    if actor is not None:
        _predict(model, actor, now)


def reject(*, model: ModelVersion, reason: str) -> None:
    """Marks a challenger as not good enough."""
    with transaction.atomic():
        if ModelVersion.objects.filter(pk=model.pk, status=ModelStatus.CHALLENGER).update(
            status=ModelStatus.REJECTED
        ):
            events.record(
                project=model.project, actor=None, verb="reject", subject=model, data={"reason": reason}
            )


@transaction.atomic
def roll_back(*, project: Project, actor: AbstractBaseUser, now: datetime) -> ModelVersion:
    """Makes the champion before this one champion again; its suggestions come back. `NothingToGoBackTo`."""
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    before = selectors.previous_champion(project)
    if before is None:
        raise NothingToGoBackTo("there is no earlier champion to go back to")
    ModelVersion.objects.filter(project=project, status=ModelStatus.CHAMPION).update(
        status=ModelStatus.REJECTED
    )
    ModelVersion.objects.filter(pk=before.pk).update(status=ModelStatus.CHAMPION)
    predictions.show(project=project, model=before.name, threshold=SHOW_AT)
    _predict(before, actor, now)
    events.record(project=project, actor=actor, verb="roll_back", subject=before, data={"name": before.name})
    before.refresh_from_db()
    return before


def show_predictions(*, model: ModelVersion) -> None:
    """Its predictions are complete: from now on they are what people see, if it is still the champion."""
    if ModelVersion.objects.filter(pk=model.pk, status=ModelStatus.CHAMPION).exists():
        predictions.show(project=model.project, model=model.name, threshold=SHOW_AT)


def _predict(model: ModelVersion, actor: AbstractBaseUser, now: datetime) -> None:
    """Has the model look at the pictures that came since it last did."""
    jobs.enqueue(
        kind="predict",
        key=f"promoted:{model.pk}:{now.isoformat()}",
        queue="gpu",
        project=model.project,
        params={"model": model.pk},
        created_by=actor,
    )


def _retire_champion(project: Project) -> None:
    ModelVersion.objects.filter(project=project, status=ModelStatus.CHAMPION).update(
        status=ModelStatus.RETIRED
    )
