import json
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.consensus.poses import crowd, oks_ap, pose_of, run
from labeling.consensus.keypoints import (
    NOWHERE,
    PoseBelief,
    PoseModel,
    Poses,
    bad_share,
    believe,
    fit,
    from_json,
    skills,
    to_json,
)
from labeling.geometry import Floats, Ints

Click = tuple[float, float, int]
NONE: Click = (0.0, 0.0, 0)
SIZE = 100.0
BODY: tuple[Click, ...] = ((50, 10, 2), (30, 40, 2), (70, 40, 2), (20, 90, 2), (80, 90, 2))
SIDES = (0, 2, 1, 4, 3)
TURNED = tuple(BODY[joint] for joint in SIDES)


def table(
    rows: Sequence[tuple[int, int, Sequence[Click]]],
    mirror: Sequence[int] | None = None,
    clusters: int | None = None,
    annotators: int | None = None,
) -> Poses:
    """Poses from (cluster, annotator, clicks)."""
    width = max((len(clicks) for _, _, clicks in rows), default=0)
    points = np.zeros((len(rows), width, 3))
    for row, (_, _, clicks) in enumerate(rows):
        points[row, : len(clicks)] = np.array(clicks).reshape(-1, 3)
    cluster = np.array([cluster for cluster, _, _ in rows], dtype=np.int64)
    annotator = np.array([who for _, who, _ in rows], dtype=np.int64)
    own = np.arange(width) if mirror is None else np.array(mirror)
    return Poses(
        points=points,
        lengths=np.array([len(clicks) for _, _, clicks in rows], dtype=np.int64),
        mirror=np.tile(own, (len(rows), 1)).reshape(len(rows), width).astype(np.int64),
        size=np.full(len(rows), SIZE),
        cluster=cluster,
        annotator=annotator,
        clusters=int(cluster.max(initial=-1)) + 1 if clusters is None else clusters,
        annotators=int(annotator.max(initial=-1)) + 1 if annotators is None else annotators,
    )


def fitted(poses: Poses) -> PoseModel:
    return fit(poses, np.ones(len(poses.points)))


def settle(*skeletons: Sequence[Click], mirror: Sequence[int] | None = SIDES) -> PoseBelief:
    """One object, labelled once by each of several people who are not known otherwise."""
    poses = table([(0, who, clicks) for who, clicks in enumerate(skeletons)], mirror)
    return believe(poses, fitted(poses))


def shaken(random: np.random.Generator, clicks: Sequence[Click], spread: float) -> list[Click]:
    moved = [(random.normal(x, spread * SIZE), random.normal(y, spread * SIZE), v) for x, y, v in clicks]
    return [click if click[2] else NONE for click in moved]


def history(habits: Sequence[float], objects: int, seed: int = 1) -> list[tuple[int, int, list[Click]]]:
    """Each of several people, with these spreads in sizes, labels every object; all objects are `BODY`."""
    random = np.random.default_rng(seed)
    return [
        (number, who, shaken(random, BODY, spread))
        for number in range(objects)
        for who, spread in enumerate(habits)
    ]


def distance(belief: PoseBelief, cluster: int, truth: Sequence[Click] = BODY) -> Floats:
    """In pixels (J,), of the settled joints from the true ones."""
    away = belief.joints[cluster] - np.array(truth, dtype=np.float64)[:, :2]
    return np.asarray(np.linalg.norm(away, axis=1), dtype=np.float64)


def test_identical_skeletons_settle_to_themselves() -> None:
    belief = settle(BODY, BODY, BODY)

    assert belief.joints[0] == pytest.approx(np.array(BODY)[:, :2])
    assert belief.settled_visibility[0].tolist() == [2] * 5
    assert belief.swap_doubt[0] < 0.01
    assert belief.mistake.max() < 0.05
    assert bad_share(belief)[0] < 0.05


def test_joints_of_equally_exact_people_meet_between_them() -> None:
    belief = settle([(10, 10, 2)], [(12, 14, 2)], mirror=None)

    assert belief.joints[0, 0] == pytest.approx([11, 12])


def test_a_wild_click_barely_counts_and_is_taken_for_a_mistake() -> None:
    wild = [*BODY[:4], (5.0, 15.0, 2)]

    belief = settle(BODY, BODY, wild)

    assert distance(belief, 0)[4] < 0.5
    assert belief.mistake[2, 4] > 0.8
    assert belief.mistake[2, :4].max() < 0.1
    assert belief.mistake[:2].max() < 0.1


