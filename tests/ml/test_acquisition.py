import inspect
import warnings
from types import SimpleNamespace

import modAL.models.learners
import numpy as np
import pytest
from modAL.batch import ranked_batch as modal_ranked_batch
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_X_y

from ml.acquisition import STRATEGIES, Candidates, Pool, choose
from ml.acquisition.diversity import nearest_squared
from ml.acquisition.ranked import active_learner
from ml.acquisition.uncertainty import binary_entropy, class_weights, picture_score


def pool(count: int = 60, labelled: int = 5, seed: int = 0, scored: bool = True) -> Pool:
    random = np.random.default_rng(seed)
    points = random.normal(size=(count + labelled, 6)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    scores = random.random(count) * 4 if scored else None
    return Pool(points[:count], points[count:], scores)


def picks_of(name: str, given: Pool, count: int, seed: int = 0) -> list[int]:
    return [pick.index for pick in STRATEGIES[name](given, count, np.random.default_rng(seed))]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(
    "given", [pool(), pool(scored=False), pool(labelled=0), pool(count=3), pool(count=1)]
)
def test_every_strategy_picks_as_many_different_pictures_as_there_are(name: str, given: Pool) -> None:
    for count in (0, 1, 10):
        picks = picks_of(name, given, count)
        assert len(picks) == len(set(picks)) == min(count, len(given))
        assert picks == picks_of(name, given, count)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_pool_of_twins_is_no_trouble(name: str) -> None:
    twins = Pool(np.ones((12, 4), dtype=np.float32), np.ones((2, 4), dtype=np.float32), np.zeros(12))
    assert len(set(picks_of(name, twins, 6))) == 6


def test_uniform_picks_keep_their_probability_and_each_has_the_same_chance() -> None:
    given = pool(count=10)
    seen = np.zeros(10)
    for seed in range(2000):
        picks = STRATEGIES["random"](given, 3, np.random.default_rng(seed))
        assert all(pick.probability == pytest.approx(0.3) for pick in picks)
        seen[[pick.index for pick in picks]] += 1
    np.testing.assert_allclose(seen / 2000, 0.3, atol=0.05)


def test_the_mix_is_part_random_part_unsure_and_diverse() -> None:
    given = pool(count=400)
    assert given.scores is not None
    picks = STRATEGIES["default"](given, 40, np.random.default_rng(0))
    honest = [place for place, pick in enumerate(picks) if pick.reason == "random"]
    assert len(honest) == 6
    assert all(picks[place].probability == pytest.approx(6 / 400) for place in honest)
    assert honest[0] < 10
    assert honest[-1] > 30
    chosen = [pick for pick in picks if pick.reason != "random"]
    assert {pick.reason for pick in chosen} == {"uncertain", "diverse"}
    assert all(pick.probability is None for pick in chosen)
    shortlist = np.sort(given.scores)[-(4 * 34 + 6) :]
    assert min(pick.score for pick in chosen) >= shortlist[0]


def test_without_a_model_the_mix_takes_typical_pictures_of_every_cluster() -> None:
    random = np.random.default_rng(0)
    centres = np.eye(8, dtype=np.float32)[:5] * 10
    points = np.concatenate([centre + random.normal(0, 0.1, (20, 8)) for centre in centres]).astype(
        np.float32
    )
    picks = picks_of("typical", Pool(points, points[:0]), 5)
    assert sorted(index // 20 for index in picks) == [0, 1, 2, 3, 4]
    labelled_first = Pool(points, points[:20])
    assert [index // 20 for index in picks_of("typical", labelled_first, 5)][-1] == 0


def test_k_center_takes_the_farthest_each_time() -> None:
    given = pool()
    known = [*given.labelled]
    for index in picks_of("k-center", given, 8):
        apart = [min(float(np.linalg.norm(point - other)) for other in known) for point in given.embeddings]
        assert apart[index] == pytest.approx(max(apart), abs=1e-5)
        known.append(given.embeddings[index])


def test_nearest_distances_do_not_depend_on_the_block() -> None:
    random = np.random.default_rng(0)
    points, others = random.normal(size=(5000, 3)), random.normal(size=(7, 3))
    brute = ((points[:, None] - others[None]) ** 2).sum(-1).min(1)
    np.testing.assert_allclose(nearest_squared(points, others), brute, atol=1e-9)


def test_weighted_spreading_prefers_high_scores() -> None:
    given = pool(count=200)
    assert given.scores is not None
    means = [
        np.mean([given.scores[index] for index in picks_of("k-means++", given, 20, seed)])
        for seed in range(20)
    ]
    assert np.mean(means) > given.scores.mean() * 1.15


def test_ranked_batch_picks_what_modal_picks() -> None:
    given = pool()
    assert given.scores is not None
    learner = SimpleNamespace(X_training=given.labelled, on_transformed=False)
    indices, _ = modal_ranked_batch(
        learner, given.embeddings, given.scores / given.scores.max(), 9, "euclidean", None
    )
    assert picks_of("ranked-batch", given, 9) == indices.tolist()


def test_a_modal_learner_teaches_without_a_warning() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(30, 4))
    learner = active_learner(LogisticRegression(), features[:20], features[:20, 0] > 0)
    learner.teach(features[20:], features[20:, 0] > 0)
    indices, _ = learner.query(features, n_instances=3)
    assert len(indices) == 3


def test_modal_still_needs_its_mend() -> None:
    """When this fails, modAL has learnt `ensure_all_finite`: take `mend_modal` out of ml/acquisition/ranked.py."""
    assert "force_all_finite" in inspect.getsource(modAL.models.learners)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((TypeError, FutureWarning), match="force_all_finite"):
            check_X_y(np.ones((4, 2)), np.array([0, 1, 0, 1]), force_all_finite=True)


def test_a_rare_class_counts_more() -> None:
    weights = class_weights({1: 1000, 2: 10, 3: 0})
    assert weights[1] < weights[2] < weights[3] <= 5
    common, rare = (picture_score(np.array([0.5]), np.array([class_id]), weights) for class_id in (1, 2))
    assert rare > common
    assert class_weights({}) == {}


def test_an_open_question_scores_higher_than_an_answered_one() -> None:
    weights: dict[int, float] = {}
    scores = [picture_score(np.array([p]), np.array([1]), weights) for p in (0.5, 0.2, 0.99)]
    assert scores[0] > scores[1] > scores[2]
    assert picture_score(np.zeros(0), np.zeros(0, dtype=np.int64), weights) == 0
    rival = picture_score(np.array([0.99]), np.array([1]), weights, joint_spread=0.05)
    assert rival == pytest.approx(scores[2] + 0.5)
    assert binary_entropy(np.array([0.11])).item() == pytest.approx(0.4999, abs=1e-3)


def test_candidates_are_scored_and_chosen_alike_each_time() -> None:
    random = np.random.default_rng(0)
    given = Candidates(
        embeddings=random.normal(size=(30, 4)).astype(np.float32),
        scores=[random.random(int(random.integers(0, 5))) for _ in range(30)],
        classes=[],
        joint_spread=np.zeros(30),
        class_counts={1: 4},
    )
    given = Candidates(
        given.embeddings,
        given.scores,
        [np.ones(len(row), dtype=np.int64) for row in given.scores],
        given.joint_spread,
        given.class_counts,
    )
    picks = choose(given, count=10, seed=3)
    assert picks == choose(given, count=10, seed=3)
    assert {pick.reason for pick in picks} <= {"random", "uncertain", "diverse"}
    expected = picture_score(given.scores[0], given.classes[0], class_weights({1: 4}))
    assert given.pool.known_scores[0] == expected
    with pytest.raises(KeyError):
        choose(given, count=1, seed=0, strategy="horoscope")


def test_a_pool_whose_parts_do_not_fit_is_refused() -> None:
    points = np.zeros((3, 4), dtype=np.float32)
    with pytest.raises(ValueError, match="another length"):
        Pool(points, np.zeros((2, 5), dtype=np.float32))
    with pytest.raises(ValueError, match="one score"):
        Pool(points, points, np.zeros(2))
    with pytest.raises(ValueError, match="two dimensions"):
        Pool(points[0], points)
