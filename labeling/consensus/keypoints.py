"""Consensus of skeletons: where each joint is, whether it is visible, and which side is left.

Every annotator has habits: a spread of clicks (in sizes of the object), an offset, a rate of exchanging left
and right (the whole body, or one pair of joints), a confusion of absent, hidden and visible, and a rate of
mistakes, clicks that fall anywhere in the object. They are learnt from all objects by expectation maximisation
(Dempster, Laird and Rubin 1977) and shrunk to the pool's, so that two answers are enough to begin with and a
thousand speak for themselves. What somebody says of visibility is weighed after Dawid and Skene (1979); a click
is Student's t about the joint (Lange, Little and Taylor 1989) or a mistake. Whether a skeleton's sides are
exchanged is a hidden variable of each skeleton; only the others tell which side is right, and how likely they
are wrong is kept as `swap_doubt`. It takes them to err independently: people who all make the same error, by
agreement or because the object faces away, are believed too much.

A belief about one object depends on nothing but its own members and the model: settled alone or among others,
the same answers give the same bits. So sums run in the order of members (`bincount`) or of joints (`cumsum`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from labeling.geometry import JOINT_SIGMA, Floats, Ints

Flags: TypeAlias = NDArray[np.bool_]

ROUNDS: Final = 12
STEPS: Final = 3
REFERENCES: Final = 5
"""Skeletons of a cluster that the others are first laid upon: those of its most exact annotators."""
BLOCK: Final = 4096
"""Skeletons settled at once; bounds the memory of a fit."""
VISIBILITIES: Final = 3
FREEDOM: Final = 4.0
"""Degrees of freedom of Student's t."""
INFORMATION: Final = (FREEDOM + 2) / (FREEDOM + 4)
"""What a click tells of its joint's place, as a part of what a normal one of the same scale would."""
MISTAKE_DENSITY: Final = 1.0
"""Per square size: a mistake is a click anywhere in the object's area."""
REACH: Final = 2 * JOINT_SIGMA
"""In sizes: farther from the truth than 2σ of COCO's similarity, a joint is off."""
NOWHERE: Final = 12**-0.5
"""Standard error, in sizes, of a joint that could be anywhere in the object."""

FIRST_SPREAD: Final = 0.05
SPREAD_RANGE: Final = (0.004, 0.5)
SPREAD_STRENGTH: Final = 10.0
"""Strengths count what an annotator's own record is weighed against: here so many clicks of the pool's spread."""
DIFFICULTY_STRENGTH: Final = 60.0
OFFSET_PRIOR: Final = 0.01
"""Standard deviation, in sizes, of annotators' offsets; the clicks of one skeleton err together and count as one."""
MISTAKE_PRIOR: Final = (1.0, 30.0)
MISTAKE_STRENGTH: Final = 40.0
TURN_PRIOR: Final = (1.0, 25.0)
TURN_STRENGTH: Final = 5.0
CROSS_PRIOR: Final = (1.0, 80.0)
CROSS_STRENGTH: Final = 60.0
CONFUSION_PRIOR: Final = ((18.0, 0.8, 1.2), (2.4, 13.6, 4.0), (0.6, 1.4, 18.0))
"""Counts of what is said (columns) of absent, hidden and visible joints (rows)."""
CONFUSION_STRENGTH: Final = 40.0
PREVALENCE_STRENGTH: Final = 20.0
RATE_RANGE: Final = (0.001, 0.95)


@dataclass(frozen=True, slots=True)
class Poses:
    """N skeletons, each one annotator's of one object, and M objects (clusters).

    Sorted by cluster, then by annotator; joints beyond a skeleton's length are padding. Coordinates are finite.
    """

    points: Floats  # (N, J, 3) x, y in pixels and visibility 0, 1, 2
    lengths: Ints  # (N,) joints of this skeleton, ≤ J
    mirror: Ints  # (N, J) the joint that each becomes when left and right are exchanged; itself if unpaired
    size: Floats  # (N,) pixels, what errors are measured in; the same for all members of a cluster
    cluster: Ints  # (N,) 0…M−1
    annotator: Ints  # (N,) 0…K−1
    clusters: int
    annotators: int


@dataclass(frozen=True, slots=True)
class Habits:
    """How K annotators click."""

    spread: Floats  # (K,) scale of a coordinate's Student t, in sizes; of a normal error about .85 deviations
    offset: Floats  # (K, 2) x, y in sizes
    mistake: Floats  # (K,) share of clicks that fall anywhere
    turned: Floats  # (K,) share of skeletons with all sides exchanged
    crossed: Floats  # (K,) share of pairs exchanged otherwise
    confusion: Floats  # (K, 3, 3) of what is said (last axis), given the true visibility


@dataclass(frozen=True, slots=True)
class PoseModel:
    """The habits of annotators and of the pool (K = 1), and what joints have in common."""

    habits: Habits
    pool: Habits
    difficulty: Floats  # (J,) factor of everybody's spread at this joint, about 1
    visibility: Floats  # (J, 3) how often joints are absent, hidden, visible
    anywhere: Floats  # (3,) the same for a joint that the model does not know


@dataclass(frozen=True, slots=True)
class PoseBelief:
    """What is believed of M objects and N skeletons."""

    joints: Floats  # (M, J, 2) pixels; (0, 0) where nobody labelled the joint
    joint_error: Floats  # (M, J) standard error of a coordinate in sizes, at most `NOWHERE`
    elsewhere: Floats  # (M, J) probability that the joint is where a disbelieved click says
    visibility: Floats  # (M, J, 3)
    swapped: Floats  # (N,) probability that this skeleton has its sides, or a pair of them, exchanged
    swap_doubt: Floats  # (M,) probability that the settled pose has
    mistake: Floats  # (N, J) probability that this click is a mistake; 0 where there is none
    paired: Flags  # (M, J) has another side
    lengths: Ints  # (M,)

    @property
    def settled_visibility(self) -> Ints:
        """(M, J) in 0, 1, 2: absent if that is more likely than not, else the likelier of hidden and visible."""
        present = self.visibility[:, :, 1] + self.visibility[:, :, 2] >= self.visibility[:, :, 0]
        seen = np.where(self.visibility[:, :, 2] >= self.visibility[:, :, 1], 2, 1)
        return np.where(present, seen, 0).astype(np.int64)


