"""What a step learns from: the next pictures of a shuffled pass, changed at random, and their labels."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ml.augment import Chances, Mirror, change, tile
from ml.boxes import Targets
from ml.data import Labels, PictureCache, canvas_size, collate, labels_of
from ml.schema import Layout, Snapshot
from ml.training.config import EARLY_SCALE, TrainConfig

Batch = tuple[Tensor, Targets]
MOSAIC_ZOOM: Final = 0.7
"""A mosaic is twice as wide; at this zoom a view shows parts of up to four pictures, not much smaller."""


class Batches:
    """The train pictures of a snapshot as batches; a step's batch follows from the seed and its number alone."""

    def __init__(
        self,
        snapshot: Snapshot,
        pictures: PictureCache,
        config: TrainConfig,
        stride: int,
        device: torch.device,
    ) -> None:
        self.pictures, self.config, self.device = pictures, config, device
        self.layout = Layout(snapshot.classes)
        self.mirror = Mirror.of(self.layout, device)
        self.train_indices = [i for i, item in enumerate(snapshot.examples) if item.split == "train"]
        self.places = list(self.train_indices)
        """What a pass goes through; a picture that stands there twice is seen twice."""
        self.labels = {
            index: labels_of(snapshot.examples[index], self.layout, pictures.sizes[index])
            for index in self.train_indices
        }
        sizes = [pictures.sizes[index] for index in self.train_indices]
        self.canvas = canvas_size(sizes, stride)
        self.early_canvas = canvas_size(
            [(round(height * EARLY_SCALE), round(width * EARLY_SCALE)) for height, width in sizes], stride
        )

    def at(self, step: int, random: torch.Generator) -> tuple[Tensor, Targets]:
        """The step's batch: the next pictures of a shuffled pass over all, some of them as mosaics."""
        config = self.config
        chances = Chances(turns=config.symmetry == "any", scale=config.scale, colour=config.colour)
        indices = self.indices_at(step)
        early = step < config.early * config.steps
        size = EARLY_SCALE if early else 1.0
        canvas = self.early_canvas if early else self.canvas
        late = step >= 0.85 * config.steps  # the last steps see pictures as they are served
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
                change(pictures, targets, canvas, self.mirror, chances, random, zoom=size * MOSAIC_ZOOM)
            )
        if mosaics < config.batch:
            pictures, targets = self.load(indices[mosaics:])
            views.append(change(pictures, targets, canvas, self.mirror, chances, random, zoom=size))
        return torch.cat([pictures for pictures, _ in views]), _stack([targets for _, targets in views])

    def indices_at(self, step: int) -> list[int]:
        """The pictures of a step's batch; a mosaic takes others in beside."""
        first = step * self.config.batch
        return [self.shuffled(first + offset) for offset in range(self.config.batch)]

    def shuffled(self, position: int) -> int:
        """The picture at a position of the endless sequence of shuffled passes."""
        count = len(self.places)
        lap, place = divmod(position, count)
        order = np.random.default_rng((self.config.seed, lap)).permutation(count)
        return self.places[int(order[place])]

    def load(self, indices: Sequence[int]) -> tuple[Tensor, Targets]:
        pictures = collate([self.pictures[index] for index in indices], self.canvas)
        if (
            self.device.type == "cuda"
        ):  # from pinned memory the copy does not hold up what is computed meanwhile
            pictures = pictures.pin_memory()
        targets = _pad([self.labels[index] for index in indices], self.layout)
        return pictures.to(self.device, non_blocking=True), targets.to(self.device)


class Ahead:
    """The same batches, each made by a thread while the step before it is computed.

    What it raises, it raises where the batch is asked for. Close it, or use it in a `with` statement.
    """

    def __init__(self, make: Callable[[int], Batch], steps: int) -> None:
        self.make, self.steps = make, steps
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="next batch")
        self.coming: tuple[int, Future[Batch]] | None = None

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.shutdown(wait=True, cancel_futures=True)

    def at(self, step: int) -> Batch:
        """The step's batch; the next one is begun."""
        if self.coming is None or self.coming[0] != step:
            self.coming = (step, self.thread.submit(self.make, step))
        batch = self.coming[1].result()
        self.coming = (step + 1, self.thread.submit(self.make, step + 1)) if step + 1 < self.steps else None
        return batch


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
