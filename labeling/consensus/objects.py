"""Consensus of boxes and keypoints: candidates in, settled shapes with confidence out."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from labeling.consensus import boxes, calibration, existence, keypoints, votes
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
from labeling.consensus.candidates import AnyCandidates, Flags, Looks, extent_of
from labeling.geometry import Floats, Ints, area_xyxy, inflate_xyxy, iou_xyxy, match_greedy
from labeling.schema import Schema
from labeling.shapes import Box, Keypoints, Kind, Point, Shape, Tag

TIE_RATIO: Final = 0.8
"""The runner-up class at least so probable as the winner makes a tie that a person should look at."""
INTERVAL_STRENGTH: Final = 2.0
VISIBILITIES: Final = 3
GOLD_MATCH_AT: Final = 0.4
"""IoU of a candidate and gold's object, both inflated, from which the candidate is that object."""
GOLD_INFLATION_PX: Final = 2.0
SAME_PX: Final = 0.5
"""A prompted box whose sides are all this near to the suggestion's was taken as it was."""
UNSEEN_STRENGTH: Final = 2.0
"""How many objects an image must hold to say as much of its unseen ones as the project's mean does."""
LEAST_OF_CLASS: Final = 20
"""From fewer candidates nothing is concluded about a class's proportions."""
UNKNOWN_ACCURACY: Final = 0.9
"""How often somebody of whom nothing is known names a class right."""
LARGEST_CONFUSION: Final = 50
"""With more classes than this no annotator's confusion is told."""
Numbers: TypeAlias = NDArray[np.number[Any]]
Mirrors: TypeAlias = Mapping[int, tuple[int, ...]]
"""By class id the joint that each joint becomes when left and right are exchanged."""


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of M clusters with C classes and at most J joints."""

    existence: Floats  # (M,)
    unseen: Floats  # (I,)
    classes: tuple[int, ...]
    class_posterior: Floats  # (M, C)
    boxes: Floats  # (M, 4), meaningless where has_box is false
    has_box: Flags  # (M,)
    off: Floats  # (M,) probability that the settled box is off
    joints: Floats  # (M, J, 2)
    visibility: Ints  # (M, J)
    bad_joints: Floats  # (M,) expected share of joints off or of another visibility
    trust: Floats  # (N,) 0…1.25, how far a member's sides count
    pose_skills: keypoints.PoseSkills | None = None

    @property
    def winner(self) -> Ints:
        """The index (M,) of the most probable class; of equals the lowest id."""
        return np.asarray(np.argmax(self.class_posterior, axis=1), dtype=np.int64)


def fit(
    candidates: AnyCandidates,
    *,
    schema: Schema | None = None,
    gold: Gold | None = None,
    rounds: int = existence.ROUNDS,
) -> Parameters:
    """The parameters of all annotators, as JSON. Without any `rounds` what is believed of unknown people."""
    looks = candidates.looks()
    size = existence.log_sizes(candidates)
    present = existence.fit(candidates, looks, rounds=rounds)
    sides = _sides(candidates, looks)
    places = boxes.fit(sides) if rounds else boxes.unknown(sides.annotators)
    calibrated = calibration.Calibration()
    classes = _classes(candidates)
    class_votes = _class_votes(candidates, classes, looks)
    if gold and rounds:
        located = boxes.locate(sides, places)
        truth = _compare(candidates, located.values, gold)
        if truth is not None:
            present = existence.fit(candidates, looks, truth.known, rounds=rounds)
            has_box = _has_box(candidates)[truth.cluster]
            row = truth.cluster[has_box]
            places = boxes.calibrate(
                places, located.values[row], sides.extents[row], truth.boxes[has_box], located.error[row]
            )
            calibrated = _calibrate(candidates, looks, present, size, truth)
            known = np.full(candidates.clusters, -1, dtype=np.int64)
            index = {class_id: column for column, class_id in enumerate(classes)}
            known[truth.cluster] = [index.get(class_id, -1) for class_id in truth.classes]
            class_votes = replace(class_votes, known=known)
    real = _probability(candidates, looks, present, size, calibrated)
    class_votes = replace(class_votes, weight=real[candidates.member_cluster])
    # the doubt about beliefs that everybody shares was measured on tags of whole pictures
    labels = (
        replace(votes.fit(class_votes), overlap=0.0, shared_error=0.0)
        if rounds
        else _unknown_voters(class_votes)
    )
    winner = np.argmax(votes.posterior(class_votes, labels), axis=1).astype(np.int64)
    located = boxes.locate(sides, places)
    settled = boxes.shifted(located.values, sides, places)
    proportions = {
        class_id: boxes.proportions(settled[row], located.error[row], real[row])
        for column, class_id in enumerate(classes)
        if rounds
        and len(row := np.flatnonzero((winner == column) & ~sides.cut.any(axis=1))) >= LEAST_OF_CLASS
    }
    poses, chosen = _poses(candidates, classes, winner, _mirrors(schema))
    names = candidates.annotators
    people = existence.to_json(present, names), boxes.to_json(places, names)
    return {
        "existence": people[0],
        "places": people[1],
        "proportions": [[class_id, item.mean, item.deviation] for class_id, item in proportions.items()],
        "labels": votes.dump(labels, names, classes),
        "poses": keypoints.to_json(keypoints.fit(poses, real[candidates.member_cluster][chosen]), names),
        "mirrors": [[class_id, list(index)] for class_id, index in sorted(_mirrors(schema).items())],
        "calibration": calibration.to_json(calibrated),
    }


def believe(candidates: AnyCandidates, parameters: Parameters) -> Belief:
    """The belief under frozen parameters; an annotator without a record is taken for an average one."""
    names = candidates.annotators
    looks = candidates.looks()
    size = existence.log_sizes(candidates)
    present = existence.from_json(parameters["existence"], names)
    calibrated = calibration.from_json(parameters["calibration"])
    real = _probability(candidates, looks, present, size, calibrated)
    classes = tuple(sorted({*parameters["labels"]["choices"], *_classes(candidates)}))
    class_votes = _class_votes(candidates, classes, looks)
    class_posterior = votes.posterior(class_votes, votes.load(parameters["labels"], names, classes))
    winner = np.argmax(class_posterior, axis=1).astype(np.int64)
    sides = _sides(candidates, looks)
    places = boxes.from_json(parameters["places"], names)
    located = boxes.locate(sides, places)
    settled = boxes.shifted(located.values, sides, places)
    whole = np.asarray(~sides.cut.any(axis=1), dtype=bool)
    settled = _proportioned(settled, located.error, whole, [classes[column] for column in winner], parameters)
    has_box = _has_box(candidates)
    mirrors = {class_id: tuple(index) for class_id, index in parameters["mirrors"]}
    poses, _ = _poses(candidates, classes, winner, mirrors)
    model = keypoints.from_json(parameters["poses"], names)
    posed = keypoints.believe(poses, model)
    return Belief(
        existence=real,
        unseen=_unseen(candidates, present, real, size, calibrated),
        classes=classes,
        class_posterior=class_posterior,
        boxes=settled,
        has_box=has_box,
        off=np.where(has_box, boxes.off_probability(settled, located.error), 0.0),
        joints=posed.joints,
        visibility=posed.settled_visibility,
        bad_joints=keypoints.bad_share(posed),
        trust=located.trust.mean(axis=1),
        pose_skills=keypoints.skills(poses, model, posed),
    )


def believe_majority(candidates: AnyCandidates) -> Belief:
    """Everybody weighs the same: the share who drew it, the most frequent class, the plain mean."""
    looks = candidates.looks()
    clusters = candidates.clusters
    support = np.bincount(candidates.member_cluster, minlength=clusters)
    seen = np.bincount(looks.cluster, minlength=clusters)
    classes = _classes(candidates)
    class_votes = _class_votes(candidates, classes, looks)
    counts = np.bincount(
        class_votes.question * len(classes) + class_votes.choice, minlength=clusters * len(classes)
    ).reshape(clusters, len(classes))
    class_posterior = counts / np.maximum(support, 1)[:, None]
    winner = np.argmax(class_posterior, axis=1).astype(np.int64)
    poses, _ = _poses(candidates, classes, winner, {})
    joints, visibility = _plain_poses(poses)
    return Belief(
        existence=support / np.maximum(seen, 1),
        unseen=np.zeros(len(candidates.images)),
        classes=classes,
        class_posterior=class_posterior,
        boxes=boxes.means(_sides(candidates, looks)),
        has_box=_has_box(candidates),
        off=np.zeros(clusters),
        joints=joints,
        visibility=visibility,
        bad_joints=np.zeros(clusters),
        trust=np.ones(len(candidates.members)),
    )


def settle(candidates: AnyCandidates, belief: Belief) -> list[tuple[list[SettledShape], float]]:
    """For each image its settled shapes, accepted or not, and the expected number of objects nobody drew."""
    ends = np.searchsorted(candidates.member_cluster, np.arange(candidates.clusters + 1)).tolist()
    seen_by = np.bincount(candidates.seat_image, minlength=len(candidates.images)).tolist()
    names = [candidates.annotators[index] for index in candidates.member_annotator.tolist()]
    shapes: list[list[SettledShape]] = [[] for _ in candidates.images]
    winners = belief.winner.tolist()
    order = np.argsort(-belief.class_posterior, axis=1, kind="stable").tolist()
    posteriors = belief.class_posterior.tolist()
    present, off, bad = belief.existence.tolist(), belief.off.tolist(), belief.bad_joints.tolist()
    places = belief.boxes.tolist()
    for cluster, image in enumerate(candidates.cluster_image.tolist()):
        members = range(ends[cluster], ends[cluster + 1])
        made_of = tuple(sorted((names[member], candidates.members[member].id) for member in members))
        probability, posterior = present[cluster], posteriors[cluster]
        named = posterior[winners[cluster]]
        placed = probability * (1.0 - off[cluster])
        accepted = placed >= ACCEPT_AT
        ranked = [(belief.classes[column], posterior[column]) for column in order[cluster]]
        shape = _shape(
            candidates,
            belief,
            cluster,
            belief.classes[winners[cluster]],
            members,
            placed * named,
            made_of,
            places[cluster],
        )
        causes: dict[Cause, float] = {"missed": probability}
        if accepted:
            right = probability * named
            causes = {
                "surplus": 1.0 - probability,
                "class": probability * (1.0 - named),
                "place": right * off[cluster],
                "joints": right * (1.0 - off[cluster]) * bad[cluster],
            }
        shapes[image].append(
            SettledShape(
                shape=shape,
                existence=probability,
                confidence=placed * named,
                accepted=accepted,
                members=made_of,
                seen_by=seen_by[image],
                class_posterior=tuple(item for item in ranked if item[1] > 1e-6),
                class_tie=len(ranked) > 1 and ranked[1][1] >= TIE_RATIO * ranked[0][1],
                causes={cause: value for cause, value in causes.items() if value > 0.0},
            )
        )
    return list(zip(shapes, belief.unseen.tolist(), strict=True))


def skills(candidates: AnyCandidates, kind: Kind, belief: Belief) -> tuple[Skill, ...]:
    """Each annotator against the belief; where objects exist with a probability they count with it.

    What a person was shown as a suggestion tells of their eye for faults, not of what they find: it is left out.
    """
    people = len(candidates.annotators)
    looks = candidates.looks()
    own = ~looks.prompted
    weight = belief.existence[looks.cluster] * own
    hits = np.bincount(looks.annotator, weights=weight * looks.drew, minlength=people)
    chances = np.bincount(looks.annotator, weights=weight, minlength=people) + np.bincount(
        candidates.seat_annotator, weights=belief.unseen[candidates.seat_image], minlength=people
    )
    drawn = np.bincount(looks.annotator, weights=(looks.drew & own).astype(np.float64), minlength=people)
    answers = np.bincount(candidates.seat_annotator, minlength=people).tolist()
    recall = _measured(hits, chances, pooled=True)
    precision = _measured(hits, drawn, pooled=True)
    place = _place_skills(candidates, belief, own[looks.member])
    naming, confusion = _naming(candidates, belief, own[looks.member])
    posed = belief.pose_skills
    swaps = visibility = [None] * people  # type: list[Measured | None]
    if posed is not None:
        swaps = [
            item if trials > 0 else None
            for item, trials in zip(
                _measured(posed.swap_hits, posed.swap_trials), posed.swap_trials.tolist(), strict=True
            )
        ]
        visibility = [
            item if trials > 0 else None
            for item, trials in zip(
                _measured(posed.visibility_hits, posed.visibility_trials),
                posed.visibility_trials.tolist(),
                strict=True,
            )
        ]
    found: list[Skill] = []
    for index, name in enumerate(candidates.annotators):
        spread_px, spread, bias = place[index]
        if kind == "keypoints" and posed is not None:
            clicked = posed.clicks[index] > 0
            spread_px = float(posed.spread_px[index]) if clicked else None
            spread = float(posed.spread[index]) if clicked else None
            bias = tuple(posed.bias[index].tolist()) if clicked else None
        found.append(
            Skill(
                annotator=name,
                kind=kind,
                recall=recall[index].value,
                precision=precision[index].value,
                spread_px=spread_px,
                answers=answers[index],
                recall_interval=recall[index].interval,
                precision_interval=precision[index].interval,
                by_model=name in candidates.models,
                spread=spread,
                bias=bias,
                class_accuracy=naming[index],
                confusion=confusion[index],
                swap_rate=swaps[index],
                visibility_accuracy=visibility[index],
            )
        )
    return tuple(found)


def shape_id(image: str, members: Sequence[tuple[str, str]]) -> str:
    """The id of a settled shape: the same members make the same id, in whatever order they came."""
    digest = hashlib.sha256(repr((image, tuple(members))).encode("utf-8", "surrogatepass"))
    return f"consensus-{digest.hexdigest()[:20]}"


@dataclass(frozen=True, slots=True)
class Truth:
    """What gold says: `known` (M,) 1 or 0 of gold images' clusters, else NaN; of those that are objects (G)
    the cluster, its true box and class; `missed` objects that nobody drew."""

    known: Floats
    cluster: Ints
    boxes: Floats  # (G, 4)
    classes: tuple[int, ...]
    images: Ints  # (n,)
    missed: int


def _compare(candidates: AnyCandidates, settled: Floats, gold: Gold) -> Truth | None:
    """Each gold image's clusters against its objects; nothing where no image has gold."""
    posed = bool(candidates.members) and isinstance(candidates.members[0], Keypoints)
    kind = Keypoints if posed else Box
    known = np.full(candidates.clusters, np.nan)
    found: list[int] = []
    true: list[tuple[float, ...]] = []
    classes: list[int] = []
    images: list[int] = []
    missed = 0
    first = np.searchsorted(candidates.cluster_image, np.arange(len(candidates.images) + 1)).tolist()
    for number, image in enumerate(candidates.images):
        if image not in gold:
            continue
        images.append(number)
        objects = sorted(
            (extent, item.class_id)
            for item in gold[image]
            if isinstance(item, kind)
            and not isinstance(item, Tag)
            and (extent := extent_of(item)) is not None
        )
        start, end = first[number], first[number + 1]
        known[start:end] = 0.0
        likeness = iou_xyxy(
            inflate_xyxy(settled[start:end], GOLD_INFLATION_PX),
            inflate_xyxy([extent for extent, _ in objects], GOLD_INFLATION_PX),
        )
        pairs = match_greedy(likeness, GOLD_MATCH_AT)
        missed += len(objects) - len(pairs)
        for row, column in pairs:
            known[start + row] = 1.0
            found.append(start + row)
            true.append(objects[column][0])
            classes.append(objects[column][1])
    if not images:
        return None
    return Truth(
        known,
        np.array(found, dtype=np.int64),
        np.array(true, dtype=np.float64).reshape(-1, 4),
        tuple(classes),
        np.array(images, dtype=np.int64),
        missed,
    )


