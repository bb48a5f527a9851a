"""Task-aligned assignment, and the losses of the dense detector.

Shapes: B pictures, M labelled objects (padded), A locations over all levels, C classes, K joints.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ml.boxes import Targets, area_xyxy, giou_xyxy, iou_xyxy, xyxy_to_cxcywh

OKS_SIGMA = 0.075
"""How far a joint may be off, as a share of the object's scale; about the mean of COCO's seventeen."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The P locations that should answer for an object, and those that are not asked at all."""

    picture: Tensor  # [P] int64
    location: Tensor  # [P] int64
    owner: Tensor  # [P] int64: the object's place among its picture's targets
    quality: Tensor  # [P] float in [0, 1]: the class score that the location should give
    unasked: Tensor  # [B, A] bool: inside an ignored region, so no answer is wrong


@torch.no_grad()
def assign(
    scores: Tensor,  # [B, A, C] in [0, 1]
    boxes: Tensor,  # [B, A, 4] xyxy
    centres: Tensor,  # [A, 2]
    targets: Targets,
    *,
    smallest: float,
    top: int = 10,
    score_power: float = 0.5,
    iou_power: float = 6.0,
) -> Assignment:
    """Task-aligned assignment (TOOD, Feng et al. 2021).

    Of the locations inside an object (one smaller than `smallest` pixels is widened to that), the `top` with
    the highest score^a · IoU^b become positive. A location wanted by several objects goes to the best
    overlap. Pairs of location and object are kept as lists: few of all pairs are inside, and memory traffic
    is what a CPU waits for.
    """
    B, A = scores.shape[:2]
    slots = ((targets.weights > 0) & ~targets.ignored).nonzero()  # [N, 2]: picture, slot
    inside = _inside(targets.boxes[slots[:, 0], slots[:, 1]], centres, smallest)  # [N, A]
    which, location = inside.nonzero(as_tuple=True)
    picture, owner = slots[which].unbind(-1)
    iou = iou_xyxy(targets.boxes[picture, owner], boxes[picture, location])
    score = scores[picture, location, targets.classes[picture, owner]]
    alignment = score.pow(score_power) * iou.pow(iou_power)

    table = torch.full(inside.shape, -1.0, device=scores.device)
    table[which, location] = alignment
    best = table.topk(min(top, A), dim=-1).indices
    among_best = torch.zeros_like(inside).scatter_(-1, best, True)
    chosen = among_best[which, location]

    place = picture * A + location
    iou_here = torch.where(chosen, iou, -1.0)
    most = _peak(iou_here, place, B * A)
    wins = chosen & (iou_here == most[place])
    first = _peak(torch.where(wins, -which.float(), -torch.inf), place, B * A)  # two equal boxes: the first
    wins &= first[place] == -which.float()

    which, picture, location, owner = which[wins], picture[wins], location[wins], owner[wins]
    iou, alignment = iou[wins], alignment[wins]
    peak = _peak(alignment, which, len(slots)).clamp(min=1e-9)
    best_iou = _peak(iou, which, len(slots))
    quality = alignment / peak[which] * best_iou[which] * targets.weights[picture, owner]
    return Assignment(picture, location, owner, quality, _unasked(targets, centres))


def class_loss(logits: Tensor, targets: Targets, assignment: Assignment) -> Tensor:
    """Cross entropy to the soft quality of the assigned class: [B, A, C] → sum over everything."""
    wanted = torch.zeros_like(logits)
    channel = targets.classes[assignment.picture, assignment.owner]
    wanted[assignment.picture, assignment.location, channel] = assignment.quality
    loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    asked = ~assignment.unasked
    asked[assignment.picture, assignment.location] = True
    return (loss * asked[..., None]).sum()


def box_loss(boxes: Tensor, wanted: Tensor, quality: Tensor) -> Tensor:
    """1 − GIoU weighted by quality: [P, 4], [P, 4], [P] → sum over the positive locations."""
    return ((1 - giou_xyxy(boxes, wanted)) * quality).sum()


def joint_error(points: Tensor, wanted: Tensor, boxes: Tensor) -> Tensor:
    """COCO's e = d² / (2 s² (2σ)²), so that OKS is mean exp(−e): [P, K, 2] × 2, [P, 4] → [P, K]."""
    scale_squared = area_xyxy(boxes).clamp(min=1.0)[:, None]
    return (points - wanted).square().sum(-1) / (2 * scale_squared * (2 * OKS_SIGMA) ** 2)


def joint_losses(
    points: Tensor,  # [P, K, 2]
    logits: Tensor,  # [P, K]
    wanted: Tensor,  # [P, K, 3]
    owned: Tensor,  # [P, K] bool: the joint belongs to the object's class
    boxes: Tensor,  # [P, 4]
    quality: Tensor,  # [P]
) -> tuple[Tensor, Tensor]:
    """(place, score): OKS with a slope far away too; and whether a joint is there and well placed.

    exp(−e) is flat where a fresh model's guesses are, so ln(1 + e) pulls from afar and 1 − exp(−e) settles.
    """
    known = wanted[..., 2] > 0
    error = joint_error(points, wanted[..., :2], boxes)
    count = known.sum(-1).clamp(min=1)
    place = ((torch.log1p(error) + 1 - torch.exp(-error)) * known).sum(-1) / count
    placed_well = torch.exp(-error.detach()) * known
    score = F.binary_cross_entropy_with_logits(logits, placed_well, reduction="none") * owned
    score = score.sum(-1) / owned.sum(-1).clamp(min=1)
    return (place * quality).sum(), (score * quality).sum()


def _inside(boxes: Tensor, centres: Tensor, smallest: float) -> Tensor:
    """Which locations lie in which box: [N, 4], [A, 2] → [N, A]."""
    shape = xyxy_to_cxcywh(boxes)
    half = shape[:, 2:].clamp(min=smallest) / 2
    across = (centres[None, :, 0] - shape[:, :1]).abs() < half[:, :1]
    return across & ((centres[None, :, 1] - shape[:, 1:2]).abs() < half[:, 1:])


def _unasked(targets: Targets, centres: Tensor) -> Tensor:
    B, A = len(targets.classes), len(centres)
    unasked = torch.zeros(B, A, dtype=torch.bool, device=centres.device)
    for picture, slot in targets.ignored.nonzero().tolist():
        unasked[picture] |= _inside(targets.boxes[picture, slot][None], centres, 0.0)[0]
    return unasked


def _peak(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """The highest value of each group: [P], [P] → [count]; −∞ where a group is empty."""
    lowest = torch.full((count,), -torch.inf, device=values.device)
    return lowest.scatter_reduce(0, groups, values, "amax")
