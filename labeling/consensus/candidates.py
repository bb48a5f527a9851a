"""From many people's objects to candidates: cleaned, in one canonical order, clustered across people."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from labeling.consensus.base import Answer
from labeling.geometry import Floats, Ints, inflate_xyxy
from labeling.shapes import XYXY, Box, Keypoints

DrawnObject: TypeAlias = Box | Keypoints
Flags: TypeAlias = NDArray[np.bool_]
ObjectType = TypeVar("ObjectType", Box, Keypoints)

INFLATION_PX: Final = 4.0
"""Small boxes fall apart at a plain IoU threshold: a few pixels of a shaky hand are most of their area."""
LINK_AT: Final = 0.3
DUPLICATE_AT: Final = 0.8
OTHER_CLASS_PENALTY: Final = 0.2
"""Boxes of different classes need a larger overlap to be taken for one object with a disputed class."""
JOINT_REACH: Final = 0.1
"""2σ of COCO's keypoint similarity for a joint of unknown σ, see `labeling.geometry.JOINT_SIGMA`."""

Sheet: TypeAlias = dict[str, Answer]
"""One image's answers, by annotator in order of their names."""


def by_image(answers: Iterable[Answer]) -> dict[str, Sheet]:
    """Answers by image and annotator, both in order of their names; a person's second answer is added."""
    sheets: dict[str, Sheet] = {}
    for answer in answers:
        sheet = sheets.setdefault(answer.image, {})
        first = sheet.get(answer.annotator)
        sheet[answer.annotator] = answer if first is None else _merged(first, answer)
    return {image: dict(sorted(sheet.items())) for image, sheet in sorted(sheets.items())}


def _merged(one: Answer, other: Answer) -> Answer:
    seconds = [item.seconds for item in (one, other) if item.seconds is not None]
    return replace(
        one,
        shapes=one.shapes + other.shapes,
        by_model=one.by_model or other.by_model,
        saw=max(one.saw, other.saw),
        size=one.size or other.size,
        seconds=sum(seconds) if seconds else None,
    )


@dataclass(frozen=True, slots=True)
class Candidates(Generic[ObjectType]):
    """The objects of one kind in many images, flat.

    Members (N) are drawn objects, clusters (M) are candidates for one real object, seats (S) are
    (image, annotator) pairs of who saw what: an image's seats are contiguous. Members are in order of their
    cluster, then of their seat. `seat_saw` is the annotator (a model) whose suggestions a seat's person
    started from, -1 for none.
    """

    images: tuple[str, ...]
    annotators: tuple[str, ...]
    members: tuple[ObjectType, ...]
    extents: Floats  # (N, 4) xyxy
    at_edge: Flags  # (N, 4) whether a side lies on the image's edge
    member_seat: Ints  # (N,)
    member_cluster: Ints  # (N,)
    cluster_image: Ints  # (M,)
    seat_image: Ints  # (S,)
    seat_annotator: Ints  # (S,)
    seat_saw: Ints  # (S,)
    models: frozenset[str]

    @property
    def member_annotator(self) -> Ints:
        return self.seat_annotator[self.member_seat]

    @property
    def clusters(self) -> int:
        return len(self.cluster_image)

    def looks(self) -> "Looks":
        """Every (cluster, annotator who saw its image), and whether that annotator drew it."""
        seats = np.bincount(self.seat_image, minlength=len(self.images))
        first_seat = np.concatenate([[0], np.cumsum(seats)[:-1]]).astype(np.int64)
        counts = seats[self.cluster_image]
        first_look = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        cluster = np.repeat(np.arange(self.clusters), counts)
        seat = first_seat[self.cluster_image][cluster] + np.arange(len(cluster)) - first_look[cluster]
        drew = np.zeros(len(cluster), dtype=bool)
        offset = self.member_seat - first_seat[self.cluster_image[self.member_cluster]]
        member = first_look[self.member_cluster] + offset
        drew[member] = True
        prompted = self._drawn_by(cluster, self.seat_saw[seat])
        return Looks(cluster, self.seat_annotator[seat], drew, prompted, member)

    def _drawn_by(self, cluster: Ints, annotator: Ints) -> Flags:
        """Whether each of these annotators (-1 for nobody) drew each of these clusters."""
        if not self.models:
            return np.zeros(len(cluster), dtype=bool)
        people = len(self.annotators) + 1
        drawn = self.member_cluster * people + self.member_annotator + 1
        return np.asarray(np.isin(cluster * people + annotator + 1, drawn) & (annotator >= 0))


AnyCandidates: TypeAlias = Candidates[Box] | Candidates[Keypoints]


@dataclass(frozen=True, slots=True)
class Looks:
    """One row for each annotator who had the chance to draw a cluster.

    `prompted` are those who were shown it as a suggestion: they kept or deleted it, they did not find it.
    `member` (N,) is the row of each member.
    """

    cluster: Ints  # (E,)
    annotator: Ints  # (E,)
    drew: Flags  # (E,)
    prompted: Flags  # (E,)
    member: Ints  # (N,)


