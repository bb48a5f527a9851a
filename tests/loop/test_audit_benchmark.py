"""The mistakes that the audit's benchmark plants, and how it counts what was found."""

from collections import Counter

from bench.training.planted import KINDS, figures, plant
from ml.findings import Doubtful, Finding, flaws
from ml.schema import DetectedClass, Example, Object

CLASSES = (DetectedClass(1, "cat"), DetectedClass(2, "dog"))
EXAMPLES = [
    Example(f"{number:064d}", 200, 100, "train", (Object(1, (10, 10, 40, 40)), Object(2, (100, 50, 130, 90))))
    for number in range(40)
]


def test_each_kind_is_planted_and_other_pictures_stay_as_they_are() -> None:
    spoilt, planted = plant(EXAMPLES, CLASSES, share=0.35, seed=1)
    assert Counter(item.kind for item in planted) == dict.fromkeys(KINDS, 2)
    changed = {
        after.sha256
        for before, after in zip(EXAMPLES, spoilt, strict=True)
        if before.objects != after.objects
    }
    assert changed == {item.sha256 for item in planted}
    assert (spoilt, planted) == plant(EXAMPLES, CLASSES, share=0.35, seed=1)


def test_what_needs_no_model_is_found_and_nothing_else() -> None:
    spoilt, planted = plant(EXAMPLES, CLASSES, share=1.0, seed=2)
    found = [Doubtful(item.sha256, 1.0, tuple(told)) for item in spoilt if (told := flaws(item, CLASSES))]
    counted = figures(found, planted, len(spoilt))
    for kind in ("doubled", "zero_area", "outside"):
        assert (counted[kind]["recall"], counted[kind]["precision"]) == (1.0, 1.0), kind
    assert counted["missing"]["recall"] == 0.0


def test_a_finding_of_another_kind_or_place_is_no_hit() -> None:
    spoilt, planted = plant(EXAMPLES, CLASSES, share=0.35, seed=3)
    missing = next(item for item in planted if item.kind == "missing")
    beside = (missing.xyxy[0] + 50, *missing.xyxy[1:2], missing.xyxy[2] + 50, *missing.xyxy[3:])
    x1, y1, x2, y2 = beside
    told = (
        Finding("spurious", 1, missing.xyxy, 0.9, ""),
        Finding("missing", 1, (x1, y1, x2, y2), 0.9, ""),
    )
    counted = figures([Doubtful(missing.sha256, 1.0, told)], planted, len(spoilt))
    assert counted["missing"]["recall"] == 0.0
    assert counted["missing"]["precision"] == 0.0
    assert counted["missing"]["recall_any_kind"] == 0.5
    assert counted["list"]["top"] == round(1 / counted["list"]["spoilt"], 3)