def test_a_joint_that_nobody_labelled_is_absent_and_has_no_place() -> None:
    belief = settle([BODY[0], NONE], [BODY[0], NONE], mirror=None)

    assert belief.settled_visibility[0].tolist() == [2, 0]
    assert belief.joints[0, 1].tolist() == [0, 0]
    assert belief.joint_error[0, 1] == pytest.approx(NOWHERE)
    assert belief.mistake[:, 1].tolist() == [0, 0]


def test_visibility_is_what_most_say_where_nobody_is_known() -> None:
    hidden = (50.0, 50.0, 1)

    belief = settle([hidden, NONE], [hidden, NONE], [(50, 50, 2), (70, 70, 2)], mirror=None)

    assert belief.settled_visibility[0].tolist() == [1, 0]


def test_a_joint_is_settled_as_there_although_absent_is_the_likeliest_single_word() -> None:
    belief = replace(settle(BODY), visibility=np.array([[[0.4, 0.3, 0.3], [0.5, 0.2, 0.3], [0.6, 0.4, 0.0]]]))

    assert belief.settled_visibility[0].tolist() == [2, 2, 0]


def test_a_turned_skeleton_is_laid_right_and_named() -> None:
    belief = settle(BODY, TURNED, BODY)

    assert distance(belief, 0).max() < 0.01
    assert belief.swapped[1] > 0.95
    assert max(belief.swapped[0], belief.swapped[2]) < 0.2
    assert belief.mistake.max() < 0.1


def test_one_crossed_pair_is_laid_right_and_named() -> None:
    crossed = [BODY[0], BODY[1], BODY[2], BODY[4], BODY[3]]

    belief = settle(BODY, BODY, crossed)

    assert distance(belief, 0).max() < 0.01
    assert belief.swapped[2] > 0.99
    assert belief.mistake.max() < 0.1


def test_the_wrong_side_of_a_body_seen_from_the_side_is_put_right() -> None:
    left_only = [BODY[0], BODY[1], NONE, BODY[3], NONE]
    as_right = [BODY[0], NONE, BODY[1], NONE, BODY[3]]

    belief = settle(left_only, as_right, left_only, left_only)

    assert belief.settled_visibility[0].tolist() == [2, 2, 0, 2, 0]
    assert belief.swapped[1] > 0.9


@pytest.mark.parametrize("skeletons", [(BODY, TURNED), (BODY, TURNED, BODY, TURNED)])
def test_people_who_are_even_about_the_sides_leave_a_doubt(skeletons: Sequence[Sequence[Click]]) -> None:
    belief = settle(*skeletons)

    places = sorted(map(tuple, belief.joints[0].round(3).tolist()))
    assert places == sorted((x, y) for x, y, _ in BODY)
    assert belief.swap_doubt[0] > 0.3
    assert bad_share(belief)[0] > 0.25


def test_sides_that_lie_together_leave_no_doubt() -> None:
    narrow = [(50.0, 10.0, 2), (48.0, 40.0, 2), (52.0, 40.0, 2), (49.0, 90.0, 2), (51.0, 90.0, 2)]

    assert settle(narrow, [narrow[joint] for joint in SIDES]).swap_doubt[0] < 0.01


def test_a_skeleton_without_sides_is_never_swapped() -> None:
    belief = settle(BODY, TURNED, BODY, mirror=None)

    assert belief.swapped.max() < 0.1
    assert belief.swap_doubt.tolist() == [0]


def test_two_who_disagree_make_a_risk_that_a_third_lowers() -> None:
    here, there = [(20.0, 20.0, 2)], [(80.0, 80.0, 2)]

    two, three = settle(here, there, mirror=None), settle(here, there, here, mirror=None)

    assert two.elsewhere[0, 0] > 0.3
    assert bad_share(two)[0] > 0.3
    assert three.joints[0, 0] == pytest.approx([20, 20], abs=0.5)
    assert bad_share(three)[0] < 0.1


def test_one_persons_joint_is_less_certain_than_threes() -> None:
    one, three = settle(BODY), settle(BODY, BODY, BODY)

    assert (three.joint_error < one.joint_error).all()
    assert bad_share(three)[0] < bad_share(one)[0]
    assert one.joints[0] == pytest.approx(np.array(BODY)[:, :2])


