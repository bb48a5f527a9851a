"""Consensus of tags: which statements about the whole picture hold.

Where every answer of a project names at most one tag, the tags exclude each other and one question is
asked per image: which of them, or none? Otherwise each tag is a yes-or-no question of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import numpy as np

from labeling.consensus import votes
from labeling.consensus.base import (
    ACCEPT_AT,
    Cause,
    Gold,
    Measured,
    Parameters,
    SettledShape,
    Skill,
    beta_interval,
)
from labeling.consensus.candidates import Sheet
from labeling.consensus.objects import INTERVAL_STRENGTH, TIE_RATIO, shape_id
from labeling.geometry import Ints
from labeling.shapes import Shape, Tag

NONE: Final = 0
"""The answer "no tag"; class ids are positive."""
NO, YES = 0, 1
UNKNOWN: Final[Parameters] = {
    "exclusive": True,
    "pooled": True,
    "model": {
        "choices": [NONE],
        "prior": [1.0],
        "pool": 0.9,
        "temperature": 1.0,
        "overlap": votes.OVERLAP,
        "shared_error": 0.1 * votes.SHARED_ERROR,
        "annotators": {},
    },
}
"""The parameters before anybody set a tag: nothing is known of anybody."""
OwnTags: TypeAlias = dict[str, tuple[Tag, ...]]
"""One image's tags by annotator, one per class, in order of the class."""


@dataclass(frozen=True, slots=True)
class TagAnswers:
    """Who saw which image and set which tags."""

    images: dict[str, OwnTags]
    saw: Mapping[tuple[str, str], str]
    """(Image, annotator) → the model whose suggestions the annotator started from."""
    models: frozenset[str]

    @property
    def people(self) -> tuple[str, ...]:
        return tuple(sorted({name for own in self.images.values() for name in own}))

    @property
    def classes(self) -> tuple[int, ...]:
        return tuple(sorted({class_id for own in self.images.values() for class_id in _said(own)}))

    @property
    def exclusive(self) -> bool:
        return all(len(tags) <= 1 for own in self.images.values() for tags in own.values())

    def suggested(self, image: str, annotator: str) -> frozenset[int]:
        """The tags that this annotator was shown: what the model set, or what they accepted of one unknown."""
        model = self.saw.get((image, annotator))
        if model is None:
            return frozenset()
        own = self.images[image]
        if model in own and model != annotator:
            return frozenset(tag.class_id for tag in own[model])
        return frozenset(tag.class_id for tag in own[annotator] if tag.provenance == "human_accepted")


@dataclass(frozen=True, slots=True)
class TagBelief:
    """The probability of each tag (image, class id) that anybody set.

    Where an image's tags exclude each other, `none` is how probably it has none.
    """

    probability: dict[tuple[str, int], float]
    none: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ballot:
    """The votes, and each question's (image, class id), which is `NONE` where the question is "which?"."""

    votes: votes.Votes
    questions: tuple[tuple[str, int], ...]


def gather(sheets: dict[str, Sheet]) -> TagAnswers:
    images: dict[str, OwnTags] = {}
    for image, sheet in sheets.items():
        images[image] = {}
        for annotator, answer in sheet.items():
            own: dict[int, Tag] = {}
            for tag in sorted(
                (item for item in answer.shapes if isinstance(item, Tag)), key=lambda t: (t.class_id, t.id)
            ):
                own.setdefault(tag.class_id, tag)
            images[image][annotator] = tuple(own.values())
    everyone = [(image, answer) for image, sheet in sheets.items() for answer in sheet.values()]
    return TagAnswers(
        images,
        {(image, answer.annotator): answer.saw for image, answer in everyone if answer.saw},
        frozenset(answer.annotator for _, answer in everyone if answer.by_model),
    )


def fit(
    answers: TagAnswers, *, gold: Gold | None = None, shrinkage: votes.Shrinkage = votes.POOLED
) -> Parameters:
    """The annotators' parameters as JSON. An expert's tags, where there are any, are taken for true."""
    truth = {
        image: frozenset(shape.class_id for shape in shapes if isinstance(shape, Tag))
        for image, shapes in (gold or {}).items()
        if image in answers.images
    }
    exclusive = answers.exclusive and all(len(tags) <= 1 for tags in truth.values())
    classes = tuple(sorted({*answers.classes, *(class_id for tags in truth.values() for class_id in tags)}))
    choices = _choices(classes, exclusive)
    ballot = _ballot(answers, classes, exclusive)
    cast = ballot.votes
    if not shrinkage.pooled:
        # the method of 1979 knows of no suggestions
        cast = replace(cast, shown=None)
    elif truth:
        cast = replace(cast, known=_known(ballot, truth, choices, exclusive))
    model = votes.fit(cast, shrinkage)
    return {
        "exclusive": exclusive,
        "pooled": shrinkage.pooled,
        "model": votes.dump(model, answers.people, choices),
    }


