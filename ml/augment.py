"""Random changes to a batch: mosaic, scale, crop, mirror, quarter turns, colour. Labels follow the pictures."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ml.boxes import Targets, area_xyxy
from ml.schema import Layout

SEEN_AT_LEAST = 0.35
"""An object of which less is left after a crop is no longer asked for."""


@dataclass(frozen=True, slots=True)
class Chances:
    """How strongly to change; `scale` is the range of sizes, `turns` adds turns by quarters."""

    mirror: float = 0.5
    turns: bool = False
    scale: tuple[float, float] = (0.7, 1.4)
    colour: float = 0.25
    stretch: float = 0.1


@dataclass(frozen=True, slots=True)
class Mirror:
    """What classes and joints become in a mirrored picture, as channels."""

    classes: Tensor  # [C] int64
    joints: Tensor  # [K] int64: the channel whose joint arrives at each channel

    @classmethod
    def of(cls, layout: Layout, device: torch.device) -> "Mirror":
        arriving = torch.tensor(layout.joint_mirror, dtype=torch.int64).argsort()
        return cls(torch.tensor(layout.class_mirror, dtype=torch.int64).to(device), arriving.to(device))


def tile(pictures: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    """Groups of four, two by two: [4n, 3, H, W] → [n, 3, 2H, 2W], and their labels put together."""
    _, C, H, W = pictures.shape
    n, M = len(pictures) // 4, targets.boxes.shape[1]
    tiled = pictures.reshape(n, 2, 2, C, H, W).permute(0, 3, 1, 4, 2, 5).reshape(n, C, 2 * H, 2 * W)
    shift = pictures.new_tensor([[0, 0], [W, 0], [0, H], [W, H]], dtype=torch.float32).repeat(n, 1)
    points = targets.points.clone()
    points[..., :2] += shift[:, None, None]
    return tiled, Targets(
        boxes=(targets.boxes + shift.repeat(1, 2)[:, None]).reshape(n, 4 * M, 4),
        classes=targets.classes.reshape(n, 4 * M),
        points=points.reshape(n, 4 * M, *points.shape[2:]),
        weights=targets.weights.reshape(n, 4 * M),
        ignored=targets.ignored.reshape(n, 4 * M),
    )


def change(
    pictures: Tensor,  # [B, 3, h, w] uint8 or float in 0–255
    targets: Targets,
    canvas: tuple[int, int],
    mirror: Mirror,
    chances: Chances,
    random: torch.Generator,
    *,
    zoom: float = 1.0,
) -> tuple[Tensor, Targets]:
    """A random view of each picture: [B, 3, *canvas] float in 0–255, and the labels in its pixels.

    `zoom` multiplies the drawn scale (a mosaic of four is seen at half size). `random` lives on the CPU, so
    that the same seed draws the same views on each device.
    """
    forward, mirrored = _draw_views(len(pictures), pictures.shape[2:], canvas, chances, random, zoom)
    forward, mirrored = forward.to(pictures.device), mirrored.to(pictures.device)
    views = _sample(pictures.float(), forward, canvas)
    if chances.colour > 0:
        views = _recolour(views, chances.colour, random)
    return views, follow(targets, forward, mirrored, canvas, mirror)


def follow(
    targets: Targets, forward: Tensor, mirrored: Tensor, canvas: tuple[int, int], mirror: Mirror
) -> Targets:
    """Labels under affine maps [B, 2, 3] of old pixels to new; `mirrored` [B]: which swap left and right.

    Boxes are clipped to the canvas. An object of which less than `SEEN_AT_LEAST` is left is no longer asked
    for but ignored, and a joint outside becomes absent.
    """
    height, width = canvas
    low, high = targets.boxes[..., :2], targets.boxes[..., 2:]
    corners = torch.stack((low, high, torch.cat((low[..., :1], high[..., 1:]), -1),
                           torch.cat((high[..., :1], low[..., 1:]), -1)), -2)  # fmt: skip
    moved = _apply(forward, corners)  # [B, M, 4, 2]
    whole = torch.cat((moved.amin(-2), moved.amax(-2)), -1)
    limit = whole.new_tensor([width, height, width, height])
    boxes = whole.clamp(min=0).minimum(limit)
    left = area_xyxy(boxes) / area_xyxy(whole).clamp(min=1e-6)
    side = (boxes[..., 2:] - boxes[..., :2]).amin(-1)
    gone = (left <= 0.02) | (side < 1.0)
    partial = (left < SEEN_AT_LEAST) & ~gone

    places = _apply(forward, targets.points[..., :2])
    outside = ((places < 0) | (places > limit[:2])).any(-1)
    points = torch.cat((places, targets.points[..., 2:]), -1)
    points = points * (~outside & (points[..., 2] > 0))[..., None]
    swapped = mirrored[:, None]
    points = torch.where(swapped[..., None, None], points[:, :, mirror.joints], points)
    return Targets(
        boxes=boxes,
        classes=torch.where(swapped, mirror.classes[targets.classes], targets.classes),
        points=points,
        weights=targets.weights * ~gone,
        ignored=(targets.ignored | partial) & (targets.weights > 0) & ~gone,
    )


def _draw_views(
    count: int,
    size: torch.Size,
    canvas: tuple[int, int],
    chances: Chances,
    random: torch.Generator,
    zoom: float,
) -> tuple[Tensor, Tensor]:
    """Affine maps [B, 2, 3] from picture to canvas pixels, and which of them mirror: [B] bool."""
    low, high = (math.log(bound) for bound in chances.scale)
    scale = torch.exp(low + (high - low) * torch.rand(count, generator=random)) * zoom
    stretch = torch.exp(chances.stretch * (torch.rand(count, 2, generator=random) - 0.5))
    flipped = torch.rand(count, generator=random) < chances.mirror
    quarter = torch.randint(4 if chances.turns else 1, (count,), generator=random)
    slide = torch.rand(count, 2, generator=random)

    cos, sin = (quarter % 2 == 0).float(), (quarter % 2 == 1).float()
    sign = torch.where(quarter >= 2, -1.0, 1.0)
    turn = torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2) * sign[:, None, None]
    size_xy = stretch * scale[:, None]
    size_xy[:, 0] *= torch.where(flipped, -1.0, 1.0)
    linear = turn * size_xy[:, None]  # [B, 2, 2]: scale and mirror first, then turn

    height, width = size
    extent = (linear.abs() @ torch.tensor([float(width), float(height)])[:, None]).squeeze(-1)  # [B, 2]
    canvas_xy = torch.tensor([float(canvas[1]), float(canvas[0])])
    room = canvas_xy - extent  # negative where the view is larger than the canvas: then it is cropped
    centre = extent / 2 + slide * room
    middle = torch.tensor([width / 2, height / 2])
    shift = centre - (linear @ middle[:, None]).squeeze(-1)
    return torch.cat((linear, shift[:, :, None]), -1), flipped


def _apply(forward: Tensor, points: Tensor) -> Tensor:
    """[B, 2, 3] on [B, M, P, 2]."""
    moved: Tensor = torch.einsum("bij,bmpj->bmpi", forward[:, :, :2], points)
    shifted: Tensor = moved + forward[:, None, None, :, 2]
    return shifted


def _sample(pictures: Tensor, forward: Tensor, canvas: tuple[int, int]) -> Tensor:
    height, width = pictures.shape[2:]
    inverse = torch.linalg.inv(forward[:, :, :2])
    origin = -(inverse @ forward[:, :, 2:])
    y = torch.arange(canvas[0], device=pictures.device) + 0.5
    x = torch.arange(canvas[1], device=pictures.device) + 0.5
    half = pictures.new_tensor([2 / width, 2 / height])
    across = inverse[:, :, 0] * half  # [B, 2]: what one canvas pixel to the right is in the sampler's −1..1
    down = inverse[:, :, 1] * half
    start = origin[:, :, 0] * half - 1
    grid = (
        across[:, None, None] * x[None, None, :, None]
        + down[:, None, None] * y[None, :, None, None]
        + start[:, None, None]
    )
    shifted = pictures - 114.0  # the sampler pads with zeros, we with grey
    sampled: Tensor = F.grid_sample(shifted, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled + 114.0


def _recolour(pictures: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation and white balance, as one colour matrix a picture."""
    count = len(pictures)
    gain, contrast, saturation = 1 + strength * (2 * torch.rand(3, count, 1, 1, generator=random) - 1)
    balance = 1 + 0.4 * strength * (2 * torch.rand(count, 3, 1, generator=random) - 1)
    grey = torch.tensor([0.299, 0.587, 0.114]).expand(3, 3)
    matrix = saturation * torch.eye(3) + (1 - saturation) * grey  # [B, 3, 3]
    matrix = (gain * contrast * balance * matrix).to(pictures.device)
    offset = ((1 - contrast) * 114.0).to(pictures.device)
    mixed: Tensor = torch.einsum("bij,bjhw->bihw", matrix, pictures) + offset[..., None]
    return mixed.clamp(0, 255)
