from dataclasses import replace
from pathlib import Path

import pytest

from bench.training import kills, trust
from bench.training.sets import RealSet, drawn
from ml.models.dense import DenseDetector
from ml.train import TrainConfig

BY_NAME = {item.name: item for item in trust.SABOTAGES}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> RealSet:
    real = drawn(tmp_path_factory.mktemp("drawn"))
    return replace(real, train=real.train[:40])


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "SHORT", TrainConfig(steps=2, batch=4, side=128, threads=1))


@pytest.mark.parametrize("name", ["boxes_xywh", "shuffled_labels", "class_missing", "frozen_head"])
def test_what_was_done_is_told_by_its_name(name: str, pictures: RealSet, tmp_path: Path) -> None:
    assert trust.attempted(pictures, BY_NAME[name], tmp_path)["caught"]


def test_another_name_does_not_count(pictures: RealSet, tmp_path: Path) -> None:
    taken_for = replace(BY_NAME["boxes_xywh"], told=("box_axes",))
    assert not trust.attempted(pictures, taken_for, tmp_path)["caught"]


def test_nothing_done_is_nothing_caught(pictures: RealSet, tmp_path: Path) -> None:
    nothing = replace(BY_NAME["loss_sign"], losses=None)
    assert not trust.attempted(pictures, nothing, tmp_path)["caught"]


def test_the_detector_is_whole_again(pictures: RealSet, tmp_path: Path) -> None:
    before = DenseDetector.losses, DenseDetector.__init__
    trust.attempted(pictures, BY_NAME["loss_sign"], tmp_path)
    trust.attempted(pictures, BY_NAME["frozen_head"], tmp_path)
    assert (DenseDetector.losses, DenseDetector.__init__) == before


def test_an_alarm_on_a_whole_set_is_told(pictures: RealSet, tmp_path: Path) -> None:
    shuffled = replace(pictures, train=tuple(trust._shuffled(pictures.train)))
    assert trust.untouched(shuffled, tmp_path, seed=0, steps=2)["alarms"]


def test_a_killed_training_is_compared_with_an_undisturbed_one(pictures: RealSet, tmp_path: Path) -> None:
    few = replace(pictures, train=pictures.train[:8])
    snapshot = few.snapshot(tmp_path / "snapshot")
    figures = kills.survived(snapshot, tmp_path / "work", kills=1, seed=0)
    assert (figures["kills"], figures["same"], len(figures["steps"])) == (1, 1, 1)
