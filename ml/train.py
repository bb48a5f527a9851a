"""`fit` reads a snapshot folder and writes a model folder. Also a command: `python -m ml.train --help`.

The budget is a number of optimiser steps, so the same arguments on the same device give the same weights, to
the bit; a killed run that is called again goes on from its last checkpoint and ends with them too.
"""

import argparse
import hashlib
import json
import logging
import math
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
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from ml import metrics
from ml.augment import Chances, Mirror, change, tile
from ml.boxes import Targets
from ml.checkpoint import BrokenModel, read_card, read_tensors, sha256_of, write_json, write_tensors
from ml.data import (
    BrokenPicture,
    Labels,
    PictureCache,
    batches_of,
    cached_pictures,
    canvas_size,
    collate,
    labels_of,
)
from ml.decode import detections_of
from ml.models import ARCHITECTURES
from ml.schema import (
    BrokenSnapshot,
    Detection,
    Layout,
    Snapshot,
    canonical_json,
    dump_class,
    parse_class,
    read_snapshot,
)

log = logging.getLogger(__name__)

CHECKPOINT: Final = "checkpoint.safetensors"
EVALUATION_BATCH: Final = 16
SECONDS_A_PICTURE: Final = 0.046
"""Forward, backward and augmentation of a 320-pixel picture in bfloat16 on one core."""
SECONDS_TO_BEGIN: Final = 3.0
SECONDS_TO_DECODE: Final = 0.01


class TrainingError(Exception):
    """Why there is no model; the message is for a person.

    TrainingError
    ├── TrainingRefused   the data or the arguments must change first
    ├── Diverged          the loss stopped being a number
    └── Cancelled         `should_stop` said so; calling again goes on from there
    """


class TrainingRefused(TrainingError):
    """The message says what to change."""


class Diverged(TrainingError):
    """The message names the step."""


