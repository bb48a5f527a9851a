"""The gate: a challenger becomes champion only if it is not worse on gold; and the way back."""

import math
from collections.abc import Mapping, Sequence
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
MAX_SLICE_LOSS: Final = 0.03
"""A slice must not surely fall by more: not even the upper 90 % bound of its gain may lie below."""
MAX_ECE: Final = 0.05
"""Of calibrated scores, unless the pictures are too few to tell so small an error from chance."""
SHOW_AT: Final = 0.36
"""The calibrated precision from which showing a suggestion saves time: D / (W + D − F), in seconds
2.9 to delete, 7.0 to draw, 1.8 to accept."""
FLOORS: Final = ("ap", "ap50", "oks_ap", "pck", "f1")
CEILINGS: Final = ("ece", "latency_ms")
CLASS: Final = "class:"


class UnknownMetric(Exception):
    """The project's settings name a metric that there is not."""


class BadThresholds(Exception):
    """`round_settings.thresholds` holds what is no threshold; the message names the key."""


class NothingToGoBackTo(Exception):
    """No earlier champion is left."""


class ChampionChanged(Exception):
    """Another model is champion than the one to be rolled back."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`better`: surely so, the lower bound of the gain is above zero; promoted without it means "not worse"."""

    promote: bool
    reason: str
    better: bool = False


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


def thresholds_of(project: Project) -> dict[str, float]:
    """What a model must reach whatever the champion does: `round_settings.thresholds`. Raises `BadThresholds`.

    Keys: "ap", "ap50", "oks_ap", "pck", "f1" and "class:NAME" (that class's AP50) are floors, 0–1; "ece" (0–1)
    and "latency_ms" (milliseconds a picture, as measured where models are evaluated) are ceilings.
    """
    wanted: object = project.round_settings.get("thresholds", {})
    if not isinstance(wanted, dict):
        raise BadThresholds("round_settings.thresholds must be an object")
    for key, value in wanted.items():
        if key not in (*FLOORS, *CEILINGS) and not key.startswith(CLASS):
            raise BadThresholds(
                f"round_settings.thresholds.{key} is not known; there are "
                f"{', '.join((*FLOORS, *CEILINGS))} and {CLASS}NAME"
            )
        most = math.inf if key == "latency_ms" else 1.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            told = "a number of milliseconds" if key == "latency_ms" else "a number from 0 to 1"
            raise BadThresholds(f"round_settings.thresholds.{key} must be {told}")
        name = key.removeprefix(CLASS)
        if name != key and name not in {
            item.name for item in projects.current_schema(project).schema.classes
        }:
            raise BadThresholds(f"round_settings.thresholds.{key}: the schema has no class {name!r}")
    return {key: float(value) for key, value in wanted.items()}


def decide(
    *,
    metric: Metric,
    challenger: Mapping[str, Any],
    champion: Mapping[str, Any] | None,
    gain: Mapping[str, float] | None,
    slices: Sequence[Mapping[str, Any]] = (),
    thresholds: Mapping[str, float] | None = None,
) -> Decision:
    """Whether to promote, from both models' figures on the same gold and the paired gain in the metric.

    `gain` holds `mean`, `low` and `high` (a 90 % paired bootstrap interval, from −1 to 1); so does each of the
    `slices` that has one. A challenger that is refused is told every reason at once.
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
    against = [*_below(challenger, thresholds or {}), *_miscalibrated(challenger, thresholds or {})]
    if champion is None or gain is None:
        told = f"The first model: {name} {value:.3f} on {measured}"
        if against:
            return Decision(False, f"{told}; {'; '.join(against)}, so it is not used.")
        return Decision(True, f"{told}.", better=True)
    told = (
        f"{name} {value:.3f} against the champion's {champion[metric] or 0.0:.3f} on {measured}: "
        f"gain {100 * gain['mean']:+.1f} points, 90 % interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}"
    )
    if gain["low"] < -MAX_LOSS:
        against.insert(0, "it may be worse" + _too_few(gain, challenger))
    against += _fallen(slices, name="PCK" if metric == "pck" else "AP50")
    if against:
        return Decision(False, f"{told}; {'; '.join(against)}, so the champion stays.")
    better = gain["low"] > 0
    return Decision(True, f"{told}; it is {'better' if better else 'not worse'}.", better)


def _below(figures: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[str]:
    """What misses the project's own thresholds."""
    by_class = {row["name"]: row["ap50"] for row in figures.get("per_class", {}).values()}
    missed = []
    for key, bound in thresholds.items():
        if key == "ece":
            continue
        of_class = key.startswith(CLASS)
        value = by_class.get(key.removeprefix(CLASS)) if of_class else figures.get(key)
        told = f"AP50 of {key.removeprefix(CLASS)}" if of_class else key
        if value is None:
            missed.append(f"there is nothing to measure {told} on, and the project asks for {bound:g}")
        elif key in CEILINGS and value > bound:
            missed.append(f"{told} is {value:.3g}, above the project's {bound:g}")
        elif key not in CEILINGS and value < bound:
            missed.append(f"{told} is {value:.3f}, below the project's {bound:g}")
    return missed


def _miscalibrated(figures: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[str]:
    found = figures.get("calibrated")
    bound = thresholds.get("ece", MAX_ECE)
    if found is None or found["ece"] <= max(bound, found["chance"]):
        return []
    return [
        f"its calibrated scores are off by {found['ece']:.3f} on average (at most {bound:g}), so its suggestions "
        "would be shown at the wrong times"
    ]


def _too_few(gain: Mapping[str, float], figures: Mapping[str, Any]) -> str:
    """What to do where the pictures, not the model, are what stands in the way."""
    half = (gain["high"] - gain["low"]) / 2
    pictures = figures.get("pictures")
    if gain["mean"] < -MAX_LOSS or half <= 0 or not pictures:
        return ""
    room = gain["mean"] + MAX_LOSS
    needed = math.ceil(pictures * (half / room) ** 2 / 10) * 10 if room > 0.001 else 0
    told = f"about {needed} would be" if 0 < needed <= 100 * pictures else "many more are"
    return f" ({pictures} pictures are too few to tell; {told} needed for a gain like this)"


def _fallen(slices: Sequence[Mapping[str, Any]], *, name: str) -> list[str]:
    return [
        f"{name} of {row['kind']} {row['name']} falls by {-100 * row['gain']['mean']:.1f} points "
        f"({row['objects']} objects)"
        for row in slices
        if "gain" in row and row["gain"]["high"] < -MAX_SLICE_LOSS
    ]


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
def roll_back(
    *, project: Project, actor: AbstractBaseUser, now: datetime, seen: int | None = None
) -> ModelVersion:
    """Makes the champion before this one champion again; its suggestions come back.

    `seen` is the champion that the person wants to be rid of: a second click, or a click on an old page, does
    not go back twice. Raises `ChampionChanged` or `NothingToGoBackTo`.
    """
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    champion = selectors.champion(project)
    if seen is not None and (champion is None or champion.pk != seen):
        told = "there is none" if champion is None else f"it is {champion.name} now"
        raise ChampionChanged(f"the champion has changed since this page was loaded: {told}")
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
