"""Which pictures a training sees more often: those that the model it goes on from gets wrong."""

from collections.abc import Mapping, Sequence
from typing import Final

from ml.metrics import match
from ml.schema import Detection, Example

SURE: Final = 0.5
"""From this score on, what is seen where nothing is counts as a mistake; objects not found so sure do too."""


def mistakes(example: Example, detections: Sequence[Detection]) -> int:
    """Objects that were not found at IoU .5 of their class, and sure detections of nothing. Crowds count as neither."""
    found = match(example, [item for item in detections if item.score >= SURE])
    hits = int(found.hits[:, 0].sum())
    return sum(found.objects.values()) - hits + len(found.hits) - hits


def hardest(counts: Mapping[int, int], share: float) -> list[int]:
    """The pictures with most mistakes, at most `share` of all and none without a mistake; ties by index.

    >>> hardest({0: 2, 1: 0, 2: 5, 3: 2}, 0.5), hardest({0: 0, 1: 0}, 1.0)
    ([0, 2], [])
    """
    ranked = sorted((index for index, count in counts.items() if count), key=lambda i: (-counts[i], i))
    return sorted(ranked[: round(share * len(counts))])
