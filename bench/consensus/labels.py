"""Consensus of class labels: simulated crowds, and real ones where a folder of them is at hand.

The real sets are read from the folder that LABEL_SETS names, one folder a set with two CSV files: `answer.csv`
(question, worker, answer) and `truth.csv` (question, truth) of some or all questions. A worker's first answer to a
question counts. Log-loss is the mean negative logarithm of the true label's probability, at least 1e-12; the
majority's probabilities are its shares with one vote added for every label.

The strengths of `labeling.consensus.votes` were chosen on the simulated crowds of seeds 0 and 1, and on the sets named
dog, barzan and product; `chosen_on` says of each set whether it is one of those.
"""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from labeling.consensus import votes
from labeling.consensus.votes import CLASSICAL, Votes
from labeling.geometry import Floats, Ints

LABEL_SETS: Final = "LABEL_SETS"
CHOSEN_ON: Final = frozenset({"barzan", "dog", "product"})
QUESTIONS: Final = 1_000
QUICK_QUESTIONS: Final = 300
LEAST_CHANCE: Final = 1e-12
GOLD_SHARE: Final = 0.05
OURS: Final = "ours"

Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Crowd:
    votes: Votes
    truth: Ints  # (M,) -1 where it is not known


@dataclass(frozen=True, slots=True)
class Recipe:
    """A pool of people of whom a few answer each question.

    Accuracies are Beta(12 `accuracy`, 12 (1 - `accuracy`)). `twins` of the mistakes go to the choice that looks alike
    (0 and 1, 2 and 3, …), the others anywhere. Half of the `spammers` guess, half always say the first choice;
    `adversaries` say the next choice instead of the right one. Choices are as frequent as 1, 1/2, 1/3, … if
    `uneven`. Of `misleading` questions most people believe the same wrong choice.
    """

    people: int = 40
    answers: int = 3
    choices: int = 10
    accuracy: float = 0.8
    twins: float = 0.6
    spammers: float = 0.1
    adversaries: float = 0.0
    uneven: bool = True
    misleading: float = 0.0


RECIPES: Final[Mapping[str, Recipe]] = {
    "pool40x3": Recipe(),
    "one_coin": Recipe(twins=0.0, spammers=0.0, uneven=False),
    "even": Recipe(uneven=False),
    "spammers": Recipe(spammers=0.3),
    "adversaries": Recipe(adversaries=0.1),
    "yes_or_no": Recipe(choices=2, twins=0.0),
    "hard_x5": Recipe(answers=5, choices=4, accuracy=0.7),
    "misleading": Recipe(misleading=0.1),
}


def generate(recipe: Recipe, questions: int, seed: int) -> Crowd:
    random = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, recipe.choices + 1) if recipe.uneven else np.ones(recipe.choices)
    truth = random.choice(recipe.choices, questions, p=share / share.sum())
    honest = 1.0 - recipe.spammers - recipe.adversaries
    kind = random.choice(3, recipe.people, p=[honest, recipe.spammers, recipe.adversaries])
    accuracy = random.beta(12 * recipe.accuracy, 12 * (1 - recipe.accuracy), recipe.people)
    misled = random.random(questions) < recipe.misleading
    rows: list[tuple[int, int, int]] = []
    for question, true in enumerate(truth.tolist()):
        meant = (true + 1) % recipe.choices if misled[question] else true
        for who in sorted(random.choice(recipe.people, recipe.answers, replace=False).tolist()):
            said = _said(random, recipe, meant, float(accuracy[who]))
            if kind[who] == 1:
                said = int(random.integers(recipe.choices)) if who % 2 else 0
            elif kind[who] == 2 and said == meant:
                said = (meant + 1) % recipe.choices
            rows.append((question, who, said))
    return Crowd(_votes(rows, questions, recipe.people, recipe.choices), truth)


def _said(random: np.random.Generator, recipe: Recipe, meant: int, accuracy: float) -> int:
    if random.random() < accuracy:
        return meant
    if random.random() < recipe.twins and meant ^ 1 < recipe.choices:
        return meant ^ 1
    return (meant + int(random.integers(1, recipe.choices))) % recipe.choices


def read(folder: Path) -> Crowd:
    """A real set; labels that occur in the truth alone are choices too."""
    answers: dict[tuple[str, str], str] = {}
    for question, worker, answer in _rows(folder / "answer.csv", 3):
        answers.setdefault((question, worker), answer)
    questions = {question: index for index, question in enumerate(sorted({q for q, _ in answers}))}
    workers = {worker: index for index, worker in enumerate(sorted({w for _, w in answers}))}
    true = {question: label for question, label in _rows(folder / "truth.csv", 2) if question in questions}
    choices = {label: index for index, label in enumerate(sorted({*answers.values(), *true.values()}))}
    rows = [
        (questions[question], workers[worker], choices[answer])
        for (question, worker), answer in sorted(answers.items())
    ]
    truth = np.full(len(questions), -1)
    for question, label in true.items():
        truth[questions[question]] = choices[label]
    return Crowd(_votes(rows, len(questions), len(workers), len(choices)), truth)