def _calibrate(
    candidates: AnyCandidates,
    looks: Looks,
    present: existence.ExistenceModel,
    size: Floats,
    truth: Truth,
) -> calibration.Calibration:
    row = ~np.isnan(truth.known)
    log_odds = existence.presence(candidates, looks, present, size).log_odds
    features = calibration.features_of(log_odds, _support(candidates, looks), size - present.typical_size)
    real = _probability(candidates, looks, present, size, calibration.Calibration())
    exposure = _exposure(candidates, present, real, size)[truth.images]
    expected = existence.unseen(candidates, present)[truth.images] * exposure
    overlooked = calibration.overlooked(truth.missed - float(expected.sum()), float(exposure.sum()))
    return calibration.Calibration(calibration.fit(features[row], truth.known[row]), overlooked)


def _probability(
    candidates: AnyCandidates,
    looks: Looks,
    present: existence.ExistenceModel,
    size: Floats,
    calibrated: calibration.Calibration,
) -> Floats:
    log_odds = existence.presence(candidates, looks, present, size).log_odds
    return calibration.probability(
        calibrated, log_odds, _support(candidates, looks), size - present.typical_size
    )


def _unseen(
    candidates: AnyCandidates,
    present: existence.ExistenceModel,
    real: Floats,
    size: Floats,
    calibrated: calibration.Calibration,
) -> Floats:
    """The expected number (I,) of objects nobody drew: more where there are many, and where they are small."""
    rate = existence.unseen(candidates, present) + calibrated.overlooked
    return rate * _exposure(candidates, present, real, size)