@dataclass(frozen=True, slots=True)
class PoseSkills:
    """Each annotator (K,) against the belief. `clicks` counts those on joints that somebody else labelled too;
    where it is 0 the spread is the pool's, the bias none and `spread_px` 0."""

    swap_hits: Floats
    swap_trials: Floats
    visibility_hits: Floats
    visibility_trials: Floats
    clicks: Floats
    spread: Floats  # in sizes
    spread_px: Floats  # mean distance of a click from the settled joint, mistakes aside
    bias: Floats  # (K, 2) in sizes


def fit(poses: Poses, weight: Floats) -> PoseModel:
    """The model of all annotators; `weight` (N,), 0…1, is how likely each skeleton's object is there at all."""
    width = poses.points.shape[1]
    pool = _first_habits()
    model = PoseModel(
        _repeated(pool, poses.annotators),
        pool,
        np.ones(width),
        np.tile(_first_prevalence(), (width, 1)),
        _first_prevalence(),
    )
    if not len(poses.points) or not width:
        return model
    blocks = [(_View.of(block), weight[rows]) for block, rows, _ in _blocks(poses)]
    for _ in range(ROUNDS):
        tally = _Tally.nothing(poses.annotators, width)
        for view, share in blocks:
            tally = tally.plus(_count(view, _settle(view, model), model, share))
        model = _learn(tally, model)
    return model


def believe(poses: Poses, model: PoseModel) -> PoseBelief:
    """The belief under a frozen model."""
    members, width, clusters = len(poses.points), poses.points.shape[1], poses.clusters
    belief = PoseBelief(
        joints=np.zeros((clusters, width, 2)),
        joint_error=np.full((clusters, width), NOWHERE),
        elsewhere=np.zeros((clusters, width)),
        visibility=np.tile(np.array([1.0, 0.0, 0.0]), (clusters, width, 1)),
        swapped=np.zeros(members),
        swap_doubt=np.zeros(clusters),
        mistake=np.zeros((members, width)),
        paired=np.zeros((clusters, width), dtype=bool),
        lengths=np.zeros(clusters, dtype=np.int64),
    )
    if not members or not width:
        return belief
    np.maximum.at(belief.lengths, poses.cluster, poses.lengths)
    for block, rows, those in _blocks(poses):
        view = _View.of(block)
        found = _settle(view, model)
        placed = found.information > 0
        size = np.zeros(block.clusters)
        size[block.cluster] = block.size
        belief.joints[those, :, 0] = np.where(placed, found.x, 0.0) * size[:, None]
        belief.joints[those, :, 1] = np.where(placed, found.y, 0.0) * size[:, None]
        belief.joint_error[those] = 1.0 / np.sqrt(INFORMATION * found.information + NOWHERE**-2)
        belief.elsewhere[those] = found.elsewhere
        belief.visibility[those] = found.visibility
        belief.swap_doubt[those] = found.doubt
        belief.swapped[rows] = found.swapped
        belief.mistake[rows] = _own_mistakes(view, found)
        belief.visibility[those][~_stated(belief.lengths[those], width)] = [1.0, 0.0, 0.0]
        belief.paired[those] = view.by_joint(view.on_pairs(np.ones(len(view.first)))) > 0
    return belief


def bad_share(belief: PoseBelief) -> Floats:
    """The expected share (M,) of an object's joints that are off by more than `REACH` sizes, on the wrong side,
    or of another visibility than settled; 0 for an object without joints."""
    width = belief.visibility.shape[1]
    said = belief.settled_visibility
    right = np.take_along_axis(belief.visibility, said[:, :, None], axis=2)[:, :, 0]
    near = (1.0 - belief.elsewhere) * -np.expm1(-(REACH**2) / (2 * belief.joint_error**2))
    sided = np.where(belief.paired, 1.0 - belief.swap_doubt[:, None], 1.0)
    bad = 1.0 - np.where(said > 0, right * near * sided, right)
    bad = np.where(_stated(belief.lengths, width), bad, 0.0)
    return np.asarray(_row_sums(bad) / np.maximum(belief.lengths, 1), dtype=np.float64)


def skills(poses: Poses, model: PoseModel, belief: PoseBelief) -> PoseSkills:
    """Each annotator against the belief."""
    people, width = poses.annotators, poses.points.shape[1]

    def count(values: Floats | Flags) -> Floats:
        each = _row_sums(values.astype(np.float64)) if values.ndim == 2 else values.astype(np.float64)
        return np.bincount(poses.annotator, weights=each, minlength=people).astype(np.float64)

    members = np.bincount(poses.cluster, minlength=poses.clusters)
    compared = (members > 1)[poses.cluster]
    labelled = _labelled(poses)
    stated = _stated(poses.lengths, width)
    sided = (_clean_mirror(poses) != np.arange(width)) & labelled
    others = np.zeros((poses.clusters, width))
    np.add.at(others, poses.cluster, labelled)  # whole numbers: their order does not matter
    shared = labelled & (others[poses.cluster] > 1)
    said = poses.points[:, :, 2].astype(np.int64)
    agreed = np.take_along_axis(belief.visibility[poses.cluster], said[:, :, None], axis=2)[:, :, 0]
    straight = shared & (belief.swapped < 0.5)[:, None]
    sound = np.where(straight, 1.0 - belief.mistake, 0.0)
    away = poses.points[:, :, :2] - belief.joints[poses.cluster]
    distance = np.sqrt(away[:, :, 0] ** 2 + away[:, :, 1] ** 2)
    clicks = count(shared)
    return PoseSkills(
        swap_hits=count(np.where(compared & sided.any(axis=1), belief.swapped, 0.0)),
        swap_trials=count(compared & sided.any(axis=1)),
        visibility_hits=count(np.where(stated & compared[:, None], agreed, 0.0)),
        visibility_trials=count(stated & compared[:, None]),
        clicks=clicks,
        spread=model.habits.spread,
        spread_px=count(sound * distance) / np.maximum(count(sound), 1e-9),
        bias=model.habits.offset,
    )


