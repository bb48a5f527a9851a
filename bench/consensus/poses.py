"""Consensus of joints: a simulated crowd labels skeletons with a known truth, and every method settles them.

Two settings. `mixed7`: seven people of mixed skill answer every object. `pool20x3`: a pool of twenty, each
object answered by three of them. The score is OKS-AP: every object has exactly one settled pose, so precision
and recall are one share, and OKS-AP is the mean over the thresholds .50, .55 … .95 of the share of objects whose
settled pose is at least so similar to the truth (`labeling.geometry.oks`: COCO's similarity with COCO's per-joint
sigmas and the true object's area). A joint that is settled as absent lies at (0, 0) and so counts as wrong where
the truth has it, as COCO counts it; one that is settled although the truth has none costs nothing, as in COCO,
and shows in the share of right visibilities.

The crowd's difficulty was fixed by what the medians and the medoid score on it, before the model of
`labeling.consensus.keypoints` was run on it. The model's constants were tried on seeds from 900 on alone.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np

from labeling.consensus import keypoints
from labeling.consensus.keypoints import Habits, PoseBelief, PoseModel, Poses
from labeling.geometry import Floats, Ints, oks

THRESHOLDS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
OBJECTS: Final = {"mixed7": 150, "pool20x3": 300}
QUICK_OBJECTS: Final = {"mixed7": 40, "pool20x3": 120}

TEMPLATE: Final = np.array(
    [  # x to the object's left, y down, z towards the viewer; a standing person of height 1; COCO's order
        (0.00, 0.08, 0.08), (0.02, 0.06, 0.07), (-0.02, 0.06, 0.07), (0.045, 0.07, 0.0), (-0.045, 0.07, 0.0),
        (0.11, 0.19, 0.0), (-0.11, 0.19, 0.0), (0.14, 0.34, 0.0), (-0.14, 0.34, 0.0),
        (0.15, 0.47, 0.02), (-0.15, 0.47, 0.02), (0.07, 0.50, 0.0), (-0.07, 0.50, 0.0),
        (0.08, 0.72, 0.01), (-0.08, 0.72, 0.01), (0.08, 0.95, -0.02), (-0.08, 0.95, -0.02),
    ]
)  # fmt: skip
SIGMAS: Final = np.array([0.026, *np.repeat([0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089], 2)])
"""COCO's: the root mean square distance of several people's clicks on one joint, in roots of the area."""
PAIRS: Final = tuple((joint, joint + 1) for joint in range(1, 17, 2))
LIMBS: Final = ((7, 0.06), (8, 0.06), (9, 0.11), (10, 0.11), (13, 0.06), (14, 0.06), (15, 0.09), (16, 0.09))
"""Joints that move freely, and by how much (standard deviation in heights)."""


@dataclass(frozen=True, slots=True)
class Person:
    """How somebody clicks. Rates are in 0…1, `jitter` is in COCO's sigmas, `shaky_px` in pixels."""

    jitter: float
    shaky_px: float
    offset: tuple[float, float]  # in square roots of the area
    turns: float  # exchanges all sides; twice as often where the object faces away, half as often otherwise
    crosses: float  # exchanges one pair
    skips_hidden: float
    skips_visible: float
    invents: float  # labels a joint that is absent
    confuses: float  # says visible for hidden, or hidden for visible
    slips: float  # clicks anywhere in the object's box
    careless: bool = False  # leaves the same ready-made skeleton in every box


@dataclass(frozen=True, slots=True)
class Crowd:
    poses: Poses
    truth: Floats  # (M, J, 3)
    area: Floats  # (M,) square pixels
    sigmas: Floats  # (J,)
    people: tuple[Person, ...]


KINDS: Final[Mapping[str, tuple[float, float]]] = {
    "careful": (0.4, 0.7),
    "usual": (0.7, 1.2),
    "sloppy": (1.5, 3.0),
    "turner": (0.7, 1.2),
    "careless": (1.0, 1.0),
}
"""The range of each kind's jitter in COCO's sigmas; COCO's own people have 1 by definition."""
MIXED7: Final = ("careful", "careful", "usual", "usual", "sloppy", "turner", "careless")