def _exposure(
    candidates: AnyCandidates, present: existence.ExistenceModel, real: Floats, size: Floats
) -> Floats:
    """How many times (I,) as many objects as usual an image is likely to hold unseen."""
    images = len(candidates.images)
    image = candidates.cluster_image
    held = np.bincount(image, weights=real, minlength=images)
    fuller = (held + UNSEEN_STRENGTH) / (present.object_rate + UNSEEN_STRENGTH)
    relative = np.bincount(image, weights=real * (size - present.typical_size), minlength=images)
    smaller = np.exp(-np.clip(present.slope * relative / (held + 1.0), -2.0, 2.0))
    return np.asarray(fuller * smaller, dtype=np.float64)


def _support(candidates: AnyCandidates, looks: Looks) -> Floats:
    """The share (M,) of those who saw it that drew it."""
    drew = np.bincount(looks.cluster, weights=looks.drew.astype(np.float64), minlength=candidates.clusters)
    return drew / np.maximum(np.bincount(looks.cluster, minlength=candidates.clusters), 1)


def _measured(hits: Numbers, trials: Numbers, *, pooled: bool = False) -> list[Measured]:
    """Shares with their intervals; with `pooled` a few trials of everybody's share beside each one's own."""
    share = float((hits.sum() + 1.0) / (trials.sum() + 2.0)) if pooled else 0.5
    found: list[Measured] = []
    for hit, trial in zip(hits.tolist(), trials.tolist(), strict=True):
        good = hit + INTERVAL_STRENGTH * share
        bad = max(trial - hit, 0.0) + INTERVAL_STRENGTH * (1.0 - share)
        found.append(Measured(good / (good + bad), beta_interval(good, bad), trial))
    return found


