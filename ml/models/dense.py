"""The built-in detector: boxes and joints from scratch, on a CPU in minutes.

A residual backbone, a feature pyramid over strides 8, 16 and 32, and a dense head shared by the levels, as in
FCOS (Tian et al. 2019): each location answers how well it sees each class, the distances to the sides of its
object, and where that object's joints are. About a million parameters.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ml.boxes import Targets
from ml.decode import Found, best_of, distances_to_xyxy, locations
from ml.losses import assign, box_loss, class_loss, joint_losses
from ml.models.base import EMBEDDING_SIZE
from ml.schema import Layout

STRIDES = (8, 16, 32)
WIDTHS = (16, 32, 64, 128, EMBEDDING_SIZE)  # channels at strides 2, 4, 8, 16 and 32
PYRAMID_WIDTH = 64
PRIOR = 0.01  # class score of a fresh model, so that the many empty locations do not drown the first steps
SPAN = 2.5  # a fresh model's box reaches this many strides to each side
LOSS_WEIGHTS = {"class": 1.0, "box": 2.0, "joints": 3.0, "joint_score": 0.5}
NMS_IOU = 0.6
CANDIDATES = 1000


def conv_norm(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two convolutions beside a shortcut; the second starts at zero, so a fresh block changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv_norm(width, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.second(self.first(x))))


class Backbone(nn.Module):
    """[B, 3, H, W] → features at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, WIDTHS[0], stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(conv_norm(narrow, wide, stride=2), Residual(wide))
            for narrow, wide in pairwise(WIDTHS)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[1:]


class Pyramid(nn.Module):
    """What the coarse levels understand, added to what the fine levels see (Lin et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, PYRAMID_WIDTH, 1) for width in WIDTHS[2:])
        self.smooth = nn.ModuleList(conv_norm(PYRAMID_WIDTH, PYRAMID_WIDTH) for _ in STRIDES)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        levels = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        for fine in range(len(levels) - 2, -1, -1):
            levels[fine] = levels[fine] + twice_as_large(levels[fine + 1])
        return [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]


def twice_as_large(x: Tensor) -> Tensor:
    """Nearest neighbour [B, C, H, W] → [B, C, 2H, 2W]; its gradient is deterministic on a GPU too."""
    B, C, H, W = x.shape
    return x[:, :, :, None, :, None].expand(B, C, H, 2, W, 2).reshape(B, C, 2 * H, 2 * W)


class Tower(nn.Module):
    """Convolutions shared by the levels; each level keeps its own normalisation, as their statistics differ."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(PYRAMID_WIDTH, PYRAMID_WIDTH, 3, padding=1, bias=False) for _ in range(depth)
        )
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(PYRAMID_WIDTH) for _ in range(depth)) for _ in STRIDES
        )

    def forward(self, x: Tensor, level: int) -> Tensor:
        norms = self.norms[level]
        assert isinstance(norms, nn.ModuleList)
        for conv, norm in zip(self.convs, norms, strict=True):
            x = F.relu(norm(conv(x)))
        return x


