"""What can be known before training starts."""

import math
from collections.abc import Callable, Sequence
from typing import Final

from ml.models import PRETRAINED, UnusableArchitecture, architecture
from ml.schema import XYXY, Example, Layout, Snapshot
from ml.training.config import TrainConfig
from ml.training.errors import TrainingRefused

LEAST_BOXES: Final = 10
MOSTLY: Final = 0.95
"""A share of boxes above which single ones are the mistake, and below which it is how they were read."""


def check(snapshot: Snapshot, config: TrainConfig) -> tuple[str, ...]:
    """What can be known before training starts: raises `TrainingRefused`, returns warnings."""
    try:
        architecture(config.architecture)
    except UnusableArchitecture as error:
        raise TrainingRefused(str(error)) from error
    if config.steps < 1 or config.batch < 1 or config.side < 64:
        raise TrainingRefused("Steps and batch must be at least 1, and the side at least 64 pixels.")
    if not snapshot.classes:
        raise TrainingRefused("The project has no class to learn; add one to its schema.")
    layout = Layout(snapshot.classes)
    for item in snapshot.classes:
        if item.mirror_id is not None and item.mirror_id not in layout.channel_of:
            raise TrainingRefused(
                f"Class {item.name!r} mirrors into class {item.mirror_id}, which is not there."
            )
        if item.flip_index and sorted(item.flip_index) != list(range(len(item.joints))):
            raise TrainingRefused(f"The left/right pairs of class {item.name!r} do not fit its joints.")
    for names in (layout.class_mirror, layout.joint_mirror):
        if sorted(names) != list(range(len(names))):
            raise TrainingRefused(
                "Two classes mirror into the same class; make left and right each other's mirror."
            )

    train = snapshot.split("train")
    _refuse_other_formats(train)
    counts = dict.fromkeys(layout.channel_of, 0)
    for example in train:
        for number, found in enumerate(example.objects, start=1):
            where = f"object {number} of picture {example.sha256[:12]}"
            if found.class_id not in counts:
                raise TrainingRefused(f"{where} has class {found.class_id}, which the schema does not have.")
            counts[found.class_id] += 1
            x1, y1, x2, y2 = found.xyxy
            if not all(map(math.isfinite, found.xyxy)) or x2 <= x1 or y2 <= y1:
                raise TrainingRefused(
                    f"The box of {where} has no area: {found.xyxy}. Draw it again or delete it."
                )
            if x2 <= 0 or y2 <= 0 or x1 >= example.width or y1 >= example.height:
                raise TrainingRefused(
                    f"The box of {where} lies outside of it: {found.xyxy}, "
                    f"but the picture has {example.width} × {example.height} pixels."
                )
            if len(found.points) not in (0, len(layout.classes[layout.channel_of[found.class_id]].joints)):
                raise TrainingRefused(f"The joints of {where} are not those of its class.")
    if not train:
        raise TrainingRefused(
            "class_counts: No picture is labelled for training yet; settle some labels first."
        )
    if not any(counts.values()):
        raise TrainingRefused("class_counts: No training picture has an object on it; label some that do.")
    return _about_the_rate(config) + tuple(
        f"class_counts: Class {item.name!r} has no training object, so the model cannot find it."
        for item in snapshot.classes
        if not counts[item.id]
    )


def _about_the_rate(config: TrainConfig) -> tuple[str, ...]:
    if not config.architecture.startswith(PRETRAINED) or config.learning_rate <= 5e-4:
        return ()
    return (
        f"The learning rate {config.learning_rate:g} suits a model from scratch and unlearns what weights from "
        "elsewhere know; 1e-4 is usual for them.",
    )


def _refuse_other_formats(train: Sequence[Example]) -> None:
    """Many boxes that cannot be are not many mistakes but one: of what the four numbers mean."""
    boxes = [(item.xyxy, example) for example in train for item in example.objects]
    if len(boxes) < LEAST_BOXES:
        return
    if all(max(map(abs, box)) <= 1.5 for box, _ in boxes):
        raise TrainingRefused(
            "box_format: Every box lies within the first pixel, so its numbers seem to be shares of the picture "
            "(0 to 1). Multiply them by the picture's width and height before importing."
        )
    if _share(boxes, lambda box: box) >= MOSTLY:
        return
    if _share(boxes, lambda box: (box[1], box[0], box[3], box[2])) >= MOSTLY:
        raise TrainingRefused(
            "box_axes: The boxes fit into their pictures only with x and y swapped. Import them as left, top, right, "
            "bottom."
        )
    wrong = round((1 - _share(boxes, lambda box: box)) * len(boxes))
    raise TrainingRefused(
        f"box_format: {wrong} of {len(boxes)} boxes have no area or lie outside of their pictures, so the four "
        "numbers do not seem to be left, top, right, bottom. Were they exported as x, y, width, height?"
    )


def _share(boxes: Sequence[tuple[XYXY, Example]], read: Callable[[XYXY], XYXY]) -> float:
    """Of boxes that have an area and lie inside their pictures, a pixel or so aside."""
    fitting = 0
    for box, example in boxes:
        x1, y1, x2, y2 = read(box)
        slack_x, slack_y = 1 + 0.01 * example.width, 1 + 0.01 * example.height
        fitting += (
            x1 < x2
            and y1 < y2
            and min(x1, y1) > -max(slack_x, slack_y)
            and x2 < example.width + slack_x
            and y2 < example.height + slack_y
        )
    return fitting / len(boxes)