def to_json(model: PoseModel, names: Sequence[str]) -> dict[str, Any]:
    """Plain JSON; `names` (K,) are the annotators'."""
    return {
        "pool": _habits_to_json(model.pool, 0),
        "annotators": {name: _habits_to_json(model.habits, index) for index, name in enumerate(names)},
        "difficulty": model.difficulty.tolist(),
        "visibility": model.visibility.tolist(),
        "anywhere": model.anywhere.tolist(),
    }


def from_json(parameters: Mapping[str, Any], names: Sequence[str]) -> PoseModel:
    """The model of these annotators (K,); one without a record has the pool's habits."""
    pool = parameters["pool"]
    own = [parameters["annotators"].get(name, pool) for name in names]
    return PoseModel(
        _habits_from_json(own),
        _habits_from_json([pool]),
        np.array(parameters["difficulty"], dtype=np.float64),
        np.array(parameters["visibility"], dtype=np.float64).reshape(-1, VISIBILITIES),
        np.array(parameters["anywhere"], dtype=np.float64),
    )


@dataclass(frozen=True, slots=True)
class _View:
    """Every skeleton twice: as it was drawn (0), and with left and right exchanged (1).

    Arrays (2, N, J) hold at joint j what the skeleton says of joint j in that reading. Each of the L pairs of
    all skeletons is counted at its first joint; `first`, `second` and `mirror` index the N·J joints.
    """

    poses: Poses
    x: Floats  # (2, N, J) in sizes
    y: Floats
    labelled: Flags
    stated: Flags  # part of the skeleton, labelled or not
    said: Ints
    mirror: Ints  # (N·J,)
    first: Ints  # (L,)
    second: Ints  # (L,)
    pair_member: Ints  # (L,)
    target: Ints  # (2·N·J,) cluster · J + joint

    @classmethod
    def of(cls, poses: Poses) -> "_View":
        members, width = poses.points.shape[:2]
        joint = np.arange(width)
        partner = _clean_mirror(poses)
        row = np.arange(members)[:, None] * width
        mirror = (row + partner).ravel()
        first = np.flatnonzero(joint < partner)
        labelled = _labelled(poses)

        def both(own: Any) -> Any:
            readings = np.empty((2, *own.shape), dtype=own.dtype)
            readings[0], readings[1] = own, own.ravel()[mirror].reshape(own.shape)
            return readings

        scale = poses.size[:, None]
        target = (poses.cluster[:, None] * width + joint).ravel()
        return cls(
            poses=poses,
            x=both(np.where(labelled, poses.points[:, :, 0] / scale, 0.0)),
            y=both(np.where(labelled, poses.points[:, :, 1] / scale, 0.0)),
            labelled=both(labelled),
            stated=both(_stated(poses.lengths, width)),
            said=both(np.where(labelled, poses.points[:, :, 2], 0.0).astype(np.int64)),
            mirror=mirror,
            first=first,
            second=mirror[first],
            pair_member=first // width,
            target=np.concatenate([target, target]),
        )

    def on_pairs(self, values: Floats) -> Floats:
        """(N, J) from a value for each pair (L,), at both its joints; 0 at joints without another side."""
        flat = np.zeros(len(self.mirror))
        flat[self.first] = values
        flat[self.second] = values
        return flat.reshape(self.x.shape[1:])

    def pair_sums(self, values: Floats) -> Floats:
        """Each pair's sum over its two joints, (…, L) from (…, N, J)."""
        flat = values.reshape(*values.shape[:-2], -1)
        return np.asarray(flat[..., self.first] + flat[..., self.second], dtype=np.float64)

    def by_member(self, values: Floats) -> Floats:
        """Sums (N,) over a skeleton's pairs (L,)."""
        return _sums(self.pair_member, values, self.x.shape[1])

    def by_joint(self, values: Floats) -> Floats:
        """Sums (M, J) over members, of both readings (2, N, J) or of one value for each joint (N, J)."""
        clusters, width = self.poses.clusters, self.x.shape[2]
        sums = _sums(self.target[: values.size], values.ravel(), clusters * width)
        return sums.reshape(clusters, width)

    def by_pair(self, values: Floats) -> Floats:
        """Sums (M, J) over members of a value for each pair (L,), at its first joint."""
        clusters, width = self.poses.clusters, self.x.shape[2]
        return _sums(self.target[self.first], values, clusters * width).reshape(clusters, width)

    def by_cluster(self, values: Floats) -> Floats:
        """Sums (M,) over members (N,)."""
        return _sums(self.poses.cluster, values, self.poses.clusters)


class _Found(NamedTuple):
    """What a block's objects and skeletons are believed to be, in sizes."""

    x: Floats  # (M, J)
    y: Floats
    information: Floats  # (M, J)
    visibility: Floats  # (M, J, 3)
    elsewhere: Floats  # (M, J)
    doubt: Floats  # (M,)
    swapped: Floats  # (N,)
    turned: Floats  # (N,)
    crossed: Floats  # (L,)
    reading: Floats  # (2, N, J) how likely this reading of the joint is the right one
    sound: Floats  # (2, N, J) how likely the click is no mistake
    trust: Floats  # (2, N, J) Student-t weight
    leverage: Floats  # (2, N, J) share in the joint's place
    dx: Floats  # (2, N, J) from the joint's place
    dy: Floats


class _Sides(NamedTuple):
    """Which sides are exchanged, from the evidence for both readings."""

    exchanged: Floats  # (N, J)
    turn: Floats  # (M,) log evidence for the settled pose being turned
    cross: Floats  # (M, J) … for the pair that begins at this joint being crossed in it
    is_turned: Floats  # (N,) probability that the body is turned, if the settled pose is right
    is_turned_if: Floats  # (N,) … if that is turned
    if_straight: Floats  # (L,) probability that the pair is crossed, in a straight body
    if_turned: Floats  # (L,) … in a turned body