def believe(answers: TagAnswers, parameters: Parameters, *, doubting: bool = True) -> TagBelief:
    """Probabilities under frozen parameters; an annotator without a record is taken for an average one.

    Without doubt they are what annotators are measured by: a belief that all share speaks against none of them.

    Where tags excluded each other so far and now somebody sets two, that image's tags are asked one by one, of
    annotators as accurate as they were.
    """
    learnt: Parameters = parameters["model"]
    if not doubting:
        learnt = {**learnt, "temperature": 1.0, "overlap": 0.0, "shared_error": 0.0}
    if not parameters["exclusive"]:
        return _one_by_one(answers, parameters, votes.load(learnt, answers.people, (NO, YES)))
    several = _part(answers, exclusive=False)
    one = _part(answers, exclusive=True)
    classes = tuple(sorted({*one.classes, *learnt["choices"]} - {NONE}))
    choices = _choices(classes, exclusive=True)
    ballot = _ballot(one, classes, exclusive=True)
    cast = ballot.votes if parameters["pooled"] else replace(ballot.votes, shown=None)
    rows = votes.posterior(cast, votes.load(learnt, one.people, choices)).tolist()
    belief = TagBelief({})
    if several.images:
        known = votes.load(learnt, several.people, choices)
        belief = _one_by_one(several, parameters, replace(known, prior=np.full(2, 0.5), record=None))
    for (image, _), row in zip(ballot.questions, rows, strict=True):
        chances = dict(zip(choices, row, strict=True))
        belief.none[image] = chances[NONE]
        for class_id in _said(one.images[image]):
            belief.probability[image, class_id] = chances[class_id]
    return belief


def believe_majority(answers: TagAnswers) -> TagBelief:
    """The share of those who saw the image that set each tag."""
    probability = {
        (image, class_id): sum(class_id in _ids(tags) for tags in own.values()) / len(own)
        for image, own in answers.images.items()
        for class_id in _said(own)
    }
    return TagBelief(probability)


def settle(answers: TagAnswers, belief: TagBelief) -> list[tuple[list[SettledShape], float]]:
    """For each image its tags, and 0: a tag that nobody set is not counted.

    Of tags that exclude each other the most probable is accepted, unless it is more probable that there is none.
    """
    results: list[tuple[list[SettledShape], float]] = []
    for image, own in answers.images.items():
        said = _said(own)
        chances = {class_id: belief.probability[image, class_id] for class_id in said}
        ranked = sorted(said, key=lambda class_id: (-chances[class_id], class_id))
        accepted = {class_id for class_id in said if chances[class_id] >= ACCEPT_AT}
        tied: set[int] = set()
        none = belief.none.get(image)
        if none is not None and ranked:
            best = ranked[0]
            accepted = {best} if chances[best] >= none else set()
            if len(ranked) > 1 and chances[ranked[1]] >= TIE_RATIO * chances[best]:
                tied = set(ranked[:2])
        settled: list[SettledShape] = []
        for class_id in said:
            members = tuple(
                (name, tag.id) for name, tags in own.items() for tag in tags if tag.class_id == class_id
            )
            settled.append(
                SettledShape(
                    shape=Tag(shape_id(image, members), class_id, "consensus", chances[class_id]),
                    existence=chances[class_id],
                    confidence=chances[class_id],
                    accepted=class_id in accepted,
                    members=members,
                    seen_by=len(own),
                    class_posterior=((class_id, 1.0),),
                    class_tie=class_id in tied,
                    causes=_causes(
                        chances[class_id], none, accepted=class_id in accepted, instead=bool(accepted)
                    ),
                )
            )
        results.append((settled, 0.0))
    return results


def skills(answers: TagAnswers, belief: TagBelief) -> tuple[Skill, ...]:
    """Recall, precision and confusion of each annotator's tags against the belief.

    What an annotator was shown as a suggestion tells nothing of what they see by themselves: it is left out.
    """
    tallies = {name: Tally() for name in answers.people}
    for image, own in answers.images.items():
        said = _said(own)
        chances = {class_id: belief.probability[image, class_id] for class_id in said}
        none = belief.none.get(image)
        for annotator, tags in own.items():
            tally = tallies[annotator]
            tally.images += 1
            suggested = answers.suggested(image, annotator)
            mine = set(_ids(tags))
            for class_id in said:
                if class_id not in suggested:
                    tally.look(chances[class_id], class_id in mine)
            if not suggested:
                tally.name(tuple(mine), chances, none)
    half = INTERVAL_STRENGTH / 2
    return tuple(
        Skill(
            annotator=name,
            kind="tag",
            recall=(recall := _measured(tally.hits, tally.chances, half)).value,
            precision=(precision := _measured(tally.hits, tally.said, half)).value,
            spread_px=None,
            answers=tally.images,
            recall_interval=recall.interval,
            precision_interval=precision.interval,
            by_model=name in answers.models,
            class_accuracy=_measured(tally.right, tally.named, half) if tally.named else None,
            confusion=tally.confusion,
        )
        for name, tally in tallies.items()
    )