def test_an_exact_person_outweighs_two_shaky_ones() -> None:
    rows = history([0.02, 0.02, 0.12, 0.12], objects=30)
    shifted = [(x + 10, y, v) for x, y, v in BODY]
    poses = table([*rows, (30, 0, BODY), (30, 2, shifted), (30, 3, shifted)], SIDES)

    model = fitted(poses)
    belief = believe(poses, model)

    assert model.habits.spread[:2].max() < 0.04 < 0.08 < model.habits.spread[2:].min()
    assert distance(belief, 30).max() < 2.0  # where a mean is off by 6.7


def test_a_spammer_weighs_next_to_nothing() -> None:
    random = np.random.default_rng(5)
    rows = history([0.03, 0.03, 0.03], objects=30)
    for number in range(30):
        wild = [(random.uniform(0, 100), random.uniform(0, 100), 2) for _ in BODY]
        rows.append((number, 3, wild))
    poses = table(sorted(rows, key=lambda row: row[:2]), SIDES)
    without = table(history([0.03, 0.03, 0.03], objects=30), SIDES)

    belief, alone = believe(poses, fitted(poses)), believe(without, fitted(without))

    moved = np.linalg.norm(belief.joints - alone.joints, axis=2)
    assert moved.mean() < 0.3  # pixels, of an object of 100
    assert moved.max() < 3.0


def test_a_turner_is_known_and_loses_against_a_single_reliable_person() -> None:
    rows = history([0.03, 0.03, 0.03], objects=30)
    rows = [
        (number, who, [clicks[joint] for joint in SIDES] if who == 2 and number % 2 else clicks)
        for number, who, clicks in rows
    ]
    poses = table([*rows, (30, 1, TURNED), (30, 2, BODY)], SIDES)

    model = fitted(poses)
    belief = believe(poses, model)

    assert model.habits.turned[2] == pytest.approx(0.5, abs=0.1)
    assert model.habits.turned[:2].max() < 0.15
    assert distance(belief, 30, TURNED).max() < 1.0
    assert belief.swap_doubt[30] < 0.2
    found = skills(poses, model, belief)
    assert found.swap_trials.tolist() == [30, 31, 31]
    assert found.swap_hits[2] == pytest.approx(16, abs=1)
    assert found.swap_hits[:2].max() < 1


def test_who_calls_everything_visible_has_no_say_in_it() -> None:
    random = np.random.default_rng(3)
    rows: list[tuple[int, int, list[Click]]] = []
    for number in range(40):
        seen = [(x, y, int(random.integers(1, 3))) for x, y, _ in BODY]
        rows += [(number, who, shaken(random, seen, 0.02)) for who in range(3)]
        rows += [(number, who, shaken(random, BODY, 0.02)) for who in range(3, 5)]
    hidden = [(x, y, 1) for x, y, _ in BODY]
    rows += [(40, 0, hidden), (40, 3, list(BODY)), (40, 4, list(BODY))]
    poses = table(rows, SIDES)

    belief = believe(poses, fitted(poses))

    assert belief.settled_visibility[40].tolist() == [1] * 5


def test_a_bias_is_found_but_drawn_towards_none() -> None:
    rows = [
        (number, who, [(x + (4.0 if who == 2 else 0.0), y, v) for x, y, v in clicks])
        for number, who, clicks in history([0.02, 0.02, 0.02], objects=60)
    ]
    poses = table(rows, SIDES)

    bias = skills(poses, (model := fitted(poses)), believe(poses, model)).bias

    assert 0.01 < bias[2, 0] < 0.04
    assert np.abs(bias[:2]).max() < 0.02
    assert abs(bias[2, 1]) < 0.005


def test_skills_count_what_was_compared() -> None:
    poses = table([*history([0.02, 0.05], objects=20), (20, 2, BODY)], SIDES)

    found = skills(poses, (model := fitted(poses)), believe(poses, model))

    assert found.clicks.tolist() == [100, 100, 0]
    assert found.visibility_trials.tolist() == [100, 100, 0]
    assert found.visibility_hits[:2] == pytest.approx([100, 100], abs=2)
    assert found.spread[0] < found.spread[1]
    assert 0 < found.spread_px[0] < found.spread_px[1] < 10
    assert found.spread[2] == pytest.approx(model.pool.spread[0])


