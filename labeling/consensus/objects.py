"""Consensus of boxes and keypoints: candidates in, settled shapes with confidence out."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from labeling.consensus import existence, location, votes
from labeling.consensus.base import ACCEPT_AT, Parameters, SettledShape, Skill, beta_interval
from labeling.consensus.candidates import JOINT_REACH, AnyCandidates
from labeling.geometry import Floats, Ints, area_xyxy
from labeling.shapes import Box, Keypoints, Kind, Point, Shape

TIE_RATIO: Final = 0.8
"""The runner-up class at least so probable as the winner makes a tie that a person should look at."""
INTERVAL_STRENGTH: Final = 2.0
VISIBILITIES: Final = 3
_ANNOTATOR_FIELDS: Final = (
    "recall", "noise_rate", "accuracy", "spread", "visibility", "joint_spread",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of M clusters with C classes and at most J joints."""

    existence: Floats  # (M,)
    unseen: Floats  # (I,)
    classes: tuple[int, ...]
    class_posterior: Floats  # (M, C)
    boxes: Floats  # (M, 4), meaningless where has_box is false
    has_box: Ints  # (M,)
    box_error: Floats  # (M,) in sizes
    joints: Floats  # (M, J, 2)
    joint_error: Floats  # (M, J) in sizes
    visibility: Floats  # (M, J, 3)

    @property
    def winner(self) -> Ints:
        """The index (M,) of the most probable class; of equals the lowest id."""
        return np.asarray(np.argmax(self.class_posterior, axis=1), dtype=np.int64)


def fit(candidates: AnyCandidates) -> Parameters:
    """The parameters of all annotators, as JSON."""
    looks = candidates.looks()
    present = existence.fit(candidates, looks)
    classes = _classes(candidates)
    class_votes = _class_votes(candidates, classes)
    labels = votes.fit(class_votes)
    winner = np.argmax(votes.posterior(class_votes, labels), axis=1).astype(np.int64)
    spread, pool_spread = location.fit(_box_places(candidates))
    joint_places, visibility_votes = _joint_places(candidates, classes, winner)
    joint_spread, pool_joint_spread = location.fit(joint_places)
    visibility = votes.fit(visibility_votes)
    columns = (
        present.recall, present.noise_rate, labels.accuracy, spread,
        visibility.accuracy, joint_spread,
    )  # fmt: skip
    pool = (
        present.pool_recall,
        present.pool_noise_rate,
        labels.pool,
        pool_spread,
        visibility.pool,
        pool_joint_spread,
    )
    rows = np.stack(columns, axis=1).tolist()
    return {
        "object_rate": float(present.object_rate),
        "chance_meeting": float(present.chance_meeting),
        "classes": list(classes),
        "class_prior": labels.prior.tolist(),
        "visibility_prior": visibility.prior.tolist(),
        "pool": dict(zip(_ANNOTATOR_FIELDS, map(float, pool), strict=True)),
        "annotators": {
            name: dict(zip(_ANNOTATOR_FIELDS, row, strict=True))
            for name, row in zip(candidates.annotators, rows, strict=True)
        },
    }


def believe(candidates: AnyCandidates, parameters: Parameters) -> Belief:
    """The belief under frozen parameters; an annotator without a record is taken for an average one."""
    pool: Mapping[str, float] = parameters["pool"]
    own: Mapping[str, Mapping[str, float]] = parameters["annotators"]

    def column(name: str) -> Floats:
        return np.array(
            [own.get(annotator, pool)[name] for annotator in candidates.annotators], dtype=np.float64
        )

    looks = candidates.looks()
    present = existence.ExistenceModel(
        object_rate=parameters["object_rate"],
        recall=column("recall"),
        noise_rate=column("noise_rate"),
        chance_meeting=parameters["chance_meeting"],
        pool_recall=pool["recall"],
        pool_noise_rate=pool["noise_rate"],
    )
    real = existence.posterior(candidates, looks, present)
    known = dict(zip(parameters["classes"], parameters["class_prior"], strict=True))
    classes = tuple(sorted({*known, *_classes(candidates)}))
    rarest = min(known.values(), default=1.0)
    prior = np.array([known.get(class_id, rarest) for class_id in classes], dtype=np.float64)
    labels = votes.VoteModel(column("accuracy"), prior / prior.sum(), pool["accuracy"])
    class_posterior = votes.posterior(_class_votes(candidates, classes), labels)
    winner = np.argmax(class_posterior, axis=1).astype(np.int64)
    box_places = _box_places(candidates)
    boxes = location.locate(box_places, column("spread"))
    joint_places, visibility_votes = _joint_places(candidates, classes, winner)
    joints = location.locate(joint_places, column("joint_spread"))
    seeing = votes.VoteModel(
        column("visibility"), np.array(parameters["visibility_prior"], dtype=np.float64), pool["visibility"]
    )
    clusters = candidates.clusters
    width = _longest(candidates)
    return Belief(
        existence=real,
        unseen=existence.unseen(candidates, present),
        classes=classes,
        class_posterior=class_posterior,
        boxes=boxes.values,
        has_box=np.bincount(box_places.target, minlength=clusters),
        box_error=boxes.error,
        joints=joints.values.reshape(clusters, width, 2),
        joint_error=joints.error.reshape(clusters, width),
        visibility=votes.posterior(visibility_votes, seeing).reshape(clusters, width, VISIBILITIES),
    )


