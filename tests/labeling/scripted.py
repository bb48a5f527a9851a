"""A method of consensus whose figures a test can tell in its head: what the service makes of them is tested with it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from labeling.consensus import Answer, Consensus, Fitted, Gold, Parameters, Settled, SettledShape, Skill
from labeling.schema import Schema
from labeling.shapes import Box

ALONE = 0.3
"""The risk of an image that one annotator alone looked at, whatever they drew."""


@dataclass
class Scripted:
    """Boxes are the same object when their sides are equal; the share of those who drew one is its probability.

    `known` are recall and precision, each with no doubt, that a fit finds of an annotator; `doubt` is added to
    every risk once `doubtful` has been learnt.
    """

    name: str = "scripted"
    known: dict[str, float] = field(default_factory=dict)
    pictures: int = 100
    doubt: float = 0.0
    seen: list[Answer] = field(default_factory=list)
    gold: Gold | None = None

    def fit(
        self, answers: Iterable[Answer], *, schema: Schema | None = None, gold: Gold | None = None
    ) -> Fitted:
        self.seen = sorted(answers, key=lambda item: (item.image, item.annotator))
        self.gold = gold
        counts = Counter(item.annotator for item in self.seen)
        skills = tuple(
            Skill(
                name,
                "box",
                self.known.get(name, 0.5),
                self.known.get(name, 0.5),
                1.0,
                self.pictures,
                (self.known.get(name, 0.5),) * 2,
                (self.known.get(name, 0.5),) * 2,
                by_model=name.startswith("model:"),
                bias=(0.0, 0.0, 0.01, 0.0),
                confusion={1: {1: 1.0}},
                seconds_per_image=2.5,
            )
            for name in sorted(counts)
        )
        return Fitted({"answers": dict(sorted(counts.items())), "doubt": self.doubt}, skills)

    def predict(self, answers: Iterable[Answer], parameters: Parameters) -> tuple[Settled, ...]:
        sheets: dict[str, list[Answer]] = {}
        for answer in sorted(answers, key=lambda item: (item.image, item.annotator)):
            sheets.setdefault(answer.image, []).append(answer)
        return tuple(_settle(image, sheet, parameters) for image, sheet in sorted(sheets.items()))

    def fit_predict(
        self, answers: Iterable[Answer], *, schema: Schema | None = None, gold: Gold | None = None
    ) -> Consensus:
        every = tuple(answers)
        fitted = self.fit(every, schema=schema, gold=gold)
        return Consensus(self.predict(every, fitted.parameters), fitted.skills, fitted.parameters)


def _settle(image: str, sheet: list[Answer], parameters: Parameters) -> Settled:
    drawn: dict[tuple[float, ...], list[tuple[str, str]]] = {}
    for answer in sheet:
        for shape in answer.shapes:
            assert isinstance(shape, Box)
            drawn.setdefault(shape.xyxy, []).append((answer.annotator, shape.id))
    items = []
    for number, (xyxy, members) in enumerate(sorted(drawn.items())):
        share = len(members) / len(sheet)
        accepted = share >= 0.5
        items.append(
            SettledShape(
                Box(f"{image}-{number}", 1, (xyxy[0], xyxy[1], xyxy[2], xyxy[3]), provenance="consensus"),
                share,
                share,
                accepted,
                tuple(members),
                len(sheet),
                ((1, 1.0),),
                causes={"surplus": 1 - share} if accepted else {"missed": share},
            )
        )
    causes = {
        "surplus": sum(item.causes.get("surplus", 0.0) for item in items),
        "missed": sum(item.causes.get("missed", 0.0) for item in items),
        "unseen": (ALONE if len(sheet) == 1 else 0.0) + float(parameters.get("doubt", 0.0)),
    }
    names = tuple(answer.annotator for answer in sheet)
    return Settled(image, tuple(items), sum(causes.values()), names, causes=causes, empty=0.0)  # type: ignore[arg-type]
