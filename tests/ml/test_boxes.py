import numpy as np
import pytest
import torch

from ml.boxes import cxcywh_to_xyxy, giou_xyxy, iou_xyxy, nms_xyxy, xyxy_to_cxcywh


def random_boxes(count: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * 20
    return torch.cat((corner, corner + 1 + torch.rand(count, 2, generator=random) * 10), 1)


@pytest.mark.parametrize(
    ("first", "second", "iou", "giou"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0, 1.0),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7, 1 / 7 - 2 / 9),
        ((0, 0, 1, 1), (3, 0, 4, 1), 0.0, -0.5),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0, 0.0),
    ],
)
def test_overlaps_worked_by_hand(
    first: tuple[float, ...], second: tuple[float, ...], iou: float, giou: float
) -> None:
    a, b = torch.tensor(first).float(), torch.tensor(second).float()
    assert iou_xyxy(a, b).item() == pytest.approx(iou)
    assert giou_xyxy(a, b).item() == pytest.approx(giou)
    assert giou_xyxy(b, a).item() == pytest.approx(giou)


def test_centre_and_size_come_back_as_corners() -> None:
    boxes = random_boxes(50, 0)
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)


@pytest.mark.parametrize("seed", range(5))
def test_suppression_at_once_is_the_greedy_one(seed: int) -> None:
    boxes = random_boxes(120, seed)
    random = np.random.default_rng(seed)
    scores = torch.from_numpy(random.random(120))
    groups = torch.from_numpy(random.integers(0, 3, 120))
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        rivals = [other for other in kept if groups[other] == groups[index]]
        if all(iou_xyxy(boxes[index], boxes[other]).item() <= 0.4 for other in rivals):
            kept.append(index)
    assert nms_xyxy(boxes, scores, groups, iou_threshold=0.4).tolist() == kept


def test_suppressing_nothing_is_nothing() -> None:
    none = nms_xyxy(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), iou_threshold=0.5)
    assert none.shape == (0,)
