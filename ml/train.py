"""`fit` reads a snapshot folder and writes a model folder. Also a command: `python -m ml.train --help`.

The budget is a number of optimiser steps, so the same arguments on the same device give the same weights, to
the bit; a killed run that is called again goes on from its last checkpoint and ends with them too.
"""

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from ml import metrics
from ml.checkpoint import BrokenModel, read_card, sha256_of, write_json, write_tensors
from ml.data import BrokenPicture, cached_pictures
from ml.models import configuration_of
from ml.schema import BrokenSnapshot, Snapshot, canonical_json, dump_class, read_snapshot
from ml.training.checks import check
from ml.training.config import TrainConfig, usual_rate
from ml.training.errors import Cancelled, Diverged, Pruned, TrainingError, TrainingRefused
from ml.training.preflight import Check, run_checks
from ml.training.run import CHECKPOINT, NO_RUNGS, Progress, Run, Rungs
from ml.training.team import ALONE, Team
from ml.training.warm_start import read_start

CHECKS: Final = "checks.json"

__all__ = [
    "Cancelled",
    "Diverged",
    "Fitted",
    "Progress",
    "Pruned",
    "Rungs",
    "TrainConfig",
    "TrainingError",
    "TrainingRefused",
    "check",
    "fit",
]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A finished model folder. `metrics` are those on the snapshot's val pictures, empty when it has none."""

    folder: Path
    weights_sha256: str
    card: Mapping[str, Any]

    @property
    def metrics(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.card["metrics"]
        return found


def fit(
    snapshot: Path,
    out: Path,
    *,
    config: TrainConfig = TrainConfig(),
    warm_start: Path | None = None,
    cache: Path | None = None,
    code_version: str = "",
    team: Team = ALONE,
    rungs: Rungs = NO_RUNGS,
    on_progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Trains on the train pictures; writes `model.safetensors`, `card.json` and `curve.jsonl` to `out`.

    `warm_start` is another model's folder: what the two share is kept, classes matched by id, else by name.
    `cache` holds decoded pictures, by default inside the snapshot folder. Called again with the same
    arguments it returns the finished model, or resumes. Of a `team` each process calls this, and the first writes;
    `ml.together` starts one. Raises `TrainingRefused`, `Diverged`, `Cancelled`, or on one of the `rungs` `Pruned`.
    """
    began = time.monotonic()
    try:
        opened = read_snapshot(snapshot)
    except BrokenSnapshot as error:
        raise TrainingRefused(f"The snapshot cannot be read: {error}") from error
    warnings = check(opened, config)
    start = read_start(warm_start)
    device = _device(config)
    precision = _precision(config, device)
    fingerprint = hashlib.sha256(
        canonical_json(
            {
                "config": asdict(config),
                "snapshot": opened.version,
                "start": start.sha256 if start else "",
                "code": code_version,
                "precision": precision,
                "device": device.type,
                "torch": torch.__version__,
                **({"processes": team.count} if team.count > 1 else {}),
            }
        )
    ).hexdigest()
    finished = _finished(out, fingerprint)
    if finished:
        return finished
    if config.batch < team.count:
        raise TrainingRefused(f"{team.count} processes cannot share a batch of {config.batch}. Start fewer.")
    out.mkdir(parents=True, exist_ok=True)
    if not team.leads:
        team.wait()  # for the pictures that the first one decodes
    try:
        pictures = cached_pictures(opened, config.side, cache or snapshot / "cache")
    except BrokenPicture as error:
        raise TrainingRefused(f"A picture cannot be used: {error}") from error

    with _deterministic(config, device):
        if team.leads:
            team.wait()
        run = Run(opened, pictures, config, device, precision, team)
        kept = run.warm_start(start) if start else 0
        hard = run.look_back()
        run.resume(out, fingerprint)
        team.wait()  # until the first one has cut the curve back
        checks = _checked(run, out, fingerprint)
        run.train(out, fingerprint, on_progress=on_progress, should_stop=should_stop, rungs=rungs)
        if not team.leads:
            team.wait()  # for the card
            return _finished(out, fingerprint) or Fitted(out, "", {})
        val = [index for index, item in enumerate(opened.examples) if item.split == "val"]
        figures = run.evaluate(val) if val else {}
        checks += _judged(figures, opened)

    notes = {"architecture": config.architecture, "snapshot": opened.version}
    write_tensors(out / "model.safetensors", run.averaged, notes)
    card = {
        "format": 1,
        "architecture": config.architecture,
        "configuration": configuration_of(run.model),
        "classes": [dump_class(item) for item in opened.classes],
        "side": config.side,
        "snapshot": opened.version,
        "pictures": dict(Counter(example.split for example in opened.examples)),
        "config": asdict(config),
        "seed": config.seed,
        "precision": precision,
        "device": device.type,
        "parameters": sum(parameter.numel() for _, parameter in run.model.named_parameters()),
        "weights_sha256": sha256_of(out / "model.safetensors"),
        "warm_start": {"weights_sha256": start.sha256, "shared": kept} if start else None,
        "hard_pictures": len(hard),
        "metrics": figures,
        "warnings": [*warnings, *_warnings(checks, run)],
        "checks": [item.dump() for item in checks],
        "seconds": round(time.monotonic() - began, 3),
        "code_version": code_version,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
                     "pillow": version("pillow")},
        "fingerprint": fingerprint,
    }  # fmt: skip
    write_json(out / "card.json", card)
    for name in (CHECKPOINT, CHECKS):
        (out / name).unlink(missing_ok=True)
    team.wait()
    return Fitted(out, str(card["weights_sha256"]), read_card(out))


def _checked(run: Run, out: Path, fingerprint: str) -> list[Check]:
    """Checks before the first step; a run that goes on was checked when it began. Raises `TrainingRefused`."""
    path = out / CHECKS
    if run.step and path.exists():
        kept = json.loads(path.read_text())
        if kept["fingerprint"] == fingerprint:
            return [Check(**item) for item in kept["checks"]]
    found = run_checks(run.model, run.batches, run.config, precision=run.precision, device=run.device)
    if run.team.leads:
        write_json(path, {"fingerprint": fingerprint, "checks": [item.dump() for item in found]})
    return found


def _judged(figures: Mapping[str, Any], opened: Snapshot) -> list[Check]:
    """What can only be said at the end: whether looking at the pictures helped at all."""
    if figures.get("ap50") is None:
        return []
    val = opened.split("val")
    trivial = metrics.evaluate(
        val, metrics.trivial_baseline(opened.split("train"), opened.classes, val), opened.classes
    ).ap50
    better = figures["ap50"] > (trivial or 0.0)
    told = (
        f"AP50 {figures['ap50']:.3f} on the validation pictures, {trivial or 0.0:.3f} for always guessing "
        "the mean box."
    )
    if not better:
        told += (
            " The model learnt nothing from the pictures: train longer, or look whether labels and pictures belong "
            "together."
        )
    return [Check("beats_trivial", better, told, fatal=False)]


def _warnings(checks: Sequence[Check], run: Run) -> list[str]:
    told = [f"{item.name}: {item.told}" for item in checks if not item.passed]
    told += [item.told for item in run.findings]
    if run.pieces > 1:
        told.append(
            f"out_of_memory: each batch of {run.config.batch} was computed in {run.pieces} pieces, for want of memory."
        )
    return told


def _finished(out: Path, fingerprint: str) -> Fitted | None:
    try:
        card = read_card(out)
    except BrokenModel:
        return None
    if card.get("fingerprint") != fingerprint or not (out / "model.safetensors").exists():
        return None
    return Fitted(out, card["weights_sha256"], card)


def _device(config: TrainConfig) -> torch.device:
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _precision(config: TrainConfig, device: torch.device) -> str:
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"


@contextmanager
def _deterministic(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """The same sums in the same order in each run; the process's settings come back afterwards."""
    threads, was = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            torch.set_num_threads(config.threads)
            torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
            # Filling costs a twentieth of a step, and nothing reads what was not written.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(was)


def main(arguments: Sequence[str] | None = None) -> int:
    defaults = TrainConfig()
    parser = argparse.ArgumentParser(
        prog="python -m ml.train", description="Train a detector on a snapshot folder."
    )
    parser.add_argument("--snapshot", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--warm-start", type=Path, metavar="DIR", help="a model folder to begin from")
    parser.add_argument(
        "--architecture", default=defaults.architecture, help="dense-small, or transformers:DETECTOR[+POSE]"
    )
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--batch", type=int, default=defaults.batch)
    parser.add_argument(
        "--side", "--size", type=int, default=defaults.side, help="longest side in the model, pixels"
    )
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--threads", type=int, default=defaults.threads)
    parser.add_argument(
        "--learning-rate",
        type=float,
        help="2e-3 from scratch, 1e-4 with weights from elsewhere, if not given",
    )
    parser.add_argument("--symmetry", choices=("upright", "any"), default=defaults.symmetry)
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default=defaults.precision)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default=defaults.device)
    options = vars(parser.parse_args(arguments))
    paths = {name: options.pop(name) for name in ("snapshot", "out", "warm_start")}
    if options["learning_rate"] is None:
        options["learning_rate"] = usual_rate(options["architecture"])

    def show(progress: Progress) -> None:
        print(
            f"step {progress.step}/{progress.steps}  loss {progress.loss:.3f}  {progress.seconds:.0f} s",
            file=sys.stderr,
            flush=True,
        )

    try:
        fitted = fit(**paths, config=replace(defaults, **options), on_progress=show)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2
    answer = {
        name: fitted.card[name] for name in ("weights_sha256", "snapshot", "seconds", "metrics", "warnings")
    }
    print(json.dumps({"out": str(fitted.folder), **answer}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