def gather(sheets: dict[str, Sheet], kind: type[ObjectType]) -> Candidates[ObjectType]:
    """Cleans each person's objects and clusters them across people, image by image."""
    annotators = tuple(sorted({name for sheet in sheets.values() for name in sheet}))
    number = {name: index for index, name in enumerate(annotators)}
    members: list[ObjectType] = []
    extents: list[XYXY] = []
    at_edge: list[tuple[bool, bool, bool, bool]] = []
    member_seat: list[int] = []
    member_cluster: list[int] = []
    cluster_image: list[int] = []
    seat_image: list[int] = []
    seat_annotator: list[int] = []
    seat_saw: list[int] = []
    for image_number, sheet in enumerate(sheets.values()):
        size = next((answer.size for answer in sheet.values() if answer.size is not None), None)
        drawn: list[ObjectType] = []
        drawn_extents: list[XYXY] = []
        seats: list[int] = []
        for name, answer in sheet.items():
            seat_image.append(image_number)
            seat_annotator.append(number[name])
            seat_saw.append(number[answer.saw] if answer.saw in sheet and answer.saw != name else -1)
            own = [shape for shape in answer.shapes if isinstance(shape, kind)]
            own.sort(key=_canonical)
            for item in own:
                extent = clipped(extent_of(item), size)
                if extent is not None:
                    drawn.append(item)
                    drawn_extents.append(extent)
                    seats.append(len(seat_image) - 1)
        kept, cluster = _cluster(
            drawn, np.array(drawn_extents).reshape(-1, 4), np.array(seats, dtype=np.int64)
        )
        first = len(cluster_image)
        cluster_image.extend([image_number] * (max(cluster, default=-1) + 1))
        for cluster_number, index in sorted(zip(cluster, kept, strict=True)):
            members.append(drawn[index])
            extents.append(drawn_extents[index])
            at_edge.append(_at_edge(drawn_extents[index], size))
            member_seat.append(seats[index])
            member_cluster.append(first + cluster_number)
    return Candidates(
        images=tuple(sheets),
        annotators=annotators,
        members=tuple(members),
        extents=np.array(extents, dtype=np.float64).reshape(-1, 4),
        at_edge=np.array(at_edge, dtype=bool).reshape(-1, 4),
        member_seat=np.array(member_seat, dtype=np.int64),
        member_cluster=np.array(member_cluster, dtype=np.int64),
        cluster_image=np.array(cluster_image, dtype=np.int64),
        seat_image=np.array(seat_image, dtype=np.int64),
        seat_annotator=np.array(seat_annotator, dtype=np.int64),
        seat_saw=np.array(seat_saw, dtype=np.int64),
        models=frozenset(name for sheet in sheets.values() for name, item in sheet.items() if item.by_model),
    )


def extent_of(item: DrawnObject) -> XYXY | None:
    """The object's box, or the hull of its labelled joints and a tenth around; nothing if degenerate."""
    if item.xyxy is not None:
        x1, y1, x2, y2 = item.xyxy
        return item.xyxy if x1 < x2 and y1 < y2 and all(map(math.isfinite, item.xyxy)) else None
    labelled = [(x, y) for x, y, v in item.points if v > 0]
    if not labelled or not all(math.isfinite(value) for point in labelled for value in point):
        return None
    x1, y1 = min(x for x, _ in labelled), min(y for _, y in labelled)
    x2, y2 = max(x for x, _ in labelled), max(y for _, y in labelled)
    margin = 0.1 * max(x2 - x1, y2 - y1) + 1.0
    return x1 - margin, y1 - margin, x2 + margin, y2 + margin


def clipped(extent: XYXY | None, size: tuple[float, float] | None) -> XYXY | None:
    """The part inside the image; where there is none, all of it: what somebody drew is not taken for undrawn.

    >>> clipped((-5.0, 1.0, 8.0, 9.0), (6.0, 6.0))
    (0.0, 1.0, 6.0, 6.0)
    """
    if extent is None or size is None:
        return extent
    x1, y1 = max(extent[0], 0.0), max(extent[1], 0.0)
    x2, y2 = min(extent[2], float(size[0])), min(extent[3], float(size[1]))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else extent


def _at_edge(extent: XYXY, size: tuple[float, float] | None) -> tuple[bool, bool, bool, bool]:
    if size is None:
        return False, False, False, False
    x1, y1, x2, y2 = extent
    return x1 <= 0.0, y1 <= 0.0, x2 >= size[0], y2 >= size[1]


def _canonical(item: DrawnObject) -> tuple[object, ...]:
    points = item.points if isinstance(item, Keypoints) else ()
    return item.class_id, item.xyxy or (), points, item.id


