import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling.consensus import votes
from labeling.consensus.votes import CLASSICAL, POOLED, VoteModel, Votes
from labeling.geometry import Floats


def cast(*rows: tuple[int, int, int], choices: int = 3, questions: int = 0, annotators: int = 0) -> Votes:
    """Votes (question, annotator, choice)."""
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Votes(
        question=table[:, 0],
        annotator=table[:, 1],
        choice=table[:, 2],
        questions=questions or int(table[:, 0].max(initial=-1)) + 1,
        annotators=annotators or int(table[:, 1].max(initial=-1)) + 1,
        choices=choices,
    )


def crowd(
    accuracies: list[float], questions: int = 200, choices: int = 3, seed: int = 0
) -> tuple[Votes, list[int]]:
    """Everybody votes on every question, right with their accuracy, and the truth."""
    random = np.random.default_rng(seed)
    truth = random.integers(choices, size=questions).tolist()
    rows = [
        (
            question,
            who,
            true if random.random() < accuracy else (true + int(random.integers(1, choices))) % choices,
        )
        for question, true in enumerate(truth)
        for who, accuracy in enumerate(accuracies)
    ]
    return cast(*rows, choices=choices), truth


def weight_of(model: VoteModel, annotator: int, choices: int = 3) -> float:
    """The largest log-odds that any vote of this annotator gives."""
    said = votes.evidence(
        cast(*((0, 0, choice) for choice in range(choices)), choices=choices),
        replace(
            model,
            accuracy=model.accuracy[[annotator]],
            record=None if model.record is None else _record_of(model, annotator),
        ),
    )
    return float((said.max(axis=1) - said.min(axis=1)).max())


def _record_of(model: VoteModel, annotator: int) -> votes.Record:
    assert model.record is not None
    choices = len(model.prior)
    own = model.record.pair // choices == annotator
    return replace(
        model.record, pair=model.record.pair[own] % choices, hits=np.ascontiguousarray(model.record.hits[own])
    )


def test_one_coin_weighs_a_vote_by_the_log_odds_of_its_annotator() -> None:
    model = VoteModel(np.array([0.9, 0.6]), np.array([0.5, 0.5]), 0.9)

    settled = votes.posterior(cast((0, 0, 0), (0, 1, 1), choices=2), model)

    odds = (0.9 / 0.1) * (0.4 / 0.6)
    assert settled[0].tolist() == pytest.approx([odds / (1 + odds), 1 / (1 + odds)])


def test_the_shared_error_bounds_how_sure_any_number_of_votes_can_be() -> None:
    model = VoteModel(np.full(60, 0.9), np.array([0.5, 0.5]), 0.9, shared_error=0.25)

    few = votes.posterior(cast(*((0, who, 0) for who in range(2)), choices=2, annotators=60), model)
    many = votes.posterior(cast(*((0, who, 0) for who in range(60)), choices=2), model)

    lead = 2 * math.log(9)
    assert few[0, 0] == pytest.approx(1 / (1 + math.exp(-lead / (1 + 0.25 * lead))))
    assert few[0, 0] < many[0, 0] < 1 / (1 + math.exp(-4))


def test_the_majority_of_equals_wins() -> None:
    table = cast((0, 0, 1), (0, 1, 1), (0, 2, 2))

    settled = votes.posterior(table, votes.fit(table))

    assert int(settled[0].argmax()) == 1
    assert settled[0, 1] > settled[0, 2] > settled[0, 0]


@pytest.mark.parametrize("shrinkage", [POOLED, CLASSICAL])
def test_a_spammer_weighs_next_to_nothing(shrinkage: votes.Shrinkage) -> None:
    table, _ = crowd([0.9, 0.85, 0.8, 1 / 3], questions=600)

    model = votes.fit(table, shrinkage)

    assert weight_of(model, 3) < 0.5 < 2.0 < weight_of(model, 0)


def test_the_more_a_spammer_answers_the_less_it_weighs() -> None:
    weights = [
        weight_of(votes.fit(crowd([0.9, 0.85, 0.8, 1 / 3], questions=n)[0]), 3) for n in (20, 200, 2000)
    ]

    assert weights[0] > weights[1] > weights[2]
    assert weights[2] < 0.3


