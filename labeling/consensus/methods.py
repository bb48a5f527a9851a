"""The methods by name. A new one is a class with `Method`'s three functions and a line in `METHODS`."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import median
from typing import Final, get_args

from labeling.consensus import objects, tags, votes
from labeling.consensus.base import (
    Answer,
    Cause,
    Consensus,
    Fitted,
    Gold,
    Method,
    Parameters,
    Settled,
    SettledShape,
    Skill,
)
from labeling.consensus.candidates import AnyCandidates, Sheet, by_image, gather
from labeling.consensus.fusion import WeightedBoxesFusion
from labeling.schema import Schema
from labeling.shapes import Box, Keypoints, Kind, Tag, kind_of

KINDS: Final[tuple[Kind, ...]] = ("box", "keypoints", "tag")
Part = list[tuple[list[SettledShape], float]]
"""By image its settled shapes, and how many objects nobody drew."""
Believed = dict[Kind, tuple[AnyCandidates, objects.Belief]]


class SkillWeighted:
    """Weighs everybody by estimated skill: who finds what, draws where, and names it how reliably."""

    name = "skill_weighted"

    def fit(
        self, answers: Iterable[Answer], *, schema: Schema | None = None, gold: Gold | None = None
    ) -> Fitted:
        return self._fit(by_image(answers), schema, gold, {})

    def predict(self, answers: Iterable[Answer], parameters: Parameters) -> tuple[Settled, ...]:
        return self._predict(by_image(answers), parameters, {})

    def fit_predict(
        self, answers: Iterable[Answer], *, schema: Schema | None = None, gold: Gold | None = None
    ) -> Consensus:
        sheets = by_image(answers)
        believed: Believed = {}
        fitted = self._fit(sheets, schema, gold, believed)
        images = self._predict(sheets, fitted.parameters, believed)
        return Consensus(images, fitted.skills, fitted.parameters)

    def _fit(
        self, sheets: dict[str, Sheet], schema: Schema | None, gold: Gold | None, believed: Believed
    ) -> Fitted:
        """Leaves in `believed` what it had to find out of these very answers."""
        parameters: dict[str, Parameters] = {}
        skills: list[Skill] = []
        for kind in _kinds(sheets):
            if kind == "tag":
                tagged = tags.gather(sheets)
                parameters[kind] = tags.fit(tagged, gold=gold)
                belief = tags.believe(tagged, parameters[kind], doubting=False)
                skills.extend(tags.skills(tagged, belief))
            else:
                drawn = _gather(sheets, kind)
                parameters[kind] = objects.fit(drawn, schema=schema, gold=gold)
                believed[kind] = drawn, objects.believe(drawn, parameters[kind])
                skills.extend(objects.skills(drawn, kind, believed[kind][1]))
        return Fitted(parameters, _with_speed(skills, sheets))

    def _predict(
        self, sheets: dict[str, Sheet], parameters: Parameters, believed: Believed
    ) -> tuple[Settled, ...]:
        parts: list[Part] = []
        tagless: Mapping[str, float] = {}
        for kind in sorted({*_kinds(sheets), *(kind for kind in KINDS if kind in parameters)}):
            # a kind that nobody had drawn when the parameters were learnt: nothing is known of anybody
            if kind == "tag":
                tagged = tags.gather(sheets)
                belief = tags.believe(tagged, parameters.get(kind) or tags.UNKNOWN)
                tagless = belief.none
                parts.append(tags.settle(tagged, belief))
            elif kind in believed:
                parts.append(objects.settle(*believed[kind]))
            else:
                drawn = _gather(sheets, kind)
                learnt = parameters.get(kind) or objects.fit(drawn, rounds=0)
                parts.append(objects.settle(drawn, objects.believe(drawn, learnt)))
        return _together(sheets, parts, tagless)


class Majority:
    """The baseline: half of those who saw it must have drawn it; plain means and counts."""

    name = "majority"

    def fit(
        self, answers: Iterable[Answer], *, schema: Schema | None = None, gold: Gold | None = None
    ) -> Fitted:
        sheets = by_image(answers)
        parameters: dict[str, Parameters] = {}
        skills: list[Skill] = []
        for kind in _kinds(sheets):
            if kind == "tag":
                tagged = tags.gather(sheets)
                learnt = self._fit_tags(tagged)
                if learnt is not None:
                    parameters[kind] = learnt
                skills.extend(tags.skills(tagged, self._believe_tags(tagged, learnt)))
            else:
                drawn = _gather(sheets, kind)
                skills.extend(objects.skills(drawn, kind, objects.believe_majority(drawn)))
        return Fitted(parameters, _with_speed(skills, sheets))

    def predict(self, answers: Iterable[Answer], parameters: Parameters) -> tuple[Settled, ...]:
        sheets = by_image(answers)
        parts: list[Part] = []
        tagless: Mapping[str, float] = {}
        for kind in _kinds(sheets):
            if kind == "tag":
                tagged = tags.gather(sheets)
                belief = self._believe_tags(tagged, parameters.get(kind))
                tagless = belief.none
                parts.append(tags.settle(tagged, belief))
            else:
                drawn = _gather(sheets, kind)
                parts.append(objects.settle(drawn, objects.believe_majority(drawn)))
        return _together(sheets, parts, tagless)

    def fit_predict(
        self, answers: Iterable[Answer], *, schema: Schema | None = None, gold: Gold | None = None
    ) -> Consensus:
        every = tuple(answers)
        fitted = self.fit(every)
        return Consensus(self.predict(every, fitted.parameters), fitted.skills, fitted.parameters)

    def _fit_tags(self, tagged: tags.TagAnswers) -> Parameters | None:
        return None

    def _believe_tags(self, tagged: tags.TagAnswers, learnt: Parameters | None) -> tags.TagBelief:
        return tags.believe_majority(tagged)


class DawidSkene(Majority):
    """Tags by Dawid and Skene's method of 1979: everybody's own whole confusion matrix. Else as `Majority`."""

    name = "dawid_skene"

    def _fit_tags(self, tagged: tags.TagAnswers) -> Parameters | None:
        return tags.fit(tagged, shrinkage=votes.CLASSICAL)

    def _believe_tags(self, tagged: tags.TagAnswers, learnt: Parameters | None) -> tags.TagBelief:
        return tags.believe(tagged, learnt or tags.UNKNOWN)


METHODS: Final[Mapping[str, Method]] = {
    method.name: method
    for method in (SkillWeighted(), Majority(), WeightedBoxesFusion(others=Majority()), DawidSkene())
}
DEFAULT_METHOD: Final = SkillWeighted.name


def _gather(sheets: dict[str, Sheet], kind: Kind) -> AnyCandidates:
    if kind == "box":
        return gather(sheets, Box)
    return gather(sheets, Keypoints)


def _kinds(sheets: dict[str, Sheet]) -> list[Kind]:
    return sorted(
        {kind_of(shape) for sheet in sheets.values() for answer in sheet.values() for shape in answer.shapes}
    )


def _with_speed(skills: Iterable[Skill], sheets: dict[str, Sheet]) -> tuple[Skill, ...]:
    """The skills with everybody's median seconds for an image."""
    seconds: dict[str, list[float]] = {}
    for sheet in sheets.values():
        for name, answer in sheet.items():
            if answer.seconds is not None:
                seconds.setdefault(name, []).append(answer.seconds)
    medians = {name: median(values) for name, values in seconds.items()}
    return tuple(replace(skill, seconds_per_image=medians.get(skill.annotator)) for skill in skills)


def _together(
    sheets: dict[str, Sheet], parts: list[Part], tagless: Mapping[str, float]
) -> tuple[Settled, ...]:
    """`tagless`: of images whose tags exclude each other, how probably there is none."""
    settled: list[Settled] = []
    for index, (image, sheet) in enumerate(sheets.items()):
        shapes = tuple(shape for part in parts for shape in part[index][0])
        unseen = sum(part[index][1] for part in parts)
        causes: dict[Cause, float] = {"unseen": unseen} if unseen > 0.0 else {}
        empty = math.exp(-unseen) * tagless.get(image, 1.0)
        for shape in shapes:
            if image not in tagless or not isinstance(shape.shape, Tag):
                empty *= 1.0 - shape.existence
            for cause, value in shape.causes.items():
                causes[cause] = causes.get(cause, 0.0) + value
        ordered = {cause: causes[cause] for cause in get_args(Cause) if cause in causes}
        settled.append(
            Settled(
                image=image,
                shapes=shapes,
                risk=float(sum(ordered.values())),
                annotators=tuple(sheet),
                causes=ordered,
                empty=empty,
            )
        )
    return tuple(settled)
