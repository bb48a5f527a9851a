"""How well one set of shapes agrees with another, and how well a project's annotators agree among themselves.

Krippendorff's alpha is 1 − D_o / D_e: the mean distance of two answers for one image, over that of any two answers.
It is 1 where people agree, 0 where they agree no better than by chance, and below where they contradict
each other. With a distance between whole answers it holds for boxes and joints as it does for names: Braylan,
Alonso and Lease, "Measuring Annotator Agreement Generally across Complex Structured, Multi-object, and Free-text
Annotation Tasks" (WWW 2022). The distance here is 1 − 2 Σ similarity / (objects of one + of the other), summed over
the best matches within each class: IoU for boxes, object keypoint similarity for joints, 1 for the same tag; two
answers without objects are equal. For one tag an image that is Krippendorff's nominal alpha.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

import numpy as np

from labeling.consensus.base import Answer
from labeling.consensus.candidates import JOINT_REACH, by_image, extent_of
from labeling.geometry import Floats, Ints, MatchCounts, area_xyxy, count_matches, iou_xyxy, match_greedy
from labeling.schema import Schema
from labeling.shapes import XYXY, Keypoints, Kind, Shape, Tag, kind_of

MATCH_AT: Final = 0.5
MOST_IMAGES: Final = 400
MOST_ANSWERS: Final = 6
"""Of one image."""
MOST_CHANCE_PAIRS: Final = 3_000
LEAST_CHANCE_PAIRS: Final = 100
MOST_SIMILARITIES: Final = 10_000_000
"""Pairs of objects that are looked at, within images; about two seconds."""
RESAMPLES: Final = 400
INTERVAL_MASS: Final = 0.9
SEED: Final = 20


@dataclass(frozen=True, slots=True)
class Alpha:
    """Krippendorff's alpha (at most 1) with its 90 % interval, from so many images with two answers or more."""

    value: float
    low: float
    high: float
    images: int


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """Of one class alone. `images` counts those where somebody drew it; `f1` (0…1) is that of a mean pair of
    annotators. No `alpha` where nobody's answer differs from another's."""

    kind: Kind
    alpha: float | None
    f1: float
    images: int


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two annotators on the `images` that both answered: F1 (0…1) of one against the other, all objects
    counted together, matched at IoU or keypoint similarity .5 and the same class. 1 where neither drew."""

    f1: float
    images: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of independent people. `pairs` has the lower name first.

    A kind is missing from `alpha` where there is nothing to compare, or no two answers differ (then chance is
    not defined). `left_out` counts answers by models and of people who started from suggestions, `images` those
    that two people or more answered, `sampled` how many of them were compared.
    """

    alpha: Mapping[Kind, Alpha]
    by_class: Mapping[int, ClassAgreement]
    pairs: Mapping[tuple[str, str], PairAgreement]
    images: int
    sampled: int
    left_out: int


def agree(answers: Iterable[Answer], *, schema: Schema | None = None) -> Agreement:
    """The agreement of the people who answered the same images; in any order the same to the last bit.

    With a schema, shapes that are none of it are left out. Its cost is bounded: of large projects it takes
    `MOST_IMAGES` images and `MOST_ANSWERS` answers of each, fewer where they hold very many objects, in the order
    of a hash of their names, and chance from `MOST_CHANCE_PAIRS` pairs of answers for different images. The
    interval is a bootstrap over images.
    """
    every = tuple(answers)
    alone = [item for item in every if not item.by_model and not item.saw]
    shared = {image: sheet for image, sheet in by_image(alone).items() if len(sheet) > 1}
    chosen = _sample(shared)
    looks = [
        _Look(number, answer.annotator, _objects(answer.shapes, schema))
        for number, image in enumerate(chosen)
        for answer in shared[image].values()
        if answer.annotator in chosen[image]
    ]
    table = _compared(looks)
    return Agreement(
        alpha=_alphas(table),
        by_class=_by_class(table),
        pairs=_by_pair(looks, table),
        images=len(shared),
        sampled=len(chosen),
        left_out=len(every) - len(alone),
    )


def agreement(
    shapes: Sequence[Shape], truth: Sequence[Shape], iou_threshold: float = 0.5
) -> Mapping[int, MatchCounts]:
    """Matched, surplus and missed objects of one image for each class id; objects match at this IoU.

    Keypoints are compared by their box, or by their joints' hull and a tenth around where none was drawn.
    """
    boxes, classes = _boxes(shapes)
    true_boxes, true_classes = _boxes(truth)
    return count_matches(boxes, classes, true_boxes, true_classes, iou_threshold)