def _naming(
    candidates: AnyCandidates, belief: Belief, own: Flags
) -> tuple[list[Measured | None], list[dict[int, dict[int, float]]]]:
    """How often each annotator names the class right, and what is said for what."""
    people, classes = len(candidates.annotators), len(belief.classes)
    nothing: list[Measured | None] = [None] * people
    if classes < 2:
        return nothing, [{} for _ in range(people)]
    column = {class_id: index for index, class_id in enumerate(belief.classes)}
    said = np.array([column[item.class_id] for item in candidates.members], dtype=np.int64)
    who = candidates.member_annotator
    # what one person alone named agrees with itself
    shared = (
        np.bincount(candidates.member_cluster, minlength=candidates.clusters)[candidates.member_cluster] > 1
    )
    weight = belief.existence[candidates.member_cluster] * (own & shared)
    right = belief.class_posterior[candidates.member_cluster, said]
    hits = np.bincount(who, weights=weight * right, minlength=people)
    trials = np.bincount(who, weights=weight, minlength=people)
    accuracy = [
        item if trial > 0 else None
        for item, trial in zip(_measured(hits, trials, pooled=True), trials.tolist(), strict=True)
    ]
    if classes > LARGEST_CONFUSION:
        return accuracy, [{} for _ in range(people)]
    table = np.zeros((people, classes, classes))
    for true in range(classes):
        share = weight * belief.class_posterior[candidates.member_cluster, true]
        counts = np.bincount(who * classes + said, weights=share, minlength=people * classes)
        table[:, true] = counts.reshape(people, classes)
    confusion: list[dict[int, dict[int, float]]] = []
    for person in table.tolist():
        rows = {belief.classes[true]: row for true, row in enumerate(person) if sum(row) >= 0.5}
        confusion.append(
            {
                true: {
                    belief.classes[index]: count / sum(row) for index, count in enumerate(row) if count > 1e-3
                }
                for true, row in rows.items()
            }
        )
    return accuracy, confusion


