"""A synthetic crowd: objects, and people who miss some, invent some and draw with a shaky hand."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labeling.consensus import Answer
from labeling.shapes import Box


@dataclass(frozen=True)
class Person:
    recall: float = 0.9
    inventions: float = 0.1
    spread: float = 0.03
    accuracy: float = 0.97


def draw(
    people: Sequence[Person], images: int, seed: int, objects: int = 6
) -> tuple[list[Answer], dict[str, tuple[Box, ...]]]:
    """Every person's answer for every image, and the truth. Sides err by `spread` of the object's size."""
    random = np.random.default_rng(seed)
    truth: dict[str, tuple[Box, ...]] = {}
    answers: list[Answer] = []
    for image in range(images):
        name = f"image-{image:03d}"
        cells = random.permutation(25)[: random.poisson(objects)]
        truth[name] = tuple(
            _box(random, cell, f"true-{number}", int(random.integers(1, 4)))
            for number, cell in enumerate(cells)
        )
        for number, person in enumerate(people):
            drawn: list[Box] = []
            for box in truth[name]:
                if random.random() < person.recall:
                    wrong = random.random() > person.accuracy
                    drawn.append(
                        Box(
                            f"{number}-{len(drawn)}",
                            box.class_id % 3 + 1 if wrong else box.class_id,
                            _shaken(random, box, person.spread),
                        )
                    )
            for _ in range(random.poisson(person.inventions)):
                drawn.append(_box(random, int(random.integers(25)), f"{number}-{len(drawn)}", 1))
            answers.append(Answer(name, f"person-{number}", tuple(drawn)))
    return answers, truth


def _box(random: np.random.Generator, cell: int, name: str, class_id: int) -> Box:
    left, top = 200.0 * (cell % 5), 200.0 * (cell // 5)
    x, y = left + random.uniform(0, 60), top + random.uniform(0, 60)
    width, height = random.uniform(40, 120, 2)
    return Box(name, class_id, (x, y, x + width, y + height))


def _shaken(random: np.random.Generator, box: Box, spread: float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box.xyxy
    errors = random.normal(0, spread, 4) * [x2 - x1, y2 - y1, x2 - x1, y2 - y1]
    sides = np.array(box.xyxy) + np.clip(errors, -30, 30) * (np.abs(errors) < 30)
    return float(sides[0]), float(sides[1]), float(sides[2]), float(sides[3])