def test_whoever_always_says_the_same_tells_nothing() -> None:
    table, _ = crowd([0.9, 0.85, 0.8], questions=300)
    same = cast(*((question, 3, 0) for question in range(300)))
    joined = replace(
        table,
        question=np.concatenate([table.question, same.question]),
        annotator=np.concatenate([table.annotator, same.annotator]),
        choice=np.concatenate([table.choice, same.choice]),
        annotators=4,
    )

    said = votes.evidence(cast((0, 3, 0)), votes.fit(joined))

    assert float(said.max() - said.min()) < 0.1


def test_an_adversary_is_believed_in_reverse_only_after_many_votes() -> None:
    def reversed_evidence(questions: int) -> float:
        table, _ = crowd([0.9, 0.9, 0.9, 0.05], questions=questions, choices=2)
        said = votes.evidence(cast((0, 3, 1), choices=2, annotators=4), votes.fit(table))
        return float(said[0, 0] - said[0, 1])

    assert reversed_evidence(12) < 0.5
    assert reversed_evidence(1000) > 1.5


def test_a_pair_of_choices_that_one_annotator_confuses_is_learnt() -> None:
    table, truth = crowd([0.95, 0.95, 0.95], questions=300)
    wrong = cast(*((question, 3, 2 if true == 1 else true) for question, true in enumerate(truth)))
    joined = replace(
        table,
        question=np.concatenate([table.question, wrong.question]),
        annotator=np.concatenate([table.annotator, wrong.annotator]),
        choice=np.concatenate([table.choice, wrong.choice]),
        annotators=4,
    )

    matrix = votes.confusion(votes.fit(joined), 3)

    assert matrix[1, 2] > 0.7
    assert matrix[0, 0] > 0.8
    assert matrix.sum(axis=1).tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_it_is_right_more_often_than_the_majority_when_half_the_crowd_guesses() -> None:
    table, truth = crowd([0.9, 0.9, 0.9, *[0.35] * 4], questions=400)
    counts = np.zeros((400, 3))
    np.add.at(counts, (table.question, table.choice), 1)

    settled = votes.posterior(table, votes.fit(table))

    assert _accuracy(settled, truth) > _accuracy(counts, truth) + 0.03


def test_certainty_is_no_more_than_is_earned_where_annotators_copy_each_other() -> None:
    random = np.random.default_rng(2)
    table, _ = crowd([0.7] * 5, questions=400)
    copied = table.choice.reshape(400, 5).copy()
    for row in copied:
        if random.random() < 0.5:
            row[:4] = row[0]

    alone = votes.fit(table)
    dependent = votes.fit(replace(table, choice=copied.ravel()))

    assert alone.temperature < 1.4 < dependent.temperature


def test_gold_lowers_the_doubt_of_a_crowd_that_errs_independently() -> None:
    table, truth = crowd([0.75] * 5, questions=300)
    known = np.full(300, -1)
    known[:60] = truth[:60]

    without, informed = votes.fit(table), votes.fit(replace(table, known=known))

    assert informed.shared_error < without.shared_error / 2
    after = slice(60, None)
    assert _log_loss(votes.posterior(table, informed)[after], truth[after]) < _log_loss(
        votes.posterior(table, without)[after], truth[after]
    )


def test_flattening_never_changes_the_best_choice() -> None:
    table, _ = crowd([0.8, 0.6, 0.5, 0.4], questions=300, seed=3)
    model = votes.fit(table)

    flat = votes.posterior(table, model)
    sharp = votes.posterior(table, replace(model, temperature=1.0, overlap=0.0, shared_error=0.0))

    assert model.shared_error > 0
    assert (flat.argmax(axis=1) == sharp.argmax(axis=1)).all()
    assert (flat.max(axis=1) <= sharp.max(axis=1)).all()


