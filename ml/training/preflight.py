"""Checks that take seconds and stop a hopeless run before it begins, each with a sentence one can act on.

They are the practitioner's list, done by the machine: look at what the model really gets, at what its loss says before
it has learnt anything, whether every weight hears of it, and whether one batch can be learnt by heart. Nothing
here changes the run: all is done on copies.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from ml.boxes import Targets
from ml.data import Labels
from ml.models import Model
from ml.training.batches import Batches
from ml.training.config import TrainConfig
from ml.training.errors import TrainingRefused
from ml.training.fitting import Fit, fit_of

PICTURES: Final = 2
"""How many pictures are learnt by heart."""
OVERFIT_STEPS: Final = 12
OVERFIT_TO: Final = 0.85
"""The share of the first loss that must be reached in so few steps."""
MODEST_RATE: Final = 1e-3
COLLAPSED: Final = 0.05
UNUSUAL_RATE: Final = 0.02
"""AdamW with a higher one has to beat a modest one."""
INPUT_MEAN: Final = 6.0
INPUT_STD: Final = (0.02, 8.0)
"""What a layer with ordinary weights can be given; pixels from 0 to 255 are far outside."""

READ_AS: Final[Mapping[str, tuple[str, str]]] = {
    "swapped": ("box_axes", "with x and y swapped"),
    "xywh": ("box_format", "as x, y, width, height"),
    "cxcywh": ("box_format", "as centre, width, height"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found. One that is `fatal` and did not pass refuses the run."""

    name: str
    passed: bool
    told: str
    fatal: bool = True

    def dump(self) -> dict[str, Any]:
        return asdict(self)


def run_checks(
    model: Model, batches: Batches, config: TrainConfig, *, precision: str, device: torch.device
) -> list[Check]:
    """All of them. Raises `TrainingRefused` that names each fatal check that did not pass."""
    found = [*label_checks(fit_of(batches.pictures, batches.labels))]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        pictures, targets = _some(batches)
        found.append(check_input(model, pictures, targets, precision))
        if found[-1].passed:
            found += check_learning(model, pictures, targets, config, precision)
    failed = [item for item in found if item.fatal and not item.passed]
    if failed:
        raise TrainingRefused(" ".join(f"{item.name}: {item.told}" for item in failed))
    return found


def label_checks(fit: Fit) -> Iterator[Check]:
    """Whether the boxes are read as they were meant, and are those of their pictures."""
    reading = fit.right_reading
    for name in ("box_axes", "box_format"):
        is_it = reading is not None and READ_AS[reading][0] == name
        told = "The boxes lie where the pictures' contents change."
        if is_it and reading is not None:
            told = (
                f"Read {READ_AS[reading][1]}, the boxes fit what is in the pictures far better than as left, top, "
                f"right, bottom ({fit.readings[reading]:.0f} standard errors). Import them again in the right format."
            )
        yield Check(name, not is_it, told)
    lost = reading is None and fit.is_by_chance
    yield Check(
        "labels_fit_pictures",
        not lost,
        "The boxes fit their pictures no better than those of other pictures: labels and pictures seem to be "
        "mixed up. Look at some, and import them again."
        if lost
        else "The boxes fit their own pictures better than others.",
    )


def check_input(model: Model, pictures: Tensor, targets: Targets, precision: str) -> Check:
    """What reaches the model's first layer of weights: finite numbers of an ordinary size."""
    seen = _first_input(model, pictures, targets, precision)
    if seen is None:
        return Check("input", True, "The model has no layer whose input could be looked at.")
    if not bool(torch.isfinite(seen).all()):
        return Check(
            "input_finite",
            False,
            "The pictures reach the model with values that are no numbers (NaN or infinite). Look at how they are "
            "prepared.",
        )
    mean, std = float(seen.mean()), float(seen.std())
    fine = abs(mean) <= INPUT_MEAN and INPUT_STD[0] <= std <= INPUT_STD[1]
    told = f"The model's input has mean {mean:.2f} and standard deviation {std:.2f}."
    if not fine:
        told += (
            " It should be around 0 and 1: the pictures are not normalised, or they are all of one colour."
        )
    return Check("input_normalised", fine, told)