def test_an_object_that_is_not_there_teaches_nothing() -> None:
    rows = history([0.02, 0.02, 0.02], objects=10)
    real = table(rows, SIDES)
    junk = [(10, 0, BODY), (10, 1, [(5.0, 5.0, 1)] * 5), (10, 2, TURNED)]
    poses = table([*rows, *junk], SIDES)

    with_junk = fit(poses, np.where(poses.cluster == 10, 0.0, 1.0))

    for one, other in zip(flat(with_junk), flat(fitted(real)), strict=True):
        assert one == pytest.approx(other, rel=1e-9)


def test_the_model_survives_json_and_strangers_are_average() -> None:
    poses = table(history([0.01, 0.05, 0.1], objects=10), SIDES)
    model = fitted(poses)

    stored = json.loads(json.dumps(to_json(model, ["ann", "ben", "cem"])))
    again = from_json(stored, ["ann", "ben", "cem"])
    mixed = from_json(stored, ["ben", "dan"])

    assert all((one == other).all() for one, other in zip(flat(again), flat(model), strict=True))
    assert mixed.habits.spread.tolist() == [model.habits.spread[1], model.pool.spread[0]]
    assert (mixed.habits.confusion[1] == model.pool.confusion[0]).all()


def test_longer_skeletons_than_the_model_knows_are_settled() -> None:
    model = fitted(table(history([0.03, 0.03], objects=5), SIDES))
    longer = [*BODY, (50.0, 95.0, 2)]

    belief = believe(table([(0, 0, longer), (0, 1, longer)], (*SIDES, 5)), model)

    assert distance(belief, 0, longer).max() < 1.0
    assert belief.settled_visibility[0].tolist() == [2] * 6


def test_skeletons_of_different_lengths_are_settled_on_the_longest() -> None:
    belief = settle(BODY, BODY[:3])

    assert belief.lengths.tolist() == [5]
    assert distance(belief, 0).max() < 0.01


@pytest.mark.parametrize(
    "poses",
    [
        table([], clusters=0),
        table([], clusters=3, annotators=2),
        table([(0, 0, []), (1, 1, [])]),
        table([(0, 0, [NONE])]),
        table([(0, 0, [NONE, NONE]), (0, 1, [NONE, NONE])], (1, 0)),
        table([(0, 0, [BODY[0]])]),
        table([(1, 0, BODY)], SIDES, clusters=4, annotators=3),
        table([(0, 0, BODY), (0, 1, BODY[:1])], SIDES),
        table([(0, 0, [(1e6, -1e6, 2)]), (0, 1, [(-1e6, 1e6, 1)])]),
        table([(0, 0, BODY), (0, 1, BODY)], (4, 4, 9, -1, 1)),
    ],
)
def test_too_little_to_settle_is_no_error(poses: Poses) -> None:
    model = fitted(poses)
    belief = believe(poses, model)

    for values in (
        *flat(model),
        *values_of(belief),
        *values_of(skills(poses, model, belief)),
        bad_share(belief),
    ):
        assert np.isfinite(values).all()
    assert believe(poses, fit(poses, np.zeros(len(poses.points)))).joints.shape == belief.joints.shape


clicks = st.one_of(st.just(NONE), st.tuples(st.floats(0, 100), st.floats(0, 100), st.sampled_from([1, 2])))
skeletons = st.lists(st.lists(clicks, min_size=5, max_size=5), min_size=0, max_size=4)


@settings(max_examples=15, deadline=None)
@given(objects=st.lists(skeletons, min_size=1, max_size=6), longer=st.integers(0, 12))
def test_an_object_settled_alone_is_settled_the_same_to_the_last_bit(
    objects: list[list[list[Click]]], longer: int
) -> None:
    rows = [(number, who, each) for number, people in enumerate(objects) for who, each in enumerate(people)]
    poses = widened(table(rows, SIDES, clusters=len(objects), annotators=4), 5)
    model = fitted(poses)
    together = believe(widened(poses, 5 + longer), model)

    assert np.isfinite(together.joints).all()
    for values in (together.visibility, together.swapped, together.swap_doubt, together.mistake):
        assert ((values >= 0) & (values <= 1)).all()
    for number in range(len(objects)):
        alone = believe(only(poses, number), model)
        assert (alone.joints[0, :5] == together.joints[number, :5]).all()
        assert (alone.joint_error[0, :5] == together.joint_error[number, :5]).all()
        assert (alone.visibility[0, :5] == together.visibility[number, :5]).all()
        assert (alone.elsewhere[0, :5] == together.elsewhere[number, :5]).all()
        assert alone.swap_doubt[0] == together.swap_doubt[number]
        assert (alone.swapped == together.swapped[poses.cluster == number]).all()
        assert bad_share(alone)[0] == bad_share(together)[number]