def _rows(path: Path, columns: int) -> list[tuple[str, ...]]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))[1:]
    return [tuple(line[:columns]) for line in lines if len(line) >= columns]


def _votes(rows: Sequence[tuple[int, int, int]], questions: int, people: int, choices: int) -> Votes:
    table = np.array(rows, dtype=np.int64)
    return Votes(table[:, 0], table[:, 1], table[:, 2], questions, people, choices)


def majority(crowd: Crowd) -> Floats:
    """The share (M, C) of the votes, one added for each choice."""
    cast = crowd.votes
    counts = np.bincount(cast.question * cast.choices + cast.choice, minlength=cast.questions * cast.choices)
    table = counts.reshape(cast.questions, cast.choices) + 1.0
    return np.asarray(table / table.sum(axis=1, keepdims=True), dtype=np.float64)


def _classical(crowd: Crowd) -> Floats:
    return votes.posterior(crowd.votes, votes.fit(crowd.votes, CLASSICAL))


def _sharp(crowd: Crowd) -> Floats:
    model = votes.fit(crowd.votes)
    return votes.posterior(crowd.votes, replace(model, temperature=1.0, overlap=0.0, shared_error=0.0))


def _ours(crowd: Crowd) -> Floats:
    return votes.posterior(crowd.votes, votes.fit(crowd.votes))


METHODS: Final[Mapping[str, Callable[[Crowd], Floats]]] = {
    "majority": majority,
    "dawid_skene": _classical,
    "ours_without_temperature": _sharp,
    OURS: _ours,
}


def score(settled: Floats, truth: Ints) -> dict[str, float]:
    """Accuracy and log-loss over the questions whose truth is known."""
    known = np.flatnonzero(truth >= 0)
    right = settled.argmax(axis=1)[known] == truth[known]
    chance = np.maximum(settled[known, truth[known]], LEAST_CHANCE)
    return {
        "accuracy": round(float(right.mean()), 4),
        "logloss": round(float(-np.log(chance).mean()), 4),
        "questions": len(known),
    }


def compare(crowd: Crowd, seed: int = 0) -> dict[str, dict[str, float]]:
    """Every method's score, and ours with gold on a random twentieth, scored on the rest."""
    scores = {name: score(settle(crowd), crowd.truth) for name, settle in METHODS.items()}
    known = np.flatnonzero(crowd.truth >= 0)
    gold = np.random.default_rng(seed).permutation(known)[: round(GOLD_SHARE * len(known))]
    told = np.full(crowd.votes.questions, -1)
    told[gold] = crowd.truth[gold]
    rest = crowd.truth.copy()
    rest[gold] = -1
    model = votes.fit(replace(crowd.votes, known=told))
    return {**scores, "ours_with_gold": score(votes.posterior(crowd.votes, model), rest)}


def run(*, quick: bool, seeds: Sequence[int], say: Say) -> dict[str, Any]:
    """`accuracy` and `logloss_below_majority` are ours on the real sets, or on simulated crowds without them.

    `simulated` and `real` hold each crowd's figures by method, and their means.
    """
    simulated: dict[str, dict[str, dict[str, float]]] = {}
    for name, recipe in RECIPES.items():
        say(f"simulated labels: {name}")
        crowds = [generate(recipe, QUICK_QUESTIONS if quick else QUESTIONS, seed) for seed in seeds]
        simulated[name] = _mean([compare(crowd, seed) for crowd, seed in zip(crowds, seeds, strict=True)])
    result: dict[str, Any] = {"simulated": {**simulated, "mean": _mean(list(simulated.values()))}}
    shown = simulated
    folder = os.environ.get(LABEL_SETS)
    if folder:
        shown = {}
        for path in sorted(item for item in Path(folder).iterdir() if (item / "truth.csv").is_file()):
            say(f"real labels: {path.name}")
            shown[path.name] = compare(read(path))
        result["real"] = {**shown, "mean": _mean(list(shown.values()))} if shown else {}
        result["chosen_on"] = {name: name in CHOSEN_ON for name in shown}
    below = sum(item[OURS]["logloss"] < item["majority"]["logloss"] for item in shown.values())
    accuracy = float(np.mean([item[OURS]["accuracy"] for item in shown.values()])) if shown else None
    return {
        "accuracy": None if accuracy is None else round(accuracy, 4),
        "logloss_below_majority": f"{below} of {len(shown)}",
        **result,
    }


def _mean(scores: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    if not scores:
        return {}
    return {
        method: {key: round(float(np.mean([item[method][key] for item in scores])), 4) for key in found}
        for method, found in scores[0].items()
    }