def person(random: np.random.Generator, kind: str) -> Person:
    low, high = KINDS[kind]
    jitter = float(random.uniform(low, high))
    angle, off = random.uniform(0, 2 * np.pi), abs(random.normal(0, 0.008))
    return Person(
        jitter=jitter,
        shaky_px=float(random.uniform(0.5, 1.5)),
        offset=(float(off * np.cos(angle)), float(off * np.sin(angle))),
        turns=float(random.uniform(0.25, 0.45) if kind == "turner" else random.beta(1.2, 18)),
        crosses=float(random.beta(1.5, 12)),
        skips_hidden=float(random.beta(2, 6)),
        skips_visible=float(random.beta(1.2, 25)),
        invents=float(random.beta(1.5, 9)),
        confuses=float(random.beta(2, 12)),
        slips=float(random.beta(1.2, 30) * (2.0 if kind == "sloppy" else 1.0)),
        careless=kind == "careless",
    )


def crowd(setting: str, seed: int, objects: int) -> Crowd:
    """The crowd of a setting; equal arguments make equal crowds."""
    random = np.random.default_rng([seed, list(OBJECTS).index(setting)])
    kinds = MIXED7 if setting == "mixed7" else [str(kind) for kind in random.choice(MIXED7, 20)]
    people = tuple(person(random, kind) for kind in kinds)
    joints = int(random.integers(13, 18))
    kept = np.arange(17)[17 - joints :] if joints < 17 else np.arange(17)
    each = len(people) if setting == "mixed7" else 3
    truths, areas, rows, clusters, annotators = [], [], [], [], []
    for number in range(objects):
        truth, away = _pose(random)
        area = _area(truth)
        for who in np.sort(random.permutation(len(people))[:each]).tolist():
            rows.append(_answer(random, people[who], truth, area, away)[kept])
            clusters.append(number)
            annotators.append(who)
        truths.append(truth[kept])
        areas.append(area)
    mirror = np.arange(17)
    for left, right in PAIRS:
        mirror[left], mirror[right] = right, left
    own = mirror[kept] - (17 - joints)
    own = np.where(own < 0, np.arange(joints), own)  # the first joint left in may have lost its other side
    cluster = np.array(clusters, dtype=np.int64)
    area_of = np.array(areas)
    return Crowd(
        poses=Poses(
            points=np.array(rows),
            lengths=np.full(len(rows), joints, dtype=np.int64),
            mirror=np.tile(own, (len(rows), 1)),
            size=np.sqrt(area_of)[cluster] + 8.0,
            cluster=cluster,
            annotator=np.array(annotators, dtype=np.int64),
            clusters=objects,
            annotators=len(people),
        ),
        truth=np.array(truths),
        area=area_of,
        sigmas=SIGMAS[kept],
        people=people,
    )


def _pose(random: np.random.Generator) -> tuple[Floats, bool]:
    """A person's joints (17, 3) in pixels with visibility, and whether the person faces away."""
    body = TEMPLATE.copy()
    for joint, reach in LIMBS:
        body[joint] += random.normal(0, reach, 3)
    turn, lean = random.uniform(-np.pi, np.pi), random.normal(0, 0.25)
    across = body[:, 0] * np.cos(turn) + body[:, 2] * np.sin(turn)
    depth = body[:, 2] * np.cos(turn) - body[:, 0] * np.sin(turn)
    x = across * np.cos(lean) - body[:, 1] * np.sin(lean)
    y = across * np.sin(lean) + body[:, 1] * np.cos(lean)
    height = float(np.exp(random.uniform(np.log(60), np.log(500))))
    hidden = random.random(17) < np.where(depth < -0.04, 0.45, 0.08)
    visibility = np.where(hidden, 1, 2)
    if random.random() < 0.25:  # the picture's edge, or another object, cuts off what is below
        visibility = np.where(body[:, 1] > random.uniform(0.4, 0.9), 0, visibility)
    visibility = np.where(random.random(17) < 0.03, 0, visibility)
    if not (visibility > 0).any():
        visibility[5] = 2
    origin = random.uniform(0, 400, 2)
    points = np.stack([x * height + origin[0], y * height + origin[1], visibility.astype(np.float64)], axis=1)
    return points, bool(np.cos(turn) < 0)


