"""The real crowd: what its consensus is worth with and without gold, and how few answers it takes.

Everybody's answers are there; what a queue would not have asked for is withheld. Figures are means over splits:
each draws the gold (an expert's answers for 5 % of all images) and, of each image, the order in which its people
are asked. Scored are the images with an expert's answer that are not gold, and of these only one half: the expert's
answers of the other half were looked at when the methods' constants were chosen.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.consensus.metrics import BOX_METHODS, Scores, Tally, compare, compare_people, score
from labeling.consensus import DEFAULT_METHOD, Answer, Parameters, Policy, Settled, next_action
from labeling.shapes import Box, Shape

Say = Callable[[str], None]
Gold = Mapping[str, tuple[Shape, ...]]

GOLD_SHARE: Final = 0.05
SPLITS: Final = 8
QUICK_SPLITS: Final = 2
ADAPTIVE_QUICK_SPLITS: Final = 1
ROUTED_SHARE: Final = 0.1
FIRST_ANSWERS: Final = 2
MOST_ANSWERS: Final = 7
LAST_REFIT: Final = 4
"""The answers are fitted again after each wave until an image has had so many, and at the end."""
WANTED_F1: Final = 0.913
WANTED_PQ: Final = 0.765
"""What a majority of all seven answers reached in the published comparison."""
TAUS: Final = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.7, 1.0, 1.5, 2.5)
QUICK_TAUS: Final = (0.1, 0.2, 0.4, 0.7, 1.5)


@dataclass(frozen=True)
class RealCrowd:
    """Each image's answers, in order of the annotators' names, and an expert's for part of the images.

    With `half` constants were chosen by looking at half of the expert's answers: the other half is scored.
    """

    answers: Mapping[str, tuple[Answer, ...]]
    expert: Gold
    half: bool = False

    @property
    def scored(self) -> Gold:
        return {image: own for image, own in self.expert.items() if is_held_out(image) or not self.half}


def is_held_out(image: str) -> bool:
    """Whether no constant was chosen by looking at the expert's answer for this image."""
    return int(hashlib.sha256(f"split{image}".encode()).hexdigest(), 16) % 2 == 1


@dataclass(frozen=True)
class Split:
    """One draw: the gold, the other images with an expert's answer, and whom to ask when."""

    gold: Gold
    scored: Gold
    order: Mapping[str, tuple[Answer, ...]]

    def first(self, count: int) -> list[Answer]:
        """So many answers of each image."""
        return [answer for answers in self.order.values() for answer in answers[:count]]


@dataclass(frozen=True)
class Spent:
    """What asking on while the risk is above `tau` took, in answers an image, and the consensus it gave."""

    tau: float
    answers: Mapping[str, int]
    settled: tuple[Settled, ...]

    def cost(self, images: Gold) -> float:
        return sum(self.answers[image] for image in images) / len(images)


def load(path: Path, *, half: bool = False) -> RealCrowd:
    """A file {images: {id: {width, height}}, answers: [{image, annotator, boxes: [[x, y, width, height], …]}],
    expert: [the same]}, in pixels."""
    raw = json.loads(path.read_text())
    sizes = {image: (item["width"], item["height"]) for image, item in raw["images"].items()}
    answers: dict[str, list[Answer]] = {}
    for item in raw["answers"]:
        own = answers.setdefault(item["image"], [])
        own.append(Answer(item["image"], item["annotator"], _boxes(item), size=sizes.get(item["image"])))
    ordered = {
        image: tuple(sorted(own, key=lambda answer: answer.annotator))
        for image, own in sorted(answers.items())
    }
    expert = {item["image"]: _boxes(item) for item in raw["expert"]}
    return RealCrowd(ordered, dict(sorted(expert.items())), half)


