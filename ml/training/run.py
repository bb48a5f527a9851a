"""One training run, step by step, and its checkpoints."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from ml import metrics
from ml.boxes import Targets
from ml.checkpoint import BrokenModel, read_tensors, write_tensors
from ml.data import PictureCache, batches_of, collate
from ml.decode import detections_of
from ml.models import UnusableArchitecture, architecture
from ml.schema import Detection, Layout, Snapshot
from ml.training.batches import Ahead, Batches
from ml.training.config import TrainConfig
from ml.training.diagnosis import Finding, diagnose
from ml.training.errors import Cancelled, Diverged, Pruned, StoppedElsewhere, TrainingRefused
from ml.training.hard import SURE, hardest, mistakes
from ml.training.team import ALONE, Team
from ml.training.warm_start import Start, take_over

CHECKPOINT: Final = "checkpoint.safetensors"
EVALUATION_BATCH: Final = 16
FINE, TOO_MUCH, BROKEN = 0, 1, 2
"""What the processes say to each other after each batch; the worst counts."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; `seconds` since this call began, `loss` and its `parts` means over the last steps."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds: float
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rungs:
    """Steps, multiples of ten, after which a training is measured on the val pictures and may be told to stop.

    `goes_on` is given the step and the figures of `ml.metrics.Scores.summary`. Being measured changes no weight.
    """

    steps: tuple[int, ...] = ()
    goes_on: Callable[[int, Mapping[str, Any]], bool] = lambda step, figures: True


NO_RUNGS: Final = Rungs()


