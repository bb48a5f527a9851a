"""Crowds on made-up pictures: people who overlook, invent, shake, confuse classes, or do not look at all.

A crowd is drawn from its recipe with a seed. Everything has a stream of random numbers of its own (the people,
each picture, each person's look at each picture), so the first pictures of a larger crowd are those of a smaller.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

import numpy as np

from labeling.consensus import Answer
from labeling.geometry import Floats, Ints, iou_xyxy
from labeling.shapes import XYXY, Box, Shape

Random: TypeAlias = np.random.Generator
Range: TypeAlias = tuple[float, float]
Spam: TypeAlias = Literal["", "random", "empty"]

CLASSES: Final = 6
"""Class ids 1…6; 1 and 2, 3 and 4, 5 and 6 look alike."""
TWIN_SHARE: Final = 0.8
"""The share of class mistakes that go to the class that looks alike; the others go anywhere."""
TYPICAL_SIZE_PX: Final = 80.0
LEAST_SIDE_PX: Final = 6.0
TAIL_SHARE: Final = 0.05
TAIL_FACTOR: Final = 4.0
"""One box in twenty is drawn four times as inexactly as usual: the hand slipped, or a part was taken for the whole."""
PLACES_TRIED: Final = 20
REFERENCE_PICTURES: Final = 300
"""Pictures on which a person's expected F1 is measured; none of them is in the crowd."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How one person draws.

    `recall`: the probability of drawing an object of typical size in a picture of typical difficulty; `size_slope`
    is added to its log-odds for each factor e in size. `jitter`: standard deviation of a side, in sides of the
    object, `floor_px` of one however small. `noise`: boxes around nothing, a picture. `lookalikes`: the
    probability of drawing a place that looks fully like an object. `confusion`: the probability of another class.
    `bias`: how far (centre x, centre y) are off in sides, and the logarithm of how much too (wide, high).
    """

    recall: float
    size_slope: float
    jitter: float
    floor_px: float
    noise: float
    lookalikes: float
    confusion: float
    bias: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    spam: Spam = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a crowd is drawn from: the pictures, and ranges within which each person's manner is uniform.

    Sizes (root of the area) are lognormal. `difficulty` and `object_difficulty` are standard deviations in
    log-odds of being drawn; an object's also makes its box more or less exact. `overlap` is the largest IoU of
    two objects. `weight` is the share of a run's pictures that this crowd gets: crowded pictures cost more.
    """

    people: int = 10
    answers: int = 5
    objects: Range = (2, 9)
    size_px: float = TYPICAL_SIZE_PX
    size_sigma: float = 0.6
    overlap: float = 0.3
    difficulty: float = 0.5
    object_difficulty: float = 0.9
    lookalike_places: float = 1.5
    recall: Range = (0.82, 0.96)
    size_slope: Range = (0.5, 0.9)
    jitter: Range = (0.03, 0.08)
    floor_px: Range = (1.0, 2.5)
    noise: Range = (0.1, 0.5)
    lookalikes: Range = (0.1, 0.4)
    confusion: Range = (0.02, 0.1)
    shift: float = 0.01
    looseness: Range = (-0.02, 0.04)
    spammers: float = 0.0
    weight: float = 1.0


