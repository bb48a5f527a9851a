"""The fit in force: what is known of a project's annotators while tasks are settled."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import connection, models

from labeling.consensus import Parameters
from labeling.models import ConsensusFit, Project, Skill
from labeling.services import projects

MODEL_KNOWN_FROM: Final = 30
"""In so many pictures a model was compared with people before its agreement with one of them counts."""


def in_force(project: Project) -> ConsensusFit | None:
    """The fit in force, without its parameters."""
    return ConsensusFit.objects.filter(pk=project.consensus_fit_id or 0).defer("parameters").first()


def parameters(project: Project) -> Parameters:
    """What the fit in force learnt; nothing before the first one, or when it was another method that learnt it."""
    if project.consensus_fit_id is None:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT method, digest FROM labeling_consensusfit WHERE id = %s", [project.consensus_fit_id]
        )
        row = cursor.fetchone()
    if row is None or row[0] != project.consensus_method:
        return {}
    return _parameters(project.consensus_fit_id, row[1])


@lru_cache(maxsize=64)
def _parameters(fit_id: int, digest: str) -> dict[str, Any]:
    """Shared between calls: a fit never changes, and the digest tells it from another of the same number."""
    found: dict[str, Any] = ConsensusFit.objects.values_list("parameters", flat=True).get(pk=fit_id)
    return found


def skills(project: Project) -> models.QuerySet[Skill]:
    """How reliable the fit in force takes people and models to be."""
    return Skill.objects.filter(fit_id=project.consensus_fit_id or 0)


def is_trusted(project: Project, user_id: int) -> bool:
    """Whether one answer of this person will do: all that is known of them is surely good enough."""
    lows = list(skills(project).filter(user_id=user_id).values_list("recall_low", "precision_low"))
    return bool(lows) and min(min(low) for low in lows) >= project.trusted_from


def is_known(project: Project, model: str) -> bool:
    """Whether enough people's answers were compared with this model's to take its word as one of them."""
    return skills(project).filter(user=None, model=model, answers__gte=MODEL_KNOWN_FROM).exists()


def is_preferred(project: Project, user_id: int) -> bool:
    """Whether this person is better than half of the people, as far as is known."""
    return skills(project).filter(user_id=user_id, preferred=True).exists()


def agreement(project: Project) -> dict[str, Any]:
    """How well people agreed, as the fit in force found it; with people and classes by their names."""
    fit = in_force(project)
    found: Mapping[str, Any] = {} if fit is None else fit.agreement
    pairs = found.get("pairs", [])
    names = usernames({pair[end] for pair in pairs for end in ("one", "other")})
    classes = {item.id: item.name for item in projects.current_schema(project).schema.classes}
    return {
        "fit": None if fit is None else fit.number,
        "images": found.get("images", 0),
        "sampled": found.get("sampled", 0),
        "left_out": found.get("left_out", 0),
        "alpha": [{"kind": kind} | alpha for kind, alpha in sorted(found.get("alpha", {}).items())],
        "by_class": [
            item | {"class_name": classes.get(item["class_id"], "")} for item in found.get("by_class", [])
        ],
        "pairs": [
            pair | {end: names.get(pair[end], pair[end]) for end in ("one", "other")} for pair in pairs
        ],
    }


def usernames(annotators: set[str]) -> dict[str, str]:
    """Annotator, as the consensus names them, to what people call them."""
    ids = [int(name) for name in annotators if name.isdecimal()]
    people = get_user_model().objects.filter(pk__in=ids).values_list("pk", "username")
    return {str(pk): username for pk, username in people}


def better_half(figures: dict[int, float]) -> Collection[int]:
    """Whose figure is at or above the pool's median; nobody where there is but one.

    >>> sorted(better_half({1: 0.9, 2: 0.5, 3: 0.7}))
    [1, 3]
    >>> better_half({1: 0.9})
    set()
    """
    if len(figures) < 2:
        return set()
    ordered = sorted(figures.values())
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {user_id for user_id, figure in figures.items() if figure >= median}
