import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling.consensus.ranking import LEAST_RATERS, Ranking, RankingAnswer, RankingConsensus


def ranked(*orders: str, group: str = "group") -> list[RankingAnswer]:
    """One answer per order, such as "abc", by raters 0, 1, 2, …"""
    return [RankingAnswer(group, f"rater-{k}", tuple(order)) for k, order in enumerate(orders)]


def settle(answers: Sequence[RankingAnswer]) -> RankingConsensus:
    return Ranking().fit_predict(answers)


def crowd(noises: Sequence[float], groups: int = 60, items: int = 6, seed: int = 0) -> list[RankingAnswer]:
    """Everybody ranks every group by its true scores and their own noise; infinite noise ranks at random."""
    random = np.random.default_rng(seed)
    answers: list[RankingAnswer] = []
    for number in range(groups):
        score = random.standard_normal(items)
        for who, noise in enumerate(noises):
            shaken = random.standard_normal(items)
            seen = shaken if noise == float("inf") else score + noise * shaken
            order = tuple("abcdefghij"[index] for index in np.argsort(-seen))
            answers.append(RankingAnswer(f"group-{number:02d}", f"rater-{who}", order))
    return answers


def test_the_average_rank_of_a_hand_worked_table() -> None:
    plain = Ranking(weighted=False).fit_predict(ranked("abc", "abc", "bac"))

    (group,) = plain.groups
    assert group.order == ("a", "b", "c")
    # positions 1/6, 3/6, 5/6
    assert [item.average_rank for item in group.items] == pytest.approx([5 / 18, 7 / 18, 5 / 6])
    # Kendall's W of these three rankings is 7/9
    assert group.spread == pytest.approx(2 / 9)


def test_identical_rankings_settle_to_themselves_without_spread() -> None:
    (group,) = settle(ranked(*["cabed"] * 5)).groups

    assert group.order == tuple("cabed")
    assert group.spread == pytest.approx(0.0, abs=1e-12)
    assert [item.error for item in group.items] == pytest.approx([0.0] * 5, abs=1e-6)
    assert group.verdict == "consensus"


def test_equal_items_stand_in_order_of_their_names() -> None:
    (group,) = settle(ranked("ab", "ba")).groups

    assert group.order == ("a", "b")
    assert group.spread == pytest.approx(1.0)


def test_a_rater_at_random_weighs_next_to_nothing() -> None:
    skills = {skill.rater: skill for skill in settle(crowd([0.4, 0.4, 0.8, float("inf")])).raters}

    assert skills["rater-3"].weight < 0.25 * skills["rater-2"].weight < 0.25 * skills["rater-0"].weight
    assert skills["rater-0"].distance < skills["rater-2"].distance < skills["rater-3"].distance


def test_the_interval_of_a_rater_narrows_with_the_groups_and_holds_the_distance() -> None:
    def width(groups: int) -> float:
        skill = settle(crowd([0.5, 0.5, 0.5], groups=groups)).raters[0]
        assert skill.interval[0] <= skill.distance <= skill.interval[1]
        return skill.interval[1] - skill.interval[0]

    assert width(100) < width(10) / 2


def test_weights_find_the_true_order_more_often_than_plain_means() -> None:
    def right(method: Ranking) -> float:
        random = np.random.default_rng(0)
        truth = {f"group-{n:02d}": np.argsort(-_first(random, 6, 7)) for n in range(60)}
        settled = method.fit_predict(crowd([0.3, 0.5, *[float("inf")] * 5])).groups
        return float(
            np.mean(
                [
                    group.order[0] == "abcdef"[int(truth[group.group][0])]
                    and group.order[-1] == "abcdef"[int(truth[group.group][-1])]
                    for group in settled
                ]
            )
        )

    assert right(Ranking()) > right(Ranking(weighted=False)) + 0.1


def _first(
    random: np.random.Generator, items: int, raters: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A group's true scores, drawn as `crowd` draws them."""
    score = random.standard_normal(items)
    for _ in range(raters):
        random.standard_normal(items)
    return score


def test_below_five_raters_nobody_says_that_there_is_no_consensus() -> None:
    answers = crowd([float("inf")] * (LEAST_RATERS - 1))

    assert {group.verdict for group in settle(answers).groups} <= {"unknown", "consensus"}


def test_raters_at_random_seldom_seem_to_agree_and_are_mostly_told_apart() -> None:
    verdicts = [group.verdict for group in settle(crowd([float("inf")] * 6, groups=150)).groups]

    assert verdicts.count("consensus") / len(verdicts) < 0.12
    assert verdicts.count("no consensus") / len(verdicts) > 0.6


def test_raters_who_agree_are_found_to_agree() -> None:
    verdicts = [group.verdict for group in settle(crowd([0.4] * 6, groups=60)).groups]

    assert verdicts.count("consensus") / len(verdicts) > 0.9
    assert "no consensus" not in verdicts


def test_the_chance_of_raters_at_random_is_even() -> None:
    groups = Ranking(weighted=False).fit_predict(crowd([float("inf")] * 5, groups=300)).groups

    chances = np.array([group.chance for group in groups])
    for level in (0.1, 0.25, 0.5, 0.75):
        assert (chances <= level).mean() == pytest.approx(level, abs=0.08)


def test_items_left_out_are_placed_by_those_who_ranked_them() -> None:
    (group,) = settle(ranked("abcd", "abcd", "ad", "bc")).groups

    assert group.order == ("a", "b", "c", "d")
    assert {item.item: item.raters for item in group.items} == {"a": 3, "b": 3, "c": 3, "d": 3}


@pytest.mark.parametrize(
    ("orders", "order"),
    [((), ()), (("",), ()), (("a",), ("a",)), (("ba",), ("b", "a")), (("aab",), ("a", "b"))],
)
def test_little_or_nothing_is_no_error(orders: tuple[str, ...], order: tuple[str, ...]) -> None:
    groups = settle(ranked(*orders)).groups

    assert [group.order for group in groups] == ([order] if order else [])
    assert all(group.verdict == "unknown" for group in groups)


def test_a_rater_who_ranks_a_group_again_counts_once() -> None:
    again = [*ranked("abc", "acb"), RankingAnswer("group", "rater-0", ("c", "b", "a"))]

    assert settle(again) == settle(ranked("cba", "acb"))


def test_a_stranger_is_an_average_rater_and_parameters_are_plain_json() -> None:
    answers = crowd([0.4, 0.6, float("inf")])
    method = Ranking()
    fitted = method.fit(answers)
    parameters = json.loads(json.dumps(fitted.parameters))

    assert method.predict(answers, parameters) == method.fit_predict(answers).groups
    (group,) = method.predict([RankingAnswer("new", "zoe", ("b", "a"))], parameters)
    assert group.order == ("b", "a")


@given(st.integers(0, 1_000))
@settings(max_examples=10, deadline=None)
def test_neither_order_nor_company_changes_a_bit(seed: int) -> None:
    random = np.random.default_rng(seed)
    answers = [
        RankingAnswer(answer.group, answer.rater, answer.order[: int(random.integers(2, 6))])
        for answer in crowd([0.3, 0.6, 1.0, 2.0], groups=6, items=5, seed=seed)
    ]
    method = Ranking()
    fitted = method.fit(answers)
    shuffled = [answers[index] for index in random.permutation(len(answers))]

    assert method.fit_predict(shuffled) == method.fit_predict(answers)
    for group in method.predict(answers, fitted.parameters):
        own = [answer for answer in shuffled if answer.group == group.group]
        assert method.predict(own, fitted.parameters) == (group,)
