import pytest
import torch

from ml.augment import Chances, Mirror, change, follow, tile
from ml.boxes import Targets
from ml.schema import DetectedClass, Layout

LAYOUT = Layout(
    (
        DetectedClass(1, "left glove", mirror_id=2),
        DetectedClass(2, "right glove", mirror_id=1),
        DetectedClass(3, "face", ("nose", "left eye", "right eye"), flip_index=(0, 2, 1)),
    )
)
MIRROR = Mirror.of(LAYOUT, torch.device("cpu"))


def one(box: tuple[float, float, float, float], channel: int = 0) -> Targets:
    points = torch.zeros(1, 1, 3, 3)
    if channel == 2:
        points[0, 0] = torch.tensor([[10, 12, 2], [14, 8, 2], [6, 8, 1]])
    return Targets(
        boxes=torch.tensor([[box]]).float(),
        classes=torch.tensor([[channel]]),
        points=points,
        weights=torch.ones(1, 1),
        ignored=torch.zeros(1, 1, dtype=torch.bool),
    )


def mirrored(targets: Targets, width: float) -> Targets:
    forward = torch.tensor([[[-1.0, 0, width], [0, 1, 0]]])
    return follow(targets, forward, torch.tensor([True]), (64, 64), MIRROR)


def test_a_mirrored_left_glove_is_a_right_glove() -> None:
    changed = mirrored(one((4, 6, 10, 12)), 64)
    assert changed.classes.item() == 1
    assert changed.boxes.flatten().tolist() == [54, 6, 60, 12]


def test_a_mirrored_face_swaps_its_eyes() -> None:
    changed = mirrored(one((2, 2, 18, 18), 2), 64)
    nose, left, right = changed.points[0, 0].tolist()
    assert nose == [54, 12, 2]
    assert left == [58, 8, 1]
    assert right == [50, 8, 2]
    again = mirrored(changed, 64)
    torch.testing.assert_close(again.points, one((2, 2, 18, 18), 2).points)


@pytest.mark.parametrize("seed", range(12))
def test_a_box_stays_around_what_it_was_drawn_around(seed: int) -> None:
    picture = torch.full((1, 3, 48, 64), 114.0)
    picture[:, :, 10:26, 20:44] = 255
    random = torch.Generator().manual_seed(seed)
    chances = Chances(turns=True, scale=(0.6, 1.6), colour=0)
    view, targets = change(picture, one((20, 10, 44, 26)), (64, 64), MIRROR, chances, random)
    bright = (view[0, 0] > 185).nonzero()
    if targets.weights.item() == 0:
        assert len(bright) < 0.05 * view[0, 0].numel()
        return
    y1, x1 = (bright.amin(0) + 0.0).tolist()
    y2, x2 = (bright.amax(0) + 1.0).tolist()
    assert targets.boxes.flatten().tolist() == pytest.approx([x1, y1, x2, y2], abs=1.1)


def test_an_object_that_is_mostly_cropped_is_no_longer_asked_for() -> None:
    forward = torch.tensor([[[1.0, 0, -16], [0, 1, 0]]])
    changed = follow(one((0, 0, 20, 20), 2), forward, torch.tensor([False]), (64, 64), MIRROR)
    assert changed.ignored.item()
    assert changed.points[..., 2].sum() == 0
    far = torch.tensor([[[1.0, 0, -60], [0, 1, 0]]])
    gone = follow(one((0, 0, 20, 20)), far, torch.tensor([False]), (64, 64), MIRROR)
    assert gone.weights.item() == 0
    assert not gone.ignored.item()


def test_a_mosaic_puts_four_pictures_and_their_labels_together() -> None:
    pictures = torch.arange(4).reshape(4, 1, 1, 1).expand(4, 3, 32, 64)
    four = one((1, 2, 5, 6))
    stacked = Targets(
        *(getattr(four, name).repeat(4, *[1] * (getattr(four, name).ndim - 1))
          for name in ("boxes", "classes", "points", "weights", "ignored"))
    )  # fmt: skip
    tiled, targets = tile(pictures, stacked)
    assert tiled.shape == (1, 3, 64, 128)
    assert [tiled[0, 0, y, x].item() for y in (0, 63) for x in (0, 127)] == [0, 1, 2, 3]
    assert targets.boxes[0, :, :2].tolist() == [[1, 2], [65, 2], [1, 34], [65, 34]]


def test_without_chances_nothing_changes() -> None:
    picture = torch.rand(1, 3, 32, 32) * 255
    random = torch.Generator().manual_seed(0)
    still = Chances(mirror=0, scale=(1, 1), colour=0, stretch=0)
    view, targets = change(picture, one((3, 4, 9, 8)), (32, 32), MIRROR, still, random)
    torch.testing.assert_close(view, picture, atol=0.01, rtol=0)
    torch.testing.assert_close(targets.boxes, one((3, 4, 9, 8)).boxes)


def test_colours_stay_in_range() -> None:
    picture = torch.rand(4, 3, 32, 32) * 255
    random = torch.Generator().manual_seed(0)
    many = Targets(*(torch.cat([getattr(one((3, 4, 9, 8)), name)] * 4)
                     for name in ("boxes", "classes", "points", "weights", "ignored")))  # fmt: skip
    view, _ = change(picture, many, (32, 32), MIRROR, Chances(colour=0.9), random)
    assert view.min() >= 0
    assert view.max() <= 255