def test_a_kept_suggestion_counts_less_than_an_independent_vote_and_a_change_more_than_nothing() -> None:
    model = VoteModel(np.array([0.9, 0.9]), np.full(3, 1 / 3), 0.9)
    model_alone = cast((0, 0, 1), annotators=2)
    both = cast((0, 0, 1), (0, 1, 1))
    shown = np.array([-1, 1])

    alone = votes.posterior(model_alone, model)[0, 1]
    kept = votes.posterior(replace(both, shown=shown), model)[0, 1]
    independent = votes.posterior(both, model)[0, 1]
    changed = votes.posterior(replace(both, choice=np.array([1, 2]), shown=shown), model)[0]

    assert alone < kept < independent
    assert changed[2] > changed[1] > changed[0]


def test_a_record_and_one_coin_judge_a_suggestion_alike() -> None:
    shown = np.array([-1, 1, -1, 1])
    table = replace(cast((0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 2)), shown=shown)
    coin = VoteModel(np.array([0.9, 0.9]), np.full(3, 1 / 3), 0.9)
    confusion = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    record = votes.Record(confusion, np.zeros(0, dtype=np.int64), np.zeros((0, 3)), CLASSICAL)

    def believed(model: VoteModel) -> Floats:
        return votes.posterior(table, model)

    uniform = replace(record, shrinkage=replace(CLASSICAL, row=1.0))
    assert believed(replace(coin, record=uniform)) == pytest.approx(believed(coin), abs=1e-9)


def test_whoever_keeps_every_suggestion_gives_no_evidence_by_keeping() -> None:
    rows = [(question, who, question % 3) for question in range(200) for who in (0, 1, 2)]
    sleepy = [(question, 3, (question + question % 2) % 3) for question in range(200)]
    table = cast(*rows, *sleepy)
    shown = np.array([-1] * 600 + [choice for _, _, choice in sleepy])

    model = votes.fit(replace(table, shown=shown))

    assert model.keep_right is not None
    assert model.keep_wrong is not None
    assert math.log(model.keep_right[3] / model.keep_wrong[3]) < 0.5


@pytest.mark.parametrize("shrinkage", [POOLED, CLASSICAL])
def test_parameters_are_plain_json_and_settle_to_the_same_bits(shrinkage: votes.Shrinkage) -> None:
    table, _ = crowd([0.9, 0.7, 0.5], questions=50)
    names, choices = ["ann", "ben", "cem"], [4, 7, 9]
    model = votes.fit(table, shrinkage)

    raw = json.loads(json.dumps(votes.dump(model, names, choices)))

    loaded = votes.load(raw, names, choices)
    assert votes.posterior(table, loaded).tolist() == votes.posterior(table, model).tolist()


def test_a_stranger_is_an_average_annotator_and_a_new_choice_is_rare() -> None:
    table, _ = crowd([0.9, 0.8, 0.7], questions=100)
    raw = votes.dump(votes.fit(table), ["ann", "ben", "cem"], [4, 7, 9])

    model = votes.load(raw, ["zoe"], [4, 5, 7, 9])
    settled = votes.posterior(cast((0, 0, 1), (1, 0, 0), choices=4), model)

    assert raw["annotators"]["cem"]["accuracy"] < model.accuracy[0] < raw["annotators"]["ann"]["accuracy"]
    assert settled.argmax(axis=1).tolist() == [1, 0]
    assert settled.sum(axis=1).tolist() == pytest.approx([1.0, 1.0])


def test_nobody_voted_leaves_the_prior() -> None:
    table = cast((0, 0, 1), (1, 0, 1), questions=3)

    settled = votes.posterior(table, model := votes.fit(table))

    assert settled[2].tolist() == pytest.approx(model.prior.tolist())


@pytest.mark.parametrize("choices", [1, 2, 2000])
def test_no_vote_at_all_is_no_error(choices: int) -> None:
    table = cast(choices=choices, questions=0, annotators=0)

    assert votes.posterior(table, votes.fit(table)).shape == (0, choices)


def test_a_single_choice_is_certain() -> None:
    table = cast((0, 0, 0), (1, 1, 0), choices=1)

    assert votes.posterior(table, votes.fit(table)).tolist() == [[1.0], [1.0]]


