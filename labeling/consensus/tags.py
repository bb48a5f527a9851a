"""Consensus of tags: which statements about the whole picture hold.

Where every answer of a project names at most one tag, the tags exclude each other and one question is
asked per image: which of them, or none? Otherwise each tag is a yes-or-no question of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from labeling.consensus import votes
from labeling.consensus.base import ACCEPT_AT, Parameters, SettledShape, Skill, beta_interval
from labeling.consensus.candidates import Sheet
from labeling.consensus.objects import INTERVAL_STRENGTH, TIE_RATIO, shape_id
from labeling.geometry import Floats
from labeling.shapes import Tag

NONE: Final = 0
"""The answer "no tag"; class ids are positive."""
TagAnswers = dict[str, dict[str, tuple[Tag, ...]]]


@dataclass(frozen=True, slots=True)
class TagBelief:
    """The probability of each tag (image, class id) that anybody set, in order."""

    probability: dict[tuple[str, int], float]
    exclusive: bool


def gather(sheets: dict[str, Sheet]) -> TagAnswers:
    """Each person's tags by image, one per class, in order of the class."""
    answers: TagAnswers = {}
    for image, sheet in sheets.items():
        answers[image] = {}
        for annotator, shapes in sheet.items():
            own: dict[int, Tag] = {}
            for tag in sorted(
                (item for item in shapes if isinstance(item, Tag)), key=lambda t: (t.class_id, t.id)
            ):
                own.setdefault(tag.class_id, tag)
            answers[image][annotator] = tuple(own.values())
    return answers


def fit(answers: TagAnswers) -> Parameters:
    exclusive = all(len(tags) <= 1 for sheet in answers.values() for tags in sheet.values())
    people = _people(answers)
    classes = _classes(answers)
    ballot = _ballot(answers, people, classes, exclusive)[0]
    model = votes.fit(ballot)
    return {
        "exclusive": exclusive,
        "classes": list(classes),
        "prior": model.prior.tolist(),
        "pool": model.pool,
        "annotators": dict(zip(people, model.accuracy.tolist(), strict=True)),
    }


def believe(answers: TagAnswers, parameters: Parameters) -> TagBelief:
    """Probabilities under frozen parameters; an annotator without a record is taken for an average one."""
    people = _people(answers)
    exclusive = bool(parameters["exclusive"]) and all(
        len(tags) <= 1 for sheet in answers.values() for tags in sheet.values()
    )
    classes = tuple(sorted({*parameters["classes"], *_classes(answers)}))
    ballot, questions = _ballot(answers, people, classes, exclusive)
    accuracy = np.array(
        [parameters["annotators"].get(name, parameters["pool"]) for name in people], dtype=np.float64
    )
    prior = np.full(ballot.choices, 1.0 / ballot.choices)
    if exclusive == parameters["exclusive"]:
        known = dict(zip(_choices(parameters["classes"], exclusive), parameters["prior"], strict=True))
        rarest = min(known.values())
        prior = np.array(
            [known.get(choice, rarest) for choice in _choices(classes, exclusive)], dtype=np.float64
        )
    belief = votes.posterior(ballot, votes.VoteModel(accuracy, prior / prior.sum(), parameters["pool"]))
    return _tag_belief(answers, questions, belief, classes, exclusive)


def believe_majority(answers: TagAnswers) -> TagBelief:
    """The share of those who saw the image that set each tag."""
    probability = {
        (image, class_id): sum(class_id in _ids(tags) for tags in sheet.values()) / len(sheet)
        for image, sheet in answers.items()
        for class_id in _said(sheet)
    }
    return TagBelief(probability, exclusive=False)


