"""Boxes as tensors, and the labels of a batch.

Names say the format: `xyxy` is left, top, right, bottom and `cxcywh` is centre and size, in continuous
pixels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """The labels of B pictures, padded to M objects; K joints are those of all classes, one after another."""

    boxes: Tensor  # [B, M, 4] float, xyxy in the batch's pixels
    classes: Tensor  # [B, M] int64, the class's channel
    points: Tensor  # [B, M, K, 3] float: x, y, visibility; 0 where the object's class has no such joint
    weights: Tensor  # [B, M] float in [0, 1]: how sure the label is; 0 pads
    ignored: Tensor  # [B, M] bool: nothing inside is asked for, nor counted as a mistake

    def to(self, device: torch.device) -> "Targets":
        return replace(
            self,
            boxes=self.boxes.to(device),
            classes=self.classes.to(device),
            points=self.points.to(device),
            weights=self.weights.to(device),
            ignored=self.ignored.to(device),
        )

    def rows(self, part: slice) -> "Targets":
        """Those of some of the pictures."""
        return Targets(
            self.boxes[part], self.classes[part], self.points[part], self.weights[part], self.ignored[part]
        )


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """[..., 4] → [..., 4].

    >>> xyxy_to_cxcywh(torch.tensor([0.0, 0.0, 4.0, 2.0])).tolist()
    [2.0, 1.0, 4.0, 2.0]
    """
    corner, opposite = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((corner + opposite) / 2, opposite - corner), -1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """[..., 4] → [..., 4]; the inverse of `xyxy_to_cxcywh`."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), -1)


def area_xyxy(boxes: Tensor) -> Tensor:
    """[..., 4] → [...]; 0 where the corners are the wrong way round."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def iou_xyxy(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes that broadcast: [..., 4], [..., 4] → [...] in [0, 1].

    Two boxes without area have IoU 0. For a matrix give `first[:, None]` and `second[None]`.

    >>> round(iou_xyxy(torch.tensor([0., 0., 2., 2.]), torch.tensor([1., 0., 3., 2.])).item(), 4)
    0.3333
    """
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = area_xyxy(first) + area_xyxy(second) - common
    return common / union.clamp(min=1e-9)


def giou_xyxy(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019), boxes that broadcast: [..., 4], [..., 4] → [...] in (-1, 1].

    >>> round(giou_xyxy(torch.tensor([0., 0., 1., 1.]), torch.tensor([2., 0., 3., 1.])).item(), 4)
    -0.3333
    """
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = (area_xyxy(first) + area_xyxy(second) - common).clamp(min=1e-9)
    hull_low = torch.minimum(first[..., :2], second[..., :2])
    hull_high = torch.maximum(first[..., 2:], second[..., 2:])
    hull = (hull_high - hull_low).clamp(min=0).prod(-1).clamp(min=1e-9)
    return common / union - (hull - union) / hull


def nms_xyxy(boxes: Tensor, scores: Tensor, groups: Tensor, *, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression inside each group: [N, 4], [N], [N] → kept indices, best score first.

    A box is dropped if a kept box of its group with a higher score overlaps it by more than `iou_threshold`.
    Greedy suppression is the only fixed point of "kept if no kept better box overlaps", so the rule is
    applied to all boxes at once until nothing changes: a few passes over an N × N matrix instead of a loop
    over N.
    """
    order = scores.argsort(descending=True, stable=True)
    ranked, group = boxes[order], groups[order]
    overlaps = iou_xyxy(ranked[:, None], ranked[None]) > iou_threshold
    suppresses = (overlaps & (group[:, None] == group[None])).triu(diagonal=1)  # [better, worse]
    kept = torch.ones_like(order, dtype=torch.bool)
    while True:
        still_kept = ~(suppresses & kept[:, None]).any(0)
        if torch.equal(still_kept, kept):
            return order[kept]
        kept = still_kept
