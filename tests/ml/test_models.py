import pytest
import torch

from ml.boxes import Targets, iou_xyxy
from ml.decode import best_of, detections_of, distances_to_xyxy, locations
from ml.models import ARCHITECTURES, Model
from ml.schema import DetectedClass, Layout

DOG = DetectedClass(5, "dog", ("nose", "tail"), flip_index=(0, 1))
LAYOUT = Layout((DetectedClass(2, "ball"), DOG))


def fresh(layout: Layout = LAYOUT) -> Model:
    torch.manual_seed(0)
    return ARCHITECTURES["dense-small"](layout)


def one_of_each() -> tuple[torch.Tensor, Targets]:
    pictures = torch.full((1, 3, 64, 96), 114.0)
    pictures[..., 8:32, 8:32] = 255
    pictures[..., 10:54, 50:90] = 20
    points = torch.zeros(1, 2, 2, 3)
    points[0, 1] = torch.tensor([[55.0, 15.0, 2.0], [85.0, 50.0, 2.0]])
    return pictures, Targets(
        boxes=torch.tensor([[[8.0, 8, 32, 32], [50, 10, 90, 54]]]),
        classes=torch.tensor([[0, 1]]),
        points=points,
        weights=torch.ones(1, 2),
        ignored=torch.zeros(1, 2, dtype=torch.bool),
    )


def test_a_gradient_reaches_every_parameter() -> None:
    model = fresh()
    pictures, targets = one_of_each()
    pictures = torch.nn.functional.pad(pictures, (0, 96, 0, 128))
    targets.boxes[0, 1] = torch.tensor([4.0, 4, 188, 188])  # so large that the coarsest level answers for it
    # the residual blocks' last norms begin at zero and let gradients through once they moved: a step first
    for _ in range(2):
        parts = model.losses(pictures, targets)
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for _, parameter in model.named_parameters():
                assert parameter.grad is not None
                parameter.sub_(1e-3 * parameter.grad)
    assert set(parts) == {"class", "box", "joints", "joint_score"}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0, name


def test_a_fresh_model_expects_nothing_anywhere() -> None:
    found, _ = fresh().train(False).detect(torch.zeros(1, 3, 64, 64), score_threshold=0.0, limit=300)
    assert found[0].scores.max() < 0.05