def check_learning(
    model: Model, pictures: Tensor, targets: Targets, config: TrainConfig, precision: str
) -> list[Check]:
    """The untrained loss, the gradients, and whether two pictures can be learnt by heart at the run's own rate."""
    own = copy.deepcopy(model)
    own.train()
    first = _loss(own, pictures, targets, precision)
    parts = {name: value.item() for name, value in first.items()}
    told = ", ".join(f"{name} {value:.3g}" for name, value in parts.items())
    if not all(map(math.isfinite, parts.values())):
        return [Check("untrained_loss", False, f"The loss is no number before the first step: {told}.")]
    if min(parts.values()) < 0:
        return [
            Check(
                "loss_sign",
                False,
                f"A part of the loss is below zero before the first step ({told}), so training would make the model "
                "worse. Its sign is wrong.",
            )
        ]
    torch.stack(list(first.values())).sum().backward()  # type: ignore[no-untyped-call]
    silent = [
        name
        for name, weight in own.named_parameters()
        if not weight.requires_grad or weight.grad is None or not bool(torch.isfinite(weight.grad).all())
    ]
    found = [
        Check("untrained_loss", True, f"Before the first step: {told}."),
        Check(
            "gradients",
            not silent,
            f"No gradient reaches {len(silent)} of the model's weights, {silent[0]} for one. They would never learn: "
            "look for what is frozen or left out of the loss."
            if silent
            else "A gradient reaches every weight.",
        ),
    ]
    if not silent:
        found.append(_by_heart(model, pictures, targets, config, precision))
    return found


def _by_heart(model: Model, pictures: Tensor, targets: Targets, config: TrainConfig, precision: str) -> Check:
    reached = _overfit(model, pictures, targets, config.learning_rate, precision)
    unusual = config.learning_rate > UNUSUAL_RATE
    if reached <= OVERFIT_TO and not unusual:
        return Check(
            "overfit", True, f"{OVERFIT_STEPS} steps on {PICTURES} pictures left {reached:.0%} of the loss."
        )
    modest = _overfit(model, pictures, targets, min(MODEST_RATE, config.learning_rate / 10), precision)
    fell_apart = unusual and reached < COLLAPSED  # boxes without area overlap nothing, so nothing is asked
    if fell_apart or (modest < reached and (modest <= OVERFIT_TO or unusual)):
        return Check(
            "learning_rate",
            False,
            f"At a learning rate of {config.learning_rate:g} {OVERFIT_STEPS} steps leave {reached:.0%} of the loss of "
            f"{PICTURES} pictures, at a lower one {modest:.0%}. Lower the rate.",
        )
    return Check(
        "overfit",
        False,
        f"{OVERFIT_STEPS} steps on the same {PICTURES} pictures left {min(reached, modest):.0%} of their loss: the "
        "model cannot even learn these by heart. Look at the loss and at what is frozen.",
        fatal=False,  # a large model may need more steps than a check can take
    )


def _overfit(model: Model, pictures: Tensor, targets: Targets, rate: float, precision: str) -> float:
    """The share of the first loss that is left after a few steps on the same pictures."""
    own = copy.deepcopy(model)
    own.train()
    optimizer = torch.optim.AdamW([weight for _, weight in own.named_parameters()], lr=rate)
    losses = []
    for step in range(OVERFIT_STEPS):
        loss = torch.stack(list(_loss(own, pictures, targets, precision).values())).sum()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            return math.inf
        if step + 1 < OVERFIT_STEPS:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return min(losses[-2:]) / max(losses[0], 1e-9)


def _loss(model: Model, pictures: Tensor, targets: Targets, precision: str) -> dict[str, Tensor]:
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return model.losses(pictures, targets)


def _first_input(model: Model, pictures: Tensor, targets: Targets, precision: str) -> Tensor | None:
    seen: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Any, ...]) -> None:
        if not seen and given and isinstance(given[0], Tensor):
            seen.append(given[0].detach().float())

    own = copy.deepcopy(model)
    own.train()
    layers = [item for item in own.modules() if isinstance(item, nn.Conv2d | nn.Linear)]
    with torch.no_grad(), _hooked(layers, keep):
        _loss(own, pictures, targets, precision)
    return seen[0] if seen else None


@contextmanager
def _hooked(layers: list[nn.Conv2d | nn.Linear], keep: Any) -> Iterator[None]:
    handles = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _some(batches: Batches) -> tuple[Tensor, Targets]:
    """The pictures with the most objects of the first few, as they are."""

    def objects(index: int) -> int:
        labels: Labels = batches.labels[index]
        return int((~labels.ignored).sum())

    first = batches.train_indices[:64]
    full = sorted(first, key=objects, reverse=True)
    if not objects(full[0]):
        full = sorted(batches.train_indices, key=objects, reverse=True)
    return batches.load(full[:PICTURES])
