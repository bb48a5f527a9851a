"""Each thing that can be wrong is planted, and must be named; what is right must pass."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from ml.boxes import Targets
from ml.models.dense import DenseDetector
from ml.schema import XYXY, DetectedClass, Example, Object
from ml.train import TrainConfig, TrainingRefused, fit
from ml.training.diagnosis import diagnose
from tests.ml.conftest import drawn_pictures, write_snapshot

QUICK = TrainConfig(steps=1, batch=2, side=128, threads=1, warmup=0)
Pictures = list[tuple[bytes, Example]]
Losses = Callable[[DenseDetector, Tensor, Targets], dict[str, Tensor]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[DetectedClass], Pictures]:
    return drawn_pictures(tmp_path_factory.mktemp("drawn"), 60)


def attempt(folder: Path, classes: list[DetectedClass], pictures: Pictures) -> None:
    fit(write_snapshot(folder / "snapshot", classes, pictures), folder / "out", config=QUICK)


def rewritten(pictures: Pictures, rewrite: Callable[[XYXY, Example], XYXY]) -> Pictures:
    return [
        (content, replace(one, objects=tuple(Object(o.class_id, rewrite(o.xyxy, one)) for o in one.objects)))
        for content, one in pictures
    ]


@pytest.mark.parametrize(
    ("name", "rewrite"),
    [
        ("box_format", lambda b, e: (b[0], b[1], b[2] - b[0], b[3] - b[1])),
        ("box_format", lambda b, e: ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0], b[3] - b[1])),
        ("box_format", lambda b, e: (b[0] / e.width, b[1] / e.height, b[2] / e.width, b[3] / e.height)),
        ("box_axes", lambda b, e: (b[1], b[0], b[3], b[2])),
    ],
)
def test_boxes_in_another_format_are_refused_by_name(
    name: str,
    rewrite: Callable[[XYXY, Example], XYXY],
    drawn: tuple[list[DetectedClass], Pictures],
    tmp_path: Path,
) -> None:
    classes, pictures = drawn
    with pytest.raises(TrainingRefused, match=f"{name}: "):
        attempt(tmp_path, classes, rewritten(pictures, rewrite))


def test_swapped_axes_are_seen_where_the_boxes_stay_inside_too(
    drawn: tuple[list[DetectedClass], Pictures], tmp_path: Path
) -> None:
    classes, pictures = drawn

    def squeezed(b: XYXY, e: Example) -> XYXY:
        x1, y1, x2, y2 = b
        return (y1, x1 * e.height / e.width, y2, x2 * e.height / e.width)

    with pytest.raises(TrainingRefused, match=r"^box_axes: "):
        attempt(tmp_path, classes, rewritten(pictures, squeezed))


def test_labels_of_other_pictures_are_refused_by_name(
    drawn: tuple[list[DetectedClass], Pictures], tmp_path: Path
) -> None:
    classes, pictures = drawn
    train = [item for item in pictures if item[1].split == "train"]
    moved = [
        (content, replace(example, objects=train[(row + 7) % len(train)][1].objects))
        for row, (content, example) in enumerate(train)
    ]
    with pytest.raises(TrainingRefused, match="labels_fit_pictures: "):
        attempt(tmp_path, classes, moved)


def sabotaged(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Losses], Losses]) -> None:
    monkeypatch.setattr(DenseDetector, "losses", spoil(DenseDetector.losses))


def test_a_loss_with_the_wrong_sign_is_refused_by_name(
    drawn: tuple[list[DetectedClass], Pictures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotaged(monkeypatch, lambda whole: lambda *given: {n: -part for n, part in whole(*given).items()})
    with pytest.raises(TrainingRefused, match="loss_sign: "):
        attempt(tmp_path, *drawn)


def test_pixels_that_are_no_numbers_are_refused_by_name(
    drawn: tuple[list[DetectedClass], Pictures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotaged(monkeypatch, lambda whole: lambda m, p, t: whole(m, p * math.nan, t))
    with pytest.raises(TrainingRefused, match="input_finite: "):
        attempt(tmp_path, *drawn)


def test_pictures_that_are_not_normalised_are_refused_by_name(
    drawn: tuple[list[DetectedClass], Pictures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotaged(monkeypatch, lambda whole: lambda m, p, t: whole(m, p.float() * 57.0 + 114.0, t))
    with pytest.raises(TrainingRefused, match="input_normalised: "):
        attempt(tmp_path, *drawn)


def test_a_frozen_head_is_refused_by_name(
    drawn: tuple[list[DetectedClass], Pictures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = DenseDetector.__init__

    def frozen(model: DenseDetector, *given: object) -> None:
        whole(model, *given)  # type: ignore[arg-type]
        model.box_head.requires_grad_(False)

    monkeypatch.setattr(DenseDetector, "__init__", frozen)
    with pytest.raises(TrainingRefused, match=r"gradients: .*box_head"):
        attempt(tmp_path, *drawn)


def test_few_pictures_and_labels_that_are_right_pass(
    drawn: tuple[list[DetectedClass], Pictures], tmp_path: Path
) -> None:
    classes, pictures = drawn
    attempt(tmp_path / "few", classes, pictures[:3])
    attempt(tmp_path / "many", classes, pictures)


def curve(*means: float) -> list[float]:
    random = np.random.default_rng(2)
    return [mean * (1 + 0.02 * random.standard_normal()) for mean in means]


def test_a_falling_curve_has_nothing_to_tell() -> None:
    assert diagnose(curve(*np.geomspace(4, 1.5, 40)), steps_done=0.5, from_scratch=True) == []


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        ("exploding", [*curve(*[3.0] * 8), 90.0, 200.0, 900.0]),
        ("rising", curve(*np.linspace(2, 5, 30))),
        ("plateau", curve(*[3.0] * 30)),
        ("oscillating", [value * (1 + 0.6 * (-1) ** row) for row, value in enumerate(np.linspace(4, 2, 40))]),
    ],
)
def test_a_curve_that_goes_wrong_is_named(name: str, losses: list[float]) -> None:
    found = diagnose(losses, steps_done=0.5, from_scratch=True)
    assert name in [item.name for item in found]


def test_a_warm_start_that_stays_low_is_no_plateau() -> None:
    assert diagnose(curve(*[1.0] * 30), steps_done=1.0, from_scratch=False) == []


def test_rising_and_exploding_stop_a_run_and_a_plateau_does_not() -> None:
    rising = diagnose(curve(*np.linspace(2, 5, 30)), steps_done=0.5, from_scratch=True)
    assert [item.hopeless for item in rising if item.name == "rising"] == [True]
    flat = diagnose(curve(*[3.0] * 30), steps_done=0.5, from_scratch=True)
    assert not any(item.hopeless for item in flat)