class Run:
    """One training run: the model, its average, its optimiser, and the step it has reached."""

    def __init__(
        self,
        snapshot: Snapshot,
        pictures: PictureCache,
        config: TrainConfig,
        device: torch.device,
        precision: str,
        team: Team = ALONE,
    ) -> None:
        self.team = team
        self.snapshot, self.pictures, self.config = snapshot, pictures, config
        self.device, self.precision = device, precision
        self.layout = Layout(snapshot.classes)
        torch.manual_seed(config.seed)
        try:
            self.model = architecture(config.architecture)(self.layout).to(device)
        except UnusableArchitecture as error:
            raise TrainingRefused(str(error)) from error
        if isinstance(self.model, nn.Module):  # convolutions of either device are faster so
            nn.Module.to(self.model, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batches = Batches(snapshot, pictures, config, self.model.stride, device)
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
        self.pieces = 1
        self.reads_ahead = device.type == "cuda"
        self.ahead: Ahead | None = None
        self.is_warm = False
        self.findings: list[Finding] = []

    def warm_start(self, start: Start) -> int:
        """Takes over what fits; returns how many tensors did, whole or in part."""
        taken = take_over(self.model, start)
        self.is_warm = taken > 0
        self.averaged = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        return taken

    def resume(self, out: Path, fingerprint: str) -> None:
        """Goes on from the checkpoint in `out`, if there is one of this very run."""
        path = out / CHECKPOINT
        curve = out / "curve.jsonl"
        if not path.exists():
            self.begin(curve)
            return
        try:
            tensors, notes = read_tensors(path)
        except BrokenModel:
            tensors, notes = {}, {}
        if notes.get("fingerprint") != fingerprint:
            self.begin(curve)
            return
        self.step, self.pieces = notes["step"], notes["pieces"]
        self.model.load_state_dict(_part(tensors, "model."))
        self.averaged = {
            name: _laid_out(tensor).to(self.device) for name, tensor in _part(tensors, "averaged.").items()
        }
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(tensors, "optimizer.").items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = _laid_out(tensor)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        lines = curve.read_text().splitlines(keepends=True) if curve.exists() else []
        self.begin(curve, "".join(line for line in lines if _step_of(line) <= self.step))

    def begin(self, curve: Path, text: str = "") -> None:
        if self.team.leads:
            curve.write_text(text)

    def save(self, out: Path, fingerprint: str) -> None:
        if not self.team.leads:
            return
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"averaged.{name}": tensor for name, tensor in self.averaged.items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in values.items()}
        write_tensors(
            out / CHECKPOINT,
            tensors,
            {"fingerprint": fingerprint, "step": self.step, "pieces": self.pieces},
        )

    def train(
        self,
        out: Path,
        fingerprint: str,
        *,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        rungs: Rungs,
    ) -> None:
        config = self.config
        began = saved_at = time.monotonic()
        saved_step = self.step
        window: list[dict[str, Tensor]] = []
        losses = [row["loss"] for row in map(json.loads, (out / "curve.jsonl").read_text().splitlines())]
        self.model.train()
        with (out / "curve.jsonl").open("a") as curve, self.reading_ahead():
            while self.step < config.steps:
                if self.team.worst(int(should_stop())):
                    self.means(window)  # no checkpoint of what is no number
                    self.save(out, fingerprint)
                    raise Cancelled(f"Stopped at step {self.step} of {config.steps}.")
                window.append(self.one_step())
                self.step += 1
                if self.step % 10 == 0 or self.step == config.steps:
                    means = self.means(window)
                    line = {"step": self.step, "lr": self.rate(self.step - 1), **means}
                    if self.team.leads:
                        curve.write(json.dumps(line) + "\n")
                        curve.flush()
                    window.clear()
                    losses.append(means["loss"])
                    self.diagnose(losses)
                    seconds = time.monotonic() - began
                    if self.team.leads:
                        on_progress(
                            Progress(self.step, config.steps, means["loss"], line["lr"], seconds, means)
                        )
                    self.judge(rungs, out, fingerprint)
                due = time.monotonic() - saved_at > config.checkpoint_seconds
                due |= self.step - saved_step >= config.checkpoint_steps
                if due and not window and self.step < config.steps:
                    self.save(out, fingerprint)
                    saved_at, saved_step = time.monotonic(), self.step

    def judge(self, rungs: Rungs, out: Path, fingerprint: str) -> None:
        """On a rung, measures the averaged model and asks whether to go on. Raises `Pruned`."""
        if self.step not in rungs.steps:
            return
        own = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        val = [index for index, item in enumerate(self.snapshot.examples) if item.split == "val"]
        figures = self.evaluate(val)
        self.model.load_state_dict(own)
        if not rungs.goes_on(self.step, figures):
            self.save(out, fingerprint)
            raise Pruned(f"Stopped at step {self.step} of {self.config.steps}: others were better there.")

    def diagnose(self, losses: Sequence[float]) -> None:
        """Stops a run whose curve is hopeless; raises `Diverged`."""
        share = self.step / self.config.steps
        self.findings = diagnose(losses, steps_done=share, from_scratch=not self.is_warm)
        for item in self.findings:
            if item.hopeless:
                raise Diverged(f"Stopped at step {self.step} of {self.config.steps}. {item.told}")

    @contextmanager
    def reading_ahead(self) -> Iterator[None]:
        """Batches come from a thread meanwhile, where the device computes beside the processor."""
        if not self.reads_ahead:
            yield
            return
        with Ahead(self.batch_at, self.config.steps) as self.ahead:
            yield
        self.ahead = None

    def batch_at(self, step: int) -> tuple[Tensor, Targets]:
        """Everything random in it follows from the seed and the step's number alone."""
        return self.batches.at(step, torch.Generator().manual_seed(self.config.seed * 1_000_003 + step))

    def means(self, window: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        """Each part's mean over the steps until now. Raises `Diverged` for the first that has no finite number.

        The only place where training waits for the device: asking a GPU after each step would leave it idle between.
        """
        if not window:
            return {}
        rows = {name: torch.stack([row[name] for row in window]).double().cpu() for name in window[0]}
        broken = (~torch.isfinite(rows["loss"])).nonzero().flatten().tolist()
        if broken:
            step = self.step - len(window) + broken[0]
            raise Diverged(self.no_number(step, {name: row[broken[0]] for name, row in rows.items()}))
        return {name: row.mean().item() for name, row in rows.items()}

    def one_step(self) -> dict[str, Tensor]:
        """One batch, one update: the parts of its loss, which need not have been computed yet."""
        pictures, targets = self.batch_at(self.step) if self.ahead is None else self.ahead.at(self.step)
        if pictures.device.type == "cuda":
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        parts = self.gradients(pictures, targets)
        torch.nn.utils.clip_grad_norm_([p for _, p in self.model.named_parameters()], 10.0)
        self.optimizer.step()
        keep = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                self.averaged[name].lerp_(tensor, 1 - keep)
            else:
                self.averaged[name].copy_(tensor)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def gradients(self, pictures: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Those of the whole batch, over all processes; the parts of its loss."""
        while True:
            parts: dict[str, Tensor] = {}
            word, broken = FINE, None
            try:
                parts = self.backward(pictures, targets)
            except torch.OutOfMemoryError:
                word = TOO_MUCH
            except Diverged as error:
                word, broken = BROKEN, error
            worst = self.team.worst(word)
            if worst == BROKEN:
                raise broken or StoppedElsewhere("Another process met a loss that is no number.")
            if worst == TOO_MUCH:
                self.halve()
                continue
            self.team.add_up([*self.all_gradients(), *parts.values()])
            return parts

    def all_gradients(self) -> list[Tensor]:
        """Of every weight, the same in each process; zeros where this share of the batch had none."""
        weights = [weight for _, weight in self.model.named_parameters()] if self.team.count > 1 else []
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        return [weight.grad for weight in weights if weight.grad is not None]

    def backward(self, pictures: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Gradients of this process's share of the batch, in as many pieces as memory needs; the parts of its loss."""
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)  # for losses that draw, as denoising does
        self.optimizer.zero_grad(set_to_none=True)
        told: dict[str, Tensor] = {}
        for rows in self.team.share(len(pictures)).tensor_split(self.pieces):
            share = len(rows) / len(pictures)
            piece = slice(int(rows[0]), int(rows[-1]) + 1)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                parts = self.model.losses(pictures[piece], targets.rows(piece))
            loss = torch.stack(list(parts.values())).sum() * share
            if loss.device.type == "cpu" and not math.isfinite(loss.item()):
                raise Diverged(self.no_number(self.step, parts))
            loss.backward()  # type: ignore[no-untyped-call]
            for name, part in parts.items():
                done = share * part.detach().float()
                told[name] = told[name] + done if name in told else done
        return told

    def halve(self) -> None:
        """Goes on in smaller pieces whose gradients are added up. Raises `TrainingRefused` below one picture."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if 2 * self.pieces > self.config.batch // self.team.count:
            raise TrainingRefused(
                f"out_of_memory: The device has too little memory for one picture of {self.config.side} pixels. "
                "Choose a smaller side, or another device."
            )
        self.pieces *= 2

    def no_number(self, step: int, parts: Mapping[str, Tensor]) -> str:
        """What to tell of a loss that is no finite number: where, which part, and which pictures."""
        names = [self.snapshot.examples[index].sha256[:12] for index in self.batches.indices_at(step)]
        return (
            f"not_finite: The loss is no longer a finite number at step {step + 1}: "
            f"{', '.join(f'{name} {part.item():.3g}' for name, part in parts.items())}. "
            f"The batch began with the pictures {', '.join(names)}. "
            "Lower the learning rate, or look at these pictures' labels."
        )

    def rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a fiftieth."""
        config = self.config
        warmup = min(config.warmup, config.steps // 4)
        if step < warmup:
            return config.learning_rate * (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, config.steps - warmup)
        return config.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)

    def look_back(self) -> list[int]:
        """Has the pictures that the model it begins from gets most wrong seen twice as often; which they are."""
        if not self.is_warm or not self.config.hard:
            return []
        examples = self.snapshot.examples
        seen = self.detections(self.batches.train_indices, score_threshold=SURE)
        again = hardest(
            {index: mistakes(examples[index], found) for index, found in seen.items()}, self.config.hard
        )
        self.batches.places = [*self.batches.train_indices, *again]
        return again

    def evaluate(self, indices: Sequence[int]) -> dict[str, Any]:
        """The averaged model's metrics on pictures of the snapshot. The model has the averaged weights then."""
        self.model.load_state_dict(self.averaged)
        seen = self.detections(indices, score_threshold=0.01)
        examples = [self.snapshot.examples[index] for index in indices]
        return metrics.evaluate(examples, [seen[index] for index in indices], self.layout.classes).summary()

    def detections(self, indices: Sequence[int], *, score_threshold: float) -> dict[int, list[Detection]]:
        """What the model as it is finds on pictures of the snapshot, by their index, in the pictures' own pixels."""
        was_training = self.model.training
        self.model.train(False)
        detections: dict[int, list[Detection]] = {}
        sizes = [self.pictures.sizes[index] for index in indices]
        for rows, canvas in batches_of(sizes, self.model.stride, EVALUATION_BATCH):
            members = [indices[row] for row in rows]
            batch = collate([self.pictures[index] for index in members], canvas).to(self.device)
            found, _ = self.model.detect(batch, score_threshold=score_threshold, limit=300)
            for index, seen in zip(members, found, strict=True):
                example = self.snapshot.examples[index]
                height, width = self.pictures.sizes[index]
                scale_xy = width / example.width, height / example.height
                detections[index] = detections_of(seen, self.layout, scale_xy, example.width, example.height)
        self.model.train(was_training)
        return detections


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _laid_out(tensor: Tensor) -> Tensor:
    """As the weights lie in memory: the fused optimiser goes through weight and state side by side."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except ValueError:  # the line that a kill cut short
        return math.inf