class DenseDetector(nn.Module):
    """See the module's docstring; `ml.models.base.Model` says what the methods promise."""

    stride = STRIDES[-1]
    outputs = ("logits", "boxes", "joints", "centres", "embedding")

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.backbone = Backbone()
        self.pyramid = Pyramid()
        self.class_tower = Tower(2)
        self.place_tower = Tower(2)
        self.class_head = nn.Conv2d(PYRAMID_WIDTH, len(layout.classes), 3, padding=1)
        self.box_head = nn.Conv2d(PYRAMID_WIDTH, 4, 3, padding=1)
        self.joint_head = (
            nn.Conv2d(PYRAMID_WIDTH, 3 * layout.joint_count, 3, padding=1) if layout.joint_count else None
        )
        for head in (self.class_head, self.box_head, self.joint_head):
            if head is None:
                continue
            nn.init.normal_(head.weight, std=0.01)
            assert head.bias is not None
            nn.init.zeros_(head.bias)
        assert self.class_head.bias is not None
        nn.init.constant_(self.class_head.bias, -math.log((1 - PRIOR) / PRIOR))
        owned = torch.zeros(len(layout.classes), layout.joint_count, dtype=torch.bool)
        for channel, (start, item) in enumerate(zip(layout.joint_starts, layout.classes, strict=True)):
            owned[channel, start : start + len(item.joints)] = True
        self.register_buffer("joint_owned", owned, persistent=False)

    def rows_of(self, name: str) -> str:
        return {"class_head": "classes", "joint_head": "joints"}.get(name.partition(".")[0], "")

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Logits [B, A, C], boxes [B, A, 4], joints [B, A, K, 3], centres [A, 2], embedding [B, 128].

        Joints are x, y and a logit; boxes, joints and centres are in the pictures' pixels.
        """
        features = self.backbone((pictures.float() - 114.0) / 57.0)
        B, K = pictures.shape[0], self.layout.joint_count  # `len` would fix the batch of an export
        logits, boxes, joints, centres = [], [], [], []
        for level, (stride, feature) in enumerate(zip(STRIDES, self.pyramid(features), strict=True)):
            centre = locations(feature.shape[2], feature.shape[3], stride, feature.device)
            seen = self.class_tower(feature, level)
            place = self.place_tower(feature, level)
            logits.append(self.class_head(seen).flatten(2).transpose(1, 2).float())
            reach = self.box_head(place).flatten(2).transpose(1, 2).float()
            boxes.append(distances_to_xyxy(centre, reach.clamp(max=6.0).exp() * (SPAN * stride)))
            if self.joint_head is not None:
                joint = self.joint_head(place).flatten(2).transpose(1, 2).float().reshape(B, -1, K, 3)
                at = centre[None, :, None] + joint[..., :2] * (SPAN * stride)
                joints.append(torch.cat((at, joint[..., 2:]), -1))
            else:
                joints.append(reach.new_zeros(B, centre.shape[0], 0, 3))
            centres.append(centre)
        embedding = F.normalize(features[-1].float().mean((2, 3)), dim=1)
        return torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(joints, 1), torch.cat(centres), embedding

    def losses(self, pictures: Tensor, targets: Targets) -> dict[str, Tensor]:
        logits, boxes, joints, centres, _ = self(pictures)
        assignment = assign(
            logits.detach().sigmoid(), boxes.detach(), centres, targets, smallest=1.5 * STRIDES[0]
        )
        scale = assignment.quality.sum().clamp(min=1.0)
        parts = {"class": class_loss(logits, targets, assignment)}
        picture, location, owner = assignment.picture, assignment.location, assignment.owner
        quality = assignment.quality
        wanted = targets.boxes[picture, owner]
        parts["box"] = box_loss(boxes[picture, location], wanted, quality)
        if self.layout.joint_count:
            owned_by_class = self.joint_owned
            assert isinstance(owned_by_class, Tensor)
            found = joints[picture, location]
            parts["joints"], parts["joint_score"] = joint_losses(
                found[..., :2],
                found[..., 2],
                targets.points[picture, owner],
                owned_by_class[targets.classes[picture, owner]],
                wanted,
                quality,
            )
        return {name: LOSS_WEIGHTS[name] * part / scale for name, part in parts.items()}

    @torch.no_grad()
    def detect(self, pictures: Tensor, *, score_threshold: float, limit: int) -> tuple[list[Found], Tensor]:
        logits, boxes, joints, _, embedding = self(pictures)
        scores = logits.sigmoid()
        owned = self.joint_owned
        assert isinstance(owned, Tensor)
        points = torch.cat((joints[..., :2], joints[..., 2:].sigmoid()), -1)
        found = [
            best_of(
                scores[index],
                boxes[index],
                points[index],
                owned,
                score_threshold=score_threshold,
                iou_threshold=NMS_IOU,
                candidates=CANDIDATES,
                limit=limit,
            )
            for index in range(len(pictures))
        ]
        return found, embedding