class _Terms(NamedTuple):
    """A model's parameters spread out over a block's clicks, in logarithms where they are added."""

    x: Floats  # (2, N, J) clicks without the annotator's offset
    y: Floats
    variance: Floats  # (N, J) of a coordinate
    mistake: Floats  # (N, 1)
    says: Floats  # (3, 2, N, J) log probability of what is said, given absent, hidden, visible
    turned: Floats  # (N,)
    straight: Floats
    crossed: Floats  # (N, 1)
    uncrossed: Floats
    prevalence: Floats  # (J, 3)
    references: Ints  # (M, R) members to begin with, the most exact first; −1 for none


def _terms(view: _View, model: PoseModel) -> _Terms:
    poses, habits = view.poses, model.habits
    who, width = poses.annotator, poses.points.shape[1]
    known = len(model.difficulty)
    joint = np.arange(width)
    difficulty = np.ones(width)
    difficulty[:known] = model.difficulty[:width]
    prevalence = np.tile(model.anywhere, (width, 1))
    prevalence[:known] = model.visibility[:width]
    variance = (habits.spread[who] ** 2)[:, None] * (difficulty**2)[joint]
    offset = habits.offset[who]
    log_confusion = np.log(habits.confusion)[who]  # (N, 3, 3)
    row = np.arange(len(who))[:, None]
    says = np.stack([np.where(view.stated, log_confusion[row, truth, view.said], 0.0) for truth in range(3)])
    return _Terms(
        x=view.x - offset[:, :1],
        y=view.y - offset[:, 1:],
        variance=variance,
        mistake=habits.mistake[who][:, None],
        says=says,
        turned=np.log(habits.turned)[who],
        straight=np.log1p(-habits.turned)[who],
        crossed=np.log(habits.crossed)[who][:, None],
        uncrossed=np.log1p(-habits.crossed)[who][:, None],
        prevalence=np.log(prevalence),
        references=_references(poses, habits.spread[who]),
    )


def _references(poses: Poses, spread: Floats) -> Ints:
    """The members (M, R) of each cluster with the least spread, in that order, of equals the first; −1 for none."""
    order = np.lexsort((spread, poses.cluster))
    count = np.bincount(poses.cluster, minlength=poses.clusters)
    first = np.cumsum(count) - count
    place = np.arange(len(order)) - first[poses.cluster]
    chosen = place < REFERENCES
    references = np.full((poses.clusters, min(REFERENCES, int(count.max(initial=0)))), -1, dtype=np.int64)
    references[poses.cluster[chosen], place[chosen]] = order[chosen]
    return references


def _settle(view: _View, model: PoseModel) -> _Found:
    """Finds places, visibilities and sides together: each is weighed under what is believed of the others."""
    terms = _terms(view, model)
    cluster = view.poses.cluster
    exchanged = _first_alignment(view, terms)
    x, y = _likeliest(_clicks(view, terms, exchanged))
    leverage = np.zeros(view.x.shape)
    reading = _readings(exchanged)
    visibility = _visibility(view, terms, reading)
    for step in range(STEPS):
        dx, dy = terms.x - x[cluster], terms.y - y[cluster]
        # a click pulls the place towards itself: its distance from where the others see the joint is larger
        variance = terms.variance * np.maximum(1.0 - leverage, 0.1)
        distance = (dx * dx + dy * dy) / variance
        log_density, sound, trust = _click(distance, terms.variance, terms.mistake)
        if step == 0:  # the first places are clicks, which should not trust themselves most
            trust = np.ones(trust.shape)
        sides = _sides(view, terms, _agreement(view, terms, visibility, log_density))
        exchanged = sides.exchanged if step == STEPS - 1 else _righted(view, sides)
        reading = _readings(exchanged)
        visibility = _visibility(view, terms, reading)
        weight = np.where(view.labelled, reading * sound * trust / terms.variance, 0.0)
        information = view.by_joint(weight)
        leverage = weight / np.maximum(information, 1e-300)[cluster]
        x, y = view.by_joint(leverage * terms.x), view.by_joint(leverage * terms.y)
    swapped, turned, crossed = _exchanges(view, sides)
    return _Found(
        x=x,
        y=y,
        information=information,
        visibility=visibility,
        elsewhere=_elsewhere(_clicks(view, terms, exchanged), x, y),
        doubt=_swap_doubt(view, sides, x, y, visibility[:, :, 1] + visibility[:, :, 2]),
        swapped=swapped,
        turned=turned,
        crossed=crossed,
        reading=reading,
        sound=sound,
        trust=trust,
        leverage=leverage,
        dx=terms.x - x[cluster],
        dy=terms.y - y[cluster],
    )


def _readings(exchanged: Floats) -> Floats:
    """How likely (2, N, J) each reading is, as drawn and exchanged."""
    readings = np.empty((2, *exchanged.shape))
    readings[0], readings[1] = 1.0 - exchanged, exchanged
    return readings


def _click(distance: Floats, variance: Floats, mistake: Floats) -> tuple[Floats, Floats, Floats]:
    """Of a click at this squared distance in variances: its log density per square size, the probability that it
    is no mistake, and its Student-t weight."""
    scaled = 1.0 + distance / FREEDOM
    density = (1.0 - mistake) / (2.0 * np.pi * variance * (scaled * scaled * scaled))
    total = density + mistake * MISTAKE_DENSITY
    return np.log(total), density / total, (FREEDOM + 2.0) / FREEDOM / scaled


def _visibility(view: _View, terms: _Terms, reading: Floats) -> Floats:
    """The probability (M, J, 3) that joints are absent, hidden, visible."""
    width = len(terms.prevalence)
    votes = (reading * terms.says).reshape(VISIBILITIES, -1)  # (3, 2·N·J)
    cells = view.poses.clusters * width
    logits = np.empty((VISIBILITIES, view.poses.clusters, width))
    for truth, vote in enumerate(votes):
        logits[truth] = _sums(view.target, vote, cells).reshape(-1, width) + terms.prevalence[:, truth]
    parts = np.exp(logits - np.maximum(np.maximum(logits[0], logits[1]), logits[2]))
    shares = parts / (parts[0] + parts[1] + parts[2])
    return np.ascontiguousarray(np.moveaxis(shares, 0, 2))