class Cancelled(TrainingError):
    """Stopped when asked; a checkpoint stands in the output folder."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides the weights, beside the snapshot, the start and the device.

    `side`: the longest side of a picture in the model, pixels. `symmetry`: "upright" pictures are only
    mirrored left to right; "any" are also turned by quarters (microscopes, cameras that look down). `mosaic`:
    the share of a batch made of four pictures each. `precision`: "auto" is bfloat16 where the device computes
    faster in it.
    """

    architecture: str = "dense-small"
    steps: int = 600
    batch: int = 8
    side: int = 320
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 40
    ema_decay: float = 0.995
    symmetry: Literal["upright", "any"] = "upright"
    mosaic: float = 0.25
    scale: tuple[float, float] = (0.7, 1.4)
    colour: float = 0.25
    seed: int = 0
    threads: int = 2
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_steps: int = 200
    checkpoint_seconds: float = 20.0

    @classmethod
    def for_budget(
        cls, *, seconds: float, images: int = 0, side: int = 320, threads: int = 2, batch: int = 8
    ) -> "TrainConfig":
        """About as many steps as `seconds` on `threads` cores of a server of 2026 allow, `images` decoded first.

        A fixed formula of its arguments and never a measurement, so that the same call gives the same weights.

        >>> TrainConfig.for_budget(seconds=60, images=48).steps
        276
        """
        cores = 1 + 0.8 * (threads - 1)
        step = SECONDS_A_PICTURE * batch * (side / 320) ** 2
        ready = seconds - SECONDS_TO_BEGIN - images * SECONDS_TO_DECODE
        return cls(steps=max(1, int(ready * cores / step)), side=side, threads=threads, batch=batch)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; `seconds` since this call began, `loss` the mean over the last steps."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds: float


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
    on_progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Trains on the train pictures; writes `model.safetensors`, `card.json` and `curve.jsonl` to `out`.

    `warm_start` is another model's folder: what the two share is kept, classes matched by id, else by name.
    `cache` holds decoded pictures, by default inside the snapshot folder. Called again with the same
    arguments it returns the finished model, or resumes. Raises `TrainingRefused`, `Diverged` or `Cancelled`.
    """
    began = time.monotonic()
    try:
        opened = read_snapshot(snapshot)
    except BrokenSnapshot as error:
        raise TrainingRefused(f"The snapshot cannot be read: {error}") from error
    warnings = check(opened, config)
    start = _read_start(warm_start)
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
            }
        )
    ).hexdigest()
    finished = _finished(out, fingerprint)
    if finished:
        return finished
    out.mkdir(parents=True, exist_ok=True)
    try:
        pictures = cached_pictures(opened, config.side, cache or snapshot / "cache")
    except BrokenPicture as error:
        raise TrainingRefused(f"A picture cannot be used: {error}") from error

    with _deterministic(config, device):
        run = _Run(opened, pictures, config, device, precision)
        kept = run.warm_start(start) if start else 0
        run.resume(out, fingerprint)
        run.train(out, fingerprint, on_progress=on_progress, should_stop=should_stop)
        val = [index for index, item in enumerate(opened.examples) if item.split == "val"]
        figures = run.evaluate(val) if val else {}

    notes = {"architecture": config.architecture, "snapshot": opened.version}
    write_tensors(out / "model.safetensors", run.averaged, notes)
    card = {
        "format": 1,
        "architecture": config.architecture,
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
        "metrics": figures,
        "warnings": list(warnings),
        "seconds": round(time.monotonic() - began, 3),
        "code_version": code_version,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
                     "pillow": version("pillow")},
        "fingerprint": fingerprint,
    }  # fmt: skip
    write_json(out / "card.json", card)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return Fitted(out, str(card["weights_sha256"]), read_card(out))


def check(snapshot: Snapshot, config: TrainConfig) -> tuple[str, ...]:
    """What can be known before training starts: raises `TrainingRefused`, returns warnings."""
    if config.architecture not in ARCHITECTURES:
        raise TrainingRefused(
            f"There is no architecture {config.architecture!r}; choose one of {', '.join(ARCHITECTURES)}."
        )
    if config.steps < 1 or config.batch < 1 or config.side < 64:
        raise TrainingRefused("Steps and batch must be at least 1, and the side at least 64 pixels.")
    if not snapshot.classes:
        raise TrainingRefused("The project has no class to learn; add one to its schema.")
    layout = Layout(snapshot.classes)
    for item in snapshot.classes:
        if item.mirror_id is not None and item.mirror_id not in layout.channel_of:
            raise TrainingRefused(
                f"Class {item.name!r} mirrors into class {item.mirror_id}, which is not there."
            )
        if item.flip_index and sorted(item.flip_index) != list(range(len(item.joints))):
            raise TrainingRefused(f"The left/right pairs of class {item.name!r} do not fit its joints.")
    for names in (layout.class_mirror, layout.joint_mirror):
        if sorted(names) != list(range(len(names))):
            raise TrainingRefused(
                "Two classes mirror into the same class; make left and right each other's mirror."
            )

    train = snapshot.split("train")
    counts = dict.fromkeys(layout.channel_of, 0)
    for example in train:
        for number, found in enumerate(example.objects, start=1):
            where = f"object {number} of picture {example.sha256[:12]}"
            if found.class_id not in counts:
                raise TrainingRefused(f"{where} has class {found.class_id}, which the schema does not have.")
            counts[found.class_id] += 1
            x1, y1, x2, y2 = found.xyxy
            if not all(map(math.isfinite, found.xyxy)) or x2 <= x1 or y2 <= y1:
                raise TrainingRefused(
                    f"The box of {where} has no area: {found.xyxy}. Draw it again or delete it."
                )
            if x2 <= 0 or y2 <= 0 or x1 >= example.width or y1 >= example.height:
                raise TrainingRefused(
                    f"The box of {where} lies outside of it: {found.xyxy}, "
                    f"but the picture has {example.width} × {example.height} pixels."
                )
            if len(found.points) not in (0, len(layout.classes[layout.channel_of[found.class_id]].joints)):
                raise TrainingRefused(f"The joints of {where} are not those of its class.")
    if not train:
        raise TrainingRefused("No picture is labelled for training yet; settle some labels first.")
    if not any(counts.values()):
        raise TrainingRefused("No training picture has an object on it; label some that do.")
    return tuple(
        f"Class {item.name!r} has no training object, so the model cannot find it."
        for item in snapshot.classes
        if not counts[item.id]
    )


@dataclass(frozen=True, slots=True)
class _Start:
    """A model to begin from."""

    sha256: str
    layout: Layout
    tensors: Mapping[str, Tensor]


def _read_start(folder: Path | None) -> _Start | None:
    if folder is None:
        return None
    try:
        card = read_card(folder)
        tensors, _ = read_tensors(folder / "model.safetensors")
        layout = Layout(tuple(parse_class(item) for item in card["classes"]))
        return _Start(card["weights_sha256"], layout, tensors)
    except (BrokenModel, KeyError, TypeError) as error:
        raise TrainingRefused(f"The model to start from cannot be read: {error}") from error


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
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(was)


class _Run:
    """One training run: the model, its average, its optimiser, and the step it has reached."""

    def __init__(
        self,
        snapshot: Snapshot,
        pictures: PictureCache,
        config: TrainConfig,
        device: torch.device,
        precision: str,
    ) -> None:
        self.snapshot, self.pictures, self.config = snapshot, pictures, config
        self.device, self.precision = device, precision
        self.layout = Layout(snapshot.classes)
        torch.manual_seed(config.seed)
        self.model = ARCHITECTURES[config.architecture](self.layout).to(device)
        self.mirror = Mirror.of(self.layout, device)
        self.train_indices = [i for i, item in enumerate(snapshot.examples) if item.split == "train"]
        self.labels = {
            index: labels_of(snapshot.examples[index], self.layout, pictures.sizes[index])
            for index in self.train_indices
        }
        self.canvas = canvas_size([pictures.sizes[index] for index in self.train_indices], self.model.stride)
        named = list(self.model.named_parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for _, p in named if p.ndim > 1], "weight_decay": config.weight_decay},
                {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            fused=True,
        )
        self.averaged = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.step = 0

    def warm_start(self, start: _Start) -> int:
        """Takes over what fits; returns how many tensors did, whole or in part."""
        own = self.model.state_dict()
        taken = 0
        class_rows = _matching_classes(self.layout, start.layout)
        joint_rows = _matching_joints(self.layout, start.layout, class_rows)
        for name, tensor in own.items():
            given = start.tensors.get(name)
            rows = {"classes": class_rows, "joints": joint_rows}.get(self.model.rows_of(name))
            if given is None or given.shape[1:] != tensor.shape[1:]:
                continue
            if rows is not None:
                per_row = 3 if self.model.rows_of(name) == "joints" else 1
                for mine, theirs in rows:
                    tensor[mine * per_row : (mine + 1) * per_row] = given[
                        theirs * per_row : (theirs + 1) * per_row
                    ]
                taken += bool(rows)
            elif given.shape == tensor.shape:
                tensor.copy_(given)
                taken += 1
        self.averaged = {name: tensor.clone() for name, tensor in own.items()}
        return taken

    def resume(self, out: Path, fingerprint: str) -> None:
        """Goes on from the checkpoint in `out`, if there is one of this very run."""
        path = out / CHECKPOINT
        curve = out / "curve.jsonl"
        if not path.exists():
            curve.write_text("")
            return
        try:
            tensors, notes = read_tensors(path)
        except BrokenModel:
            tensors, notes = {}, {}
        if notes.get("fingerprint") != fingerprint:
            curve.write_text("")
            return
        self.step = notes["step"]
        self.model.load_state_dict(_part(tensors, "model."))
        self.averaged = {name: tensor.to(self.device) for name, tensor in _part(tensors, "averaged.").items()}
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(tensors, "optimizer.").items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        lines = curve.read_text().splitlines(keepends=True) if curve.exists() else []
        curve.write_text("".join(line for line in lines if _step_of(line) <= self.step))

    def save(self, out: Path, fingerprint: str) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"averaged.{name}": tensor for name, tensor in self.averaged.items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in values.items()}
        write_tensors(out / CHECKPOINT, tensors, {"fingerprint": fingerprint, "step": self.step})

    def train(
        self,
        out: Path,
        fingerprint: str,
        *,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        config = self.config
        began = saved_at = time.monotonic()
        saved_step = self.step
        window: list[dict[str, float]] = []
        self.model.train()
        with (out / "curve.jsonl").open("a") as curve:
            while self.step < config.steps:
                if should_stop():
                    self.save(out, fingerprint)
                    raise Cancelled(f"Stopped at step {self.step} of {config.steps}.")
                window.append(self.one_step())
                self.step += 1
                if self.step % 10 == 0 or self.step == config.steps:
                    means = {name: sum(row[name] for row in window) / len(window) for name in window[0]}
                    line = {"step": self.step, "lr": self.rate(self.step - 1), **means}
                    curve.write(json.dumps(line) + "\n")
                    curve.flush()
                    window.clear()
                    seconds = time.monotonic() - began
                    on_progress(Progress(self.step, config.steps, means["loss"], line["lr"], seconds))
                due = time.monotonic() - saved_at > config.checkpoint_seconds
                due |= self.step - saved_step >= config.checkpoint_steps
                if due and not window and self.step < config.steps:
                    self.save(out, fingerprint)
                    saved_at, saved_step = time.monotonic(), self.step

    def one_step(self) -> dict[str, float]:
        """One batch, one update; everything random in it follows from the seed and the step's number alone."""
        random = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        pictures, targets = self.batch(random)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            parts = self.model.losses(pictures, targets)
        loss = torch.stack(list(parts.values())).sum()
        if not math.isfinite(loss.item()):
            raise Diverged(
                f"The loss is no longer a finite number at step {self.step + 1}: "
                f"{', '.join(f'{name} {part.item():.3g}' for name, part in parts.items())}. "
                "Lower the learning rate, or look for labels that cannot be right."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([p for _, p in self.model.named_parameters()], 10.0)
        self.optimizer.step()
        keep = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                self.averaged[name].lerp_(tensor, 1 - keep)
            else:
                self.averaged[name].copy_(tensor)
        return {"loss": loss.item(), **{name: part.item() for name, part in parts.items()}}

    def rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a fiftieth."""
        config = self.config
        warmup = min(config.warmup, config.steps // 4)
        if step < warmup:
            return config.learning_rate * (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, config.steps - warmup)
        return config.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)

    def batch(self, random: torch.Generator) -> tuple[Tensor, Targets]:
        """The step's batch: the next pictures of a shuffled pass over all, some of them as mosaics."""
        config = self.config
        chances = Chances(turns=config.symmetry == "any", scale=config.scale, colour=config.colour)
        first = self.step * config.batch
        indices = [self.shuffled(first + offset) for offset in range(config.batch)]
        late = self.step >= 0.85 * config.steps  # the last steps see pictures as they are served
        mosaics = 0 if late else round(config.mosaic * config.batch)
        views = []
        if mosaics:
            extra = torch.randint(len(self.train_indices), (mosaics, 3), generator=random).tolist()
            members = [
                member
                for index, others in zip(indices[:mosaics], extra, strict=True)
                for member in (index, *(self.train_indices[other] for other in others))
            ]
            pictures, targets = tile(*self.load(members))
            views.append(
                change(pictures, targets, self.canvas, self.mirror, chances, random, zoom=MOSAIC_ZOOM)
            )
        if mosaics < config.batch:
            pictures, targets = self.load(indices[mosaics:])
            views.append(change(pictures, targets, self.canvas, self.mirror, chances, random))
        return torch.cat([pictures for pictures, _ in views]), _stack([targets for _, targets in views])

    def shuffled(self, position: int) -> int:
        """The picture at a position of the endless sequence of shuffled passes."""
        count = len(self.train_indices)
        lap, place = divmod(position, count)
        order = np.random.default_rng((self.config.seed, lap)).permutation(count)
        return self.train_indices[int(order[place])]

    def load(self, indices: Sequence[int]) -> tuple[Tensor, Targets]:
        pictures = collate([self.pictures[index] for index in indices], self.canvas).to(self.device)
        return pictures, _pad([self.labels[index] for index in indices], self.layout).to(self.device)

    def evaluate(self, indices: Sequence[int]) -> dict[str, Any]:
        """The averaged model's metrics on pictures of the snapshot."""
        self.model.load_state_dict(self.averaged)
        self.model.train(False)
        detections: dict[int, list[Detection]] = {}
        sizes = [self.pictures.sizes[index] for index in indices]
        for rows, canvas in batches_of(sizes, self.model.stride, EVALUATION_BATCH):
            members = [indices[row] for row in rows]
            batch = collate([self.pictures[index] for index in members], canvas).to(self.device)
            found, _ = self.model.detect(batch, score_threshold=0.01, limit=300)
            for index, seen in zip(members, found, strict=True):
                example = self.snapshot.examples[index]
                height, width = self.pictures.sizes[index]
                scale_xy = width / example.width, height / example.height
                detections[index] = detections_of(seen, self.layout, scale_xy, example.width, example.height)
        examples = [self.snapshot.examples[index] for index in indices]
        scores = metrics.evaluate(examples, [detections[index] for index in indices], self.layout.classes)
        return scores.summary()


MOSAIC_ZOOM: Final = 0.7
"""A mosaic is twice as wide; at this zoom a view shows parts of up to four pictures, not much smaller."""


def _matching_classes(mine: Layout, theirs: Layout) -> list[tuple[int, int]]:
    """(my channel, their channel) of the classes that are the same by id, else by name."""
    by_name = {item.name: channel for channel, item in enumerate(theirs.classes)}
    pairs = []
    for channel, item in enumerate(mine.classes):
        other = theirs.channel_of.get(item.id, by_name.get(item.name))
        if other is not None:
            pairs.append((channel, other))
    return pairs


def _matching_joints(
    mine: Layout, theirs: Layout, classes: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    return [
        (
            mine.joint_starts[channel] + joint,
            theirs.joint_starts[other] + theirs.classes[other].joints.index(name),
        )
        for channel, other in classes
        for joint, name in enumerate(mine.classes[channel].joints)
        if name in theirs.classes[other].joints
    ]


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except ValueError:  # the line that a kill cut short
        return math.inf


def _pad(labels: Sequence[Labels], layout: Layout) -> Targets:
    B, M = len(labels), max(len(item.classes) for item in labels)
    targets = Targets(
        boxes=torch.zeros(B, M, 4),
        classes=torch.zeros(B, M, dtype=torch.int64),
        points=torch.zeros(B, M, layout.joint_count, 3),
        weights=torch.zeros(B, M),
        ignored=torch.zeros(B, M, dtype=torch.bool),
    )
    for row, item in enumerate(labels):
        count = len(item.classes)
        targets.boxes[row, :count] = torch.from_numpy(item.boxes)
        targets.classes[row, :count] = torch.from_numpy(item.classes)
        targets.points[row, :count] = torch.from_numpy(item.points)
        targets.weights[row, :count] = torch.from_numpy(item.weights)
        targets.ignored[row, :count] = torch.from_numpy(item.ignored)
    return targets


def _stack(parts: Sequence[Targets]) -> Targets:
    """Batches one after another, padded to the longest, after what is no longer asked for was dropped."""
    rows = [
        (part, row, part.weights[row].nonzero().squeeze(1))
        for part in parts
        for row in range(len(part.weights))
    ]
    longest = max(len(kept) for _, _, kept in rows)

    def stacked(name: str) -> Tensor:
        padded = []
        for part, row, kept in rows:
            values: Tensor = getattr(part, name)[row][kept]
            padded.append(torch.cat((values, values.new_zeros(longest - len(kept), *values.shape[1:]))))
        return torch.stack(padded)

    return Targets(*(stacked(name) for name in ("boxes", "classes", "points", "weights", "ignored")))


def main(arguments: Sequence[str] | None = None) -> int:
    defaults = TrainConfig()
    parser = argparse.ArgumentParser(
        prog="python -m ml.train", description="Train a detector on a snapshot folder."
    )
    parser.add_argument("--snapshot", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--warm-start", type=Path, metavar="DIR", help="a model folder to begin from")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--batch", type=int, default=defaults.batch)
    parser.add_argument(
        "--side", "--size", type=int, default=defaults.side, help="longest side in the model, pixels"
    )
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--threads", type=int, default=defaults.threads)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--symmetry", choices=("upright", "any"), default=defaults.symmetry)
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default=defaults.precision)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default=defaults.device)
    options = vars(parser.parse_args(arguments))
    paths = {name: options.pop(name) for name in ("snapshot", "out", "warm_start")}

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
