"""Killed at a random moment and called again: does a training end with the weights of an undisturbed one?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ml.checkpoint import read_card, read_tensors
from ml.train import TrainConfig, fit
from ml.training.run import CHECKPOINT

CONFIG: Final = TrainConfig(
    steps=60, batch=8, side=160, threads=1, checkpoint_steps=10, checkpoint_seconds=1e9
)


def survived(snapshot: Path, work: Path, *, kills: int, seed: int) -> dict[str, Any]:
    """Trains once undisturbed, then `kills` times with a kill -9 at a moment drawn from the whole of that time.

    `same`: of `kills` trainings, those whose weights' sha256 was that of the undisturbed one. `steps`: the step of
    the checkpoint that each went on from, 0 where the kill came before the first.
    """
    began = time.monotonic()
    wanted = _ended(snapshot, work / "undisturbed")
    whole = time.monotonic() - began
    random = np.random.default_rng(seed)
    same = 0
    steps: list[int] = []
    while len(steps) < kills:
        out = work / f"killed-{len(steps)}-{random.integers(1 << 30)}"
        process = _start(snapshot, out)
        try:
            process.wait(timeout=float(random.uniform(0, whole)))
            continue  # it had ended before its moment came
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        steps.append(_last_step(out))
        same += _ended(snapshot, out) == wanted
        print(f"kill {len(steps)}: checkpoint {steps[-1]}, same {same}", file=sys.stderr, flush=True)
    return {"kills": kills, "same": same, "steps": steps, "undisturbed_s": round(whole, 1)}


def _start(snapshot: Path, out: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "bench.training.kills", str(snapshot), str(out)], env=environment
    )


def _ended(snapshot: Path, out: Path) -> str:
    process = _start(snapshot, out)
    if process.wait() != 0:
        raise RuntimeError(f"the training in {out} ended with {process.returncode}")
    return str(read_card(out)["weights_sha256"])


def _last_step(out: Path) -> int:
    """The step of the checkpoint that lies there."""
    path = out / CHECKPOINT
    return int(read_tensors(path)[1]["step"]) if path.exists() else 0


def main(arguments: Sequence[str]) -> int:
    """One training in a process of its own."""
    snapshot, out = map(Path, arguments)
    fit(snapshot, out, config=CONFIG)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