def _area(truth: Floats) -> float:
    """Half the box of the joints, as a person fills about half of it; at least 20 px to a side."""
    wide, high = np.maximum(truth[:, :2].max(axis=0) - truth[:, :2].min(axis=0), 20.0)
    return float(wide * high / 2)


def _answer(random: np.random.Generator, who: Person, truth: Floats, area: float, away: bool) -> Floats:
    """One person's skeleton (17, 3) for one object."""
    low, high = truth[:, :2].min(axis=0), truth[:, :2].max(axis=0)
    if who.careless:
        flat = TEMPLATE[:, :2] - TEMPLATE[:, :2].min(axis=0)
        places = low + flat / flat.max(axis=0) * (high - low) + random.normal(0, 2.0, (17, 2))
        return np.concatenate([places, np.full((17, 1), 2.0)], axis=1)
    true_v = truth[:, 2].astype(np.int64)
    haste = np.exp(random.normal(0, 0.25))  # some skeletons are made in haste
    side = np.sqrt(area)
    deviation = np.hypot(who.jitter * haste * SIGMAS / np.sqrt(2) * side, who.shaky_px)
    deviation = deviation * np.where(true_v == 2, 1.0, np.where(true_v == 1, 1.5, 3.0))
    together = random.normal(
        0, 0.3 * who.jitter * 0.06 / np.sqrt(2) * side, 2
    )  # a skeleton is off as a whole
    places = (
        truth[:, :2]
        + random.normal(0, 1, (17, 2)) * deviation[:, None]
        + together
        + np.multiply(who.offset, side)
    )
    wild = random.random(17) < who.slips
    places = np.where(wild[:, None], random.uniform(low, high, (17, 2)), places)
    says = np.where(random.random(17) < who.confuses, 3 - true_v, true_v)
    skips = np.where(true_v == 2, who.skips_visible, who.skips_hidden)
    invented = np.where(random.random(17) < who.invents, 1 + (random.random(17) < 0.6), 0)
    says = np.where(true_v == 0, invented, np.where(random.random(17) < skips, 0, says))
    answer = np.concatenate([places * (says > 0)[:, None], says[:, None].astype(np.float64)], axis=1)
    order = np.arange(17)
    if random.random() < min(who.turns * (2.0 if away else 0.5), 0.95):
        for left, right in PAIRS:
            order[left], order[right] = right, left
    if random.random() < who.crosses:
        left, right = PAIRS[int(random.integers(len(PAIRS)))]
        order[[left, right]] = order[[right, left]]
    return np.asarray(answer[order], dtype=np.float64)


Settle: TypeAlias = Callable[[Crowd], Floats]
"""From a crowd to its settled poses (M, J, 3)."""


def settle_by_median(crowd: Crowd) -> Floats:
    """Each joint at the median of its clicks; labelled and visible by majority, a tie goes to more."""
    return _joint_by_joint(crowd, np.median)


def settle_by_mean(crowd: Crowd) -> Floats:
    return _joint_by_joint(crowd, np.mean)


def _joint_by_joint(crowd: Crowd, centre: Callable[..., Any]) -> Floats:
    settled = np.zeros_like(crowd.truth)
    for cluster, members in enumerate(_members(crowd.poses)):
        points = crowd.poses.points[members]
        for joint in range(points.shape[1]):
            clicks = points[points[:, joint, 2] > 0, joint]
            if 2 * len(clicks) >= len(points) and len(clicks):
                visible = 2 * int((clicks[:, 2] == 2).sum()) >= len(clicks)
                settled[cluster, joint] = (*centre(clicks[:, :2], axis=0), 1 + visible)
    return settled


def settle_by_medoid(crowd: Crowd) -> Floats:
    """The one skeleton most similar to the others by the mean of OKS with σ = .05, as CVAT merges skeletons."""
    settled = np.zeros_like(crowd.truth)
    for cluster, members in enumerate(_members(crowd.poses)):
        points = crowd.poses.points[members]
        area = np.full(len(points), crowd.area[cluster])
        likeness = oks(points, points, area)
        settled[cluster] = points[int(np.argmax((likeness + likeness.T).sum(axis=1)))]
    return settled


