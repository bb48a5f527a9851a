"""Left and right in mirrored pictures, over drawn schemas and objects."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.augment import Mirror, follow
from ml.boxes import Targets
from ml.schema import DetectedClass, Layout

WIDTH, HEIGHT = 96, 64
FLIP = torch.tensor([[[-1.0, 0, WIDTH], [0, 1, 0]]])


@st.composite
def pairings(draw: st.DrawFn, count: int) -> list[int]:
    """A mirror of `count` things: some are each other's, the rest their own."""
    order = draw(st.permutations(range(count)))
    mirror = list(range(count))
    for pair in range(draw(st.integers(0, count // 2))):
        one, other = order[2 * pair : 2 * pair + 2]
        mirror[one], mirror[other] = other, one
    return mirror


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Classes of which some mirror into each other; those then have the same joints."""
    mirror = draw(pairings(draw(st.integers(1, 5))))
    joints: dict[int, list[int]] = {}
    for channel, other in enumerate(mirror):
        joints[channel] = joints[other] if other in joints else draw(pairings(draw(st.integers(0, 5))))
    return Layout(
        tuple(
            DetectedClass(
                channel + 1,
                f"class {channel}",
                tuple(f"joint {number}" for number in range(len(joints[channel]))),
                flip_index=tuple(joints[channel]),
                mirror_id=other + 1 if other != channel else None,
            )
            for channel, other in enumerate(mirror)
        )
    )


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Layout, Targets]:
    """A picture's objects, whole and inside of it, with the joints of their classes at whole pixels."""
    layout = draw(layouts())
    count = draw(st.integers(1, 4))
    boxes, points = torch.zeros(1, count, 4), torch.zeros(1, count, layout.joint_count, 3)
    classes = torch.zeros(1, count, dtype=torch.int64)
    for row in range(count):
        x1, y1 = draw(st.integers(0, WIDTH - 8)), draw(st.integers(0, HEIGHT - 8))
        x2, y2 = draw(st.integers(x1 + 4, WIDTH)), draw(st.integers(y1 + 4, HEIGHT))
        boxes[0, row] = torch.tensor([x1, y1, x2, y2])
        channel = draw(st.integers(0, len(layout.classes) - 1))
        classes[0, row] = channel
        start = layout.joint_starts[channel]
        for joint in range(len(layout.classes[channel].joints)):
            if seen := draw(st.integers(0, 2)):
                place = (draw(st.integers(x1, x2)), draw(st.integers(y1, y2)), seen)
                points[0, row, start + joint] = torch.tensor(place)
    ones, no = torch.ones(1, count), torch.zeros(1, count, dtype=torch.bool)
    return layout, Targets(boxes, classes, points, ones, no)


def mirrored(layout: Layout, targets: Targets) -> Targets:
    mirror = Mirror.of(layout, torch.device("cpu"))
    return follow(targets, FLIP, torch.tensor([True]), (HEIGHT, WIDTH), mirror)


@settings(deadline=None, max_examples=60)
@given(scenes())
def test_mirrored_twice_is_as_before(scene: tuple[Layout, Targets]) -> None:
    layout, targets = scene
    again = mirrored(layout, mirrored(layout, targets))
    for name in ("boxes", "classes", "points", "weights", "ignored"):
        torch.testing.assert_close(getattr(again, name), getattr(targets, name))


@settings(deadline=None, max_examples=60)
@given(scenes())
def test_a_mirror_swaps_left_and_right_of_classes_and_joints(scene: tuple[Layout, Targets]) -> None:
    layout, targets = scene
    changed = mirrored(layout, targets)
    for row, channel in enumerate(targets.classes[0].tolist()):
        before = layout.classes[channel]
        wanted = before.mirror_id or before.id
        became = layout.classes[int(changed.classes[0, row])]
        assert became.id == wanted
        x1, y1, x2, y2 = targets.boxes[0, row].tolist()
        assert changed.boxes[0, row].tolist() == [WIDTH - x2, y1, WIDTH - x1, y2]
        for joint, arrives_at in enumerate(before.flip_index):
            x, y, seen = targets.points[0, row, layout.joint_starts[channel] + joint].tolist()
            arrived = changed.points[0, row, layout.joint_starts[wanted - 1] + arrives_at].tolist()
            assert arrived == ([WIDTH - x, y, seen] if seen else [0, 0, 0])
    assert int((changed.points[..., 2] > 0).sum()) == int((targets.points[..., 2] > 0).sum())
