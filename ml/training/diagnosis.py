"""What a curve of the loss says, in a practitioner's terms: rising, exploding, oscillating, a plateau."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

EXPLODED: Final = 20.0
"""Times the lowest loss so far, three rows running."""
RISING: Final = 1.3
FLAT: Final = 0.98
RESTLESS: Final = 0.35
LEAST_ROWS: Final = 9


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong and what to do; one that is `hopeless` ends the run."""

    name: str
    told: str
    hopeless: bool = False


def diagnose(losses: Sequence[float], *, steps_done: float, from_scratch: bool) -> list[Finding]:
    """`losses` are the means of ten steps each, oldest first; `steps_done` is the share of the run, 0–1.

    A warm start begins low, so it is no plateau when it stays there.
    """
    values = np.array(losses, dtype=np.float64)
    found = []
    if len(values) >= 4 and (values[-3:] > EXPLODED * max(values[:-3].min(), 1e-3)).all():
        told = (
            f"exploding: the loss went from {values[:-3].min():.3g} to {values[-1]:.3g}. Lower the learning rate, "
            "or look for labels that cannot be right."
        )
        found.append(Finding("exploding", told, hopeless=True))
    if len(values) < LEAST_ROWS or found:
        return found
    third = len(values) // 3
    early, late = values[:third].mean(), values[-third:].mean()
    if late > RISING * early and late > 1.1 * values[third:-third].mean():
        told = (
            f"rising: the loss rose from {early:.3g} to {late:.3g}. Lower the learning rate; if it still rises, the "
            "loss has the wrong sign."
        )
        found.append(Finding("rising", told, hopeless=steps_done >= 0.25))
    elif from_scratch and late > FLAT * early:
        told = (
            f"plateau: the loss stayed at {late:.3g}. Raise the learning rate or train longer; look whether weights "
            "are frozen and whether the labels belong to their pictures."
        )
        found.append(Finding("plateau", told))
    half = values[len(values) // 2 :]
    line = np.polyval(np.polyfit(np.arange(len(half)), half, 1), np.arange(len(half)))
    restless = float((half - line).std() / max(half.mean(), 1e-9))
    if restless > RESTLESS:
        told = (
            f"oscillating: the loss swings by {restless:.0%} around its course. Lower the learning rate, or look for "
            "pictures whose labels are wrong."
        )
        found.append(Finding("oscillating", told))
    return found
