"""How the gate's benchmark makes equal, worse and better models of real ones."""

import numpy as np
import pytest

from bench.training import gate
from ml import metrics, slices
from ml.schema import DetectedClass, Detection, Example, Object

CELL = DetectedClass(1, "cell")


def model(seed: int, pictures: int = 40) -> slices.Looked:
    """Finds four of five objects, and something else now and then."""
    random = np.random.default_rng(seed)
    examples, detections = [], []
    for _ in range(pictures):
        boxes = [(60.0 * place, 10.0, 60.0 * place + 40, 50.0) for place in range(5)]
        examples.append(Example("", 400, 300, "gold", tuple(Object(1, box) for box in boxes)))
        found = [Detection(1, float(random.uniform(0.3, 1)), box) for box in boxes if random.random() < 0.8]
        if random.random() < 0.3:
            found.append(Detection(1, float(random.uniform(0.1, 0.6)), (10, 200, 50, 240)))
        detections.append(found)
    return slices.Looked(examples, detections, metrics.evaluate(examples, detections, [CELL]))


MODELS = [model(1), model(2)]


@pytest.mark.parametrize("damage", [gate.drop, gate.displace])
def test_a_model_is_made_three_points_worse(damage: gate.Damage) -> None:
    lost = metrics.measured(gate._worse(MODELS[0], damage).scores, "ap50")
    assert metrics.measured(MODELS[0].scores, "ap50") - lost == pytest.approx(gate.POINTS, abs=0.01)


def test_losing_more_loses_the_same_and_more() -> None:
    seen = [list(one) for one in MODELS[0].detections]
    some, more = gate.drop(seen, 0.1, 3), gate.drop(seen, 0.4, 3)
    assert all(set(map(id, few)) <= set(map(id, many)) for few, many in zip(more, some, strict=True))
    assert gate.drop(seen, 0.0, 3) == seen


def test_rates_are_told_by_size_and_worse_models_are_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "GOLD_SIZES", (20, 400))
    monkeypatch.setattr(gate, "ROUNDS", 50)
    found = gate.rates(MODELS, trials=8)
    assert [row["gold"] for row in found["by_gold"]] == [20, 400]
    assert found["by_gold"][1]["worse_dropped_blocked"] == 1.0
    assert found["worse_blocked"] <= 1.0
    assert found["aa_promoted"] <= 0.5