def _place_skills(
    candidates: AnyCandidates, belief: Belief, own: Flags
) -> list[tuple[float | None, float | None, tuple[float, ...] | None]]:
    """Each annotator's mean distance of a side in px; spread and bias in extents of the object."""
    people = len(candidates.annotators)
    cluster = candidates.member_cluster
    boxed = np.array([item.xyxy is not None for item in candidates.members], dtype=bool)
    count = np.bincount(cluster, weights=boxed, minlength=candidates.clusters)
    row = np.flatnonzero(boxed & own & (count[cluster] > 1))
    settled = belief.boxes[cluster[row]]
    away = candidates.extents[row] - settled
    extent = np.maximum((settled[:, 2:] - settled[:, :2])[:, boxes.AXIS], 1.0)
    who, trust = candidates.member_annotator[row], belief.trust[row]

    def total(values: Floats) -> list[float]:
        return np.bincount(who, weights=values, minlength=people).tolist()  # type: ignore[no-any-return]

    relative = away / extent
    weight, seen = total(trust), total(np.ones(len(row)))
    distance = total(np.abs(away).mean(axis=1))
    squared = total(trust * (relative**2).mean(axis=1))
    middle = (relative[:, :2] + relative[:, 2:]) / 2
    wider = relative[:, 2:] - relative[:, :2]
    sums = [total(trust * column) for column in (*middle.T, *wider.T)]
    return [
        (
            (
                distance[k] / seen[k],
                (squared[k] / weight[k]) ** 0.5,
                tuple(item[k] / weight[k] for item in sums),
            )
            if seen[k] and weight[k] > 0
            else (None, None, None)
        )
        for k in range(people)
    ]


