"""What models see: stored per task and model, shown to people as suggestions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from django.contrib.auth.models import AbstractBaseUser
from django.db import models, transaction

from labeling import shapes as label_shapes
from labeling.models import Prediction, Project, Reason, SchemaVersion, Task
from labeling.services import events, projects
from labeling.shapes import Shape

BEGUN: Final = 2.0
"""Tasks with an answer already come before all that selection wants."""
BY_HAND: Final = 3.0
"""And before these come the tasks that somebody put in front by hand."""
KEPT: Final = (Reason.MANUAL, Reason.DISAGREEMENT)
CHUNK: Final = 500
STEP: Final = 5_000


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


def begun(risk: float) -> float:
    """The priority of a task with answers: of these the one whose consensus would be riskiest comes first.

    >>> begun(0.0), begun(0.25), begun(9.0)
    (2.0, 2.2, 2.9)
    """
    return BEGUN + risk / (1 + risk)


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
    return suggestions_for(tasks=[task], version=projects.current_schema(task.project))[task.pk]


def suggestions_for(*, tasks: Sequence[Task], version: SchemaVersion) -> dict[int, list[label_shapes.Json]]:
    """The same for several tasks of one project, whose schema in force is this version."""
    shown: dict[int, list[label_shapes.Json]] = {task.pk: [] for task in tasks}
    open_ones = [task.pk for task in tasks if not task.blind and not task.is_gold]
    if not open_ones or not tasks[0].project.suggestions_from:
        return shown
    project, schema = tasks[0].project, version.schema
    for prediction in Prediction.objects.filter(task_id__in=open_ones, model=project.suggestions_from):
        shown[prediction.task_id] = [
            shape
            for shape in prediction.shapes
            if shape.get("score", 1.0) >= project.suggestion_threshold
            and schema.problem_with(label_shapes.parse(shape))
            is None  # its class may have been removed since
        ]
    return shown


def prioritise(*, project: Project, chosen: Sequence[Priority]) -> int:
    """Writes the order of the queue: begun tasks first, then the chosen, then all others by age.

    What people have put in front by hand stays, and so does what was opened again because people disagree.
    Only tasks that still wait for answers are moved, and no row is written that is right already; how many of
    the chosen wait. In steps: a hundred tasks are as many in memory as a million.
    """
    waiting = Task.objects.filter(project=project, slots__gt=0).exclude(reason__in=KEPT)
    wanted = {item.task_id: item for item in chosen}
    # Those whose risk is known have a place of their own among them.
    behind = waiting.filter(answers__gt=0).exclude(priority__gte=BEGUN, priority__lt=BY_HAND)
    for task_ids in _in_steps(behind):
        Task.objects.filter(pk__in=task_ids, answers__gt=0).update(priority=BEGUN)
    past = waiting.filter(answers=0).exclude(priority=0.0, reason=Reason.AGE, random_probability=None)
    for task_ids in _in_steps(past):
        others = [task_id for task_id in task_ids if task_id not in wanted]
        Task.objects.filter(pk__in=others).exclude(reason__in=KEPT).update(
            priority=0.0, reason=Reason.AGE, random_probability=None
        )
    count = 0
    for start in range(0, len(chosen), CHUNK):
        count += _move(waiting, chosen[start : start + CHUNK])
    return count


def prioritise_by_hand(
    *, project: Project, task_ids: Sequence[int], priority: float, actor: AbstractBaseUser
) -> int:
    """Puts tasks that wait for answers to the front, until they have them; how many there were."""
    count = 0
    with transaction.atomic():
        for start in range(0, len(task_ids), CHUNK):
            count += Task.objects.filter(
                project=project, pk__in=task_ids[start : start + CHUNK], slots__gt=0
            ).update(priority=priority, reason=Reason.MANUAL, random_probability=None)
        events.record(
            project=project,
            actor=actor,
            verb="prioritise",
            subject=project,
            data={"tasks": count, "priority": priority},
        )
    return count


def _in_steps(tasks: models.QuerySet[Task]) -> Iterator[list[int]]:
    """The tasks' ids, some thousands at a time; each step begins where the last one ended."""
    last = 0
    while task_ids := list(tasks.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:STEP]):
        yield task_ids
        last = task_ids[-1]


@transaction.atomic
def _move(waiting: models.QuerySet[Task], chosen: Sequence[Priority]) -> int:
    rows = waiting.filter(pk__in=[item.task_id for item in chosen]).only(
        "priority", "reason", "random_probability", "answers"
    )
    found = {task.pk: task for task in rows}
    changed = []
    for item in chosen:
        task = found.get(item.task_id)
        if task is None:
            continue
        before = (task.priority, task.reason, task.random_probability)
        task.priority, task.reason = item.priority, item.reason
        task.random_probability = item.random_probability
        if before != (task.priority, task.reason, task.random_probability):
            changed.append(task)
    Task.objects.bulk_update(changed, ["priority", "reason", "random_probability"])
    return len(found)
