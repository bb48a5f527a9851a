"""What a method of consensus takes and gives.

A method sees every answer of a project at once: who looked at which image and drew what. An answer
without shapes is evidence too: its annotator saw the image and found nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np

from labeling.shapes import Kind, Shape

ACCEPT_AT: Final = 0.5
"""A candidate is accepted when it is at least as likely there as not."""

Parameters: TypeAlias = Mapping[str, Any]
"""What a method learnt about the annotators: plain JSON, to be stored and used again."""

Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """All that one annotator drew on one image. Two answers of one annotator for one image count as one."""

    image: str
    annotator: str
    shapes: tuple[Shape, ...] = ()


@dataclass(frozen=True, slots=True)
class SettledShape:
    """A candidate of the consensus.

    `existence` is the probability that it is there at all, `confidence` that it is there and of this
    class; `class_posterior` holds (class id, probability), most probable first. `members` are the
    (annotator, shape id) it was made of, `seen_by` counts those who saw the image. `class_tie` says that
    the two most probable classes are equally so; the lower id was taken.
    """

    shape: Shape
    existence: float
    confidence: float
    accepted: bool
    members: tuple[tuple[str, str], ...]
    seen_by: int
    class_posterior: tuple[tuple[int, float], ...]
    class_tie: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """The consensus of one image; `risk` is the expected number of errors in its accepted shapes."""

    image: str
    shapes: tuple[SettledShape, ...]
    risk: float
    annotators: tuple[str, ...]

    @property
    def accepted(self) -> tuple[Shape, ...]:
        return tuple(item.shape for item in self.shapes if item.accepted)

    @property
    def rejected(self) -> tuple[Shape, ...]:
        return tuple(item.shape for item in self.shapes if not item.accepted)


@dataclass(frozen=True, slots=True)
class Skill:
    """An annotator's estimated reliability for one kind of shape.

    Recall and precision are in 0…1 with their 90 % Beta intervals; `spread_px` is the typical distance
    of a side or joint from the settled place (nothing where no object was shared), `answers` the images seen.
    """

    annotator: str
    kind: Kind
    recall: float
    precision: float
    spread_px: float | None
    answers: int
    recall_interval: Interval
    precision_interval: Interval


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the whole project tells about its annotators."""

    parameters: Parameters
    skills: tuple[Skill, ...]


@dataclass(frozen=True, slots=True)
class Consensus:
    """The images in order of their id, the skills, and the parameters for settling more images."""

    images: tuple[Settled, ...]
    skills: tuple[Skill, ...]
    parameters: Parameters


class Method(Protocol):
    """A way to settle many answers. Their order and that of their shapes changes nothing, not by a bit."""

    @property
    def name(self) -> str: ...

    def fit(self, answers: Iterable[Answer]) -> Fitted:
        """Learns the annotators' parameters from all answers of a project."""
        ...

    def predict(self, answers: Iterable[Answer], parameters: Parameters) -> tuple[Settled, ...]:
        """Settles these answers' images with frozen parameters; an unknown annotator is an average one."""
        ...

    def fit_predict(self, answers: Iterable[Answer]) -> Consensus: ...


def beta_interval(successes: float, failures: float, mass: float = 0.9) -> Interval:
    """The central interval that holds `mass` of Beta(successes, failures), both > 0.

    >>> low, high = beta_interval(1, 1)
    >>> round(low, 2), round(high, 2)
    (0.05, 0.95)
    """
    total = successes + failures
    mean = successes / total
    deviation = (mean * (1 - mean) / (total + 1)) ** 0.5
    low, high = max(0.0, mean - 10 * deviation), min(1.0, mean + 10 * deviation)
    edges = np.linspace(low, high, 4001)
    middle = (edges[1:] + edges[:-1]) / 2
    log_density = (successes - 1) * np.log(middle) + (failures - 1) * np.log1p(-middle)
    cumulative = np.concatenate([[0.0], np.cumsum(np.exp(log_density - log_density.max()))])
    tails = np.interp([(1 - mass) / 2, (1 + mass) / 2], cumulative / cumulative[-1], edges)
    return float(tails[0]), float(tails[1])