@dataclass(slots=True)
class Tally:
    """One annotator's expected counts."""

    images: int = 0
    hits: float = 0.0
    chances: float = 0.0
    said: int = 0
    right: float = 0.0
    named: int = 0
    pairs: dict[tuple[int, int], float] | None = None

    def look(self, chance: float, set_it: bool) -> None:
        """A tag that is there with this chance, and whether the annotator set it."""
        self.chances += chance
        self.hits += chance if set_it else 0.0
        self.said += set_it

    def name(self, mine: tuple[int, ...], chances: Mapping[int, float], none: float | None) -> None:
        """A picture's tags; of those that exclude each other also what was said for what."""
        self.pairs = {} if self.pairs is None else self.pairs
        if none is None:
            for class_id, chance in chances.items():
                self.right += chance if class_id in mine else 1.0 - chance
                self.named += 1
            return
        choice = mine[0] if mine else NONE
        for class_id, chance in ((NONE, none), *chances.items()):
            self.pairs[class_id, choice] = self.pairs.get((class_id, choice), 0.0) + chance
        self.right += chances.get(choice, none)
        self.named += 1

    @property
    def confusion(self) -> dict[int, dict[int, float]]:
        """True class id → class id said → share; `NONE` is no tag."""
        table: dict[int, dict[int, float]] = {}
        for (true, said), count in sorted((self.pairs or {}).items()):
            table.setdefault(true, {})[said] = count
        return {
            true: {said: count / whole for said, count in row.items()}
            for true, row in table.items()
            if (whole := sum(row.values())) > 0.0
        }


def _measured(successes: float, trials: float, half: float) -> Measured:
    good, bad = successes + half, max(trials - successes, 0.0) + half
    return Measured(good / (good + bad), beta_interval(good, bad), float(trials))


def _causes(chance: float, none: float | None, *, accepted: bool, instead: bool) -> dict[Cause, float]:
    """This tag's part of the risk. Of tags that exclude each other one for another is one error, not two."""
    causes: dict[Cause, float] = {"missed": chance}
    if accepted and none is None:
        causes = {"surplus": 1.0 - chance}
    elif accepted and none is not None:
        causes = {"surplus": none, "class": 1.0 - none - chance}
    elif none is not None and instead:
        causes = {}
    return {cause: value for cause, value in causes.items() if value > 0.0}


def _ballot(answers: TagAnswers, classes: Sequence[int], exclusive: bool) -> Ballot:
    people = answers.people
    number = {name: index for index, name in enumerate(people)}
    column = {class_id: index for index, class_id in enumerate((NONE, *classes))}
    questions: list[tuple[str, int]] = []
    rows: list[tuple[int, int, int, int]] = []
    for image, own in answers.images.items():
        for asked in (NONE,) if exclusive else _said(own):
            for name, tags in own.items():
                mine = _ids(tags)
                shown = answers.suggested(image, name)
                if exclusive:
                    # to see no suggestion is no suggestion that there is nothing
                    row = column[mine[0] if mine else NONE], column[min(shown)] if shown else -1
                else:
                    row = (YES if asked in mine else NO), (YES if asked in shown else -1)
                rows.append((len(questions), number[name], *row))
            questions.append((image, asked))
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    question, annotator, choice, seen = (np.ascontiguousarray(item) for item in table.T)
    return Ballot(
        votes.Votes(
            question,
            annotator,
            choice,
            len(questions),
            len(people),
            len(_choices(classes, exclusive)),
            shown=seen if answers.saw else None,
        ),
        tuple(questions),
    )


def _known(
    ballot: Ballot, truth: Mapping[str, frozenset[int]], choices: Sequence[int], exclusive: bool
) -> Ints:
    column = {choice: index for index, choice in enumerate(choices)}
    known = np.full(len(ballot.questions), -1)
    for row, (image, asked) in enumerate(ballot.questions):
        if image in truth:
            true = truth[image]
            known[row] = column[min(true, default=NONE)] if exclusive else int(asked in true)
    return known


def _one_by_one(answers: TagAnswers, parameters: Parameters, model: votes.VoteModel) -> TagBelief:
    ballot = _ballot(answers, answers.classes, exclusive=False)
    cast = ballot.votes if parameters["pooled"] else replace(ballot.votes, shown=None)
    rows = votes.posterior(cast, model).tolist()
    return TagBelief(dict(zip(ballot.questions, (row[YES] for row in rows), strict=True)))


def _part(answers: TagAnswers, *, exclusive: bool) -> TagAnswers:
    """The images on which everybody set at most one tag, or the others."""
    images = {
        image: own
        for image, own in answers.images.items()
        if exclusive == all(len(tags) <= 1 for tags in own.values())
    }
    return replace(answers, images=images)


def _choices(classes: Sequence[int], exclusive: bool) -> tuple[int, ...]:
    return (NONE, *classes) if exclusive else (NO, YES)


def _said(own: OwnTags) -> list[int]:
    return sorted({tag.class_id for tags in own.values() for tag in tags})


def _ids(tags: Sequence[Shape]) -> list[int]:
    return [tag.class_id for tag in tags]