def _members(poses: Poses) -> list[Ints]:
    return [np.flatnonzero(poses.cluster == cluster) for cluster in range(poses.clusters)]


def settle_by_model(crowd: Crowd) -> Floats:
    """Ours: habits learnt from the answers alone."""
    return pose_of(
        keypoints.believe(crowd.poses, keypoints.fit(crowd.poses, np.ones(len(crowd.poses.points))))
    )


def settle_by_oracle(crowd: Crowd) -> Floats:
    """Our belief, given the people's true habits."""
    return pose_of(keypoints.believe(crowd.poses, _true_model(crowd)))


def pose_of(belief: PoseBelief) -> Floats:
    """The settled poses (M, J, 3); an absent joint is (0, 0, 0)."""
    seen = belief.settled_visibility[:, :, None]
    return np.concatenate([np.where(seen > 0, belief.joints, 0.0), seen], axis=2)


METHODS: Final[Mapping[str, Settle]] = {
    "ours": settle_by_model,
    "median": settle_by_median,
    "mean": settle_by_mean,
    "medoid": settle_by_medoid,
    "oracle": settle_by_oracle,
}


def _true_model(crowd: Crowd) -> PoseModel:
    """The people's habits as they were drawn, as far as the model has words for them."""
    usual = float(SIGMAS.mean())
    size = float(np.sqrt(crowd.area).mean())
    pairs = len(np.flatnonzero(crowd.poses.mirror[0] > np.arange(len(crowd.sigmas))))
    people = crowd.people
    truth = crowd.truth[:, :, 2]
    prevalence = np.stack([(truth == v).mean(axis=0) for v in range(3)], axis=1) * 0.98 + 0.02 / 3
    habits = Habits(
        spread=np.array(
            [float(np.hypot(who.jitter * usual / 2**0.5, who.shaky_px / size)) for who in people]
        ),
        offset=np.array([who.offset for who in people]),
        mistake=np.array([0.95 if who.careless else max(who.slips, 0.001) for who in people]),
        turned=np.array([0.5 if who.careless else np.clip(1.25 * who.turns, 0.001, 0.95) for who in people]),
        crossed=np.array([max(who.crosses / pairs, 0.001) for who in people]),
        confusion=np.array([_true_confusion(who) for who in people]),
    )
    average = Habits(*(getattr(habits, name).mean(axis=0, keepdims=True) for name in Habits.__slots__))
    return PoseModel(habits, average, crowd.sigmas / usual, prevalence, prevalence.mean(axis=0))


def _true_confusion(who: Person) -> list[list[float]]:
    if who.careless:
        return [[0.005, 0.005, 0.99]] * 3
    rows = [
        (1.0 - who.invents, 0.4 * who.invents, 0.6 * who.invents),
        _says(who.skips_hidden, 1.0 - who.confuses),
        _says(who.skips_visible, who.confuses),
    ]
    return [[0.99 * share + 0.01 / 3 for share in row] for row in rows]


def _says(skips: float, hidden: float) -> tuple[float, float, float]:
    return skips, (1.0 - skips) * hidden, (1.0 - skips) * (1.0 - hidden)


def oks_of(settled: Floats, crowd: Crowd) -> Floats:
    """The similarity (M,) of each settled pose (M, J, 3) to the truth."""
    rows = zip(settled, crowd.truth, crowd.area, strict=True)
    return np.array([oks(found[None], true[None], [area], crowd.sigmas)[0, 0] for found, true, area in rows])


def oks_ap(settled: Floats, crowd: Crowd) -> float:
    likeness = oks_of(settled, crowd)
    return float(np.mean([(likeness >= threshold).mean() for threshold in THRESHOLDS]))


def right_visibility(settled: Floats, crowd: Crowd) -> float:
    """The share of joints whose visibility is settled as it is."""
    return float((settled[:, :, 2] == crowd.truth[:, :, 2]).mean())


