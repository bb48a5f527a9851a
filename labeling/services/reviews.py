"""Reviewers' work: the riskiest first, and what a reviewer decides about a task."""

from labeling.models import Annotation, Return


def answered(annotation: Annotation) -> int:
    """A new revision by somebody to whom objects were sent back answers all of these; how many."""
    if annotation.revision == 1:
        return 0  # there was nothing yet to send back
    return Return.objects.filter(
        task_id=annotation.task_id, author_id=annotation.author_id, answered_at=None
    ).update(answered_by=annotation, answered_at=annotation.created_at)
