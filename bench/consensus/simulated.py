"""Every method on every simulated crowd."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from bench.consensus.crowds import RECIPES, Crowd, generate
from bench.consensus.metrics import BOX_METHODS, compare_people, score, skill_rho, spearman
from labeling.consensus import DEFAULT_METHOD

Say = Callable[[str], None]
Figures = Mapping[str, float | None]

IMAGES: Final = 200
QUICK_IMAGES: Final = 60
ONE: Final = "one_annotator"


def run(*, quick: bool, seeds: Sequence[int], say: Say) -> dict[str, Any]:
    """Means over crowds and seeds: of the default method on top, of each method and each crowd beneath."""
    images = QUICK_IMAGES if quick else IMAGES
    rows: dict[str, dict[str, list[Figures]]] = {}
    for name, recipe in RECIPES.items():
        for seed in seeds:
            say(f"crowd {name}, seed {seed}")
            crowd = generate(name, seed, max(round(images * recipe.weight), 1))
            for method, figures in {
                ONE: _alone(crowd),
                **{one: _settled(crowd, one) for one in BOX_METHODS},
            }.items():
                rows.setdefault(method, {}).setdefault(name, []).append(figures)
    by_crowd = {method: {name: _mean(own) for name, own in crowds.items()} for method, crowds in rows.items()}
    methods = {method: _mean(list(crowds.values())) for method, crowds in by_crowd.items()}
    return {**methods[DEFAULT_METHOD], "images": images, "methods": methods, "by_crowd": by_crowd}


def _settled(crowd: Crowd, method: str) -> Figures:
    """`skill_rho` is against expected F1, `skill_rho_here` against the F1 that people reached on these pictures."""
    consensus = BOX_METHODS[method].fit_predict(crowd.answers)
    reached = {name: one.f1 for name, one in compare_people(crowd.answers, crowd.truth).items()}
    return {
        **score(consensus.images, crowd.truth).as_json(),
        "skill_rho": skill_rho(consensus.skills, crowd.skill),
        "skill_rho_here": skill_rho(consensus.skills, reached),
    }


def _alone(crowd: Crowd) -> Figures:
    """The mean of its annotators. `skill_rho` is of who knows the truth: more these pictures do not tell."""
    people = compare_people(crowd.answers, crowd.truth)
    reached = [one.f1 for one in people.values()]
    return {
        "f1": fmean(reached),
        "pq": fmean(one.pq for one in people.values()),
        "skill_rho": spearman(reached, [crowd.skill[name] for name in people]),
    }


def _mean(rows: Sequence[Figures]) -> dict[str, float | None]:
    """Of each figure where it was measured; a crowd all of whose pictures have an error has no AUROC."""
    means: dict[str, float | None] = {}
    for name in rows[0]:
        values = [value for row in rows if (value := row[name]) is not None]
        means[name] = round(fmean(values), 4) if values else None
    return means