def _cluster(drawn: Sequence[DrawnObject], extents: Floats, seats: Ints) -> tuple[list[int], list[int]]:
    """The objects to keep (a person's own duplicates dropped) and the cluster of each, numbered from 0."""
    if not drawn:
        return [], []
    row, column, similarity = _similar_pairs(drawn, extents)
    same_person = seats[row] == seats[column]
    dropped: set[int] = set()
    duplicate = same_person & (similarity > DUPLICATE_AT)
    for first, second in sorted(zip(row[duplicate].tolist(), column[duplicate].tolist(), strict=True)):
        if first not in dropped:
            dropped.add(second)

    parent = list(range(len(drawn)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    # Average linkage never joins two groups of which no single pair reaches the threshold, so each connected
    # component can be clustered alone.
    links: dict[tuple[int, int], float] = {}
    for first, second, value in zip(row.tolist(), column.tolist(), similarity.tolist(), strict=True):
        if first in dropped or second in dropped:
            continue
        links[first, second] = value
    for (first, second), value in links.items():
        if value >= LINK_AT and seats[first] != seats[second]:
            a, b = root(first), root(second)
            parent[max(a, b)] = min(a, b)
    components: dict[int, list[int]] = {}
    for index in range(len(drawn)):
        if index not in dropped:
            components.setdefault(root(index), []).append(index)

    cluster_of: dict[int, int] = {}
    clusters = 0
    seat_list = seats.tolist()
    for component in components.values():
        for group in _link(component, links, seat_list):
            for index in group:
                cluster_of[index] = clusters
            clusters += 1
    kept = sorted(cluster_of)
    return kept, [cluster_of[index] for index in kept]


def _link(component: list[int], links: dict[tuple[int, int], float], seats: list[int]) -> list[list[int]]:
    """Average linkage, the most similar pair first, at most one object per person in a group."""
    size = len(component)
    if size == 1:
        return [component]
    if len({seats[index] for index in component}) == size and all(
        links.get((component[a], component[b]), 0.0) >= LINK_AT
        for a in range(size)
        for b in range(a + 1, size)
    ):
        return [component]
    mean = np.zeros((size, size))
    for a in range(size):
        mean[a, a] = -np.inf
        for b in range(a + 1, size):
            first, second = component[a], component[b]
            value = -np.inf if seats[first] == seats[second] else links.get((first, second), 0.0)
            mean[a, b] = mean[b, a] = value
    groups: dict[int, list[int]] = {a: [component[a]] for a in range(size)}
    while True:
        best = int(np.argmax(mean))
        a, b = divmod(best, size)
        if mean[a, b] < LINK_AT:
            return list(groups.values())
        ours, theirs = len(groups[a]), len(groups[b])
        merged = (mean[a] * ours + mean[b] * theirs) / (ours + theirs)
        mean[a], mean[:, a] = merged, merged
        mean[a, a] = -np.inf
        mean[b], mean[:, b] = -np.inf, -np.inf
        groups[a] = sorted(groups[a] + groups.pop(b))


def _similar_pairs(drawn: Sequence[DrawnObject], extents: Floats) -> tuple[Ints, Ints, Floats]:
    """Pairs (row < column) whose inflated boxes overlap, with their similarity; found by a sweep along x."""
    box = inflate_xyxy(extents, INFLATION_PX)
    order = np.argsort(box[:, 0], kind="stable")
    left = box[order, 0]
    reach = np.searchsorted(left, box[order, 2], side="left") - np.arange(len(order)) - 1
    first = np.repeat(np.arange(len(order)), reach)
    starts = np.cumsum(reach) - reach
    second = first + 1 + np.arange(len(first)) - np.repeat(starts, reach)
    one, other = order[first], order[second]
    row, column = np.minimum(one, other), np.maximum(one, other)
    a, b = box[row], box[column]
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    meets = (width > 0) & (height > 0)
    row, column, a, b = row[meets], column[meets], a[meets], b[meets]
    shared = width[meets] * height[meets]
    areas = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    similarity = shared / (areas[row] + areas[column] - shared)
    classes = np.array([item.class_id for item in drawn], dtype=np.int64)
    if isinstance(drawn[0], Keypoints):
        joints = [item.points for item in drawn if isinstance(item, Keypoints)]
        similarity = _with_joints(similarity, joints, classes, areas, row, column)
    similarity = similarity - np.where(classes[row] == classes[column], 0.0, OTHER_CLASS_PENALTY)
    # in order of the objects, so that nothing later depends on how the sweep found them
    canonical = np.lexsort((column, row))
    return row[canonical], column[canonical], similarity[canonical]


def _with_joints(
    similarity: Floats,
    joints: Sequence[tuple[tuple[float, float, int], ...]],
    classes: Ints,
    areas: Floats,
    row: Ints,
    column: Ints,
) -> Floats:
    """Overlap and keypoint similarity in equal parts, if both label a joint: swapped sides still overlap."""
    longest = max(len(points) for points in joints)
    padded = np.zeros((len(joints), longest, 3))
    for index, points in enumerate(joints):
        padded[index, : len(points)] = points
    squared = ((padded[row, :, :2] - padded[column, :, :2]) ** 2).sum(axis=2)
    area = (areas[row] + areas[column]) / 2
    both = (padded[row, :, 2] > 0) & (padded[column, :, 2] > 0) & (classes[row] == classes[column])[:, None]
    likeness = np.exp(-squared / (2 * area[:, None] * JOINT_REACH**2))
    count = both.sum(axis=1)
    mean = (likeness * both).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, (similarity + mean) / 2, similarity)
