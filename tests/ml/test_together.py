"""Two processes that train one model, over gloo: what they reach, and that none is left behind."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from ml.checkpoint import read_tensors
from ml.together import fit_together
from ml.train import Cancelled, Fitted, Progress, TrainingError, TrainingRefused, fit
from ml.training.run import CHECKPOINT, Run
from tests.ml.conftest import TINY

CONFIG = replace(TINY, steps=20, precision="float32")


@pytest.fixture(scope="module")
def together(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return fit_together(snapshot, tmp_path_factory.mktemp("together"), processes=2, config=CONFIG)


def curve(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


def test_two_processes_learn_what_one_does_in_two_pieces(
    together: Fitted, snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Run.__init__

    def in_pieces(run: Run, *given: object) -> None:
        whole(run, *given)  # type: ignore[arg-type]
        run.pieces = 2

    monkeypatch.setattr(Run, "__init__", in_pieces)
    alone = fit(snapshot, tmp_path, config=CONFIG)
    for one, two in zip(curve(alone.folder), curve(together.folder), strict=True):
        assert two == pytest.approx(one, rel=1e-3)
    ours, theirs = (read_tensors(item.folder / "model.safetensors")[0] for item in (alone, together))
    weights = [name for name in ours if name.endswith("weight")]
    assert len(weights) > 20
    for name in weights:
        assert (ours[name] - theirs[name]).abs().max() < 2e-2 * ours[name].abs().max() + 1e-3


def test_the_same_processes_give_the_same_weights_and_one_model(
    together: Fitted, snapshot: Path, tmp_path: Path
) -> None:
    seen: list[int] = []

    def follow(progress: Progress) -> None:
        seen.append(progress.step)

    again = fit_together(snapshot, tmp_path, processes=2, config=CONFIG, on_progress=follow)
    assert again.weights_sha256 == together.weights_sha256
    assert not (tmp_path / CHECKPOINT).exists()
    assert seen in ([10, 20], [10])  # the last may come when all have ended


def processes_of(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder.resolve()).encode() in arguments:
            found.append(int(process.name))
    return found


def test_cancelled_all_stop_at_the_same_step_and_go_on_to_the_same_weights(
    together: Fitted, snapshot: Path, tmp_path: Path
) -> None:
    def stop(_: Progress) -> None:

        wanted.append(True)

    wanted: list[bool] = []
    longer = replace(CONFIG, checkpoint_steps=1000)
    with pytest.raises(Cancelled):
        fit_together(
            snapshot, tmp_path, processes=2, config=replace(longer, steps=4000), on_progress=stop,
            should_stop=lambda: bool(wanted),
        )  # fmt: skip
    assert (tmp_path / CHECKPOINT).exists()
    assert processes_of(tmp_path) == []


def test_a_process_that_dies_ends_all_and_the_run_goes_on_to_the_same_weights(
    together: Fitted, snapshot: Path, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if not killed:
            killed.append(max(processes_of(tmp_path)))
            os.kill(killed[0], signal.SIGKILL)

    slow = replace(CONFIG, steps=20)
    with pytest.raises(TrainingError, match="died"):
        fit_together(snapshot, tmp_path, processes=2, config=slow, on_progress=kill)
    assert processes_of(tmp_path) == []
    again = fit_together(snapshot, tmp_path, processes=2, config=slow)
    assert again.weights_sha256 == together.weights_sha256


def test_what_is_refused_is_refused_with_its_sentence(snapshot: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingRefused, match="3 processes cannot share a batch of 2"):
        fit_together(snapshot, tmp_path, processes=3, config=replace(CONFIG, batch=2))