def _shape(
    candidates: AnyCandidates,
    belief: Belief,
    cluster: int,
    class_id: int,
    members: Sequence[int],
    confidence: float,
    made_of: tuple[tuple[str, str], ...],
    box: Sequence[float],
) -> Shape:
    image = candidates.images[int(candidates.cluster_image[cluster])]
    identity = shape_id(image, made_of)
    x1, y1, x2, y2 = box
    if isinstance(candidates.members[0], Box):
        return Box(identity, class_id, (x1, y1, x2, y2), "consensus", confidence)
    count = max(
        len(item.points)
        for item in (candidates.members[index] for index in members)
        if isinstance(item, Keypoints) and item.class_id == class_id
    )
    seeing = belief.visibility[cluster, :count].tolist()
    places = belief.joints[cluster, :count].tolist()
    points: list[Point] = [
        (x, y, v) if v > 0 else (0.0, 0.0, 0) for (x, y), v in zip(places, seeing, strict=True)
    ]
    drawn = (x1, y1, x2, y2) if belief.has_box[cluster] else None
    return Keypoints(identity, class_id, tuple(points), drawn, "consensus", confidence)


def _classes(candidates: AnyCandidates) -> tuple[int, ...]:
    return tuple(sorted({item.class_id for item in candidates.members})) or (0,)


