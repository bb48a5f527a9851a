"""Joints by looking at one box at a time: ViTPose (Xu et al. 2022) from `transformers`.

Top-down: the detector says where an object is, this says where its joints are inside. One heatmap per joint
channel of the layout, so an object is asked for the joints of its class alone.
"""

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ml.boxes import Targets, xyxy_to_cxcywh
from ml.schema import Layout

MARGIN: Final = 1.25
"""A crop is this much larger than its box, as ViTPose was trained."""
SIGMA: Final = 2.0
"""The width of a joint's peak in cells of the heatmap."""
JITTER: Final = 0.1
"""Boxes are shifted and scaled by up to this share in training, as a detector's boxes are never exact."""


class TopDownPose(nn.Module):
    """Crops of boxes → joints. Pictures are in 0–255, boxes and joints in their pixels."""

    mean: Tensor
    std: Tensor
    owned: Tensor  # [C, K] bool: which joints a class has

    def __init__(self, layout: Layout, network: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = network
        settings: Any = network.config
        height, width = settings.backbone_config.image_size
        self.size: tuple[int, int] = (height, width)
        self.experts: int = settings.backbone_config.num_experts
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)
        owned = torch.zeros(len(layout.classes), layout.joint_count, dtype=torch.bool)
        for channel, (start, item) in enumerate(zip(layout.joint_starts, layout.classes, strict=True)):
            owned[channel, start : start + len(item.joints)] = True
        self.register_buffer("owned", owned, persistent=False)

    def rows_of(self, name: str) -> str:
        return "heatmaps" if name.startswith("network.head.conv.") else ""

    def heatmaps(self, pictures: Tensor, which: Tensor, crops: Tensor) -> Tensor:
        """[B, 3, H, W], [N] picture of each crop, crops [N, 4] cxcywh → [N, K, h, w], a peak about 1 high."""
        looks = (_cut(pictures, which, crops, self.size) - self.mean) / self.std
        expert = {"dataset_index": which.new_zeros(len(which))} if self.experts > 1 else {}
        answer: Any = self.network(looks, **expert)
        maps: Tensor = answer.heatmaps.float()
        return maps

    def loss(self, pictures: Tensor, targets: Targets, asked: Tensor) -> Tensor:
        """Squared error to Gaussian peaks, a joint that is not there being flat; about 1 when nothing is known."""
        has_joints = self.owned[targets.classes].any(-1)  # [B, M]
        which, slot = (asked & has_joints).nonzero(as_tuple=True)
        if len(which) == 0:
            return torch.stack([parameter.sum() * 0 for parameter in self.parameters()]).sum()
        boxes = xyxy_to_cxcywh(targets.boxes[which, slot].float())
        noise = (torch.rand(len(boxes), 4) * 2 - 1).to(boxes.device) * JITTER
        boxes = torch.cat((boxes[:, :2] + noise[:, :2] * boxes[:, 2:], boxes[:, 2:] * (1 + noise[:, 2:])), -1)
        crops = self._crops(boxes)
        maps = self.heatmaps(pictures, which, crops)  # [N, K, h, w]
        points = targets.points[which, slot].float()  # [N, K, 3]
        wanted = _peaks(points, crops, (maps.shape[2], maps.shape[3]))
        error = (maps - wanted).square().sum((2, 3)) / (torch.pi * SIGMA**2)
        owned = self.owned[targets.classes[which, slot]]
        return (error * owned).sum() / owned.sum()

    def points(self, picture: Tensor, boxes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """[3, H, W], [N, 4] xyxy, [N] → (joints [N, K, 3] as x, y, score; spread [N] in box diagonals)."""
        owned = self.owned[classes]  # [N, K]
        points = boxes.new_zeros(*owned.shape, 3)
        spread = boxes.new_zeros(len(boxes))
        asked = owned.any(-1).nonzero().squeeze(1)
        if len(asked) == 0:
            return points, spread
        crops = self._crops(xyxy_to_cxcywh(boxes[asked]))
        maps = self.heatmaps(picture[None], asked.new_zeros(len(asked)), crops)
        places, scores, apart = _read(maps, crops)
        points[asked] = torch.cat((places, scores[..., None]), -1)
        diagonal = torch.linalg.vector_norm(boxes[asked][:, 2:] - boxes[asked][:, :2], dim=-1).clamp(min=1)
        weight = scores * owned[asked]
        spread[asked] = (apart * weight).sum(-1) / weight.sum(-1).clamp(min=1e-6) / diagonal
        return points, spread

    def _crops(self, boxes: Tensor) -> Tensor:
        """Boxes with a margin, widened to the shape of the network's input: [N, 4] cxcywh → the same."""
        height, width = self.size
        size = boxes[:, 2:].clamp(min=1.0)
        wide = torch.maximum(size[:, 0], size[:, 1] * width / height) * MARGIN
        return torch.cat((boxes[:, :2], torch.stack((wide, wide * height / width), -1)), -1)


def _cut(pictures: Tensor, which: Tensor, crops: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear crops, black outside: [B, 3, H, W], [N], [N, 4] cxcywh → [N, 3, *size].

    The outermost pixels' centres lie on the crop's edges, as ViTPose was trained (Huang et al. 2020).
    """
    H, W = pictures.shape[2:]
    extent = crops.new_tensor([W - 1, H - 1])
    scale = crops[:, 2:] / extent
    shift = 2 * (crops[:, :2] - 0.5) / extent - 1
    theta = crops.new_zeros(len(crops), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale[:, 0], scale[:, 1], shift
    grid = F.affine_grid(theta, [len(crops), 3, *size], align_corners=True)
    return F.grid_sample(pictures[which], grid, padding_mode="zeros", align_corners=True)


def _peaks(points: Tensor, crops: Tensor, size: tuple[int, int]) -> Tensor:
    """Gaussians around labelled joints: [N, K, 3], [N, 4] → [N, K, *size]; flat 0 where there is none."""
    h, w = size
    extent = points.new_tensor([w - 1, h - 1])
    cells = ((points[..., :2] - crops[:, None, :2]) / crops[:, None, 2:] + 0.5) * extent  # [N, K, 2]
    across = torch.arange(w, device=points.device) - cells[..., :1]  # [N, K, w]
    down = torch.arange(h, device=points.device) - cells[..., 1:]  # [N, K, h]
    bump = torch.exp(-(across.square()[..., None, :] + down.square()[..., :, None]) / (2 * SIGMA**2))
    return bump * (points[..., 2] > 0)[..., None, None]


def _read(maps: Tensor, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[N, K, h, w], [N, 4] → (x, y [N, K, 2], scores [N, K] in [0, 1], how far rival peaks lie [N, K]), pixels.

    The place is the mean of the cells around the highest, weighted by their heights.
    """
    N, K, h, w = maps.shape
    flat = maps.clamp(min=0).reshape(N, K, h * w)
    scores, top = flat.max(-1)
    cells = torch.stack(
        (torch.arange(h * w, device=maps.device) % w, torch.arange(h * w, device=maps.device) // w), -1
    )
    cells = cells.to(maps.dtype)  # [h · w, 2]
    away = cells - cells[top][:, :, None]  # [N, K, h · w, 2]
    near = (away.abs() <= SIGMA).all(-1) * flat
    offset = (near[..., None] * away).sum(2) / near.sum(-1, keepdim=True).clamp(min=1e-9)
    cell_size = crops[:, None, 2:] / maps.new_tensor([w - 1, h - 1])  # [N, 1, 2]
    places = crops[:, None, :2] - crops[:, None, 2:] / 2 + (cells[top] + offset) * cell_size
    rivals = flat * (flat > 0.5 * scores[..., None])
    distance = torch.linalg.vector_norm(away * cell_size[:, :, None], dim=-1)
    apart = (distance * rivals).sum(-1) / rivals.sum(-1).clamp(min=1e-9)
    return places, scores.clamp(max=1), apart
