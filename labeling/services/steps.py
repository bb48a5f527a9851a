"""What a task of an adaptive project wants next: another answer, or none, and why. See docs/adr/0014."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from django.db.models import Exists, OuterRef, Q

from labeling.consensus import Answer, Policy, Settled, next_action
from labeling.models import Annotation, Membership, Project, Role, Skip, Task
from labeling.services import crowd, fits
from labeling.services.overlap import FIRST_ANSWERS

MAY_ANNOTATE: Final = tuple(role for role in Role if role.may(Role.ANNOTATOR))

Why: TypeAlias = Literal[
    "first_answers", "extra_answers", "risk", "below_target", "most_answers", "nobody_free"
]


@dataclass(frozen=True, slots=True)
class Step:
    """How many answers a task wants by what those that it has say, and why."""

    answers: int
    why: Why


def next_step(task: Task, settled: Settled, answers: Sequence[Answer]) -> Step:
    """What a task of an adaptive project wants next; `settled` is what its answers come to.

    Two answers first; one is enough from somebody trusted, or when a known model saw the same without its
    being shown. Then one more at a time, while the risk is above the target and somebody is free to answer.
    """
    project = task.project
    have = crowd.people(answers)
    count = len(have)
    least = FIRST_ANSWERS + task.extra_answers
    if count < least and task.extra_answers:
        return Step(least, "extra_answers")
    begun = count >= least or _is_enough(project, have[0], settled, answers)
    policy = Policy(project.target_risk, first=1 if begun else least, most=project.most_answers)
    action = next_action(settled, policy, answers=count)
    if action.kind == "ask" and _is_anyone_free(task, among_all=not begun):
        return Step(count + 1, "risk") if begun else Step(least, "first_answers")
    if settled.risk <= project.target_risk:
        return Step(count, "below_target")
    return Step(count, "nobody_free" if action.kind == "ask" else "most_answers")


def _is_enough(project: Project, answer: Answer, settled: Settled, answers: Sequence[Answer]) -> bool:
    """Whether this one answer will do if its risk is low."""
    if fits.is_trusted(project, int(answer.annotator)):
        return True
    model = next((item for item in answers if item.by_model and item.annotator != answer.saw), None)
    if model is None or not fits.is_known(project, crowd.model_name(model.annotator)):
        return False
    return all(len({name for name, _ in item.members}) == 2 for item in settled.shapes)


def _is_anyone_free(task: Task, *, among_all: bool = False) -> bool:
    """Whether a member who may annotate has neither answered nor passed by.

    Beyond the first answers only those count who do annotate: by their role, or as the fit in force knows them.
    An owner who never labels would be waited for without end.
    """
    members = Membership.objects.filter(
        project_id=task.project_id, role__in=MAY_ANNOTATE, user__is_active=True
    )
    if not among_all:
        known = fits.skills(task.project).filter(user_id=OuterRef("user_id"))
        members = members.filter(Q(role=Role.ANNOTATOR) | Exists(known))
    answered = Annotation.objects.filter(task=task, author_id=OuterRef("user_id"), is_current=True)
    passed_by = Skip.objects.filter(task=task, user_id=OuterRef("user_id"))
    return members.exclude(Exists(answered)).exclude(Exists(passed_by)).exists()
