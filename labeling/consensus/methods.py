"""The methods by name. A new one is a class with `Method`'s three functions and a line in `METHODS`."""

from collections.abc import Iterable, Mapping
from typing import Final

from labeling.consensus import objects, tags
from labeling.consensus.base import (
    Answer,
    Consensus,
    Fitted,
    Method,
    Parameters,
    Settled,
    SettledShape,
    Skill,
)
from labeling.consensus.candidates import AnyCandidates, Sheet, by_image, gather
from labeling.shapes import Box, Keypoints, Kind, kind_of

KINDS: Final[tuple[Kind, ...]] = ("box", "keypoints", "tag")
Part = list[tuple[list[SettledShape], float]]


class SkillWeighted:
    """Weighs everybody by estimated skill: who finds what, draws where, and names it how reliably."""

    name = "skill_weighted"

    def fit(self, answers: Iterable[Answer]) -> Fitted:
        return self._fit(by_image(answers))

    def predict(self, answers: Iterable[Answer], parameters: Parameters) -> tuple[Settled, ...]:
        return self._predict(by_image(answers), parameters)

    def fit_predict(self, answers: Iterable[Answer]) -> Consensus:
        sheets = by_image(answers)
        fitted = self._fit(sheets)
        return Consensus(self._predict(sheets, fitted.parameters), fitted.skills, fitted.parameters)

    def _fit(self, sheets: dict[str, Sheet]) -> Fitted:
        parameters: dict[str, Parameters] = {}
        skills: list[Skill] = []
        for kind in _kinds(sheets):
            if kind == "tag":
                tagged = tags.gather(sheets)
                parameters[kind] = tags.fit(tagged)
                skills.extend(tags.skills(tagged, tags.believe(tagged, parameters[kind])))
            else:
                drawn = _gather(sheets, kind)
                parameters[kind] = objects.fit(drawn)
                skills.extend(objects.skills(drawn, kind, objects.believe(drawn, parameters[kind])))
        return Fitted(parameters, tuple(skills))

    def _predict(self, sheets: dict[str, Sheet], parameters: Parameters) -> tuple[Settled, ...]:
        parts: list[Part] = []
        for kind in sorted({*_kinds(sheets), *(kind for kind in KINDS if kind in parameters)}):
            # a kind that nobody had drawn when the parameters were learnt: learn from these answers alone
            if kind == "tag":
                tagged = tags.gather(sheets)
                parts.append(
                    tags.settle(tagged, tags.believe(tagged, parameters.get(kind) or tags.fit(tagged)))
                )
            else:
                drawn = _gather(sheets, kind)
                learnt = parameters.get(kind) or objects.fit(drawn)
                parts.append(objects.settle(drawn, objects.believe(drawn, learnt)))
        return _together(sheets, parts)


class Majority:
    """The baseline: half of those who saw it must have drawn it; plain means and counts."""

    name = "majority"

    def fit(self, answers: Iterable[Answer]) -> Fitted:
        sheets = by_image(answers)
        skills: list[Skill] = []
        for kind in _kinds(sheets):
            if kind == "tag":
                tagged = tags.gather(sheets)
                skills.extend(tags.skills(tagged, tags.believe_majority(tagged)))
            else:
                drawn = _gather(sheets, kind)
                skills.extend(objects.skills(drawn, kind, objects.believe_majority(drawn)))
        return Fitted({}, tuple(skills))

    def predict(self, answers: Iterable[Answer], parameters: Parameters) -> tuple[Settled, ...]:
        sheets = by_image(answers)
        parts: list[Part] = []
        for kind in _kinds(sheets):
            if kind == "tag":
                tagged = tags.gather(sheets)
                parts.append(tags.settle(tagged, tags.believe_majority(tagged)))
            else:
                drawn = _gather(sheets, kind)
                parts.append(objects.settle(drawn, objects.believe_majority(drawn)))
        return _together(sheets, parts)

    def fit_predict(self, answers: Iterable[Answer]) -> Consensus:
        every = tuple(answers)
        fitted = self.fit(every)
        return Consensus(self.predict(every, fitted.parameters), fitted.skills, fitted.parameters)


METHODS: Final[Mapping[str, Method]] = {method.name: method for method in (SkillWeighted(), Majority())}
DEFAULT_METHOD: Final = SkillWeighted.name


def _gather(sheets: dict[str, Sheet], kind: Kind) -> AnyCandidates:
    if kind == "box":
        return gather(sheets, Box)
    return gather(sheets, Keypoints)


def _kinds(sheets: dict[str, Sheet]) -> list[Kind]:
    return sorted(
        {kind_of(shape) for sheet in sheets.values() for shapes in sheet.values() for shape in shapes}
    )


def _together(sheets: dict[str, Sheet], parts: list[Part]) -> tuple[Settled, ...]:
    return tuple(
        Settled(
            image=image,
            shapes=tuple(shape for part in parts for shape in part[index][0]),
            risk=float(sum(part[index][1] for part in parts)),
            annotators=tuple(sheet),
        )
        for index, (image, sheet) in enumerate(sheets.items())
    )