def believe_majority(candidates: AnyCandidates) -> Belief:
    """Everybody weighs the same: the share who drew it, the most frequent class, the plain mean."""
    looks = candidates.looks()
    clusters = candidates.clusters
    support = np.bincount(candidates.member_cluster, minlength=clusters)
    seen = np.bincount(looks.cluster, minlength=clusters)
    classes = _classes(candidates)
    class_votes = _class_votes(candidates, classes)
    counts = np.bincount(
        class_votes.question * len(classes) + class_votes.choice, minlength=clusters * len(classes)
    ).reshape(clusters, len(classes))
    class_posterior = counts / np.maximum(support, 1)[:, None]
    winner = np.argmax(class_posterior, axis=1).astype(np.int64)
    box_places = _box_places(candidates)
    joint_places, visibility_votes = _joint_places(candidates, classes, winner)
    width = _longest(candidates)
    visible = np.bincount(
        visibility_votes.question * VISIBILITIES + visibility_votes.choice,
        minlength=clusters * width * VISIBILITIES,
    ).reshape(clusters, width, VISIBILITIES)
    return Belief(
        existence=support / np.maximum(seen, 1),
        unseen=np.zeros(len(candidates.images)),
        classes=classes,
        class_posterior=class_posterior,
        boxes=location.means(box_places),
        has_box=np.bincount(box_places.target, minlength=clusters),
        box_error=np.zeros(clusters),
        joints=location.means(joint_places).reshape(clusters, width, 2),
        joint_error=np.zeros((clusters, width)),
        visibility=visible / np.maximum(visible.sum(axis=2, keepdims=True), 1),
    )


def settle(candidates: AnyCandidates, belief: Belief) -> list[tuple[list[SettledShape], float]]:
    """For each image its settled shapes, accepted or not, and the risk.

    Risk is the expected number of errors: accepted shapes that are not there, of another class or too far off
    (IoU below .5, or a joint beyond COCO's reach), rejected ones that are there, and objects nobody drew.
    """
    members: list[list[int]] = [[] for _ in range(candidates.clusters)]
    for member, cluster in enumerate(candidates.member_cluster.tolist()):
        members[cluster].append(member)
    seen_by = np.bincount(candidates.seat_image, minlength=len(candidates.images)).tolist()
    names = [candidates.annotators[index] for index in candidates.member_annotator.tolist()]
    shapes: list[list[SettledShape]] = [[] for _ in candidates.images]
    risks: list[float] = belief.unseen.tolist()
    winners = belief.winner.tolist()
    posteriors = belief.class_posterior.tolist()
    present = belief.existence.tolist()
    for cluster, image in enumerate(candidates.cluster_image.tolist()):
        made_of = tuple(sorted((names[member], candidates.members[member].id) for member in members[cluster]))
        probability = present[cluster]
        ranked = sorted(
            zip(belief.classes, posteriors[cluster], strict=True), key=lambda item: (-item[1], item[0])
        )
        confidence = probability * posteriors[cluster][winners[cluster]]
        accepted = probability >= ACCEPT_AT
        shape = _shape(candidates, belief, cluster, members[cluster], winners[cluster], confidence, made_of)
        risks[image] += (
            1.0 - confidence * (1.0 - _off_probability(belief, cluster, shape)) if accepted else probability
        )
        shapes[image].append(
            SettledShape(
                shape=shape,
                existence=probability,
                confidence=confidence,
                accepted=accepted,
                members=made_of,
                seen_by=seen_by[image],
                class_posterior=tuple(item for item in ranked if item[1] > 1e-6),
                class_tie=len(ranked) > 1 and ranked[1][1] >= TIE_RATIO * ranked[0][1],
            )
        )
    return list(zip(shapes, risks, strict=True))


