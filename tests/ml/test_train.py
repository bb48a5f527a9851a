import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ml import train
from ml.boxes import Targets
from ml.checkpoint import read_card, read_tensors
from ml.models.dense import DenseDetector
from ml.schema import DetectedClass, Example, Object
from ml.train import Cancelled, Diverged, Fitted, Progress, Pruned, Rungs, TrainConfig, TrainingRefused, fit
from ml.training.run import CHECKPOINT, Run
from tests.ml.conftest import TINY, drawn_pictures, write_snapshot

BALL = DetectedClass(1, "ball")


def test_training_makes_the_loss_smaller_and_says_how_it_was_made(fitted: Fitted, snapshot: Path) -> None:
    curve = [json.loads(line) for line in (fitted.folder / "curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve] == [10, 20, 24]
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]
    card = read_card(fitted.folder)
    assert card == fitted.card
    assert card["code_version"] == "abc"
    assert card["pictures"] == {"train": 8, "val": 4}
    assert card["metrics"]["pictures"] == 4
    assert card["parameters"] > 900_000
    assert card["classes"][3]["joints"][0] == "head"
    assert sorted(path.name for path in fitted.folder.iterdir()) == [
        "card.json",
        "curve.jsonl",
        "model.safetensors",
    ]


def test_the_same_arguments_give_the_same_weights(fitted: Fitted, snapshot: Path, tmp_path: Path) -> None:
    again = fit(snapshot, tmp_path, config=TINY, code_version="abc")
    assert again.weights_sha256 == fitted.weights_sha256
    other = fit(snapshot, tmp_path / "other", config=replace(TINY, seed=1))
    assert other.weights_sha256 != fitted.weights_sha256


def test_a_finished_run_is_not_run_again(fitted: Fitted, snapshot: Path) -> None:
    def refuse(_: Progress) -> None:
        raise AssertionError("trained again")

    again = fit(snapshot, fitted.folder, config=TINY, code_version="abc", on_progress=refuse)
    assert again.card == fitted.card


def test_a_cancelled_run_goes_on_and_ends_with_the_same_weights(
    fitted: Fitted, snapshot: Path, tmp_path: Path
) -> None:
    for stop_after in (5, 13):
        calls = iter(range(1000))
        with pytest.raises(Cancelled):
            fit(
                snapshot,
                tmp_path,
                config=TINY,
                code_version="abc",
                should_stop=lambda calls=calls, stop_after=stop_after: next(calls) >= stop_after,  # type: ignore[misc]
            )
    finished = fit(snapshot, tmp_path, config=TINY, code_version="abc")
    assert finished.weights_sha256 == fitted.weights_sha256
    curve = [json.loads(line)["step"] for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert curve == sorted(set(curve))


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(
    fitted: Fitted, snapshot: Path, tmp_path: Path
) -> None:
    program = (
        "import sys, time; from pathlib import Path; from ml.train import fit; from tests.ml.conftest import TINY;"
        "wait = lambda at: time.sleep(600 if at.step == 20 else 0);"  # beyond the checkpoint of step 10
        "fit(Path(sys.argv[1]), Path(sys.argv[2]), config=TINY, code_version='abc', on_progress=wait)"
    )
    checkpoint, curve = tmp_path / CHECKPOINT, tmp_path / "curve.jsonl"
    with subprocess.Popen([sys.executable, "-c", program, str(snapshot), str(tmp_path)]) as running:
        deadline = time.monotonic() + 300
        while not checkpoint.exists() or len(curve.read_text().splitlines()) < 2:
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    assert read_tensors(checkpoint)[1]["step"] == 10
    steps: list[int] = []
    resumed = fit(
        snapshot, tmp_path, config=TINY, code_version="abc", on_progress=lambda at: steps.append(at.step)
    )
    assert steps == [20, 24]
    assert resumed.weights_sha256 == fitted.weights_sha256
    assert [json.loads(line)["step"] for line in curve.read_text().splitlines()] == [10, 20, 24]


def test_a_checkpoint_of_other_arguments_is_not_used(snapshot: Path, tmp_path: Path, fitted: Fitted) -> None:
    calls = iter(range(1000))
    with pytest.raises(Cancelled):
        fit(snapshot, tmp_path, config=replace(TINY, seed=5), should_stop=lambda: next(calls) >= 5)
    assert fit(snapshot, tmp_path, config=TINY, code_version="abc").weights_sha256 == fitted.weights_sha256


def test_a_warm_start_keeps_what_is_shared(fitted: Fitted, tmp_path: Path) -> None:
    classes, pictures = drawn_pictures(tmp_path / "source", 6)
    tent, ball = classes[2], replace(classes[0], id=77)
    new = DetectedClass(50, "kite")
    kept = [
        (
            content,
            replace(example, objects=tuple(item for item in example.objects if item.class_id == tent.id)),
        )
        for content, example in pictures
    ]
    first = kept[0]
    kept[0] = (first[0], replace(first[1], objects=(Object(tent.id, (10, 10, 60, 60)),)))
    folder = write_snapshot(tmp_path / "snapshot", [tent, ball, new], kept)
    warm = fit(
        folder, tmp_path / "out", config=replace(TINY, steps=1, learning_rate=0.0), warm_start=fitted.folder
    )
    before, _ = read_tensors(fitted.folder / "model.safetensors")
    after, _ = read_tensors(tmp_path / "out" / "model.safetensors")
    by_id = {item["id"]: row for row, item in enumerate(warm.card["classes"])}
    torch.testing.assert_close(after["class_head.weight"][by_id[3]], before["class_head.weight"][2])
    torch.testing.assert_close(after["class_head.weight"][by_id[77]], before["class_head.weight"][0])
    assert not torch.equal(after["class_head.weight"][by_id[50]], before["class_head.weight"][1])
    torch.testing.assert_close(after["box_head.weight"], before["box_head.weight"])
    assert warm.card["warm_start"]["weights_sha256"] == fitted.weights_sha256
    assert sum(told.startswith("class_counts") for told in warm.card["warnings"]) == 2


Spoil = Callable[[Example], Example]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda example: replace(example, split="gold"), "No picture is labelled for training"),
        (lambda example: replace(example, objects=()), "No training picture has an object"),
        (lambda example: replace(example, objects=(Object(1, (5, 5, 5, 9)),)), "no area"),
        (lambda example: replace(example, objects=(Object(1, (500, 5, 510, 9)),)), "lies outside"),
        (lambda example: replace(example, objects=(Object(8, (5, 5, 10, 9)),)), "class 8"),
        (
            lambda example: replace(example, objects=(Object(1, (5, 5, 10, 9), ((1, 1, 2),)),)),
            "joints of object 1",
        ),
        (lambda example: replace(example, width=321), "manifest says"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(spoil: Spoil, sentence: str, tmp_path: Path) -> None:
    classes, pictures = drawn_pictures(tmp_path / "source", 2)
    spoilt = [(content, spoil(example)) for content, example in pictures]
    folder = write_snapshot(tmp_path / "snapshot", classes, spoilt)
    with pytest.raises(TrainingRefused, match=sentence):
        fit(folder, tmp_path / "out", config=TINY)


def test_classes_that_cannot_be_mirrored_are_refused(tmp_path: Path) -> None:
    _, pictures = drawn_pictures(tmp_path / "source", 2)
    for number, classes in enumerate(
        [
            [DetectedClass(1, "left", mirror_id=2)],
            [DetectedClass(1, "left", mirror_id=2), DetectedClass(2, "right", mirror_id=2)],
            [DetectedClass(1, "dog", ("nose", "tail"), flip_index=(0, 0))],
        ]
    ):
        folder = write_snapshot(tmp_path / str(number), classes, pictures)
        with pytest.raises(TrainingRefused, match=r"mirror|left/right"):
            fit(folder, tmp_path / "out", config=TINY)


def test_settings_that_cannot_work_are_refused(snapshot: Path, tmp_path: Path) -> None:
    for config in (replace(TINY, steps=0), replace(TINY, architecture="giant")):
        with pytest.raises(TrainingRefused):
            fit(snapshot, tmp_path, config=config)
    with pytest.raises(TrainingRefused, match="cannot be read"):
        fit(tmp_path / "nowhere", tmp_path, config=TINY)
    with pytest.raises(TrainingRefused, match="start from"):
        fit(snapshot, tmp_path, config=TINY, warm_start=tmp_path / "nowhere")


def test_a_loss_that_is_no_number_stops_the_run_and_names_step_and_pictures(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Run.backward

    def spoilt(run: Run, pictures: torch.Tensor, targets: Targets) -> dict[str, torch.Tensor]:
        return whole(run, pictures * math.nan if run.step == 3 else pictures, targets)

    monkeypatch.setattr(Run, "backward", spoilt)
    with pytest.raises(Diverged, match=r"not_finite: .* at step 4: .* the pictures [0-9a-f]{12}, "):
        fit(snapshot, tmp_path, config=TINY)
    assert not (tmp_path / "card.json").exists()


def test_a_rate_that_is_far_too_high_is_refused_before_the_first_step(snapshot: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingRefused, match="learning_rate: "):
        fit(snapshot, tmp_path, config=replace(TINY, learning_rate=2.0))


def test_too_little_memory_makes_smaller_pieces_and_is_told(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = DenseDetector.losses
    sizes: list[int] = []

    def crowded(model: DenseDetector, pictures: torch.Tensor, targets: Targets) -> dict[str, torch.Tensor]:
        if len(pictures) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(pictures))
        return whole(model, pictures, targets)

    monkeypatch.setattr(DenseDetector, "losses", crowded)
    fitted = fit(snapshot, tmp_path, config=TINY)
    assert set(sizes) == {2}
    assert any("out_of_memory" in told and "2 pieces" in told for told in fitted.card["warnings"])
    curve = [json.loads(line)["loss"] for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert curve[-1] < curve[0]


def test_too_little_memory_for_one_picture_is_refused(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> dict[str, torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Run, "backward", full)
    with pytest.raises(TrainingRefused, match="out_of_memory: "):
        fit(snapshot, tmp_path, config=TINY)


def test_the_card_tells_every_check(fitted: Fitted) -> None:
    names = [item["name"] for item in fitted.card["checks"]]
    assert names == [
        "box_axes", "box_format", "labels_fit_pictures", "input_normalised", "untrained_loss", "gradients",
        "overfit", "beats_trivial",
    ]  # fmt: skip


def test_a_budget_in_seconds_is_a_fixed_number_of_steps() -> None:
    short = TrainConfig.for_budget(seconds=60)
    assert short == TrainConfig.for_budget(seconds=60)
    assert TrainConfig.for_budget(seconds=120).steps > 1.8 * short.steps
    assert TrainConfig.for_budget(seconds=60, side=640).steps < 0.4 * short.steps
    assert TrainConfig.for_budget(seconds=60, threads=1).steps < short.steps
    assert TrainConfig.for_budget(seconds=0.1).steps >= 1


def test_the_command_trains_and_prints_one_line(
    snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--snapshot", str(snapshot), "--out", str(tmp_path / "out"), "--steps", "2", "--size", "96"]
    assert train.main([*arguments, "--batch", "2"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["weights_sha256"] == read_card(tmp_path / "out")["weights_sha256"]
    assert "step 2/2" in printed.err
    assert train.main(["--snapshot", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "snapshot" in capsys.readouterr().err


def test_being_measured_on_rungs_changes_no_weight(fitted: Fitted, snapshot: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def goes_on(step: int, figures: Mapping[str, Any]) -> bool:
        seen.append((step, figures["pictures"]))
        return True

    again = fit(snapshot, tmp_path, config=TINY, code_version="abc", rungs=Rungs((10, 20), goes_on))
    assert seen == [(10, 4), (20, 4)]
    assert again.weights_sha256 == fitted.weights_sha256


def test_a_pruned_run_stops_on_its_rung_and_can_go_on(fitted: Fitted, snapshot: Path, tmp_path: Path) -> None:
    with pytest.raises(Pruned, match="step 10 of 24"):
        fit(snapshot, tmp_path, config=TINY, code_version="abc", rungs=Rungs((10,), lambda *_: False))
    curve = (tmp_path / "curve.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in curve] == [10]
    again = fit(snapshot, tmp_path, config=TINY, code_version="abc")
    assert again.weights_sha256 == fitted.weights_sha256