def run(path: Path, *, half: bool, quick: bool, say: Say) -> dict[str, Any]:
    """The figures of the default method on top, those of every method beneath."""
    crowd = load(path, half=half)
    splits = [split(crowd, number) for number in range(QUICK_SPLITS if quick else SPLITS)]
    people = compare_people([one for own in crowd.answers.values() for one in own], crowd.scored)
    methods: dict[str, Any] = {}
    for name in BOX_METHODS:
        say(f"the real crowd by {name}")
        methods[name] = {
            "no_gold": _without_gold(crowd, splits, name),
            **_with_gold(splits, name),
        }
    every = methods["majority"]["no_gold"]
    adaptive = _adaptive(
        splits[:ADAPTIVE_QUICK_SPLITS] if quick else splits,
        QUICK_TAUS if quick else TAUS,
        {"f1": every[f"f1_{MOST_ANSWERS}"], "pq": every[f"pq_{MOST_ANSWERS}"]},
        say,
    )
    ours = methods[DEFAULT_METHOD]
    return {
        **{name: ours["gold"][name] for name in ("f1_7", "f1_3", "f1_2", "pq_7", "map_7")},
        "gold_share": GOLD_SHARE,
        "risk_auroc": ours["gold"]["risk_auroc_7"],
        "answers_for_f1": adaptive["answers_for_f1"],
        "answers_for_both": adaptive["answers_for_both"],
        "routed_error_drop": ours["routed"]["error_drop_7"],
        "splits": len(splits),
        "images": len(crowd.answers),
        "with_expert": len(crowd.expert),
        "scored": len(crowd.scored),
        "one_annotator": {
            "f1": _mean([one.f1 for one in people.values()]),
            "pq": _mean([one.pq for one in people.values()]),
            "f1_all_answers": round(sum(people.values(), Tally()).f1, 4),
        },
        "methods": methods,
        "adaptive": adaptive,
    }


def split(crowd: RealCrowd, number: int) -> Split:
    random = np.random.default_rng([8, number])
    known = list(crowd.expert)
    chosen = {
        known[index] for index in random.permutation(len(known))[: round(GOLD_SHARE * len(crowd.answers))]
    }
    order = {
        image: tuple(answers[index] for index in random.permutation(len(answers)))
        for image, answers in crowd.answers.items()
    }
    return Split(
        gold={image: shapes for image, shapes in crowd.expert.items() if image in chosen},
        scored={image: shapes for image, shapes in crowd.scored.items() if image not in chosen},
        order=order,
    )


def _without_gold(crowd: RealCrowd, splits: Sequence[Split], name: str) -> dict[str, Any]:
    method = BOX_METHODS[name]
    every = [answer for own in crowd.answers.values() for answer in own]
    scores = {MOST_ANSWERS: [score(method.fit_predict(every).images, crowd.scored)]}
    for count in (3, 2):
        scores[count] = [score(method.fit_predict(item.first(count)).images, crowd.scored) for item in splits]
    return _table(scores)


def _with_gold(splits: Sequence[Split], name: str) -> dict[str, Any]:
    """`gold`: the figures; `routed`: the share of the errors that goes when an expert sees the riskiest tenth of
    the scored images. Of a tenth at random it would be a tenth in the mean."""
    scores: dict[int, list[Scores]] = {}
    routed: dict[str, Any] = {"share_of_images": ROUTED_SHARE, "error_drop_random": ROUTED_SHARE}
    for count in (MOST_ANSWERS, 3, 2):
        settled = [_settle(item.first(count), item.gold, name) for item in splits]
        pairs = list(zip(settled, splits, strict=True))
        scores[count] = [score(images, item.scored) for images, item in pairs]
        routed[f"error_drop_{count}"] = _mean([_error_drop(images, item.scored) for images, item in pairs])
    return {"gold": _table(scores), "routed": routed}


def _error_drop(images: Sequence[Settled], truth: Gold) -> float:
    known = [one for one in images if one.image in truth]
    errors = [compare(one.accepted, truth[one.image]).errors for one in known]
    worst = np.argsort([-one.risk for one in known], kind="stable")[: round(ROUTED_SHARE * len(known))]
    gone: int = sum(errors[index] for index in worst.tolist())
    return gone / max(sum(errors), 1)