def skills(candidates: AnyCandidates, kind: Kind, belief: Belief) -> tuple[Skill, ...]:
    """Each annotator against the belief; where objects exist with a probability they count with it."""
    people = len(candidates.annotators)
    looks = candidates.looks()
    weight = belief.existence[looks.cluster]
    hits = np.bincount(looks.annotator, weights=weight * looks.drew, minlength=people)
    chances = np.bincount(looks.annotator, weights=weight, minlength=people) + np.bincount(
        candidates.seat_annotator, weights=belief.unseen[candidates.seat_image], minlength=people
    )
    drawn = np.bincount(candidates.member_annotator, minlength=people)
    spread = _spread_px(candidates, belief)
    answers = np.bincount(candidates.seat_annotator, minlength=people)
    rows = zip(
        candidates.annotators,
        hits.tolist(),
        chances.tolist(),
        drawn.tolist(),
        spread,
        answers.tolist(),
        strict=True,
    )
    pooled_recall = (hits.sum() + 1.0) / (chances.sum() + 2.0)
    pooled_precision = (hits.sum() + 1.0) / (drawn.sum() + 2.0)
    return tuple(
        _skill(
            name, kind, (hit, chance, float(pooled_recall)), (hit, total, float(pooled_precision)), px, count
        )
        for name, hit, chance, total, px, count in rows
    )


def shape_id(image: str, members: Sequence[tuple[str, str]]) -> str:
    """The id of a settled shape: the same members make the same id, in whatever order they came."""
    digest = hashlib.sha256(repr((image, tuple(members))).encode("utf-8", "surrogatepass"))
    return f"consensus-{digest.hexdigest()[:20]}"


def _skill(
    name: str,
    kind: Kind,
    recall: tuple[float, float, float],
    precision: tuple[float, float, float],
    spread_px: float | None,
    answers: int,
) -> Skill:
    def estimate(hits: float, trials: float, pool: float) -> tuple[float, tuple[float, float]]:
        good = hits + INTERVAL_STRENGTH * pool
        bad = max(trials - hits, 0.0) + INTERVAL_STRENGTH * (1.0 - pool)
        return good / (good + bad), beta_interval(good, bad)

    recall_mean, recall_interval = estimate(*recall)
    precision_mean, precision_interval = estimate(*precision)
    return Skill(
        name, kind, recall_mean, precision_mean, spread_px, answers, recall_interval, precision_interval
    )


def _shape(
    candidates: AnyCandidates,
    belief: Belief,
    cluster: int,
    members: Sequence[int],
    winner: int,
    confidence: float,
    made_of: tuple[tuple[str, str], ...],
) -> Shape:
    image = candidates.images[int(candidates.cluster_image[cluster])]
    identity, class_id = shape_id(image, made_of), belief.classes[winner]
    x1, y1, x2, y2 = belief.boxes[cluster].tolist()
    if isinstance(candidates.members[0], Box):
        return Box(identity, class_id, (x1, y1, x2, y2), "consensus", confidence)
    count = max(
        len(item.points)
        for item in (candidates.members[index] for index in members)
        if isinstance(item, Keypoints) and item.class_id == class_id
    )
    seeing = np.argmax(belief.visibility[cluster, :count], axis=1).tolist()
    places = belief.joints[cluster, :count].tolist()
    points: list[Point] = [
        (x, y, v) if v > 0 else (0.0, 0.0, 0) for (x, y), v in zip(places, seeing, strict=True)
    ]
    box = (x1, y1, x2, y2) if belief.has_box[cluster] else None
    return Keypoints(identity, class_id, tuple(points), box, "consensus", confidence)


def _off_probability(belief: Belief, cluster: int, shape: Shape) -> float:
    """How likely the settled place is wrong although the object is there."""
    if isinstance(shape, Box):
        error = float(belief.box_error[cluster])
        if error == 0:
            return 0.0
        x1, y1, x2, y2 = shape.xyxy
        wide = (x2 - x1 + location.FLOOR_PX) / (x2 - x1)
        high = (y2 - y1 + location.FLOOR_PX) / (y2 - y1)
        # the loss of IoU is about the four sides' absolute errors over the size; |error| is half-normal
        mean = math.sqrt(2 / math.pi) * error * 2 * (wide + high)
        deviation = math.sqrt(1 - 2 / math.pi) * error * math.sqrt(2 * (wide**2 + high**2))
        return 0.5 * math.erfc((0.5 - mean) / (deviation * math.sqrt(2)))
    if isinstance(shape, Keypoints):
        labelled = [index for index, point in enumerate(shape.points) if point[2] > 0]
        errors = [float(belief.joint_error[cluster, index]) for index in labelled]
        beyond = [math.exp(-(JOINT_REACH**2) / (2 * error**2)) if error else 0.0 for error in errors]
        return sum(beyond) / len(beyond) if beyond else 0.0
    return 0.0