def _class_votes(candidates: AnyCandidates, classes: Sequence[int], looks: Looks) -> votes.Votes:
    column = {class_id: index for index, class_id in enumerate(classes)}
    choice = np.array([column[item.class_id] for item in candidates.members], dtype=np.int64)
    suggested = _suggested(candidates, looks)
    return votes.Votes(
        question=candidates.member_cluster,
        annotator=candidates.member_annotator,
        choice=choice,
        questions=candidates.clusters,
        annotators=len(candidates.annotators),
        choices=len(classes),
        shown=np.where(suggested >= 0, choice[suggested], -1) if candidates.models else None,
    )


def _unknown_voters(class_votes: votes.Votes) -> votes.VoteModel:
    people, choices = class_votes.annotators, class_votes.choices
    return votes.VoteModel(
        np.full(people, UNKNOWN_ACCURACY), np.full(choices, 1.0 / choices), UNKNOWN_ACCURACY
    )


def _suggested(candidates: AnyCandidates, looks: Looks) -> Ints:
    """For each member (N,) the member that was shown to its annotator as a suggestion of this object, or -1."""
    found = np.full(len(candidates.members), -1, dtype=np.int64)
    if not candidates.models:
        return found
    prompted = np.flatnonzero(looks.prompted[looks.member])
    place = {
        (cluster, annotator): member
        for member, (cluster, annotator) in enumerate(
            zip(candidates.member_cluster.tolist(), candidates.member_annotator.tolist(), strict=True)
        )
    }
    for member in prompted.tolist():
        saw = int(candidates.seat_saw[candidates.member_seat[member]])
        found[member] = place[int(candidates.member_cluster[member]), saw]
    return found


def _proportioned(
    settled: Floats, error: Floats, whole: Flags, classes: Sequence[int], parameters: Parameters
) -> Floats:
    """The boxes drawn towards their classes' proportions, but those that the image's edge cuts off."""
    known = {class_id: (mean, deviation) for class_id, mean, deviation in parameters["proportions"]}
    row = np.array(
        [index for index, class_id in enumerate(classes) if class_id in known and whole[index]],
        dtype=np.int64,
    )
    if not len(row):
        return settled
    mean, deviation = np.array([known[classes[index]] for index in row], dtype=np.float64).T
    mended = settled.copy()
    mended[row] = boxes.proportioned(settled[row], error[row], mean, deviation)
    return mended


def _has_box(candidates: AnyCandidates) -> Flags:
    boxed = np.array([item.xyxy is not None for item in candidates.members], dtype=np.float64)
    return np.bincount(candidates.member_cluster, weights=boxed, minlength=candidates.clusters) > 0