def total(counts: Iterable[Mapping[int, MatchCounts]]) -> MatchCounts:
    """All classes and images together; `.f1` of it is the micro-averaged F1."""
    return sum((item for image in counts for item in image.values()), MatchCounts())


def _boxes(shapes: Sequence[Shape]) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], list[int]]:
    boxed = [
        (extent, shape.class_id)
        for shape in shapes
        if not isinstance(shape, Tag) and (extent := extent_of(shape)) is not None
    ]
    return np.array([xyxy for xyxy, _ in boxed], dtype=np.float64).reshape(-1, 4), [c for _, c in boxed]


@dataclass(frozen=True, slots=True)
class _Objects:
    """What one answer has of one class: n boxes or skeletons, or a tag (n = 1)."""

    kind: Kind
    extents: Floats  # (n, 4) xyxy; zeros for a tag
    joints: Floats  # (n, J, 3), J = 0 but for skeletons

    @property
    def count(self) -> int:
        return len(self.extents)


@dataclass(frozen=True, slots=True)
class _Look:
    image: int
    annotator: str
    objects: Mapping[int, _Objects]

    @property
    def count(self) -> int:
        return sum(item.count for item in self.objects.values())


@dataclass(frozen=True, slots=True)
class _Alikeness:
    """How alike the pairs of answers are in one class, for the pairs of which one has it at all."""

    pair: list[int] = field(default_factory=list)
    similarity: list[float] = field(default_factory=list)
    matched: list[int] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)
    """Of both answers together."""

    def add(self, pair: int, similarity: Sequence[float], objects: int) -> None:
        self.pair.append(pair)
        self.similarity.append(sum(similarity))
        self.matched.append(sum(value >= MATCH_AT for value in similarity))
        self.objects.append(objects)


@dataclass(frozen=True, slots=True)
class _Table:
    """P pairs of answers for one image each, then Q of different images; `one`, `other` index the answers."""

    images: int
    seats: Ints  # (I,) answers of each image
    one: Ints  # (P + Q,)
    other: Ints  # (P + Q,)
    one_image: Ints  # (P + Q,)
    other_image: Ints  # (P + Q,)
    within: int
    kinds: Mapping[int, Kind]
    classes: Mapping[int, _Alikeness]


def _sample(sheets: Mapping[str, Mapping[str, Answer]]) -> dict[str, frozenset[str]]:
    """The images to compare, in order of their names, with the annotators whose answers are taken."""
    chosen: dict[str, frozenset[str]] = {}
    similarities = 0
    for image in sorted(sheets, key=_hash)[:MOST_IMAGES]:
        sheet = sheets[image]
        people = sorted(sheet, key=lambda name: _hash(f"{image}\0{name}"))[:MOST_ANSWERS]
        counts = [len(sheet[name].shapes) for name in people]
        similarities += (sum(counts) ** 2 - sum(count**2 for count in counts)) // 2
        if similarities > MOST_SIMILARITIES and len(chosen) > 1:
            break
        chosen[image] = frozenset(people)
    return dict(sorted(chosen.items()))


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogatepass")).digest()


def _objects(shapes: Sequence[Shape], schema: Schema | None) -> dict[int, _Objects]:
    """By class id; degenerate shapes are dropped. A class that was drawn as two kinds counts as its first."""
    kinds: dict[int, Kind] = {item.id: item.kind for item in schema.classes} if schema else {}
    drawn: dict[int, list[tuple[XYXY, Shape]]] = {}
    for shape in sorted(shapes, key=_canonical):
        known = (
            kinds.setdefault(shape.class_id, kind_of(shape)) if schema is None else kinds.get(shape.class_id)
        )
        extent = (0.0, 0.0, 0.0, 0.0) if isinstance(shape, Tag) else extent_of(shape)
        if known == kind_of(shape) and extent is not None:
            drawn.setdefault(shape.class_id, []).append((extent, shape))
    return {class_id: _flat(kinds[class_id], items) for class_id, items in sorted(drawn.items())}


def _canonical(shape: Shape) -> tuple[object, ...]:
    points = shape.points if isinstance(shape, Keypoints) else ()
    xyxy = None if isinstance(shape, Tag) else shape.xyxy
    return kind_of(shape), shape.class_id, xyxy or (), points


