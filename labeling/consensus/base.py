"""What a method of consensus takes and gives.

A method sees every answer of a project at once: who looked at which image and drew what. An answer
without shapes is evidence too: its annotator saw the image and found nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np

from labeling.schema import Schema
from labeling.shapes import Kind, Shape

ACCEPT_AT: Final = 0.5
"""A candidate is accepted when it is at least as likely there, and in its place, as not."""

Parameters: TypeAlias = Mapping[str, Any]
"""What a method learnt about the annotators: plain JSON, to be stored and used again."""

Interval: TypeAlias = tuple[float, float]

Gold: TypeAlias = Mapping[str, Sequence[Shape]]
"""An expert's answer by image; an empty one says that there is nothing."""

Cause: TypeAlias = Literal["surplus", "missed", "unseen", "class", "place", "joints"]
"""Why a consensus may be wrong: an accepted object is not there; a rejected one is; there are objects that
nobody drew; an object is of another class; its box is off (IoU below .5); its joints are off, swapped, or of the
wrong visibility."""
Causes: TypeAlias = Mapping[Cause, float]
"""The expected number of errors by cause."""


@dataclass(frozen=True, slots=True)
class Answer:
    """All that one annotator drew on one image. Two answers of one annotator for one image count as one.

    A model's prediction, made before it could have learnt from this image, is an answer with `by_model`.
    A person who started from suggestions names in `saw` the model (its `annotator`): such an answer is
    no independent evidence for what the model saw. `seconds` is the time of active work, where it is known.
    `size` is the image's width and height in pixels: where it is known, boxes are clipped to the image.
    """

    image: str
    annotator: str
    shapes: tuple[Shape, ...] = ()
    by_model: bool = False
    saw: str = ""
    seconds: float | None = None
    size: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class SettledShape:
    """A candidate of the consensus.

    `existence` is the probability that it is there at all, `confidence` that it is there, of this class, and
    its box (if it has one) is not off; `class_posterior` holds (class id, probability), most probable first.
    `members` are the (annotator, shape id) it was made of, `seen_by` counts those who saw the image.
    `class_tie` says that the two most probable classes are equally so; the lower id was taken. `causes` are
    this candidate's part of the image's risk.
    """

    shape: Shape
    existence: float
    confidence: float
    accepted: bool
    members: tuple[tuple[str, str], ...]
    seen_by: int
    class_posterior: tuple[tuple[int, float], ...]
    class_tie: bool = False
    causes: Causes = field(default_factory=dict)

    @property
    def risk(self) -> float:
        return sum(self.causes.values())


@dataclass(frozen=True, slots=True)
class Settled:
    """The consensus of one image.

    `risk` is the expected number of errors: the sum of `causes`, that is of all candidates' and of the objects
    that nobody drew. `empty` is the probability that there is nothing to draw.
    """

    image: str
    shapes: tuple[SettledShape, ...]
    risk: float
    annotators: tuple[str, ...]
    causes: Causes = field(default_factory=dict)
    empty: float = 0.0

    @property
    def accepted(self) -> tuple[Shape, ...]:
        return tuple(item.shape for item in self.shapes if item.accepted)

    @property
    def rejected(self) -> tuple[Shape, ...]:
        return tuple(item.shape for item in self.shapes if not item.accepted)


@dataclass(frozen=True, slots=True)
class Measured:
    """A share in 0…1 with its 90 % interval, from `trials` (which may be fractions of an object)."""

    value: float
    interval: Interval
    trials: float


@dataclass(frozen=True, slots=True)
class Skill:
    """An annotator's estimated reliability for one kind of shape.

    Recall and precision are in 0…1 with their 90 % Beta intervals; `spread_px` is the typical distance
    of a side or joint from the settled place (nothing where no object was shared), `answers` the images seen.
    What was not estimated for this kind is nothing.
    """

    annotator: str
    kind: Kind
    recall: float
    precision: float
    spread_px: float | None
    answers: int
    recall_interval: Interval
    precision_interval: Interval
    by_model: bool = False
    spread: float | None = None
    """Standard deviation of a side or joint, in sizes of the object."""
    bias: tuple[float, ...] | None = None
    """Boxes: how far (centre x, centre y, width, height) tend to be off, in shares of the object's size;
    1 % too wide is .01. Joints: (x, y)."""
    class_accuracy: Measured | None = None
    confusion: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    """True class id → class id said → probability."""
    swap_rate: Measured | None = None
    """How often left and right are exchanged, of the skeletons drawn that have sides."""
    visibility_accuracy: Measured | None = None
    seconds_per_image: float | None = None
    """The median."""


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

    def fit(
        self, answers: Iterable[Answer], *, schema: Schema | None = None, gold: Gold | None = None
    ) -> Fitted:
        """Learns the annotators' parameters from all answers of a project.

        The schema tells which joints are a left and a right; gold, where there is any, calibrates.
        """
        ...

    def predict(self, answers: Iterable[Answer], parameters: Parameters) -> tuple[Settled, ...]:
        """Settles these answers' images with frozen parameters; an unknown annotator is an average one."""
        ...

    def fit_predict(
        self, answers: Iterable[Answer], *, schema: Schema | None = None, gold: Gold | None = None
    ) -> Consensus: ...


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
