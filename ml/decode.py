"""From a dense head's raw answers to detections."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ml.boxes import iou_xyxy, nms_xyxy
from ml.schema import Detection, Layout

VOTE_IOU = 0.65
"""A suppressed candidate that overlaps the kept one by more than this has a say in where its box is."""


@dataclass(frozen=True, slots=True)
class Found:
    """The N detections of one picture, best first, in the batch's pixels."""

    boxes: Tensor  # [N, 4] xyxy
    scores: Tensor  # [N]
    classes: Tensor  # [N] int64, the class's channel
    points: Tensor  # [N, K, 3]: x, y, score of every joint channel
    spread: Tensor  # [N]: how far rival candidates place the same joints, in box diagonals


def locations(rows: int, columns: int, stride: int, device: torch.device) -> Tensor:
    """Centres of the cells of one level, row by row: [rows · columns, 2] as x, y."""
    y = (torch.arange(rows, device=device) + 0.5) * stride
    x = (torch.arange(columns, device=device) + 0.5) * stride
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)


def distances_to_xyxy(centres: Tensor, distances: Tensor) -> Tensor:
    """[A, 2] and [..., A, 4] as left, top, right, bottom → [..., A, 4] xyxy."""
    return torch.cat((centres - distances[..., :2], centres + distances[..., 2:]), -1)


def best_of(
    scores: Tensor,  # [A, C]
    boxes: Tensor,  # [A, 4]
    points: Tensor,  # [A, K, 3]
    owned: Tensor,  # [C, K] bool: which joints a class has
    *,
    score_threshold: float,
    iou_threshold: float,
    candidates: int,
    limit: int,
) -> Found:
    """Threshold, best `candidates`, suppression per class, best `limit`, their boxes by vote."""
    flat = scores.flatten()
    above = (flat > score_threshold).nonzero().squeeze(1)
    if len(above) > candidates:
        above = above[flat[above].topk(candidates).indices]
    location = above // scores.shape[1]
    channel = above % scores.shape[1]
    kept = nms_xyxy(boxes[location], flat[above], channel, iou_threshold=iou_threshold)[:limit]
    chosen = location[kept]
    return Found(
        boxes=_voted(boxes[location], channel, flat[above], kept, max(iou_threshold, VOTE_IOU)),
        scores=flat[above][kept],
        classes=channel[kept],
        points=points[chosen],
        spread=_spread(
            boxes[location], points[location], owned[channel], channel, flat[above], kept, iou_threshold
        ),
    )


def detections_of(
    found: Found, layout: Layout, scale_xy: tuple[float, float], width: int, height: int
) -> list[Detection]:
    """In the oriented picture's pixels, clipped to it. `scale_xy` is batch pixels per picture pixel."""
    scale = torch.tensor(scale_xy)
    boxes = (found.boxes.cpu().double().reshape(-1, 2, 2) / scale).clamp(min=0)
    boxes = boxes.minimum(torch.tensor([float(width), float(height)])).reshape(-1, 4)
    places = (found.points[..., :2].cpu().double() / scale).clamp(min=0)
    places = places.minimum(torch.tensor([float(width), float(height)]))
    joints = torch.cat((places, found.points[..., 2:].cpu().double()), -1).tolist()
    detections = []
    rows = zip(boxes.tolist(), found.scores.tolist(), found.classes.tolist(), joints, strict=True)
    for (x1, y1, x2, y2), score, channel, points in rows:
        item, start = layout.classes[channel], layout.joint_starts[channel]
        own = tuple((x, y, seen) for x, y, seen in points[start : start + len(item.joints)])
        detections.append(Detection(item.id, score, (x1, y1, x2, y2), own))
    return detections


def _voted(
    boxes: Tensor,  # [N, 4]
    channel: Tensor,  # [N]
    scores: Tensor,  # [N]
    kept: Tensor,  # [kept]
    vote_iou: float,
) -> Tensor:
    """Each kept box as the mean of its class's candidates in the same place, by squared score: [kept, 4].

    Box voting (Gidaris & Komodakis 2015): neighbouring cells err differently about the same object's edges.
    """
    near = iou_xyxy(boxes[kept][:, None], boxes[None]) > vote_iou
    weight = scores.square()[None] * (near & (channel[kept][:, None] == channel[None]))
    weight[torch.arange(len(kept), device=kept.device), kept] = scores[kept].square()  # also without area
    voted: Tensor = weight @ boxes / weight.sum(-1, keepdim=True)
    return voted


def _spread(
    boxes: Tensor,  # [N, 4]
    points: Tensor,  # [N, K, 3]
    owned: Tensor,  # [N, K] bool
    channel: Tensor,  # [N]
    scores: Tensor,  # [N]
    kept: Tensor,  # [kept]
    iou_threshold: float,
) -> Tensor:
    """How far the candidates that a kept detection suppressed disagree with it about its joints: [kept]."""
    if points.shape[1] == 0 or len(kept) == 0:
        return torch.zeros(len(kept), device=boxes.device)
    rivals = iou_xyxy(boxes[kept][:, None], boxes[None]) > iou_threshold
    weight = scores[None] * (rivals & (channel[kept][:, None] == channel[None]))  # [kept, N]
    apart = torch.linalg.vector_norm(points[kept][:, None, :, :2] - points[None, :, :, :2], dim=-1)
    seen = points[kept][..., 2] * owned[kept]  # [kept, K]
    share = seen / seen.sum(-1, keepdim=True).clamp(min=1e-6)
    mean = (apart * share[:, None]).sum(-1)
    diagonal = torch.linalg.vector_norm(boxes[kept][:, 2:] - boxes[kept][:, :2], dim=-1)
    spread: Tensor = (mean * weight).sum(-1) / weight.sum(-1).clamp(min=1e-6) / diagonal.clamp(min=1.0)
    return spread
