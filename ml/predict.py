"""Running a model folder on pictures.

Also a command: `python -m ml.predict --model DIR IMAGES...` prints JSON lines.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ml.checkpoint import BrokenModel, read_card, read_tensors
from ml.data import Prepared, batches_of, collate, open_picture, prepare
from ml.decode import detections_of
from ml.models import Model, UnusableArchitecture, restored
from ml.schema import DetectedClass, Detection, Layout, parse_class

SCORE_THRESHOLD = 0.05
LIMIT = 300


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model saw on one picture.

    `embedding` is 128 numbers of length 1 from the backbone: like pictures lie close. `spread` says, per
    detection, how far candidates for the same object disagree about its joints, in box diagonals (0 for plain
    boxes).
    """

    detections: list[Detection]
    embedding: NDArray[np.float32]  # [128]
    spread: tuple[float, ...]


class Predictor:
    """A model folder, loaded. What it answers for a picture does not depend on the pictures beside it."""

    def __init__(self, model: Model, card: Mapping[str, Any], device: torch.device) -> None:
        self.model = model
        self.card = card
        self.device = device
        self.side: int = card["side"]

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> "Predictor":
        """`device` is by default the GPU if there is one. Raises `BrokenModel`."""
        card = read_card(folder)
        tensors, _ = read_tensors(folder / "model.safetensors")
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        try:
            layout = Layout(tuple(parse_class(item) for item in card["classes"]))
            if not layout.classes:
                raise BrokenModel(f"{folder}/card.json: no classes")
            model = restored(card["architecture"], layout, card.get("configuration", {}))
            model.load_state_dict(tensors)
        except (KeyError, TypeError, RuntimeError, UnusableArchitecture) as error:
            raise BrokenModel(f"{folder}: {error}") from error
        return cls(model.to(chosen).train(False), card, chosen)

    @property
    def classes(self) -> tuple[DetectedClass, ...]:
        return self.model.layout.classes

    def predict(
        self, images: Sequence[Image.Image], *, score_threshold: float = SCORE_THRESHOLD, limit: int = LIMIT
    ) -> list[list[Detection]]:
        """Per picture its detections, best first, in the oriented picture's pixels. Raises `BrokenPicture`."""
        return [seen.detections for seen in self.look(images, score_threshold=score_threshold, limit=limit)]

    def look(
        self, images: Sequence[Image.Image], *, score_threshold: float = SCORE_THRESHOLD, limit: int = LIMIT
    ) -> list[Seen]:
        """Like `predict`, with what selection needs to know beside the detections."""
        prepared = [prepare(image, self.side) for image in images]
        return self.look_at_prepared(prepared, score_threshold=score_threshold, limit=limit)

    def look_at_prepared(
        self, prepared: Sequence[Prepared], *, score_threshold: float = SCORE_THRESHOLD, limit: int = LIMIT
    ) -> list[Seen]:
        """One forward pass per canvas size that the pictures need."""
        answers: dict[int, Seen] = {}
        sizes = [(item.pixels.shape[0], item.pixels.shape[1]) for item in prepared]
        for members, canvas in batches_of(sizes, self.model.stride, max(1, len(prepared))):
            batch = collate([prepared[index].pixels for index in members], canvas).to(self.device)
            found, embeddings = self.model.detect(batch, score_threshold=score_threshold, limit=limit)
            vectors = embeddings.cpu().numpy().astype(np.float32)
            for index, one, vector in zip(members, found, vectors, strict=True):
                item = prepared[index]
                detections = detections_of(one, self.model.layout, item.scale_xy, item.width, item.height)
                answers[index] = Seen(detections, vector, tuple(one.spread.tolist()))
        return [answers[index] for index in range(len(prepared))]

    def predict_files(
        self,
        paths: Sequence[Path],
        batch_size: int = 8,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        *,
        score_threshold: float = SCORE_THRESHOLD,
        limit: int = LIMIT,
    ) -> Iterator[tuple[Path, Seen]]:
        """Lazily, in the order given; `on_progress(done, total)` after each batch. Raises `BrokenPicture`."""
        for start in range(0, len(paths), batch_size):
            chunk = paths[start : start + batch_size]
            seen = self.look(
                [open_picture(path) for path in chunk], score_threshold=score_threshold, limit=limit
            )
            yield from zip(chunk, seen, strict=True)
            on_progress(start + len(chunk), len(paths))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ml.predict", description="Detect objects; prints JSON lines."
    )
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--score-threshold", type=float, default=SCORE_THRESHOLD)
    parser.add_argument("--device")
    parser.add_argument("images", type=Path, nargs="+")
    options = parser.parse_args(arguments)
    try:
        predictor = Predictor.load(options.model, options.device)
        for path, seen in predictor.predict_files(options.images, score_threshold=options.score_threshold):
            detections = [asdict(detection) for detection in seen.detections]
            print(json.dumps({"image": str(path), "detections": detections}), flush=True)
    except ValueError as error:  # BrokenModel, BrokenPicture
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
