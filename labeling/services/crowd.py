"""What people and models say about tasks, as the methods of consensus take it."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.db.models import F, Min

from labeling import shapes as label_shapes
from labeling.consensus import Answer
from labeling.models import Annotation, Prediction, Project, Task
from labeling.services import projects

MODEL: Final = "model:"
"""Begins a model's name among the annotators: a person's is their account's number."""


def model_name(annotator: str) -> str:
    """The model that is this annotator, "" for a person.

    >>> model_name("model:v3"), model_name("12")
    ('v3', '')
    """
    return annotator.removeprefix(MODEL) if annotator.startswith(MODEL) else ""


def people(answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if not answer.by_model]


def of_task(task: Task) -> list[Answer]:
    """The answers that count for a task, and the model's where the project has it counted."""
    found = Annotation.objects.raw(
        """SELECT a.id, a.task_id, a.author_id, a.shapes, a.suggestions_from, a.seconds_active,
                  i.width AS image_width, i.height AS image_height
           FROM labeling_annotation a
           JOIN labeling_task t ON t.id = a.task_id JOIN labeling_image i ON i.id = t.image_id
           WHERE a.task_id = %s AND a.is_current AND a.withdrawn_at IS NULL ORDER BY a.author_id""",
        [task.pk],
    )
    answers = [_by_person(row) for row in found]
    if answers and model_counts(task.project):
        answers += _by_model(task)
    return answers


def of_tasks(project: Project, task_ids: Sequence[int]) -> Iterator[Answer]:
    """The same for some tasks of a project."""
    current = Annotation.objects.filter(task_id__in=task_ids, is_current=True, withdrawn_at=None)
    sized = current.annotate(image_width=F("task__image__width"), image_height=F("task__image__height"))
    for row in sized.only("task_id", "author_id", "shapes", "suggestions_from", "seconds_active"):
        yield _by_person(row)
    if not model_counts(project):
        return
    begun: dict[int, datetime] = dict(
        Annotation.objects.filter(task_id__in=task_ids)
        .order_by()
        .values_list("task_id")
        .annotate(first=Min("created_at"))
    )
    newest: dict[int, Prediction] = {}
    for prediction in Prediction.objects.filter(task_id__in=task_ids).order_by("created_at", "id"):
        if prediction.task_id in begun and prediction.created_at < begun[prediction.task_id]:
            newest[prediction.task_id] = prediction
    for task_id, prediction in newest.items():
        yield _predicted(project, task_id, prediction.model, prediction.shapes)


def model_counts(project: Project) -> bool:
    """Whether a model has a voice: where the project wants that, and has a model whose suggestions it shows."""
    return project.model_counts and bool(project.suggestions_from)


def _by_person(row: Any) -> Answer:
    """`row` is an annotation with its image's width and height."""
    return Answer(
        str(row.task_id),
        str(row.author_id),
        row.parsed,
        saw=MODEL + row.suggestions_from if row.suggestions_from else "",
        seconds=row.seconds_active or None,
        size=(row.image_width, row.image_height),
    )


def _by_model(task: Task) -> list[Answer]:
    """The newest prediction from before anybody answered: its model cannot have learnt from this task's answers.

    Also from none that were withdrawn or corrected since.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT p.model, p.shapes FROM labeling_prediction p
               WHERE p.task_id = %s AND p.created_at <
                   (SELECT MIN(a.created_at) FROM labeling_annotation a WHERE a.task_id = %s)
               ORDER BY p.created_at DESC, p.id DESC LIMIT 1""",
            [task.pk, task.pk],
        )
        row = cursor.fetchone()
    if row is None:
        return []
    model, shapes = row
    return [
        _predicted(task.project, task.pk, model, json.loads(shapes) if isinstance(shapes, str) else shapes)
    ]


def _predicted(project: Project, task_id: int, model: str, shapes: Sequence[label_shapes.Json]) -> Answer:
    """What people would be shown of it: the rest the model itself does not believe."""
    schema = projects.current_schema(project).schema
    seen = [
        shape
        for raw in shapes
        if raw.get("score", 1.0) >= project.suggestion_threshold
        and schema.problem_with(shape := label_shapes.parse(raw)) is None
    ]
    return Answer(str(task_id), MODEL + model, tuple(seen), by_model=True)
