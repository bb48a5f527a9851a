"""Beginning from another model's weights: what the two have in common is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ml.checkpoint import BrokenModel, read_card, read_tensors
from ml.models import Model
from ml.schema import Layout, parse_class
from ml.training.errors import TrainingRefused


@dataclass(frozen=True, slots=True)
class Start:
    """A model to begin from."""

    sha256: str
    layout: Layout
    tensors: Mapping[str, Tensor]


def read_start(folder: Path | None) -> Start | None:
    if folder is None:
        return None
    try:
        card = read_card(folder)
        tensors, _ = read_tensors(folder / "model.safetensors")
        layout = Layout(tuple(parse_class(item) for item in card["classes"]))
        return Start(card["weights_sha256"], layout, tensors)
    except (BrokenModel, KeyError, TypeError) as error:
        raise TrainingRefused(f"The model to start from cannot be read: {error}") from error


def take_over(model: Model, start: Start) -> int:
    """Copies into `model` what it shares with `start`; returns how many tensors it took, whole or in part."""
    own = model.state_dict()
    taken = 0
    class_rows = _matching_classes(model.layout, start.layout)
    joint_rows = _matching_joints(model.layout, start.layout, class_rows)
    for name, tensor in own.items():
        given = start.tensors.get(name)
        rows = {"classes": class_rows, "joints": joint_rows, "heatmaps": joint_rows}.get(model.rows_of(name))
        if given is None or given.shape[1:] != tensor.shape[1:]:
            continue
        if rows is not None:
            per_row = 3 if model.rows_of(name) == "joints" else 1
            for mine, theirs in rows:
                tensor[mine * per_row : (mine + 1) * per_row] = given[
                    theirs * per_row : (theirs + 1) * per_row
                ]
            taken += bool(rows)
        elif given.shape == tensor.shape:
            tensor.copy_(given)
            taken += 1
    return taken


def _matching_classes(mine: Layout, theirs: Layout) -> list[tuple[int, int]]:
    """(my channel, their channel) of the classes that are the same by id, else by name."""
    by_name = {item.name: channel for channel, item in enumerate(theirs.classes)}
    pairs = []
    for channel, item in enumerate(mine.classes):
        other = theirs.channel_of.get(item.id, by_name.get(item.name))
        if other is not None:
            pairs.append((channel, other))
    return pairs


def _matching_joints(
    mine: Layout, theirs: Layout, classes: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    return [
        (
            mine.joint_starts[channel] + joint,
            theirs.joint_starts[other] + theirs.classes[other].joints.index(name),
        )
        for channel, other in classes
        for joint, name in enumerate(mine.classes[channel].joints)
        if name in theirs.classes[other].joints
    ]