def run(*, quick: bool, seeds: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    """OKS-AP by setting and method, means over the seeds; `detail` has them by seed, with the shares of right
    visibilities and, for ours, how well the expected share of bad joints ranks objects, and milliseconds."""
    result: dict[str, Any] = {"detail": {}}
    for setting, objects in (QUICK_OBJECTS if quick else OBJECTS).items():
        scores: dict[str, list[float]] = {name: [] for name in METHODS}
        visible: dict[str, list[float]] = {name: [] for name in METHODS}
        ours: dict[str, list[float]] = {}
        for seed in seeds:
            made = crowd(setting, seed, objects)
            for name, settle in METHODS.items():
                settled = settle(made)
                scores[name].append(oks_ap(settled, made))
                visible[name].append(right_visibility(settled, made))
            for key, value in _beliefs(made).items():
                ours.setdefault(key, []).append(value)
            figures = ", ".join(f"{name} {values[-1]:.3f}" for name, values in scores.items())
            say(f"{setting}, seed {seed}, OKS-AP: {figures}")
        result[setting] = {name: round(float(np.mean(values)), 4) for name, values in scores.items()}
        result["detail"][setting] = {
            "objects": objects,
            "seeds": list(seeds),
            "oks_ap": _rounded(scores),
            "right_visibility": _rounded(visible),
            "ours": _rounded(ours),
        }
    return result


def _rounded(figures: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: [round(value, 4) for value in values] for name, values in figures.items()}


def _beliefs(crowd: Crowd) -> dict[str, float]:
    """What ours claims of itself, against the truth."""
    poses = crowd.poses
    started = time.perf_counter()
    model = keypoints.fit(poses, np.ones(len(poses.points)))
    fitted = time.perf_counter()
    belief = keypoints.believe(poses, model)
    settled = pose_of(belief)
    bad = _bad_joints(settled, crowd).mean(axis=1)
    risk = keypoints.bad_share(belief)
    waits = [_seconds_alone(poses, model, cluster) for cluster in range(min(50, poses.clusters))]
    return {
        "bad_joints": float(bad.mean()),
        "bad_joints_expected": float(risk.mean()),
        "bad_joints_correlation": float(np.corrcoef(bad, risk)[0, 1]) if bad.std() and risk.std() else 0.0,
        "spread_rank_correlation": _rank_correlation(model, crowd),
        "fit_s": fitted - started,
        "believe_one_ms": 1000 * float(np.median(waits)),
    }


def _bad_joints(settled: Floats, crowd: Crowd) -> Floats:
    """(M, J) 1 where a joint is of wrong visibility, or farther off than `keypoints.REACH` sizes."""
    away = np.linalg.norm(settled[:, :, :2] - crowd.truth[:, :, :2], axis=2)
    far = away > keypoints.REACH * (np.sqrt(crowd.area) + 8.0)[:, None]
    other = settled[:, :, 2] != crowd.truth[:, :, 2]
    return np.asarray(other | (far & (crowd.truth[:, :, 2] > 0)), dtype=np.float64)


def _rank_correlation(model: PoseModel, crowd: Crowd) -> float:
    """Spearman's, of the estimated spreads with the true jitter of those who click at all."""
    careful = np.array([not who.careless for who in crowd.people])
    true = np.array([who.jitter for who in crowd.people])[careful]
    ours, theirs = (
        np.argsort(np.argsort(values)).astype(np.float64) for values in (model.habits.spread[careful], true)
    )
    return float(np.corrcoef(ours, theirs)[0, 1])


def _seconds_alone(poses: Poses, model: PoseModel, cluster: int) -> float:
    rows = poses.cluster == cluster
    alone = replace(
        poses,
        points=poses.points[rows],
        lengths=poses.lengths[rows],
        mirror=poses.mirror[rows],
        size=poses.size[rows],
        cluster=np.zeros(int(rows.sum()), dtype=np.int64),
        annotator=poses.annotator[rows],
        clusters=1,
    )
    started = time.perf_counter()
    keypoints.believe(alone, model)
    return time.perf_counter() - started