def _flat(kind: Kind, items: Sequence[tuple[XYXY, Shape]]) -> _Objects:
    if kind == "tag":
        items = items[:1]  # said twice is said
    skeletons = [shape.points if isinstance(shape, Keypoints) else () for _, shape in items]
    joints = np.zeros((len(items), max(map(len, skeletons)), 3))
    for index, points in enumerate(skeletons):
        joints[index, : len(points)] = np.array(points, dtype=np.float64).reshape(-1, 3)
    return _Objects(kind, np.array([extent for extent, _ in items], dtype=np.float64), joints)


def _compared(looks: Sequence[_Look]) -> _Table:
    images = looks[-1].image + 1 if looks else 0
    seats = np.bincount([look.image for look in looks], minlength=images).astype(np.int64)
    pairs = [
        (first + one, first + other)
        for first, count in zip((np.cumsum(seats) - seats).tolist(), seats.tolist(), strict=True)
        for one, other in combinations(range(count), 2)
    ]
    within = len(pairs)
    pairs += _chance_pairs(looks)
    kinds: dict[int, Kind] = {}
    classes: dict[int, _Alikeness] = {}
    for number, (one, other) in enumerate(pairs):
        mine, theirs = looks[one].objects, looks[other].objects
        for class_id in sorted({*mine, *theirs}):
            held = [item[class_id] for item in (mine, theirs) if class_id in item]
            kinds.setdefault(class_id, held[0].kind)
            alike = _similarities(held[0], held[1]) if len(held) == 2 else []
            objects = sum(item.count for item in held)
            classes.setdefault(class_id, _Alikeness()).add(number, alike, objects)
    flat = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    image = np.array([look.image for look in looks], dtype=np.int64)
    one, other = flat[:, 0], flat[:, 1]
    return _Table(
        images, seats, one, other, image[one], image[other], within, kinds, dict(sorted(classes.items()))
    )


def _chance_pairs(looks: Sequence[_Look]) -> list[tuple[int, int]]:
    """Pairs of answers for different images: all of them, or as many as are affordable, drawn at random."""
    objects = sum(look.count for look in looks) / max(len(looks), 1)
    most = max(LEAST_CHANCE_PAIRS, min(MOST_CHANCE_PAIRS, int(MOST_SIMILARITIES / max(objects, 1.0) ** 2)))
    if len(looks) * (len(looks) - 1) // 2 <= most:
        every = combinations(range(len(looks)), 2)
        return [(one, other) for one, other in every if looks[one].image != looks[other].image]
    random = np.random.default_rng(SEED)
    drawn = np.sort(random.integers(0, len(looks), (2 * most, 2)), axis=1).tolist()
    return [(one, other) for one, other in drawn if looks[one].image != looks[other].image][:most]


def _similarities(mine: _Objects, theirs: _Objects) -> list[float]:
    """Of the best matches; what does not touch matches nothing."""
    if mine.kind != theirs.kind:
        return []
    if mine.kind == "tag":
        return [1.0]
    matrix = iou_xyxy(mine.extents, theirs.extents)
    if mine.kind == "keypoints":
        matrix = _joint_similarity(mine, theirs, matrix)
    return [float(matrix[pair]) for pair in match_greedy(matrix, np.finfo(np.float64).tiny)]


def _joint_similarity(mine: _Objects, theirs: _Objects, overlap: Floats) -> Floats:
    """Keypoint similarity (n, m) that is the same from both sides: by the mean area, over the joints that either
    labelled; a joint that only one of them labelled is as far as can be. The overlap where neither labelled any."""
    joints = max(mine.joints.shape[1], theirs.joints.shape[1])
    a, b = (
        _padded(mine.joints, joints)[:, None],
        _padded(theirs.joints, joints)[None],
    )  # (n, 1, J, 3), (1, m, J, 3)
    area = (area_xyxy(mine.extents)[:, None] + area_xyxy(theirs.extents)[None]) / 2
    squared = ((a[..., :2] - b[..., :2]) ** 2).sum(axis=3)  # (n, m, J)
    both, either = (a[..., 2] > 0) & (b[..., 2] > 0), (a[..., 2] > 0) | (b[..., 2] > 0)
    likeness = np.exp(-squared / (2 * np.maximum(area, 1e-12)[..., None] * JOINT_REACH**2)) * both
    count = either.sum(axis=2)
    return np.asarray(
        np.where(count > 0, likeness.sum(axis=2) / np.maximum(count, 1), overlap), dtype=np.float64
    )