def _agreement(view: _View, terms: _Terms, visibility: Floats, log_density: Floats) -> Floats:
    """The log evidence (2, N, J) for each reading of each joint. A click on an absent joint may be anywhere."""
    said = view.poses.cluster
    absent, hidden, visible = (np.ascontiguousarray(visibility[:, :, v])[said] for v in range(VISIBILITIES))
    place = np.where(view.labelled, (hidden + visible) * log_density, 0.0)
    return np.asarray(
        place + absent * terms.says[0] + hidden * terms.says[1] + visible * terms.says[2], dtype=np.float64
    )


def _sides(view: _View, terms: _Terms, evidence: Floats) -> _Sides:
    """Whole bodies turn, and each pair may cross on top of that: given the body, pairs are independent."""
    pair = view.pair_sums(evidence)  # (2, L)
    who = view.pair_member
    uncrossed, crossed = terms.uncrossed[who, 0], terms.crossed[who, 0]
    as_is, other = _pair_evidence(pair, uncrossed, crossed)
    straight_sum, turned_sum = view.by_member(as_is), view.by_member(other)
    straight, turned = terms.straight + straight_sum, terms.turned + turned_sum
    whole = np.logaddexp(straight, turned)
    is_turned = np.exp(turned - whole)
    if_straight, if_turned = np.exp(crossed + pair[1] - as_is), np.exp(crossed + pair[0] - other)
    body = is_turned[who]
    gain = other - as_is
    turned_if = terms.turned + straight_sum
    whole_if = np.logaddexp(terms.straight + turned_sum, turned_if)
    cross = np.logaddexp(straight[who] + gain, turned[who] - gain) - whole[who]
    return _Sides(
        exchanged=view.on_pairs((1.0 - body) * if_straight + body * (1.0 - if_turned)),
        turn=view.by_cluster(whole_if - whole),
        cross=view.by_pair(cross),
        is_turned=is_turned,
        is_turned_if=np.exp(turned_if - whole_if),
        if_straight=if_straight,
        if_turned=if_turned,
    )


def _exchanges(view: _View, sides: _Sides) -> tuple[Floats, Floats, Floats]:
    """How likely each skeleton has any side exchanged (N,), is turned (N,), and each pair is crossed (L,).

    Where people are even about the sides, nobody is to blame more than the other: both ways in which the settled
    pose can be right count with their probability.
    """
    body = sides.is_turned[view.pair_member]
    turn_doubt = _share_of(sides.turn)[view.poses.cluster]
    cross_doubt = _share_of(sides.cross).ravel()[view.target[view.first]]
    crossed = (1.0 - body) * sides.if_straight + body * sides.if_turned
    crossed_if = (1.0 - body) * sides.if_turned + body * sides.if_straight
    swapped = 1.0 - (1.0 - sides.is_turned) * _none_of(view, sides.if_straight)
    swapped_if = 1.0 - (1.0 - sides.is_turned_if) * _none_of(view, sides.if_turned)
    return (
        (1.0 - turn_doubt) * swapped + turn_doubt * swapped_if,
        (1.0 - turn_doubt) * sides.is_turned + turn_doubt * sides.is_turned_if,
        (1.0 - cross_doubt) * crossed + cross_doubt * crossed_if,
    )


def _share_of(gain: Floats) -> Floats:
    """The probability of what has so much more log evidence than the other possibility."""
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(-gain, -700.0, 700.0))), dtype=np.float64)


def _none_of(view: _View, probability: Floats) -> Floats:
    """The probability (N,) that none of a skeleton's pairs (L,) is."""
    return np.asarray(
        np.exp(view.by_member(np.log1p(-np.minimum(probability, 1.0 - 1e-12)))), dtype=np.float64
    )


def _pair_evidence(pair: Floats, uncrossed: Floats, crossed: Floats) -> tuple[Floats, Floats]:
    """Of pairs, from the evidence (2, …) for both readings: in a straight body, and in a turned one."""
    straight = np.logaddexp(uncrossed + pair[0], crossed + pair[1])
    turned = np.logaddexp(uncrossed + pair[1], crossed + pair[0])
    return np.asarray(straight, dtype=np.float64), np.asarray(turned, dtype=np.float64)


def _righted(view: _View, sides: _Sides) -> Floats:
    """The readings (N, J) of the pose that is likelier: as settled, turned as a whole, or with pairs crossed."""
    whole = (sides.turn > 0) & (sides.turn >= sides.cross.max(axis=1))
    flip = whole[:, None] | (sides.cross > 0)
    if not flip.any():
        return sides.exchanged
    flipped = view.on_pairs(flip.ravel()[view.target[view.first]].astype(np.float64))
    return np.where(flipped > 0, 1.0 - sides.exchanged, sides.exchanged)


def _swap_doubt(view: _View, sides: _Sides, x: Floats, y: Floats, present: Floats) -> Floats:
    """The probability (M,) that the settled pose has its sides, or a pair of them, exchanged.

    A pair matters where both joints are there and farther apart than `REACH`, or only one of them is there.
    """
    one, other = view.target[view.first], view.target[view.second]
    dx, dy = x.ravel()[one] - x.ravel()[other], y.ravel()[one] - y.ravel()[other]
    here, there = present.ravel()[one], present.ravel()[other]
    apart = dx * dx + dy * dy > REACH**2
    flat = np.zeros(x.size)  # the members of an object agree on what its pairs are
    flat[one] = np.where(apart, here * there, 0.0) + here * (1.0 - there) + there * (1.0 - here)
    matters = flat.reshape(x.shape)
    odds = _row_sums(matters * np.exp(np.minimum(sides.cross, 30.0)))
    odds = odds + matters.max(axis=1) * np.exp(np.minimum(sides.turn, 30.0))
    return np.asarray(odds / (1.0 + odds), dtype=np.float64)