def _spread_px(candidates: AnyCandidates, belief: Belief) -> list[float | None]:
    """Each annotator's mean distance, in pixels, of a side or a joint's coordinate from the settled one."""
    people = len(candidates.annotators)
    places, settled = _box_places(candidates), belief.boxes
    if candidates.members and isinstance(candidates.members[0], Keypoints):
        places, _ = _joint_places(candidates, belief.classes, belief.winner)
        settled = belief.joints.reshape(-1, 2)
    shared = np.bincount(places.target, minlength=places.targets)[places.target] > 1
    if not shared.any():
        return [None] * people
    distance = np.abs(places.values[shared] - settled[places.target[shared]]).mean(axis=1)
    who = places.annotator[shared]
    total = np.bincount(who, weights=distance, minlength=people).tolist()
    count = np.bincount(who, minlength=people).tolist()
    return [part / whole if whole else None for part, whole in zip(total, count, strict=True)]


def _classes(candidates: AnyCandidates) -> tuple[int, ...]:
    return tuple(sorted({item.class_id for item in candidates.members})) or (0,)


def _class_votes(candidates: AnyCandidates, classes: Sequence[int]) -> votes.Votes:
    column = {class_id: index for index, class_id in enumerate(classes)}
    return votes.Votes(
        question=candidates.member_cluster,
        annotator=candidates.member_annotator,
        choice=np.array([column[item.class_id] for item in candidates.members], dtype=np.int64),
        questions=candidates.clusters,
        annotators=len(candidates.annotators),
        choices=len(classes),
    )


def _box_places(candidates: AnyCandidates) -> location.Places:
    boxed = np.array([item.xyxy is not None for item in candidates.members], dtype=bool)
    target = candidates.member_cluster[boxed]
    values = candidates.extents[boxed]
    count = np.maximum(np.bincount(target, minlength=candidates.clusters), 1)
    wide = np.bincount(target, weights=values[:, 2] - values[:, 0], minlength=candidates.clusters) / count
    high = np.bincount(target, weights=values[:, 3] - values[:, 1], minlength=candidates.clusters) / count
    sizes = np.stack([wide, high, wide, high], axis=1)[target] + location.FLOOR_PX
    return location.Places(
        values,
        sizes,
        target,
        candidates.member_annotator[boxed],
        candidates.clusters,
        len(candidates.annotators),
    )


def _longest(candidates: AnyCandidates) -> int:
    return max((len(item.points) for item in candidates.members if isinstance(item, Keypoints)), default=0)


def _joint_places(
    candidates: AnyCandidates, classes: Sequence[int], winner: Ints
) -> tuple[location.Places, votes.Votes]:
    """The labelled joints and the visibility votes of those who chose the winning class and its skeleton."""
    longest = _longest(candidates)
    size = np.sqrt(area_xyxy(candidates.extents)) + location.FLOOR_PX
    values: list[tuple[float, float]] = []
    sizes: list[float] = []
    target: list[int] = []
    who: list[int] = []
    question: list[int] = []
    voter: list[int] = []
    choice: list[int] = []
    rows: zip[Any] = zip(
        candidates.members,
        candidates.member_cluster.tolist(),
        candidates.member_annotator.tolist(),
        size.tolist(),
        strict=True,
    )
    for item, cluster, annotator, item_size in rows:
        if not isinstance(item, Keypoints) or item.class_id != classes[int(winner[cluster])]:
            continue
        for joint, (x, y, v) in enumerate(item.points):
            question.append(cluster * longest + joint)
            voter.append(annotator)
            choice.append(v)
            if v > 0:
                values.append((x, y))
                sizes.append(item_size)
                target.append(cluster * longest + joint)
                who.append(annotator)
    people, targets = len(candidates.annotators), candidates.clusters * longest
    places = location.Places(
        np.array(values, dtype=np.float64).reshape(-1, 2),
        np.repeat(np.array(sizes, dtype=np.float64), 2).reshape(-1, 2),
        np.array(target, dtype=np.int64),
        np.array(who, dtype=np.int64),
        targets,
        people,
    )
    visible = votes.Votes(
        np.array(question, dtype=np.int64),
        np.array(voter, dtype=np.int64),
        np.array(choice, dtype=np.int64),
        targets,
        people,
        VISIBILITIES,
    )
    return places, visible