def _settle(answers: Sequence[Answer], gold: Gold, name: str) -> tuple[Settled, ...]:
    return BOX_METHODS[name].predict(answers, _fit(answers, gold, name))


def _fit(answers: Sequence[Answer], gold: Gold, name: str) -> Parameters:
    return BOX_METHODS[name].fit(answers, gold=gold).parameters


def _adaptive(
    splits: Sequence[Split], taus: Sequence[float], majority: Mapping[str, float], say: Say
) -> dict[str, Any]:
    """Fixed n against asking on while the risk is above tau, both with the default method and the same gold.

    `majority` is what the majority of all answers reaches on these images.
    """
    spent: list[list[Spent]] = []
    fixed: list[list[tuple[float, Scores]]] = []
    for number, item in enumerate(splits):
        say(f"asking on by risk, split {number + 1} of {len(splits)}")
        start = _fit(item.first(FIRST_ANSWERS), item.gold, DEFAULT_METHOD)
        spent.append([ask_on(item, tau, start) for tau in taus])
        fixed.append(
            [
                (float(count), score(_settle(item.first(count), item.gold, DEFAULT_METHOD), item.scored))
                for count in range(FIRST_ANSWERS, MOST_ANSWERS + 1)
            ]
        )
    asked = [
        [(one.cost(item.scored), score(one.settled, item.scored)) for one in own]
        for item, own in zip(splits, spent, strict=True)
    ]
    curve, fixed_curve = _curve(asked), _curve(fixed)
    for row, tau in zip(curve, taus, strict=True):
        row["tau"] = tau
    return {
        "wanted_f1": WANTED_F1,
        "wanted_pq": WANTED_PQ,
        "answers_for_f1": answers_needed(curve, {"f1": WANTED_F1}),
        "answers_for_both": answers_needed(curve, {"f1": WANTED_F1, "pq": WANTED_PQ}),
        "majority_of_all": dict(majority),
        "answers_for_majority_f1": answers_needed(curve, {"f1": majority["f1"]}),
        "answers_for_majority_both": answers_needed(curve, majority),
        "fixed_answers_for_f1": answers_needed(fixed_curve, {"f1": WANTED_F1}),
        "fixed_answers_for_both": answers_needed(fixed_curve, {"f1": WANTED_F1, "pq": WANTED_PQ}),
        "tau_chosen_on_a_half": {
            "for_f1": _chosen(splits, spent, {"f1": WANTED_F1}),
            "for_both": _chosen(splits, spent, {"f1": WANTED_F1, "pq": WANTED_PQ}),
        },
        "curve": curve,
        "fixed": fixed_curve,
        "splits": len(splits),
    }


def ask_on(item: Split, tau: float, parameters: Parameters) -> Spent:
    """Plays the queue: two answers of every image, then wave by wave one more where the risk is above tau.

    `parameters` are those learnt from the first two answers. An expert has answered the gold images.
    """
    method = BOX_METHODS[DEFAULT_METHOD]
    policy = Policy(target_risk=tau, first=FIRST_ANSWERS, most=MOST_ANSWERS)
    count = {image: min(FIRST_ANSWERS, len(own)) for image, own in item.order.items()}
    settled = {one.image: one for one in method.predict(item.first(FIRST_ANSWERS), parameters)}
    for wave in range(FIRST_ANSWERS + 1, MOST_ANSWERS + 1):
        asked = [
            image
            for image, own in item.order.items()
            if count[image] == wave - 1
            and next_action(
                settled[image], policy, answers=count[image], free=None if count[image] < len(own) else ()
            ).kind
            == "ask"
        ]
        if not asked:
            break
        for image in asked:
            count[image] += 1
        answers = _collected(item, count)
        if wave <= LAST_REFIT:
            parameters = _fit(answers, item.gold, DEFAULT_METHOD)
            settled = {one.image: one for one in method.predict(answers, parameters)}
        else:
            chosen = set(asked)
            changed = method.predict([one for one in answers if one.image in chosen], parameters)
            settled.update({one.image: one for one in changed})
    return Spent(tau, count, _settle(_collected(item, count), item.gold, DEFAULT_METHOD))


