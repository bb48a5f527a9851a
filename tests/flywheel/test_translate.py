import pytest

from flywheel import translate
from labeling.models import Image
from labeling.shapes import Box, Keypoints, Tag
from ml.schema import Detection

PICTURE = Image(sha256="a" * 64, width=100, height=80)


def objects_of(*shapes: Box | Keypoints | Tag) -> list[tuple[float, float, float, float]]:
    example = translate.example(image=PICTURE, shapes=shapes, known_classes={1, 3}, split="train", group="")
    return [item.xyxy for item in example.objects]


def test_shapes_outside_the_picture_of_removed_classes_and_tags_teach_nothing() -> None:
    assert objects_of(
        Box("a", 1, (10.0, 10.0, 20.0, 20.0)),
        Box("b", 2, (10.0, 10.0, 20.0, 20.0)),
        Box("c", 1, (110.0, 10.0, 120.0, 20.0)),
        Box("d", 1, (90.0, 70.0, 130.0, 90.0)),
        Tag("e", 1),
    ) == [(10.0, 10.0, 20.0, 20.0), (90.0, 70.0, 100.0, 80.0)]


def test_a_pose_without_a_box_gets_the_hull_of_its_joints_and_a_margin() -> None:
    pose = Keypoints("a", 3, ((30.0, 30.0, 2), (60.0, 70.0, 1), (0.0, 0.0, 0)))
    assert objects_of(pose) == [pytest.approx((24.0, 24.0, 66.0, 76.0))]
    unseen = Keypoints("b", 3, ((0.0, 0.0, 0), (0.0, 0.0, 0), (0.0, 0.0, 0)))
    assert objects_of(unseen) == []


def test_detections_become_shapes_inside_the_picture_best_first() -> None:
    joints = ((5.0, 6.0, 0.9), (7.0, 8.0, 0.3), (9.0, 9.0, 0.1))
    found = translate.shapes(
        [
            Detection(1, 0.4, (-5.0, 10.0, 20.0, 90.0)),
            Detection(3, 0.8, (1.0, 1.0, 30.0, 30.0), joints),
            Detection(1, 0.9, (200.0, 10.0, 220.0, 20.0)),
        ],
        width=100,
        height=80,
    )
    pose, box = found
    assert isinstance(pose, Keypoints)
    assert pose.points == ((5.0, 6.0, 2), (7.0, 8.0, 1), (0.0, 0.0, 0))
    assert isinstance(box, Box)
    assert (box.xyxy, box.provenance, box.score) == ((0.0, 10.0, 20.0, 80.0), "model_only", 0.4)
