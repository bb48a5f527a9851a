"""What a person alone reaches on the pictures that models are measured on."""

from collections.abc import Sequence
from typing import Any

from labeling.consensus import agreement, total
from labeling.models import Annotation, Project
from labeling.shapes import parse_list


def human(*, project: Project, pictures: Sequence[str]) -> dict[str, Any] | None:
    """F1 at IoU .5 of single answers against what was settled on these pictures (sha256s); None without answers.

    The model's own figure beside it is `f1`: its detections that would be shown as suggestions, on the same
    pictures. On gold the settled answer is an expert's; elsewhere it was made of these very answers, which
    flatters people.
    """
    answers = (
        Annotation.objects.filter(
            task__project=project, task__image__sha256__in=list(pictures), is_current=True
        )
        .exclude(task__consensus=None)
        .select_related("task__consensus")
        .only("shapes", "task__consensus__shapes")
    )
    pairs = [
        (parse_list(answer.shapes), answer.task.consensus.parsed)
        for answer in answers.iterator(chunk_size=500)
        if answer.task.consensus is not None
    ]
    if not pairs:
        return None
    return {"f1": total(agreement(one, settled) for one, settled in pairs).f1, "answers": len(pairs)}
