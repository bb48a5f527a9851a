"""How many people answer a task: always as many, or one more while what they say is risky. See docs/adr/0014."""

from collections.abc import Mapping
from typing import Any, Final

from labeling.models import Overlap, Project, Task

FIRST_ANSWERS: Final = 2
"""Where the overlap is adaptive: with so many independent answers the risk can first be told."""
AUDIT_SHARE: Final = 0.04
"""How many tasks a reviewer looks at in any case, where the overlap is adaptive and nothing else is said."""


def is_adaptive(project: Project) -> bool:
    return project.overlap == Overlap.ADAPTIVE


def first(project: Project) -> int:
    """How many people a new task is given to."""
    return FIRST_ANSWERS if is_adaptive(project) else project.answers_per_task


def needed(task: Task) -> int:
    """How many answers a task wants: the project's number or what its risk asks for, and what a reviewer asked for."""
    least = first(task.project) + task.extra_answers
    return max(least, task.asked) if is_adaptive(task.project) else least


def worth_settling(task: Task) -> int:
    """From how many answers on a task without a consensus is looked at."""
    return 1 if is_adaptive(task.project) else needed(task)


def with_defaults(changes: Mapping[str, Any], project: Project | None = None) -> dict[str, Any]:
    """These settings, and what else choosing the adaptive overlap sets, where they say nothing of it.

    A share of audits, without which nobody would know how well the risk tells; and the model's voice.
    """
    chosen = changes.get("overlap") == Overlap.ADAPTIVE and (project is None or not is_adaptive(project))
    if not chosen:
        return dict(changes)
    unset: dict[str, Any] = {"model_counts": True}
    if project is None or not project.review_share:
        unset["review_share"] = AUDIT_SHARE
    return unset | dict(changes)