def test_one_batch_can_be_learnt_by_heart() -> None:
    model = fresh()
    pictures, targets = one_of_each()
    optimizer = torch.optim.AdamW([p for _, p in model.named_parameters()], lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        torch.stack(list(model.losses(pictures, targets).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():  # in training mode, as the running statistics lag behind so few steps
        [found], _ = model.detect(pictures, score_threshold=0.4, limit=10)
    assert sorted(found.classes.tolist()) == [0, 1]
    for row, channel in enumerate(found.classes.tolist()):
        assert iou_xyxy(found.boxes[row], targets.boxes[0, channel]).item() > 0.7
    dog = found.classes.tolist().index(1)
    assert (found.points[dog, :, :2] - targets.points[0, 1, :, :2]).abs().max() < 6


def test_a_project_without_joints_has_no_joint_loss() -> None:
    model = fresh(Layout((DetectedClass(1, "ball"),)))
    pictures, targets = one_of_each()
    bare = Targets(
        targets.boxes,
        torch.zeros_like(targets.classes),
        targets.points[:, :, :0],
        targets.weights,
        targets.ignored,
    )
    assert set(model.losses(pictures, bare)) == {"class", "box"}


def test_pictures_without_any_object_still_teach() -> None:
    pictures, _ = one_of_each()
    none = Targets(
        torch.zeros(1, 0, 4),
        torch.zeros(1, 0, dtype=torch.int64),
        torch.zeros(1, 0, 2, 3),
        torch.zeros(1, 0),
        torch.zeros(1, 0, dtype=torch.bool),
    )
    parts = fresh().losses(pictures, none)
    assert parts["class"].item() > 0
    assert parts["box"].item() == 0


def test_locations_are_the_centres_of_cells_row_by_row() -> None:
    centres = locations(1, 2, 8, torch.device("cpu"))
    assert centres.tolist() == [[4, 4], [12, 4]]
    boxes = distances_to_xyxy(centres, torch.tensor([[1.0, 2, 3, 4], [0, 0, 1, 1]]))
    assert boxes.tolist() == [[3, 2, 7, 8], [12, 4, 13, 5]]


@pytest.fixture
def rivals() -> dict[str, torch.Tensor]:
    """Two locations that see the same dog and place its nose 6 apart, and a ball."""
    points = torch.zeros(3, 2, 3)
    points[0] = torch.tensor([[10.0, 10, 0.9], [30, 30, 0.9]])
    points[1] = torch.tensor([[16.0, 10, 0.9], [30, 30, 0.9]])
    return {
        "scores": torch.tensor([[0.0, 0.9], [0.0, 0.6], [0.7, 0.0]]),
        "boxes": torch.tensor([[0.0, 0, 40, 30], [1, 0, 41, 30], [60, 60, 80, 80]]),
        "points": points,
        "owned": torch.tensor([[False, False], [True, True]]),
    }


def test_rivals_are_suppressed_and_what_they_say_otherwise_is_kept(rivals: dict[str, torch.Tensor]) -> None:
    found = best_of(**rivals, score_threshold=0.05, iou_threshold=0.6, candidates=100, limit=10)
    assert found.classes.tolist() == [1, 0]
    # the rival's nose is 6 off and its tail 0, it has 0.6 of 1.5 of the score, and the diagonal is 50
    assert found.spread.tolist() == pytest.approx([3 * 0.6 / 1.5 / 50, 0.0])


def test_suppressed_rivals_have_a_say_in_where_the_box_is(rivals: dict[str, torch.Tensor]) -> None:
    found = best_of(**rivals, score_threshold=0.05, iou_threshold=0.6, candidates=100, limit=10)
    # the rival lies 1 to the right; squared scores are .81 and .36
    assert found.boxes[0].tolist() == pytest.approx([0.36 / 1.17, 0, 40 + 0.36 / 1.17, 30])
    assert found.boxes[1].tolist() == pytest.approx([60, 60, 80, 80])


def test_what_is_not_suppressed_does_not_vote(rivals: dict[str, torch.Tensor]) -> None:
    found = best_of(**rivals, score_threshold=0.05, iou_threshold=1.0, candidates=100, limit=10)
    apart = torch.tensor([[0.0, 0, 40, 30], [60, 60, 80, 80], [1, 0, 41, 30]])
    torch.testing.assert_close(found.boxes, apart)


def test_a_box_without_area_stays_where_it_is(rivals: dict[str, torch.Tensor]) -> None:
    rivals["boxes"][2] = torch.tensor([60.0, 60, 60, 80])
    found = best_of(**rivals, score_threshold=0.05, iou_threshold=0.6, candidates=100, limit=10)
    assert found.boxes[1].tolist() == pytest.approx([60, 60, 60, 80])


def test_detections_come_back_in_the_pictures_own_pixels(rivals: dict[str, torch.Tensor]) -> None:
    found = best_of(**rivals, score_threshold=0.05, iou_threshold=0.6, candidates=100, limit=10)
    dog, ball = detections_of(found, LAYOUT, (0.5, 0.25), 150, 300)
    assert (dog.class_id, ball.class_id) == (5, 2)
    assert dog.xyxy == pytest.approx((2 * 0.36 / 1.17, 0, 80 + 2 * 0.36 / 1.17, 120))
    assert [point[:2] for point in dog.points] == [(20, 40), (60, 120)]
    assert ball.xyxy == (120, 240, 150, 300)
    assert ball.points == ()


def test_only_the_best_are_kept(rivals: dict[str, torch.Tensor]) -> None:
    found = best_of(**rivals, score_threshold=0.05, iou_threshold=0.6, candidates=1, limit=10)
    assert found.scores.tolist() == pytest.approx([0.9])
    found = best_of(**rivals, score_threshold=0.95, iou_threshold=0.6, candidates=9, limit=10)
    assert found.boxes.shape == (0, 4)
    assert found.spread.shape == (0,)
