import torch
from torch import Tensor

from ml.boxes import Targets
from ml.decode import locations
from ml.losses import assign, class_loss, joint_losses

CENTRES = locations(4, 4, 8, torch.device("cpu"))  # a picture of 32 × 32


def targets(
    *boxes: tuple[float, float, float, float], ignored: int | None = None, weight: float = 1.0
) -> Targets:
    count = len(boxes)
    return Targets(
        boxes=torch.tensor(boxes).float().reshape(1, count, 4),
        classes=torch.arange(count).reshape(1, count) % 2,
        points=torch.zeros(1, count, 0, 3),
        weights=torch.full((1, count), weight),
        ignored=torch.tensor([[index == ignored for index in range(count)]], dtype=torch.bool).reshape(
            1, count
        ),
    )


def guesses(box: tuple[float, float, float, float]) -> tuple[Tensor, Tensor]:
    """Every location answers the same box, and each class half."""
    return torch.full((1, 16, 2), 0.5), torch.tensor(box).float().expand(1, 16, 4)


def test_only_locations_inside_an_object_answer_for_it() -> None:
    scores, boxes = guesses((0, 0, 16, 16))
    found = assign(scores, boxes, CENTRES, targets((0, 0, 16, 16)), smallest=8)
    assert sorted(found.location.tolist()) == [0, 1, 4, 5]
    torch.testing.assert_close(found.quality, torch.ones(4))


def test_a_location_wanted_twice_goes_to_the_better_overlap() -> None:
    scores, boxes = guesses((0, 0, 16, 16))
    found = assign(scores, boxes, CENTRES, targets((0, 0, 32, 32), (0, 0, 16, 16)), smallest=8)
    owners = dict(zip(found.location.tolist(), found.owner.tolist(), strict=True))
    assert all(owners[place] == 1 for place in (0, 1, 4, 5))
    assert set(owners.values()) == {0, 1}


def test_an_object_smaller_than_a_cell_still_gets_a_location() -> None:
    scores, boxes = guesses((6, 6, 9, 9))
    assert len(assign(scores, boxes, CENTRES, targets((6, 6, 9, 9)), smallest=12).location) == 4


def test_an_unsure_label_asks_for_a_lower_score() -> None:
    scores, boxes = guesses((0, 0, 16, 16))
    found = assign(scores, boxes, CENTRES, targets((0, 0, 16, 16), weight=0.6), smallest=8)
    torch.testing.assert_close(found.quality, torch.full((4,), 0.6))


def test_an_ignored_region_neither_answers_nor_counts_as_wrong() -> None:
    scores, boxes = guesses((0, 0, 16, 16))
    crowd = targets((0, 0, 16, 16), ignored=0)
    found = assign(scores, boxes, CENTRES, crowd, smallest=8)
    assert len(found.location) == 0
    logits = torch.zeros(1, 16, 2)
    everywhere = class_loss(logits, targets(), assign(scores, boxes, CENTRES, targets(), smallest=8))
    assert class_loss(logits, crowd, found).item() < everywhere.item()
    assert found.unasked.sum() == 4


def test_a_picture_without_objects_has_a_loss_and_no_answers() -> None:
    scores, boxes = guesses((0, 0, 16, 16))
    found = assign(scores, boxes, CENTRES, targets(), smallest=8)
    assert len(found.location) == 0
    assert class_loss(torch.zeros(1, 16, 2), targets(), found).item() > 0


def test_a_joint_far_away_still_pulls() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    wanted = torch.tensor([[[5.0, 5.0, 2.0]]])
    pulls = []
    for start in (15.0, 500.0):
        place = torch.full((1, 1, 2), start, requires_grad=True)
        loss, _ = joint_losses(
            place, torch.zeros(1, 1), wanted, torch.ones(1, 1, dtype=torch.bool), boxes, torch.ones(1)
        )
        loss.backward()  # type: ignore[no-untyped-call]
        assert place.grad is not None
        pulls.append(place.grad.abs().sum().item())
    assert all(pull > 1e-3 for pull in pulls)


def test_an_absent_joint_has_no_place_to_be_at_but_a_score_to_lose() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    owned = torch.ones(1, 1, dtype=torch.bool)
    place, score = joint_losses(
        torch.zeros(1, 1, 2), torch.full((1, 1), 3.0), torch.zeros(1, 1, 3), owned, boxes, torch.ones(1)
    )
    assert place.item() == 0
    assert score.item() > 3