def settle(answers: TagAnswers, belief: TagBelief) -> list[tuple[list[SettledShape], float]]:
    """For each image its tags and the risk; of tags that exclude each other at most the best is accepted."""
    results: list[tuple[list[SettledShape], float]] = []
    for image, sheet in answers.items():
        said = _said(sheet)
        ranked = sorted(said, key=lambda class_id: (-belief.probability[image, class_id], class_id))
        settled: list[SettledShape] = []
        risk = 0.0
        for class_id in said:
            probability = belief.probability[image, class_id]
            accepted = probability >= ACCEPT_AT and not (belief.exclusive and class_id != ranked[0])
            members = tuple(
                (name, tag.id) for name, tags in sheet.items() for tag in tags if tag.class_id == class_id
            )
            tie = (
                belief.exclusive
                and len(ranked) > 1
                and class_id in ranked[:2]
                and (belief.probability[image, ranked[1]] >= TIE_RATIO * belief.probability[image, ranked[0]])
            )
            risk += 1.0 - probability if accepted else probability
            tag = Tag(shape_id(image, members), class_id, "consensus", probability)
            settled.append(
                SettledShape(
                    tag,
                    probability,
                    probability,
                    accepted,
                    members,
                    len(sheet),
                    ((class_id, 1.0),),
                    bool(tie),
                )
            )
        results.append((settled, risk))
    return results


def skills(answers: TagAnswers, belief: TagBelief) -> tuple[Skill, ...]:
    """Recall and precision of each annotator's tags against the belief."""
    found: list[Skill] = []
    for annotator in _people(answers):
        hits = chances = said = 0.0
        seen = 0
        for image, sheet in answers.items():
            if annotator not in sheet:
                continue
            seen += 1
            own = _ids(sheet[annotator])
            said += len(own)
            for class_id in _said(sheet):
                probability = belief.probability[image, class_id]
                chances += probability
                hits += probability if class_id in own else 0.0
        half = INTERVAL_STRENGTH / 2
        recall = (hits + half, max(chances - hits, 0.0) + half)
        precision = (hits + half, max(said - hits, 0.0) + half)
        found.append(
            Skill(
                annotator=annotator,
                kind="tag",
                recall=recall[0] / sum(recall),
                precision=precision[0] / sum(precision),
                spread_px=None,
                answers=seen,
                recall_interval=beta_interval(*recall),
                precision_interval=beta_interval(*precision),
            )
        )
    return tuple(found)


def _ballot(
    answers: TagAnswers, people: Sequence[str], classes: Sequence[int], exclusive: bool
) -> tuple[votes.Votes, list[tuple[str, int]]]:
    """The votes, and each question's (image, class id), which is `NONE` where the question is "which?"."""
    number = {name: index for index, name in enumerate(people)}
    column = {class_id: index for index, class_id in enumerate((NONE, *classes))}
    questions: list[tuple[str, int]] = []
    rows: list[tuple[int, int, int]] = []
    for image, sheet in answers.items():
        for asked in (NONE,) if exclusive else _said(sheet):
            for name, tags in sheet.items():
                own = _ids(tags)
                choice = column[own[0] if own else NONE] if exclusive else int(asked in own)
                rows.append((len(questions), number[name], choice))
            questions.append((image, asked))
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    choices = len(_choices(classes, exclusive))
    return votes.Votes(table[:, 0], table[:, 1], table[:, 2], len(questions), len(people), choices), questions


def _tag_belief(
    answers: TagAnswers,
    questions: Sequence[tuple[str, int]],
    belief: Floats,
    classes: Sequence[int],
    exclusive: bool,
) -> TagBelief:
    probability: dict[tuple[str, int], float] = {}
    column = {class_id: index for index, class_id in enumerate((NONE, *classes))}
    for (image, asked), row in zip(questions, belief.tolist(), strict=True):
        if exclusive:
            for class_id in _said(answers[image]):
                probability[image, class_id] = row[column[class_id]]
        else:
            probability[image, asked] = row[1]
    return TagBelief(probability, exclusive)


def _choices(classes: Sequence[int], exclusive: bool) -> list[int]:
    return [NONE, *classes] if exclusive else [0, 1]


def _people(answers: TagAnswers) -> tuple[str, ...]:
    return tuple(sorted({name for sheet in answers.values() for name in sheet}))


def _classes(answers: TagAnswers) -> tuple[int, ...]:
    return tuple(sorted({class_id for sheet in answers.values() for class_id in _said(sheet)}))


def _said(sheet: dict[str, tuple[Tag, ...]]) -> list[int]:
    return sorted({tag.class_id for tags in sheet.values() for tag in tags})


def _ids(tags: Sequence[Tag]) -> list[int]:
    return [tag.class_id for tag in tags]