def _first_alignment(view: _View, terms: _Terms) -> Floats:
    """How likely each pair is exchanged (N, J), against the skeleton that explains the others best."""
    cluster, references = view.poses.cluster, terms.references
    members = len(cluster)
    mine = references[cluster].T  # (R, N)
    index = np.maximum(mine, 0)
    dx = terms.x[:, None] - terms.x[0][index]  # (2, R, N, J)
    dy = terms.y[:, None] - terms.y[0][index]
    variance = terms.variance + terms.variance[index]
    mistake = 1.0 - (1.0 - terms.mistake) * (1.0 - terms.mistake[index])
    log_density, _, _ = _click((dx * dx + dy * dy) / variance, variance, mistake)
    seen = view.said[0][index]  # (R, N, J)
    absent, hidden, visible = (says[:, None] for says in terms.says)
    says = np.where(seen == 2, visible, np.where(seen == 1, hidden, absent))
    agreement = np.where(view.labelled[:, None] & view.labelled[0][index], log_density, 0.0)
    agreement = agreement + np.where(view.stated[0][index], says, 0.0)
    pair, who = view.pair_sums(agreement), view.pair_member  # (2, R, L)
    uncrossed, crossed = terms.uncrossed[who, 0], terms.crossed[who, 0]
    as_is, other = _pair_evidence(pair, uncrossed, crossed)  # (R, L)
    # each reference's skeletons, and the sums over their pairs, (R, N)
    row_of = (np.arange(len(mine))[:, None] * members + who).ravel()
    straight, turned = (
        prior + _sums(row_of, one.ravel(), mine.size).reshape(mine.shape)
        for prior, one in ((terms.straight, as_is), (terms.turned, other))
    )
    whole = np.logaddexp(straight, turned)
    unpaired = np.where(view.on_pairs(np.ones(len(who))) > 0, 0.0, agreement[0])
    itself = mine == np.arange(members)
    score = np.where(itself, terms.straight, whole + _row_sums(unpaired))
    pile = (cluster * len(mine) + np.arange(len(mine))[:, None]).ravel()
    total = _sums(pile, score.ravel(), references.size).reshape(references.shape)  # (M, R)
    best = np.argmax(np.where(references >= 0, total, -np.inf), axis=1)[cluster]  # (N,)
    row, pairs = np.arange(members), np.arange(len(who))
    body = np.exp(turned - whole)[best, row][who]
    chosen = best[who]
    if_straight = np.exp(crossed + pair[1] - as_is)[chosen, pairs]
    if_turned = np.exp(uncrossed + pair[1] - other)[chosen, pairs]
    mixed = (1.0 - body) * if_straight + body * if_turned
    return view.on_pairs(np.where(itself[best, row][who], 0.0, mixed))


class _Clicks(NamedTuple):
    """The references' clicks as places of the joint (M, R, J): the log evidence for each, −∞ for none."""

    evidence: Floats
    x: Floats
    y: Floats
    spread: Floats


def _clicks(view: _View, terms: _Terms, exchanged: Floats) -> _Clicks:
    """What all clicks on a joint say for its being where one of them is."""
    cluster, references = view.poses.cluster, terms.references
    other = exchanged > 0.5
    x, y = np.where(other, terms.x[1], terms.x[0]), np.where(other, terms.y[1], terms.y[0])
    labelled = np.where(other, view.labelled[1], view.labelled[0])
    mine = references[cluster].T  # (R, N)
    index = np.maximum(mine, 0)
    dx, dy = x - x[index], y - y[index]  # (R, N, J)
    log_density, _, _ = _click((dx * dx + dy * dy) / terms.variance, terms.variance, terms.mistake)
    itself = (mine == np.arange(len(cluster)))[:, :, None]
    score = np.where(labelled, np.where(itself, np.log1p(-terms.mistake), log_density), 0.0)
    there = (references >= 0)[:, :, None] & labelled[references]  # (M, R, J)
    width = there.shape[2]
    pile = (
        (cluster * len(mine) + np.arange(len(mine))[:, None])[:, :, None] * width + np.arange(width)
    ).ravel()
    evidence = np.where(there, _sums(pile, score.ravel(), there.size).reshape(there.shape), -np.inf)
    return _Clicks(evidence, x[references], y[references], np.sqrt(terms.variance)[references])


def _likeliest(clicks: _Clicks) -> tuple[Floats, Floats]:
    """The place (M, J) of the click with the most evidence, of equals the most exact annotator's."""
    best = np.argmax(clicks.evidence, axis=1)[:, None]
    x, y = (np.take_along_axis(places, best, axis=1)[:, 0] for places in (clicks.x, clicks.y))
    return x, y


def _elsewhere(clicks: _Clicks, x: Floats, y: Floats) -> Floats:
    """The probability (M, J) that the joint is at a click which the settled place leaves aside."""
    there = np.isfinite(clicks.evidence)
    top = np.where(there, clicks.evidence, -1e300).max(axis=1, keepdims=True)
    mass = np.where(there, np.exp(np.where(there, clicks.evidence - top, 0.0)), 0.0)
    dx, dy = clicks.x - x[:, None], clicks.y - y[:, None]
    aside = there & (np.sqrt(dx * dx + dy * dy) > REACH + 2.0 * clicks.spread)
    if not aside.any():
        return np.zeros(x.shape)
    # clicks that mean the same place share its mass
    gap_x, gap_y = clicks.x[:, :, None] - clicks.x[:, None], clicks.y[:, :, None] - clicks.y[:, None]
    together = (gap_x * gap_x + gap_y * gap_y <= REACH**2) & there[:, :, None] & there[:, None]
    mass = mass / np.maximum(together.sum(axis=2), 1)  # whole numbers: their order does not matter
    rest = _row_sums(np.where(aside, mass, 0.0).swapaxes(1, 2))
    return np.asarray(rest / np.maximum(_row_sums(mass.swapaxes(1, 2)), 1e-300), dtype=np.float64)