def _collected(item: Split, count: Mapping[str, int]) -> list[Answer]:
    return [answer for image, own in item.order.items() for answer in own[: count[image]]]


def answers_needed(curve: Sequence[Mapping[str, float]], wanted: Mapping[str, float]) -> float | None:
    """The fewest answers an image, on straight lines between the curve's points, at which all that is wanted is
    reached; None if it never is. Fewer than the curve's first point are not tried.

    >>> answers_needed([{"answers": 2, "f1": 0.8}, {"answers": 4, "f1": 0.9}], {"f1": 0.85})
    3.0
    """
    points = sorted(curve, key=lambda point: point["answers"])
    if points and all(points[0][name] >= value for name, value in wanted.items()):
        return round(float(points[0]["answers"]), 3)
    for before, after in pairwise(points):
        if all(after[name] >= value for name, value in wanted.items()):
            shares = [
                (value - before[name]) / (after[name] - before[name])
                for name, value in wanted.items()
                if before[name] < value
            ]
            return round(before["answers"] + max(shares) * (after["answers"] - before["answers"]), 3)
    return None


def _chosen(
    splits: Sequence[Split], spent: Sequence[Sequence[Spent]], wanted: Mapping[str, float]
) -> dict[str, Any]:
    """Tau is the cheapest that reaches what is wanted on one half of the scored images; figures of the other."""
    rows = []
    for number, (item, own) in enumerate(zip(splits, spent, strict=True)):
        names = list(item.scored)
        order = np.random.default_rng([9, number]).permutation(len(names)).tolist()
        halves = [{names[i]: item.scored[names[i]] for i in order[part::2]} for part in (0, 1)]
        for here, there in (halves, halves[::-1]):
            by_cost = sorted(own, key=lambda one: one.cost(here))
            reached = (one for one in by_cost if _reaches(score(one.settled, here), wanted))
            best = next(reached, by_cost[-1])
            rows.append((best.cost(there), score(best.settled, there), best.tau))
    return {
        "answers": _mean([cost for cost, _, _ in rows]),
        "f1": _mean([scores.f1 for _, scores, _ in rows]),
        "pq": _mean([scores.pq for _, scores, _ in rows]),
        "taus": sorted({tau for _, _, tau in rows}),
    }


def _reaches(scores: Scores, wanted: Mapping[str, float]) -> bool:
    return all(float(getattr(scores, name)) >= value for name, value in wanted.items())


def _curve(runs: Sequence[Sequence[tuple[float, Scores]]]) -> list[dict[str, float]]:
    """Means over splits, point by point."""
    return [
        {
            "answers": _mean([cost for cost, _ in point]),
            "f1": _mean([scores.f1 for _, scores in point]),
            "pq": _mean([scores.pq for _, scores in point]),
        }
        for point in zip(*runs, strict=True)
    ]


def _table(scores: Mapping[int, Sequence[Scores]]) -> dict[str, Any]:
    """`f1_7` and the like: means over splits."""
    table: dict[str, Any] = {}
    for count, own in scores.items():
        for name in ("f1", "pq", "map", "risk_auroc", "ece"):
            values = [getattr(one, name) for one in own]
            table[f"{name}_{count}"] = _mean([value for value in values if value is not None])
    return table


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def _boxes(item: Mapping[str, Any]) -> tuple[Shape, ...]:
    return tuple(
        Box(f"{item['annotator']}-{number}", 1, (x, y, x + width, y + height))
        for number, (x, y, width, height) in enumerate(item["boxes"])
    )
