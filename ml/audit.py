"""`audit` looks for mistakes in a snapshot's labels and ranks its pictures for a person to look at again.

Also a command: `python -m ml.audit --snapshot DIR --work DIR` prints JSON lines, the worst picture first.

No picture is judged by a model that learnt from its labels: the pictures are split into folds, by group, and
each fold is looked at by a model trained on the others. Gold trains none of them.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from ml.findings import Doubtful, review_list, usable
from ml.predict import Predictor
from ml.schema import BrokenSnapshot, Detection, Example, Snapshot, read_snapshot, write_labels
from ml.train import Cancelled, Progress, TrainingError, TrainingRefused, fit
from ml.training.config import TrainConfig

FOLDS: Final = 2
PREDICTING: Final = 0.1
"""The share of a fold's time that goes into looking, for the progress."""
BATCH: Final = 8


@dataclass(frozen=True, slots=True)
class Audit:
    """A finished audit: `pictures` were looked at, `doubtful` are those with findings, the worst first."""

    snapshot: str
    pictures: int
    folds: int
    doubtful: tuple[Doubtful, ...]


def audit(
    snapshot: Path,
    work: Path,
    *,
    config: TrainConfig = TrainConfig(),
    folds: int = FOLDS,
    cache: Path | None = None,
    code_version: str = "",
    on_progress: Callable[[float, str], None] = lambda share, told: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Audit:
    """Trains `folds` models with `config` below `work`; called again it goes on where it was stopped.

    Raises `TrainingRefused` (fewer pictures with labels than folds, or as `fit` does), `Diverged`, `Cancelled`.
    """
    try:
        opened = read_snapshot(snapshot)
    except BrokenSnapshot as error:
        raise TrainingRefused(f"The snapshot cannot be read: {error}") from error
    members = fold_members(opened.examples, folds)
    detections: list[list[Detection]] = [[] for _ in opened.examples]
    for number, own in enumerate(members):

        def told(progress: Progress, number: int = number) -> None:
            share = (number + (1 - PREDICTING) * progress.step / progress.steps) / folds
            on_progress(share, f"model {number + 1} of {folds}: step {progress.step} of {progress.steps}")

        folder = _write_fold(opened, own, work / f"fold-{number}")
        fitted = fit(
            folder,
            work / f"model-{number}",
            config=config,
            cache=cache,
            code_version=code_version,
            on_progress=told,
            should_stop=should_stop,
        )
        predictor = Predictor.load(fitted.folder, None if config.device == "auto" else config.device)
        paths = [opened.image_path(opened.examples[index]) for index in own]

        def looked(done: int, total: int, number: int = number) -> None:
            share = (number + 1 - PREDICTING * (1 - done / total)) / folds
            on_progress(share, f"model {number + 1} of {folds} looks: {done} of {total} pictures")
            if should_stop():
                raise Cancelled("stopped while looking at the pictures")

        seen_on = predictor.predict_files(paths, BATCH, looked)
        for index, (_, seen) in zip(own, seen_on, strict=True):
            detections[index] = seen.detections
    return Audit(
        opened.version, len(opened.examples), folds, review_list(opened.examples, detections, opened.classes)
    )


def fold_members(examples: Sequence[Example], folds: int) -> list[list[int]]:
    """For each fold the examples it holds; those of a group stay together.

    Largest groups first, each into the smallest fold, in the order of their hashes: the same pictures always
    make the same folds. Raises `TrainingRefused`.
    """
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(example.group or example.sha256, []).append(index)
    if folds < 2 or len(groups) < folds:
        raise TrainingRefused(
            f"An audit in {folds} folds takes at least 2 folds and as many pictures or groups of pictures; "
            f"there are {len(groups)}."
        )
    members: list[list[int]] = [[] for _ in range(folds)]
    order = sorted(
        groups.items(), key=lambda item: (-len(item[1]), hashlib.sha256(item[0].encode()).digest())
    )
    for _, group in order:
        min(members, key=len).extend(group)
    return [sorted(own) for own in members]


def _write_fold(opened: Snapshot, own: Sequence[int], folder: Path) -> Path:
    """A snapshot of what a fold's model learns from: the other folds' labels, but no gold, and no flawed box."""
    held = set(own)
    examples = [
        replace(example, split="train", objects=usable(example))
        for index, example in enumerate(opened.examples)
        if index not in held and example.split != "gold"
    ]
    manifest, labels = write_labels(
        classes=opened.classes, examples=examples, about={"audit_of": opened.version}
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_bytes(manifest)
    (folder / "labels.jsonl").write_bytes(labels)
    if not (folder / "images").exists():
        (folder / "images").symlink_to(os.path.abspath(opened.folder / "images"), target_is_directory=True)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    defaults = TrainConfig()
    parser = argparse.ArgumentParser(
        prog="python -m ml.audit",
        description="Look for mistakes in a snapshot's labels; prints JSON lines, the worst picture first.",
    )
    parser.add_argument("--snapshot", type=Path, required=True, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="for the folds' models")
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--steps", type=int, default=defaults.steps, help="for each fold's model")
    parser.add_argument("--side", type=int, default=defaults.side)
    parser.add_argument("--threads", type=int, default=defaults.threads)
    parser.add_argument("--symmetry", choices=("upright", "any"), default=defaults.symmetry)
    options = vars(parser.parse_args(arguments))
    snapshot, work, folds = (options.pop(name) for name in ("snapshot", "work", "folds"))

    def show(share: float, told: str) -> None:
        print(f"{share:4.0%}  {told}", file=sys.stderr, flush=True)

    try:
        done = audit(snapshot, work, config=replace(defaults, **options), folds=folds, on_progress=show)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2
    for item in done.doubtful:
        print(json.dumps(asdict(item)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
