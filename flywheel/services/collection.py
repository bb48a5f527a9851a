"""What people did while a round collected: how the suggestions fared, and the model on the random slice."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from labeling.consensus import agreement, total
from labeling.models import Annotation, Prediction, Project, Reason, Task, TaskState
from labeling.shapes import parse_list


def measure(*, project: Project, since: datetime, model: str) -> dict[str, Any]:
    """Shares of accepted, edited, drawn and deleted shapes, seconds per picture, and the random slice.

    Counted over the current answers submitted since then. Deleted means suggested but not in the answer.
    `random_slice.f1` is the F1 at IoU .5, without a threshold on size or class, between what `model` had
    suggested before anyone looked and what people then settled, over the uniformly drawn pictures only: the
    one figure from the pool that selection does not bend. It is None without such pictures.
    """
    answers = Annotation.objects.filter(task__project=project, is_current=True, created_at__gte=since)
    counts = {"human_accepted": 0, "human_edited": 0, "human_drawn": 0, "imported": 0}
    suggested = seconds = pictures = 0.0
    for shapes, source, active, task_id in answers.values_list(
        "shapes", "suggestions_from", "seconds_active", "task_id"
    ).iterator(chunk_size=500):
        for shape in shapes:
            counts[shape["provenance"]] += 1
        if source:
            suggested += _suggested(task_id, source, project.suggestion_threshold)
        seconds += active
        pictures += 1
    kept = counts["human_accepted"] + counts["human_edited"]
    return {
        "answers": int(pictures),
        "accepted": counts["human_accepted"],
        "edited": counts["human_edited"],
        "drawn": counts["human_drawn"],
        "deleted": max(0, int(suggested) - kept),
        "accepted_share": counts["human_accepted"] / suggested if suggested else None,
        "seconds_per_answer": seconds / pictures if pictures else None,
        "random_slice": _random_slice(project, since, model),
    }


def _suggested(task_id: int, model: str, threshold: float) -> int:
    prediction = Prediction.objects.filter(task_id=task_id, model=model).only("shapes").first()
    if prediction is None:
        return 0
    return sum(1 for shape in prediction.shapes if shape.get("score", 1.0) >= threshold)


def _random_slice(project: Project, since: datetime, model: str) -> dict[str, Any]:
    settled = Task.objects.filter(
        project=project,
        state=TaskState.SETTLED,
        is_gold=False,
        reason=Reason.RANDOM,
        settled_at__gte=since,
    ).select_related("consensus")
    pairs = list(_pairs(settled, model, project.suggestion_threshold))
    return {
        "pictures": len(pairs),
        "f1": total(agreement(seen, truth) for seen, truth in pairs).f1 if pairs else None,
    }


def _pairs(tasks: Iterable[Task], model: str, threshold: float) -> Iterable[tuple[Any, Any]]:
    for task in tasks:
        prediction = Prediction.objects.filter(task=task, model=model).first() if model else None
        if prediction is None or task.consensus is None:
            continue
        seen = [s for s in parse_list(prediction.shapes) if (s.score or 0.0) >= threshold]
        yield seen, task.consensus.parsed