class _Tally(NamedTuple):
    """Sums over clicks and skeletons, by annotator (K) and by joint (J), that the habits are learnt from."""

    squared: Floats  # (K,)
    freedom: Floats  # (K,)
    shift: Floats  # (K, 2)
    shifted: Floats  # (K,)
    skeletons: Floats  # (K,)
    mistakes: Floats  # (K,)
    clicks: Floats  # (K,)
    turned: Floats  # (K,)
    sided: Floats  # (K,)
    crossed: Floats  # (K,)
    pairs: Floats  # (K,)
    said: Floats  # (K, 3, 3)
    joint_squared: Floats  # (J,) in the annotators' variances
    joint_freedom: Floats  # (J,)
    joint_seen: Floats  # (J, 3)

    @classmethod
    def nothing(cls, people: int, width: int) -> "_Tally":
        by_person, by_joint = np.zeros(people), np.zeros(width)
        return cls(
            squared=by_person,
            freedom=by_person,
            shift=np.zeros((people, 2)),
            shifted=by_person,
            skeletons=by_person,
            mistakes=by_person,
            clicks=by_person,
            turned=by_person,
            sided=by_person,
            crossed=by_person,
            pairs=by_person,
            said=np.zeros((people, VISIBILITIES, VISIBILITIES)),
            joint_squared=by_joint,
            joint_freedom=by_joint,
            joint_seen=np.zeros((width, VISIBILITIES)),
        )

    def plus(self, other: "_Tally") -> "_Tally":
        return _Tally(*(one + more for one, more in zip(self, other, strict=True)))


def _count(view: _View, found: _Found, model: PoseModel, share: Floats) -> _Tally:
    """What a block adds. A joint labelled by one person alone, an object drawn by one alone, teach nothing."""
    poses = view.poses
    who, cluster, width = poses.annotator, poses.cluster, poses.points.shape[1]
    people = poses.annotators
    company = np.bincount(cluster, minlength=poses.clusters)[cluster] > 1
    share = np.where(company, share, 0.0)
    shared = view.by_joint(found.reading * view.labelled)[cluster] > 1.5  # (N, J)
    here = np.where(view.labelled & shared, found.reading, 0.0) * share[:, None]  # (2, N, J)
    sound = here * found.sound
    squared = sound * found.trust * (found.dx * found.dx + found.dy * found.dy) / 2.0
    freedom = sound * (1.0 - found.leverage)
    joint = np.arange(width)
    difficulty = np.square(model.difficulty)[joint]
    spread = model.habits.spread[who] ** 2

    def by_person(values: Floats) -> Floats:
        each = values if values.ndim == 1 else _row_sums(values)
        return np.bincount(who, weights=each, minlength=people).astype(np.float64)

    def both(values: Floats) -> Floats:
        return np.asarray(values[0] + values[1], dtype=np.float64)

    def by_place(values: Floats) -> Floats:
        columns = np.bincount(np.tile(joint, len(values)), weights=values.ravel(), minlength=width)
        return columns.astype(np.float64)

    labelled = view.labelled[0].ravel()
    pair_share = np.where(labelled[view.first] | labelled[view.second], share[view.pair_member], 0.0)
    sided = view.by_member(pair_share) > 0
    stated = found.reading * view.stated * share[:, None]
    confusion = np.zeros(people * VISIBILITIES**2)
    for truth in range(VISIBILITIES):
        cell = (who[:, None] * VISIBILITIES + truth) * VISIBILITIES + view.said
        believed = stated * np.ascontiguousarray(found.visibility[:, :, truth])[cluster]
        confusion += np.bincount(cell.ravel(), weights=believed.ravel(), minlength=len(confusion))
    present = view.by_joint(both(stated))
    one = np.divide(present, np.maximum(view.by_joint(both(found.reading * view.stated)), 1e-300))
    return _Tally(
        squared=by_person(both(squared) / difficulty),
        freedom=by_person(both(freedom)),
        shift=np.stack([by_person(both(sound * found.dx)), by_person(both(sound * found.dy))], axis=1),
        shifted=by_person(both(sound)),
        skeletons=by_person(share * (_row_sums(both(here)) > 0)),
        mistakes=by_person(both(here * (1.0 - found.sound))),
        clicks=by_person(both(here)),
        turned=by_person(share * found.turned * sided),
        sided=by_person(share * sided),
        crossed=by_person(view.by_member(found.crossed * pair_share)),
        pairs=by_person(view.by_member(pair_share)),
        said=confusion.reshape(people, VISIBILITIES, VISIBILITIES),
        joint_squared=by_place(both(squared) / (difficulty * spread[:, None])),
        joint_freedom=by_place(both(freedom)),
        joint_seen=np.stack([by_place(one * found.visibility[:, :, v]) for v in range(VISIBILITIES)], axis=1),
    )


def _learn(tally: _Tally, model: PoseModel) -> PoseModel:
    """The model that makes the tally likeliest, drawn towards the pool's, and that towards the prior."""
    low, high = SPREAD_RANGE
    own = (tally.squared + SPREAD_STRENGTH * FIRST_SPREAD**2) / (tally.freedom + SPREAD_STRENGTH)
    # the pool's spread is a geometric mean over people: one who clicks wildly does not make everybody doubtful
    known = tally.freedom / (tally.freedom + SPREAD_STRENGTH)
    pooled = np.exp((_total(known * np.log(own)) + np.log(FIRST_SPREAD**2)) / (_total(known) + 1.0))
    variance = (tally.squared + SPREAD_STRENGTH * pooled) / (tally.freedom + SPREAD_STRENGTH)
    spread = np.clip(np.sqrt(variance), low, high)
    moved = tally.shift / np.maximum(tally.shifted, 1e-9)[:, None] + model.habits.offset
    doubt = spread**2 / OFFSET_PRIOR**2
    offset = moved * (tally.skeletons / (tally.skeletons + doubt))[:, None]
    mistake, pool_mistake = _rates(tally.mistakes, tally.clicks, MISTAKE_PRIOR, MISTAKE_STRENGTH)
    turned, pool_turned = _rates(tally.turned, tally.sided, TURN_PRIOR, TURN_STRENGTH)
    crossed, pool_crossed = _rates(tally.crossed, tally.pairs, CROSS_PRIOR, CROSS_STRENGTH)
    said = np.array(
        [[[_total(tally.said[:, t, s]) for s in range(VISIBILITIES)] for t in range(VISIBILITIES)]]
    )
    pool_confusion = _shares(said + np.array(CONFUSION_PRIOR))
    confusion = _shares(tally.said + CONFUSION_STRENGTH * pool_confusion)
    difficulty = np.sqrt(
        (tally.joint_squared + DIFFICULTY_STRENGTH) / (tally.joint_freedom + DIFFICULTY_STRENGTH)
    )
    anywhere = _shares(np.array([_total(column) for column in tally.joint_seen.T]) + _first_prevalence())
    return PoseModel(
        habits=Habits(spread, offset, mistake, turned, crossed, confusion),
        pool=Habits(
            np.clip(np.sqrt(np.array([pooled])), low, high),
            np.zeros((1, 2)),
            pool_mistake,
            pool_turned,
            pool_crossed,
            pool_confusion,
        ),
        difficulty=np.clip(difficulty, 0.25, 4.0),
        visibility=_shares(tally.joint_seen + PREVALENCE_STRENGTH * anywhere),
        anywhere=anywhere,
    )