def test_a_fit_does_not_depend_on_who_else_is_registered_nor_on_padding() -> None:
    poses = crowd("pool20x3", 7, 30).poses
    more = replace(widened(poses, 20), annotators=poses.annotators + 5)

    small, large = fitted(poses), fitted(more)

    assert (large.habits.spread[: poses.annotators] == small.habits.spread).all()
    assert (large.habits.confusion[: poses.annotators] == small.habits.confusion).all()
    assert large.habits.spread[-1] == pytest.approx(large.pool.spread[0])


def test_renaming_the_annotators_changes_nothing_of_weight() -> None:
    made = crowd("pool20x3", 3, 60)
    poses, people = made.poses, made.poses.annotators
    order = np.lexsort((people - 1 - poses.annotator, poses.cluster))
    renamed = replace(
        poses,
        points=poses.points[order],
        lengths=poses.lengths[order],
        mirror=poses.mirror[order],
        size=poses.size[order],
        annotator=(people - 1 - poses.annotator)[order],
    )

    one, other = fitted(poses), fitted(renamed)

    assert other.habits.spread[::-1] == pytest.approx(one.habits.spread, rel=0.02)
    moved = np.linalg.norm(believe(renamed, other).joints - believe(poses, one).joints, axis=2)
    assert np.quantile(moved / np.sqrt(made.area)[:, None], 0.99) < 0.01


def test_a_perfect_annotator_does_not_hurt() -> None:
    gains = []
    for seed in range(2):
        made = crowd("pool20x3", seed, 60)
        poses, objects = made.poses, made.poses.clusters
        order = np.argsort(np.concatenate([poses.cluster, np.arange(objects)]), kind="stable")

        def joined(old: Floats | Ints, new: Floats | Ints, order: Ints = order) -> np.ndarray:
            return np.concatenate([old, new])[order]

        first = np.searchsorted(poses.cluster, np.arange(objects))
        helped = Poses(
            points=joined(poses.points, made.truth),
            lengths=joined(poses.lengths, poses.lengths[first]),
            mirror=joined(poses.mirror, poses.mirror[first]),
            size=joined(poses.size, poses.size[first]),
            cluster=joined(poses.cluster, np.arange(objects)),
            annotator=joined(poses.annotator, np.full(objects, poses.annotators)),
            clusters=objects,
            annotators=poses.annotators + 1,
        )
        scores = [oks_ap(pose_of(believe(each, fitted(each))), made) for each in (poses, helped)]
        gains.append(scores[1] - scores[0])

    assert min(gains) > 0.05


def test_mixed_crowds_are_settled_better_than_by_the_median_or_the_medoid() -> None:
    said: list[str] = []

    figures = run(quick=True, seeds=[910], say=said.append)

    for setting in ("mixed7", "pool20x3"):
        scores = figures[setting]
        assert scores["ours"] > max(scores["median"], scores["medoid"], scores["mean"]) + 0.05
        assert scores["oracle"] > scores["ours"] - 0.02
    assert len(said) == 2


def flat(model: PoseModel) -> list[Floats]:
    habits = [getattr(part, item.name) for part in (model.habits, model.pool) for item in fields(part)]
    return [*habits, model.difficulty, model.visibility, model.anywhere]


def values_of(record: object) -> list[Floats]:
    return [np.asarray(getattr(record, name)) for name in type(record).__slots__]  # type: ignore[attr-defined]


def widened(poses: Poses, width: int) -> Poses:
    """The same with more padding."""
    more = width - poses.points.shape[1]
    members = len(poses.points)
    padding = np.tile(np.arange(width - more, width), (members, 1)).reshape(members, more)
    return replace(
        poses,
        points=np.concatenate([poses.points, np.zeros((members, more, 3))], axis=1),
        mirror=np.concatenate([poses.mirror, padding], axis=1).astype(np.int64),
    )


def only(poses: Poses, number: int) -> Poses:
    rows = poses.cluster == number
    return replace(
        poses,
        points=poses.points[rows],
        lengths=poses.lengths[rows],
        mirror=poses.mirror[rows],
        size=poses.size[rows],
        cluster=np.zeros(int(rows.sum()), dtype=np.int64),
        annotator=poses.annotator[rows],
        clusters=1,
    )
