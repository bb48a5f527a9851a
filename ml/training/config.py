"""What decides a training's weights, beside its snapshot and start."""

from dataclasses import dataclass
from typing import Final, Literal

SECONDS_A_PICTURE: Final = 0.036
"""Forward, backward and augmentation of a 320-pixel picture in bfloat16 on one core."""
EARLY: Final = 0.6
EARLY_SCALE: Final = 0.7
SECONDS_TO_BEGIN: Final = 3.0
SECONDS_TO_DECODE: Final = 0.01
FINE_TUNING_RATE: Final = 1e-4


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides the weights, beside the snapshot, the start and the device.

    `side`: the longest side of a picture in the model, pixels. `symmetry`: "upright" pictures are only
    mirrored left to right; "any" are also turned by quarters (microscopes, cameras that look down). `mosaic`:
    the share of a batch made of four pictures each. `early`: the share of the steps that see pictures at
    `EARLY_SCALE` of the side, at half the cost: what is coarse is learnt first. `hard`: going on from another
    model, the share of the pictures, those that it gets most wrong, that are seen twice as often. `precision`:
    "auto" is bfloat16 where the device computes faster in it.
    """

    architecture: str = "dense-small"
    steps: int = 600
    batch: int = 8
    side: int = 320
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 40
    ema_decay: float = 0.995
    symmetry: Literal["upright", "any"] = "upright"
    mosaic: float = 0.25
    early: float = EARLY
    hard: float = 0.5
    scale: tuple[float, float] = (0.7, 1.4)
    colour: float = 0.25
    seed: int = 0
    threads: int = 2
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_steps: int = 200
    checkpoint_seconds: float = 20.0

    @classmethod
    def for_budget(
        cls, *, seconds: float, images: int = 0, side: int = 320, threads: int = 2, batch: int = 8
    ) -> "TrainConfig":
        """About as many steps as `seconds` on `threads` cores of a server of 2026 allow, `images` decoded first.

        A fixed formula of its arguments and never a measurement, so that the same call gives the same weights.

        >>> TrainConfig.for_budget(seconds=60, images=48).steps
        509
        """
        cores = 1 + 0.8 * (threads - 1)
        early = EARLY * EARLY_SCALE**2 + 1 - EARLY
        step = SECONDS_A_PICTURE * batch * (side / 320) ** 2 * early
        ready = seconds - SECONDS_TO_BEGIN - images * SECONDS_TO_DECODE
        return cls(steps=max(1, int(ready * cores / step)), side=side, threads=threads, batch=batch)


def usual_rate(architecture: str) -> float:
    """The learning rate where none is given: what weights from elsewhere know is easily unlearnt.

    >>> usual_rate("dense-small"), usual_rate("transformers:weights")
    (0.002, 0.0001)
    """
    return FINE_TUNING_RATE if ":" in architecture else TrainConfig().learning_rate