def _rates(
    hits: Floats, trials: Floats, prior: tuple[float, float], strength: float
) -> tuple[Floats, Floats]:
    """Everybody's rate (K,) and the pool's (1,)."""
    pool = np.array([(_total(hits) + prior[0]) / (_total(trials) + sum(prior))])
    own = (hits + strength * pool) / (trials + strength)
    return np.clip(own, *RATE_RANGE), np.clip(pool, *RATE_RANGE)


def _shares(counts: Floats) -> Floats:
    return np.asarray(counts / counts.sum(axis=-1, keepdims=True), dtype=np.float64)


def _total(values: Floats) -> float:
    return float(np.cumsum(values)[-1]) if len(values) else 0.0


def _sums(index: Ints, values: Floats, length: int) -> Floats:
    """The sum (length,) of the values at each index, in their order."""
    return np.bincount(index, weights=values, minlength=length).astype(np.float64, copy=False)


def _row_sums(values: Floats) -> Floats:
    """Sums over the last axis from the left, so that padding changes no bit."""
    if not values.shape[-1]:
        return np.zeros(values.shape[:-1])
    return np.ascontiguousarray(np.cumsum(values, axis=-1)[..., -1])


def _own_mistakes(view: _View, found: _Found) -> Floats:
    """How likely each click (N, J), as it was drawn, is a mistake."""
    as_is = found.reading[0] * (1.0 - found.sound[0])
    other = (found.reading[1] * (1.0 - found.sound[1])).ravel()[view.mirror].reshape(as_is.shape)
    return np.where(view.labelled[0], np.clip(as_is + other, 0.0, 1.0), 0.0)


def _blocks(poses: Poses) -> Iterator[tuple[Poses, slice, slice]]:
    """The poses in parts of whole clusters, with the rows of their members and of their clusters."""
    first = np.searchsorted(poses.cluster, np.arange(poses.clusters + 1))
    start = 0
    while start < poses.clusters:
        enough = int(np.searchsorted(first, first[start] + BLOCK, side="right")) - 1
        stop = min(max(enough, start + 1), poses.clusters)
        rows = slice(int(first[start]), int(first[stop]))
        block = replace(
            poses,
            points=poses.points[rows],
            lengths=poses.lengths[rows],
            mirror=poses.mirror[rows],
            size=poses.size[rows],
            cluster=poses.cluster[rows] - start,
            annotator=poses.annotator[rows],
            clusters=stop - start,
        )
        if rows.start < rows.stop:
            yield block, rows, slice(start, stop)
        start = stop


def _stated(lengths: Ints, width: int) -> Flags:
    """Which joints (…, J) are part of a skeleton, and no padding."""
    return np.asarray(np.arange(width) < lengths[:, None], dtype=np.bool_)


def _labelled(poses: Poses) -> Flags:
    stated = _stated(poses.lengths, poses.points.shape[1])
    return np.asarray((poses.points[:, :, 2] > 0) & stated, dtype=np.bool_)


def _clean_mirror(poses: Poses) -> Ints:
    """The mirror, with joints that have no partner of their own left alone."""
    joint = np.arange(poses.points.shape[1])
    length = poses.lengths[:, None]
    inside = (joint < length) & (poses.mirror >= 0) & (poses.mirror < length)
    mirror = np.where(inside, poses.mirror, joint)
    back = np.take_along_axis(mirror, mirror, axis=1) if mirror.size else mirror
    return np.where(back == joint, mirror, joint).astype(np.int64)


def _first_prevalence() -> Floats:
    return np.array([0.1, 0.2, 0.7])


def _first_habits() -> Habits:
    return Habits(
        spread=np.array([FIRST_SPREAD]),
        offset=np.zeros((1, 2)),
        mistake=np.array([MISTAKE_PRIOR[0] / sum(MISTAKE_PRIOR)]),
        turned=np.array([TURN_PRIOR[0] / sum(TURN_PRIOR)]),
        crossed=np.array([CROSS_PRIOR[0] / sum(CROSS_PRIOR)]),
        confusion=_shares(np.array([CONFUSION_PRIOR])),
    )


def _repeated(habits: Habits, people: int) -> Habits:
    return Habits(
        **{item.name: np.repeat(getattr(habits, item.name), people, axis=0) for item in fields(Habits)}
    )


def _habits_to_json(habits: Habits, index: int) -> dict[str, Any]:
    return {item.name: getattr(habits, item.name)[index].tolist() for item in fields(Habits)}


def _habits_from_json(rows: Sequence[Mapping[str, Any]]) -> Habits:
    shapes = {"offset": (2,), "confusion": (VISIBILITIES, VISIBILITIES)}
    return Habits(
        **{
            item.name: np.array([row[item.name] for row in rows], dtype=np.float64).reshape(
                len(rows), *shapes.get(item.name, ())
            )
            for item in fields(Habits)
        }
    )