def test_votes_on_what_is_not_there_teach_nothing() -> None:
    table, _ = crowd([0.9, 0.9, 0.4], questions=100)
    nonsense = cast(*((question, 2, question % 3) for question in range(100)))
    joined = replace(
        table,
        question=np.concatenate([table.question, 100 + nonsense.question]),
        annotator=np.concatenate([table.annotator, nonsense.annotator]),
        choice=np.concatenate([table.choice, nonsense.choice]),
        questions=200,
    )
    weight = np.concatenate([np.ones(300), np.zeros(100)])

    model = votes.fit(replace(joined, weight=weight))

    assert model.accuracy.tolist() == pytest.approx(votes.fit(table).accuracy.tolist(), abs=1e-6)


def test_two_thousand_choices_take_no_matrix_and_rank_annotators() -> None:
    table, truth = crowd([0.9, 0.8, 0.7, 0.3], questions=400, choices=2000)

    model = votes.fit(table)

    assert model.record is None
    assert model.accuracy.tolist() == sorted(model.accuracy.tolist(), reverse=True)
    assert _accuracy(votes.posterior(table, model), truth) > 0.9


def test_many_choices_learn_as_few_do_where_everybody_errs_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    table, truth = crowd([0.9, 0.7, 0.5], questions=300, choices=4)
    whole = votes.fit(table)
    monkeypatch.setattr(votes, "CONFUSION_CHOICES", 3)

    coin = votes.fit(table)

    assert coin.accuracy.tolist() == pytest.approx(whole.accuracy.tolist(), abs=0.06)
    assert coin.prior.tolist() == pytest.approx(whole.prior.tolist(), abs=0.05)
    assert _accuracy(votes.posterior(table, coin), truth) > 0.85


@given(st.integers(0, 10_000), st.sampled_from([2, 4, 150]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_neither_order_nor_company_changes_a_bit(seed: int, choices: int, suggested: bool) -> None:
    random = np.random.default_rng(seed)
    count = 40
    rows = {(int(random.integers(12)), int(random.integers(5))) for _ in range(count)}
    table = cast(
        *((question, who, int(random.integers(choices))) for question, who in sorted(rows)),
        choices=choices,
        questions=12,
        annotators=5,
    )
    if suggested:
        table = replace(table, shown=random.integers(-1, choices, len(rows)))
    order = random.permutation(len(rows))
    shuffled = replace(
        table,
        question=table.question[order],
        annotator=table.annotator[order],
        choice=table.choice[order],
        shown=None if table.shown is None else table.shown[order],
    )
    names = [f"person-{who}" for who in range(5)]
    raw = votes.dump(votes.fit(table), names, range(choices))

    assert votes.dump(votes.fit(shuffled), names, range(choices)) == raw
    together = votes.posterior(shuffled, votes.load(raw, names, range(choices)))
    for question in range(12):
        own = np.flatnonzero(table.question == question)
        people = sorted({names[who] for who in table.annotator[own].tolist()})
        alone = Votes(
            question=np.zeros(len(own), dtype=np.int64),
            annotator=np.array([people.index(names[who]) for who in table.annotator[own]], dtype=np.int64),
            choice=table.choice[own],
            questions=1,
            annotators=len(people),
            choices=choices,
            shown=None if table.shown is None else table.shown[own],
        )
        single = votes.posterior(alone, votes.load(raw, people, range(choices)))
        assert single[0].tolist() == together[question].tolist()


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_one_more_vote_for_the_best_choice_never_makes_it_less_certain(seed: int) -> None:
    random = np.random.default_rng(seed)
    model = VoteModel(random.uniform(0.4, 0.97, 6), np.full(3, 1 / 3), 0.8, None, None, None, 1.7, 0.9, 0.4)
    table = cast(*((0, who, int(random.integers(3))) for who in range(5)), annotators=6)
    before = votes.posterior(table, model)
    best = int(before[0].argmax())
    more = cast(*((0, who, c) for who, c in enumerate([*table.choice.tolist(), best])))

    assert votes.posterior(more, model)[0, best] >= before[0, best]


def _accuracy(settled: Floats, truth: list[int]) -> float:
    return float((settled.argmax(axis=1) == np.array(truth)).mean())


def _log_loss(settled: Floats, truth: list[int]) -> float:
    return float(-np.log(settled[np.arange(len(truth)), truth]).mean())