def _padded(joints: Floats, count: int) -> Floats:
    return np.pad(joints, ((0, 0), (0, count - joints.shape[1]), (0, 0)))


def _distances(table: _Table, class_ids: Iterable[int]) -> Floats:
    """(P + Q,) in 0…1: of what the two answers have of these classes."""
    similarity, objects = np.zeros(len(table.one)), np.zeros(len(table.one))
    for class_id in class_ids:
        alike = table.classes[class_id]
        similarity[alike.pair] += alike.similarity
        objects[alike.pair] += alike.objects
    return np.asarray(
        np.where(objects > 0, 1 - 2 * similarity / np.maximum(objects, 1), 0.0), dtype=np.float64
    )


def _alphas(table: _Table) -> dict[Kind, Alpha]:
    found: dict[Kind, Alpha] = {}
    random = np.random.default_rng(SEED)
    share = np.full(table.images, 1 / table.images) if table.images else np.zeros(0)
    resamples = random.multinomial(table.images, share, RESAMPLES) if table.images else np.zeros((0, 0))
    for kind in sorted(set(table.kinds.values())):
        distance = _distances(table, [one for one in table.classes if table.kinds[one] == kind])
        value = _alpha(table, distance, np.ones(table.images))
        if value is None:
            continue
        drawn = [_alpha(table, distance, weight.astype(np.float64)) for weight in resamples]
        spread = [item for item in drawn if item is not None]
        tails = np.quantile(spread or [value], [(1 - INTERVAL_MASS) / 2, (1 + INTERVAL_MASS) / 2])
        found[kind] = Alpha(value, float(tails[0]), float(tails[1]), table.images)
    return found


def _alpha(table: _Table, distance: Floats, weight: Floats) -> float | None:
    """Alpha where image i is there weight[i] times; None if all answers are equal or of one image."""
    within, cross = slice(0, table.within), slice(table.within, None)
    image = table.one_image[within]
    seats = table.seats.astype(np.float64)
    answers = float((weight * seats).sum())
    own = weight[image] * distance[within]
    observed = float((2 * own / (seats[image] - 1)).sum()) / answers
    chance = weight[table.one_image[cross]] * weight[table.other_image[cross]]
    if not chance.any():
        return None
    apart = float((chance * distance[cross]).sum() / chance.sum())
    together = float((weight * seats * (seats - 1)).sum())
    ordered = answers * (answers - 1)
    expected = (2 * float(own.sum()) + apart * (ordered - together)) / ordered
    return 1 - observed / expected if expected > 0 else None


def _by_class(table: _Table) -> dict[int, ClassAgreement]:
    found: dict[int, ClassAgreement] = {}
    for class_id, alike in table.classes.items():
        own = [index for index, pair in enumerate(alike.pair) if pair < table.within]
        matched, objects = sum(alike.matched[i] for i in own), sum(alike.objects[i] for i in own)
        if objects:
            images = len({int(table.one_image[alike.pair[i]]) for i in own})
            alpha = _alpha(table, _distances(table, [class_id]), np.ones(table.images))
            found[class_id] = ClassAgreement(table.kinds[class_id], alpha, 2 * matched / objects, images)
    return found


def _by_pair(looks: Sequence[_Look], table: _Table) -> dict[tuple[str, str], PairAgreement]:
    matched, objects = np.zeros(table.within, dtype=np.int64), np.zeros(table.within, dtype=np.int64)
    for alike in table.classes.values():
        own = sum(pair < table.within for pair in alike.pair)  # pairs of one image come first
        matched[alike.pair[:own]] += alike.matched[:own]
        objects[alike.pair[:own]] += alike.objects[:own]
    sums: dict[tuple[str, str], tuple[int, int, int]] = {}
    for pair in range(table.within):
        one, other = looks[int(table.one[pair])].annotator, looks[int(table.other[pair])].annotator
        key = min(one, other), max(one, other)
        hit, held, images = sums.get(key, (0, 0, 0))
        sums[key] = hit + int(matched[pair]), held + int(objects[pair]), images + 1
    return {
        key: PairAgreement(2 * hit / held if held else 1.0, images)
        for key, (hit, held, images) in sorted(sums.items())
    }