TYPICAL: Final = Recipe()
RECIPES: Final[Mapping[str, Recipe]] = {
    "clean": replace(
        TYPICAL, recall=(0.92, 0.98), jitter=(0.02, 0.04), noise=(0.0, 0.15), lookalikes=(0.05, 0.2),
        confusion=(0.01, 0.04),
    ),
    "mixed": replace(
        TYPICAL, recall=(0.6, 0.97), jitter=(0.02, 0.12), noise=(0.0, 1.5), lookalikes=(0.05, 0.6),
        confusion=(0.01, 0.25),
    ),
    "jittery": replace(TYPICAL, jitter=(0.07, 0.14), floor_px=(2.0, 5.0)),
    "missing": replace(TYPICAL, recall=(0.5, 0.85), size_slope=(0.8, 1.3)),
    "noisy": replace(TYPICAL, noise=(1.0, 3.5)),
    "lookalikes": replace(TYPICAL, lookalike_places=3.0, lookalikes=(0.3, 0.8)),
    "confused": replace(TYPICAL, confusion=(0.1, 0.45)),
    "spammers": replace(TYPICAL, spammers=0.3),
    "biased": replace(TYPICAL, shift=0.06, looseness=(-0.12, 0.22)),
    "pool": replace(
        TYPICAL, people=30, answers=3, recall=(0.6, 0.97), jitter=(0.02, 0.1), noise=(0.0, 1.0), confusion=(0.01, 0.2)
    ),
    "crowded": replace(
        TYPICAL, objects=(40, 80), size_px=60.0, overlap=0.6, lookalike_places=5.0, noise=(0.5, 3.0), weight=0.25
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Crowd:
    """Answers with the truth behind them. `skill` is each annotator's expected F1 at IoU .5, class-aware."""

    name: str
    answers: tuple[Answer, ...]
    truth: Mapping[str, tuple[Shape, ...]]
    skill: Mapping[str, float]
    sizes: Mapping[str, tuple[int, int]]
    """Width and height in pixels by image."""


@dataclass(frozen=True, slots=True)
class Picture:
    """N objects, then P places that look like one; `appeal` (N + P,) is 1 for objects."""

    width: int
    height: int
    objects: int
    boxes: Floats  # (N + P, 4) xyxy
    classes: Ints  # (N + P,)
    difficulty: Floats  # (N + P,) in log-odds
    appeal: Floats  # (N + P,) 0…1


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a person drew: of `source` (-1: of nothing), in no order that means anything."""

    boxes: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    classes: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    source: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def generate(name: str, seed: int, images: int, recipe: Recipe | None = None) -> Crowd:
    """The crowd of this name (of `RECIPES`, where no recipe is given) on so many pictures.

    The same arguments make the same crowd, on any machine.
    """
    recipe = RECIPES[name] if recipe is None else recipe
    people = _people(recipe, _stream(name, seed, "people"))
    answers: list[Answer] = []
    truth: dict[str, tuple[Shape, ...]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for number in range(images):
        image = f"picture-{number:05d}"
        random = _stream(name, seed, "picture", number)
        picture = _picture(recipe, random)
        truth[image] = tuple(_shapes("true", picture.boxes[: picture.objects], picture.classes))
        sizes[image] = (picture.width, picture.height)
        for person in sorted(random.permutation(len(people))[: recipe.answers].tolist()):
            drawing = _look(recipe, people[person], picture, _stream(name, seed, "look", number, person))
            shapes = _shapes(f"{number}-{person}", drawing.boxes, drawing.classes)
            answers.append(Answer(image, _name(person), tuple(shapes)))
    skill = {_name(person): value for person, value in enumerate(_skills(recipe, name, seed, people))}
    return Crowd(name, tuple(answers), truth, skill, sizes)


def _people(recipe: Recipe, random: Random) -> list[Manner]:
    spammers = set(random.permutation(recipe.people)[: round(recipe.spammers * recipe.people)].tolist())
    manners: list[Manner] = []
    for person in range(recipe.people):
        x, y = random.normal(0, recipe.shift, 2).tolist()
        loose = random.uniform(*recipe.looseness)
        wider, higher = (loose + random.normal(0, 0.01, 2)).tolist()
        manner = Manner(
            recall=random.uniform(*recipe.recall),
            size_slope=random.uniform(*recipe.size_slope),
            jitter=random.uniform(*recipe.jitter),
            floor_px=random.uniform(*recipe.floor_px),
            noise=random.uniform(*recipe.noise),
            lookalikes=random.uniform(*recipe.lookalikes),
            confusion=random.uniform(*recipe.confusion),
            bias=(x, y, wider, higher),
            spam="" if person not in spammers else ("random", "empty")[int(random.random() < 0.4)],
        )
        manners.append(manner)
    return manners


def _picture(recipe: Recipe, random: Random) -> Picture:
    width, height = (640, 480) if random.random() < 0.3 else (1280, 960)
    low, high = recipe.objects
    objects = int(random.integers(int(low), int(high) + 1)) if random.random() > 0.05 else 0
    places = objects + int(random.poisson(recipe.lookalike_places))
    boxes = np.zeros((places, 4))
    for index in range(places):
        boxes[index] = _somewhere(recipe, width, height, random)
        for _ in range(PLACES_TRIED):
            if not index or iou_xyxy(boxes[index], boxes[:index]).max() <= recipe.overlap:
                break
            boxes[index] = _somewhere(recipe, width, height, random)
    weights = 1.0 / np.arange(1, CLASSES + 1)
    appeal = random.uniform(0.3, 1.0, places)
    appeal[:objects] = 1.0
    return Picture(
        width=width,
        height=height,
        objects=objects,
        boxes=boxes,
        classes=random.choice(np.arange(1, CLASSES + 1), places, p=weights / weights.sum()).astype(np.int64),
        difficulty=random.normal(0, recipe.difficulty) + random.normal(0, recipe.object_difficulty, places),
        appeal=appeal,
    )


def _somewhere(recipe: Recipe, width: int, height: int, random: Random) -> XYXY:
    size = recipe.size_px * float(np.exp(random.normal(0, recipe.size_sigma)))
    aspect = float(np.exp(random.normal(0, 0.35)))
    wide = float(np.clip(size * aspect, LEAST_SIDE_PX, 0.9 * width))
    high = float(np.clip(size / aspect, LEAST_SIDE_PX, 0.9 * height))
    x, y = random.uniform(0, width - wide), random.uniform(0, height - high)
    return x, y, x + wide, y + high


def _look(recipe: Recipe, person: Manner, picture: Picture, random: Random) -> Drawing:
    """One person's answer for one picture."""
    if person.spam == "empty":
        return Drawing()
    if person.spam == "random":
        return _invented(recipe, picture, random, int(random.integers(1, 2 * max(picture.objects, 3))))
    sides = picture.boxes[:, 2:] - picture.boxes[:, :2]  # (N + P, 2)
    size = np.sqrt(sides[:, 0] * sides[:, 1])
    odds = np.log(person.recall / (1 - person.recall)) - picture.difficulty
    noticed = 1.0 / (1.0 + np.exp(-(odds + person.size_slope * np.log(size / TYPICAL_SIZE_PX))))
    is_object = np.arange(len(size)) < picture.objects
    drawn = random.random(len(size)) < np.where(is_object, noticed, person.lookalikes * picture.appeal)
    source = np.flatnonzero(drawn).astype(np.int64)
    boxes = _shaken(person, picture, source, random)
    classes = _named(person, picture, source, random)
    invented = _invented(recipe, picture, random, int(random.poisson(person.noise)))
    order = random.permutation(len(source) + len(invented.source))
    return Drawing(
        np.concatenate([boxes, invented.boxes])[order],
        np.concatenate([classes, invented.classes])[order],
        np.concatenate([np.where(is_object[source], source, -1), invented.source])[order],
    )


def _shaken(person: Manner, picture: Picture, source: Ints, random: Random) -> Floats:
    """The boxes (n, 4) of these places as this person's hand draws them, inside the picture."""
    box = picture.boxes[source]
    sides = box[:, 2:] - box[:, :2]
    centre = (box[:, :2] + box[:, 2:]) / 2 + sides * person.bias[:2]
    half = sides * np.exp(person.bias[2:]) / 2
    slips = np.where(random.random(len(source)) < TAIL_SHARE, TAIL_FACTOR, 1.0)
    shaky = slips * np.exp(0.3 * np.clip(picture.difficulty[source], -2, 2))
    spread = np.hypot(np.tile(sides, 2) * person.jitter, person.floor_px) * shaky[:, None]
    drawn = np.concatenate([centre - half, centre + half], axis=1) + random.normal(0, 1, box.shape) * spread
    return _inside(drawn, picture)


def _named(person: Manner, picture: Picture, source: Ints, random: Random) -> Ints:
    """The classes (n,) that this person gives them; some objects are easier to confuse than others."""
    true = picture.classes[source]
    ease = np.exp(0.5 * np.clip(picture.difficulty[source], -2, 2))
    wrong = random.random(len(source)) < np.clip(person.confusion * ease, 0, 0.9)
    twin = (true - 1) // 2 * 2 + 2 - (true - 1) % 2
    other = (true - 1 + random.integers(1, CLASSES, len(source))) % CLASSES + 1
    chosen = np.where(random.random(len(source)) < TWIN_SHARE, twin, other)
    return np.where(wrong, chosen, true).astype(np.int64)


def _invented(recipe: Recipe, picture: Picture, random: Random, count: int) -> Drawing:
    boxes = [_somewhere(recipe, picture.width, picture.height, random) for _ in range(count)]
    return Drawing(
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        random.integers(1, CLASSES + 1, count).astype(np.int64),
        np.full(count, -1, dtype=np.int64),
    )


def _inside(boxes: Floats, picture: Picture) -> Floats:
    """Corners in order, within the picture, no side shorter than a pixel."""
    edge = np.array([picture.width, picture.height])
    low = np.clip(np.minimum(boxes[:, :2], boxes[:, 2:]), 0, edge - 1)
    high = np.clip(np.maximum(boxes[:, :2], boxes[:, 2:]), low + 1, edge)
    return np.asarray(np.concatenate([low, high], axis=1), dtype=np.float64)


def _skills(recipe: Recipe, name: str, seed: int, people: Sequence[Manner]) -> list[float]:
    """Each person's F1 on reference pictures: right is an object drawn with IoU ≥ .5 and its own class."""
    right, drawn, objects = np.zeros(len(people)), np.zeros(len(people)), 0
    for number in range(max(round(REFERENCE_PICTURES * recipe.weight), 1)):
        picture = _picture(recipe, _stream(name, seed, "reference", number))
        objects += picture.objects
        for index, person in enumerate(people):
            drawing = _look(recipe, person, picture, _stream(name, seed, "reference look", number, index))
            drawn[index] += len(drawing.source)
            real = drawing.source >= 0
            source = drawing.source[real]
            near = _overlap(drawing.boxes[real], picture.boxes[source]) >= 0.5
            right[index] += np.count_nonzero(near & (drawing.classes[real] == picture.classes[source]))
    return [float(value) for value in 2 * right / np.maximum(drawn + objects, 1)]


def _overlap(boxes: Floats, others: Floats) -> Floats:
    """IoU (N,) of each box with the other at the same place of the list."""
    shared = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    area = np.clip(shared, 0, None).prod(axis=1)
    both = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (others[:, 2:] - others[:, :2]).prod(axis=1)
    return np.asarray(area / (both - area), dtype=np.float64)


def _shapes(prefix: str, boxes: Floats, classes: Ints) -> list[Box]:
    return [
        Box(f"{prefix}-{number}", class_id, (x1, y1, x2, y2))
        for number, ((x1, y1, x2, y2), class_id) in enumerate(
            zip(boxes.tolist(), classes.tolist()[: len(boxes)], strict=True)
        )
    ]


def _name(person: int) -> str:
    return f"person-{person:02d}"


def _stream(name: str, seed: int, what: str, *numbers: int) -> Random:
    words = [zlib.crc32(name.encode()), seed, zlib.crc32(what.encode()), *numbers]
    return np.random.default_rng(words)
