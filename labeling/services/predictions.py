"""What models see: stored per task and model, shown to people as suggestions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from django.db import transaction

from labeling import shapes as label_shapes
from labeling.models import Prediction, Project, Reason, Task
from labeling.services import projects
from labeling.shapes import Shape

BEGUN: Final = 2.0
"""Tasks with an answer already come before all that selection wants."""
CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Predicted:
    """One picture's predicted shapes, each with a score; `uncertainty` grows with what there is to learn."""

    task_id: int
    shapes: Sequence[Shape]
    uncertainty: float | None = None


@dataclass(frozen=True, slots=True)
class Priority:
    """How soon a task should be answered, and why; `random_probability` if a uniform draw chose it."""

    task_id: int
    priority: float
    reason: Reason
    random_probability: float | None = None


def save_all(*, model: str, predicted: Iterable[Predicted]) -> int:
    """Stores predictions under the model's name; saving again changes nothing. How many."""
    rows = [
        Prediction(
            task_id=item.task_id,
            model=model,
            shapes=label_shapes.dump_list(item.shapes),
            uncertainty=item.uncertainty,
        )
        for item in predicted
    ]
    Prediction.objects.bulk_create(
        rows,
        batch_size=500,
        update_conflicts=True,
        unique_fields=["task", "model"],
        update_fields=["shapes", "uncertainty"],
    )
    return len(rows)


def show(*, project: Project, model: str, threshold: float) -> None:
    """From now on people see this model's predictions as suggestions; "" shows none."""
    Project.objects.filter(pk=project.pk).update(suggestions_from=model, suggestion_threshold=threshold)


def suggestions(*, task: Task) -> list[label_shapes.Json]:
    """What to show a person for a task: nothing if it is blind or gold, or has no prediction."""
    project = task.project
    if not project.suggestions_from or task.blind or task.is_gold:
        return []
    prediction = Prediction.objects.filter(task=task, model=project.suggestions_from).first()
    if prediction is None:
        return []
    schema = projects.current_schema(project).schema
    return [
        shape
        for shape in prediction.shapes
        if shape.get("score", 1.0) >= project.suggestion_threshold
        and schema.problem_with(label_shapes.parse(shape)) is None  # its class may have been removed since
    ]


def prioritise(*, project: Project, chosen: Sequence[Priority]) -> int:
    """Writes the order of the queue: begun tasks first, then the chosen, then all others by age.

    Only tasks that still wait for answers are moved; how many of the chosen were.
    """
    open_tasks = Task.objects.filter(project=project, slots__gt=0)
    open_tasks.filter(answers__gt=0).update(priority=BEGUN)
    open_tasks.filter(answers=0).exclude(priority=0.0, reason=Reason.AGE).update(
        priority=0.0, reason=Reason.AGE, random_probability=None
    )
    count = 0
    for start in range(0, len(chosen), CHUNK):
        with transaction.atomic():
            for item in chosen[start : start + CHUNK]:
                count += open_tasks.filter(pk=item.task_id).update(
                    priority=item.priority,
                    reason=item.reason,
                    random_probability=item.random_probability,
                )
    return count
