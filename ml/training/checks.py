"""What can be known before training starts."""

import math

from ml.models import PRETRAINED, UnusableArchitecture, architecture
from ml.schema import Layout, Snapshot
from ml.training.config import TrainConfig
from ml.training.errors import TrainingRefused


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
        raise TrainingRefused("No picture is labelled for training yet; settle some labels first.")
    if not any(counts.values()):
        raise TrainingRefused("No training picture has an object on it; label some that do.")
    return _about_the_rate(config) + tuple(
        f"Class {item.name!r} has no training object, so the model cannot find it."
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
