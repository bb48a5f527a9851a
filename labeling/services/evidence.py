"""What stands beside a consensus: how sure each object of it is, and from whom it came. Plain JSON."""

from typing import Any, Final

from labeling.consensus import Settled, SettledShape
from labeling.shapes import Json

DIGITS: Final = 6


def dump(settled: Settled, **more: Any) -> Json:
    """The evidence of a settled image: its risk by cause, and for each object, by its id, what speaks for it."""
    return {
        "causes": {cause: round(value, DIGITS) for cause, value in sorted(settled.causes.items())},
        "empty": round(settled.empty, DIGITS),
        "objects": {item.shape.id: _dump_shape(item) for item in settled.shapes},
    } | more


def _dump_shape(item: SettledShape) -> Json:
    return {
        "existence": round(item.existence, DIGITS),
        "confidence": round(item.confidence, DIGITS),
        "seen_by": item.seen_by,
        "members": [list(member) for member in item.members],
        "classes": [[class_id, round(share, DIGITS)] for class_id, share in item.class_posterior],
        "tie": item.class_tie,
        "causes": {cause: round(value, DIGITS) for cause, value in sorted(item.causes.items())},
    }
