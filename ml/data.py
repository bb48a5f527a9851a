"""From picture files to tensors: one way for training, evaluation, batch prediction and serving."""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from ml.schema import Example, Layout, Snapshot

MAX_PIXELS: Final = 80_000_000
GREY: Final = 114
"""What pads a picture to a multiple of the model's stride."""


class BrokenPicture(ValueError):
    """Bytes that are no usable picture; the message says why."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture as a model sees it, and how to come back to the oriented original."""

    pixels: NDArray[np.uint8]  # [h, w, 3], longest side as asked
    width: int  # of the oriented original
    height: int

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Model pixels per original pixel."""
        return self.pixels.shape[1] / self.width, self.pixels.shape[0] / self.height


def open_picture(source: Path | bytes) -> Image.Image:
    """Opens and decodes a picture. Raises `BrokenPicture`; more than 80 M pixels are refused before decoding."""
    try:
        picture = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        _refuse_huge(picture)
        picture.load()
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BrokenPicture(f"not a readable picture: {error}") from error
    return picture


def prepare(picture: Image.Image, side: int) -> Prepared:
    """EXIF orientation, 8-bit RGB, longest side = `side` pixels. The only preprocessing there is."""
    _refuse_huge(picture)
    try:
        upright = _to_rgb(ImageOps.exif_transpose(picture))
    except (OSError, SyntaxError) as error:
        raise BrokenPicture(f"not a readable picture: {error}") from error
    size = fitted_size(upright.width, upright.height, side)
    small = upright if size == upright.size else upright.resize(size, Image.Resampling.BILINEAR)
    return Prepared(np.asarray(small, dtype=np.uint8), upright.width, upright.height)


def fitted_size(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) with the same shape and the longest side = `side`.

    >>> fitted_size(640, 480, 320)
    (320, 240)
    """
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def canvas_size(sizes: Iterable[tuple[int, int]], stride: int) -> tuple[int, int]:
    """The smallest (height, width) in multiples of `stride` that holds all (height, width)."""
    heights, widths = zip(*sizes, strict=True)
    return -(-max(heights) // stride) * stride, -(-max(widths) // stride) * stride


def batches_of(
    sizes: Sequence[tuple[int, int]], stride: int, batch: int
) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """(indices, canvas) of batches whose pictures need the same canvas.

    So what a model answers for a picture does not depend on which others it was sent with.
    """
    by_canvas: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        by_canvas.setdefault(canvas_size([size], stride), []).append(index)
    for canvas, indices in by_canvas.items():
        for start in range(0, len(indices), batch):
            yield indices[start : start + batch], canvas


def collate(pictures: Sequence[NDArray[np.uint8]], canvas: tuple[int, int]) -> Tensor:
    """N × [h, w, 3] → [N, 3, H, W] uint8, each in the top-left corner, the rest grey."""
    batch = torch.full((len(pictures), *canvas, 3), GREY, dtype=torch.uint8)
    for index, pixels in enumerate(pictures):
        batch[index, : pixels.shape[0], : pixels.shape[1]] = torch.from_numpy(np.array(pixels))
    return batch.permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class PictureCache:
    """Every picture of a snapshot, decoded and resized, in one memory-mapped file."""

    pixels: NDArray[np.uint8]  # flat
    offsets: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]  # height, width

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        height, width = self.sizes[index]
        start = self.offsets[index]
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)


def cached_pictures(snapshot: Snapshot, side: int, folder: Path) -> PictureCache:
    """The snapshot's pictures at `side`, in the order of its examples; decoded once, then mapped.

    Files are named by the snapshot's version and the size, written beside and renamed, so a killed run leaves
    nothing half made. Raises `BrokenPicture` naming the picture, also where the file is not what the manifest
    says.
    """
    key = f"{snapshot.version[:32]}-{side}"
    pixels_path, index_path = folder / f"{key}.u8", folder / f"{key}.json"
    if not index_path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f"{key}.{os.getpid()}.part"
        sizes = []
        with beside.open("wb") as file, ThreadPoolExecutor(2) as readers:
            for prepared in readers.map(lambda item: _read(snapshot, item, side), snapshot.examples):
                sizes.append(prepared.pixels.shape[:2])
                file.write(prepared.pixels.tobytes())
        beside.replace(pixels_path)
        beside.write_text(json.dumps(sizes))
        beside.replace(index_path)
    sizes = [(height, width) for height, width in json.loads(index_path.read_text())]
    lengths = np.array([height * width * 3 for height, width in sizes], dtype=np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    pixels = np.memmap(pixels_path, dtype=np.uint8, mode="r", shape=(int(offsets[-1]),))
    return PictureCache(pixels, tuple(int(offset) for offset in offsets[:-1]), tuple(sizes))


@dataclass(frozen=True, slots=True)
class Labels:
    """One picture's labels in the pixels of its prepared picture."""

    boxes: NDArray[np.float32]  # [M, 4] xyxy
    classes: NDArray[np.int64]  # [M]
    points: NDArray[np.float32]  # [M, K, 3]
    weights: NDArray[np.float32]  # [M]
    ignored: NDArray[np.bool_]  # [M]


def labels_of(example: Example, layout: Layout, size: tuple[int, int]) -> Labels:
    """`size` is the prepared picture's (height, width). Boxes are clipped to the picture."""
    height, width = size
    scale = np.array([width / example.width, height / example.height], dtype=np.float32)
    count = len(example.objects)
    channel_of, starts = layout.channel_of, layout.joint_starts
    classes = np.array([channel_of[item.class_id] for item in example.objects], dtype=np.int64)
    boxes = np.array([item.xyxy for item in example.objects], dtype=np.float32).reshape(count, 2, 2) * scale
    points = np.zeros((count, layout.joint_count, 3), dtype=np.float32)
    for row, (item, channel) in enumerate(zip(example.objects, classes, strict=True)):
        if item.points:
            start = starts[channel]
            points[row, start : start + len(item.points)] = item.points
    points[..., :2] *= scale
    return Labels(
        boxes=boxes.clip(0, [width, height]).reshape(count, 4).astype(np.float32),
        classes=classes,
        points=points,
        weights=np.array([item.confidence for item in example.objects], dtype=np.float32),
        ignored=np.array([item.crowd for item in example.objects], dtype=np.bool_),
    )


def _read(snapshot: Snapshot, example: Example, side: int) -> Prepared:
    path = snapshot.image_path(example)
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != example.sha256:
            raise BrokenPicture("its bytes are not those that its name promises")
        prepared = prepare(open_picture(content), side)
        if (prepared.width, prepared.height) != (example.width, example.height):
            raise BrokenPicture(
                f"it is {prepared.width} × {prepared.height} pixels, "
                f"but the manifest says {example.width} × {example.height}"
            )
    except (OSError, BrokenPicture) as error:
        raise BrokenPicture(f"{path}: {error}") from error
    return prepared


def _refuse_huge(picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise BrokenPicture(
            f"{picture.width} × {picture.height} pixels are more than "
            f"the {MAX_PIXELS // 10**6} million allowed"
        )


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):  # Pillow would clip deep greys to white
        deep = np.asarray(picture, dtype=np.float64)
        top = 65535.0 if picture.mode.startswith("I;16") else max(float(deep.max()), 1.0)
        picture = Image.fromarray((deep.clip(0, top) * (255.0 / top)).astype(np.uint8))
    return picture.convert("RGB")