def _sides(candidates: AnyCandidates, looks: Looks) -> boxes.Sides:
    """The sides of all members; a skeleton without a box counts by its hull only where nobody drew a box."""
    cluster = candidates.member_cluster
    count = np.maximum(np.bincount(cluster, minlength=candidates.clusters), 1)
    extent = candidates.extents[:, 2:] - candidates.extents[:, :2]
    extents = np.stack(
        [
            np.bincount(cluster, weights=extent[:, axis], minlength=candidates.clusters) / count
            for axis in (0, 1)
        ],
        axis=1,
    )
    boxed = np.array([item.xyxy is not None for item in candidates.members], dtype=bool)
    weight = np.where(boxed | ~_has_box(candidates)[cluster], 1.0, 0.0)
    suggested = _suggested(candidates, looks)
    if (suggested >= 0).any():
        away = np.abs(candidates.extents - candidates.extents[suggested]).max(axis=1)
        weight[(suggested >= 0) & (away <= SAME_PX)] = 0.0
    cut = [
        np.bincount(cluster, weights=flags, minlength=candidates.clusters) for flags in candidates.at_edge.T
    ]
    return boxes.Sides(
        values=candidates.extents,
        target=cluster,
        annotator=candidates.member_annotator,
        weight=weight,
        extents=extents,
        cut=np.stack(cut, axis=1) >= count[:, None] / 2.0,
        annotators=len(candidates.annotators),
    )


def _mirrors(schema: Schema | None) -> Mirrors:
    return {
        item.id: item.skeleton.flip_index
        for item in (schema.classes if schema is not None else ())
        if item.skeleton is not None and item.skeleton.pairs
    }


def _poses(
    candidates: AnyCandidates, classes: Sequence[int], winner: Ints, mirrors: Mirrors
) -> tuple[keypoints.Poses, Ints]:
    """The skeletons of those who chose the winning class, and their members' numbers."""
    own = [
        (member, item)
        for member, item in enumerate(candidates.members)
        if isinstance(item, Keypoints)
        and item.class_id == classes[int(winner[int(candidates.member_cluster[member])])]
    ]
    longest = max((len(item.points) for _, item in own), default=0)
    points = np.zeros((len(own), longest, 3))
    mirror = np.tile(np.arange(longest), (len(own), 1))
    for row, (_, item) in enumerate(own):
        points[row, : len(item.points)] = item.points
        index = mirrors.get(item.class_id, ())
        if len(index) == len(item.points):
            mirror[row, : len(index)] = index
    chosen = np.array([member for member, _ in own], dtype=np.int64)
    cluster = candidates.member_cluster[chosen]
    area = np.sqrt(area_xyxy(candidates.extents[chosen]))
    count = np.maximum(np.bincount(cluster, minlength=candidates.clusters), 1)
    size = np.bincount(cluster, weights=area, minlength=candidates.clusters) / count + boxes.FLOOR_PX
    return (
        keypoints.Poses(
            points=points,
            lengths=np.array([len(item.points) for _, item in own], dtype=np.int64),
            mirror=mirror,
            size=size[cluster],
            cluster=cluster,
            annotator=candidates.member_annotator[chosen],
            clusters=candidates.clusters,
            annotators=len(candidates.annotators),
        ),
        chosen,
    )


def _plain_poses(poses: keypoints.Poses) -> tuple[Floats, Ints]:
    """Mean joints (M, J, 2) of those who labelled them; the visibility (M, J) that most said, of equals the lower."""
    width = poses.points.shape[1]
    joints = np.zeros((poses.clusters, width, 2))
    visibility = np.zeros((poses.clusters, width), dtype=np.int64)
    for joint in range(width):
        x, y, said = poses.points[:, joint].T
        stated = (joint < poses.lengths).astype(np.float64)
        labelled = (said > 0).astype(np.float64)
        count = np.maximum(np.bincount(poses.cluster, weights=labelled, minlength=poses.clusters), 1.0)
        for axis, value in enumerate((x, y)):
            total = np.bincount(poses.cluster, weights=labelled * value, minlength=poses.clusters)
            joints[:, joint, axis] = total / count
        counts = np.bincount(
            poses.cluster * VISIBILITIES + said.astype(np.int64),
            weights=stated,
            minlength=poses.clusters * VISIBILITIES,
        )
        visibility[:, joint] = np.argmax(counts.reshape(-1, VISIBILITIES), axis=1)
    return joints, visibility
