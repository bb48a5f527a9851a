"""Batches made by a thread, and losses that are looked at later: the same weights, and nothing broken is kept."""

import math
import threading
from itertools import count
from pathlib import Path

import pytest
import torch

from ml.boxes import Targets
from ml.train import Diverged, Fitted, fit
from ml.training.batches import Batches
from ml.training.run import CHECKPOINT, Run
from tests.ml.conftest import TINY

Batch = tuple[torch.Tensor, Targets]


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run reads ahead, as on a GPU."""
    whole = Run.__init__

    def changed(run: Run, *given: object) -> None:
        whole(run, *given)  # type: ignore[arg-type]
        run.reads_ahead = True

    monkeypatch.setattr(Run, "__init__", changed)


@pytest.mark.usefixtures("ahead")
def test_read_ahead_gives_the_same_weights_and_leaves_no_thread(
    fitted: Fitted, snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, makers = Batches.at, []

    def watched(batches: Batches, step: int, random: torch.Generator) -> Batch:
        makers.append((step, threading.current_thread().name))
        return whole(batches, step, random)

    monkeypatch.setattr(Batches, "at", watched)
    again = fit(snapshot, tmp_path, config=TINY, code_version="abc")
    assert again.weights_sha256 == fitted.weights_sha256
    made = [step for step, thread in makers if thread.startswith("next batch")]
    assert made == list(range(TINY.steps))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("next batch")]


@pytest.mark.usefixtures("ahead")
def test_what_goes_wrong_in_the_thread_comes_out_where_the_batch_is_asked_for(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Batches.at

    def broken(batches: Batches, step: int, random: torch.Generator) -> Batch:
        if step == 2 and threading.current_thread().name.startswith("next batch"):
            raise OSError("the disk is gone")
        return whole(batches, step, random)

    monkeypatch.setattr(Batches, "at", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        fit(snapshot, tmp_path, config=TINY)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("next batch")]


@pytest.fixture
def breaks_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fourth step's loss is no number, and as on a GPU nobody asks after each step."""
    whole = Run.backward

    def spoilt(run: Run, pictures: torch.Tensor, targets: Targets) -> dict[str, torch.Tensor]:
        parts = whole(run, pictures, targets)
        return {name: part * math.nan for name, part in parts.items()} if run.step == 3 else parts

    monkeypatch.setattr(Run, "backward", spoilt)


@pytest.mark.usefixtures("breaks_unseen")
def test_a_loss_that_is_looked_at_later_still_names_its_step(snapshot: Path, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"not_finite: .* at step 4: .* the pictures [0-9a-f]{12}, "):
        fit(snapshot, tmp_path, config=TINY)
    assert not (tmp_path / "card.json").exists()


@pytest.mark.usefixtures("breaks_unseen")
def test_a_run_that_is_stopped_after_it_broke_leaves_no_checkpoint(snapshot: Path, tmp_path: Path) -> None:
    calls = count()
    with pytest.raises(Diverged, match="at step 4"):
        fit(snapshot, tmp_path, config=TINY, should_stop=lambda: next(calls) >= 5)
    assert not (tmp_path / CHECKPOINT).exists()
