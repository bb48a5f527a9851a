"""Which of several choices? Votes weighted by how each annotator confuses them.

The model of Dawid and Skene (1979), fitted by expectation maximisation: annotator k says l where c is true with
probability π_k(c, l). What three votes a picture cannot tell of a whole matrix comes from others: π_k is shrunk to
a mixture of the pool's matrix and of guessing in k's own proportions (MACE, Hovy et al., 2013), mixed so that it
is right as often as k is; the pool's matrix is shrunk to a single accuracy. A spammer's votes so weigh nothing, and
an annotator worse than guessing is believed in reverse only after many such votes.

Probabilities are flattened by numbers that never change which choice is the best. The *temperature* is chosen by
predicting every vote from the other votes on its question, all parameters relearnt without that question: it sees
dependence that votes show. Overlap and shared error are for what votes cannot show, a belief that everybody
shares: further votes count less than the first (the design effect of Kish, 1965), and log-odds x become
x / (1 + shared error · x), which never exceeds the inverse of the shared error, however many agree. Crowds that err
more share more errors; gold, where there is any, tells how many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from labeling.consensus.base import Parameters
from labeling.geometry import Floats, Ints

ROUNDS: Final = 40
SETTLED_AT: Final = 1e-6
"""Expectation maximisation ends when no probability moves by more."""
CONFUSION_CHOICES: Final = 100
"""With more choices an annotator has one accuracy and no matrix."""
TEMPERATURES: Final = tuple(round(1.0 + 0.1 * step, 1) for step in range(11)) + tuple(
    round(2.0 + 0.25 * step, 2) for step in range(1, 25)
)
TEMPERATURE_WIDTH: Final = 0.5
"""Standard deviation of the prior of log temperature, around none."""
OVERLAP: Final = 0.5
SHARED_ERROR: Final = 0.8
"""Times the pool's mean error over choices. This and the overlap are among the least with which log-loss lies below
the majority's on each of three public label sets (dogs, tweets, products)."""
DOUBTS: Final = tuple(round(0.1 * step, 1) for step in range(21))
"""What gold may multiply both with; without gold it is 1."""
DOUBT_WIDTH: Final = 0.5
"""Standard deviation of gold's prior of that factor, around 1."""
ONE_COIN_ACCURACY: Final = (9.0, 1.0)
BEST_ACCURACY: Final = 0.995
KEEP_RIGHT: Final = (97.0, 3.0)
"""Votes (kept, changed) that speak for keeping a right suggestion before anybody was seen to do so."""
KEEP_WRONG: Final = (35.0, 65.0)
KEEP_STRENGTH: Final = 30.0
DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Votes:
    """One row (N,) per vote: on which question (of M), by whom (of K), for which choice (of C).

    Questions and annotators are numbered in an order that doesn't depend on how the votes came.
    """

    question: Ints
    annotator: Ints
    choice: Ints
    questions: int
    annotators: int
    choices: int
    weight: Floats | None = None
    """(N,) in 0…1: how likely the thing voted on is there at all; a vote teaches so much about its annotator."""
    shown: Ints | None = None
    """(N,) the choice that a model suggested to the annotator, -1 for none."""
    known: Ints | None = None
    """(M,) an expert's choice, -1 for none."""


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """How many votes the general counts against the particular."""

    accuracy: float = 5.0
    """Of an annotator's accuracy to the pool's."""
    row: float = 20.0
    """Of each row of an annotator's matrix."""
    pool: float = 10.0
    """Of each row of the pool's matrix to one accuracy."""
    prior: float = 1.0
    """Of each choice's frequency."""
    pooled: bool = True
    """Without it annotators have nothing in common: a row is shrunk to all choices alike."""


POOLED: Final = Shrinkage()
CLASSICAL: Final = Shrinkage(accuracy=0.02, row=0.02, pool=0.02, prior=0.01, pooled=False)
"""Dawid and Skene's own: each annotator alone, smoothed by a hundredth of a vote."""


@dataclass(frozen=True, slots=True)
class Record:
    """What annotators were seen to say. Of K · C pairs (annotator, said) those that occur, in order: U."""

    confusion: Floats  # (C, C) the pool's: true choice × said, rows sum to 1
    pair: Ints  # (U,) annotator · C + said
    hits: Floats  # (U, C) expected votes by true choice
    shrinkage: Shrinkage = POOLED


@dataclass(frozen=True, slots=True)
class VoteModel:
    """What is known about annotators. Without a record everybody errs evenly among the other choices."""

    accuracy: Floats  # (K,)
    prior: Floats  # (C,)
    pool: float
    record: Record | None = None
    keep_right: Floats | None = None  # (K,) probability of keeping a right suggestion
    keep_wrong: Floats | None = None  # (K,)
    temperature: float = 1.0
    overlap: float = 0.0
    """In 0…1: n equally strong votes count as n / (1 + overlap · (n - 1))."""
    shared_error: float = 0.0
    """The inverse of the log-odds that are never exceeded."""


def fit(votes: Votes, shrinkage: Shrinkage = POOLED) -> VoteModel:
    """Expectation maximisation from the shares of the vote, then the temperature and the shared error."""
    votes = _in_order(votes)
    if votes.choices > CONFUSION_CHOICES:
        return _calibrated(votes, _fit_one_coin(votes, shrinkage))
    belief = _clamped(votes, _shares(votes))
    model = _maximise(votes, belief, shrinkage)
    for _ in range(ROUNDS):
        before, belief = belief, _clamped(votes, _softmax(_logits(votes, model, evidence(votes, model))))
        model = _maximise(votes, belief, shrinkage)
        if not belief.size or float(np.abs(belief - before).max()) < SETTLED_AT:
            break
    if not shrinkage.pooled or votes.choices == 1:
        return model
    others = _evidence_of_others(votes, model, belief)
    return _calibrated(votes, _tempered(votes, model, others), others)


def posterior(votes: Votes, model: VoteModel) -> Floats:
    """The probability (M, C) of each choice for each question; the prior where nobody voted."""
    if votes.choices == 1:
        return np.ones((votes.questions, 1))
    votes = _in_order(votes)
    if model.record is None:
        return _softmax(_flattened(votes, *_one_coin_logits(votes, model), model))
    said = evidence(votes, model)
    return _softmax(_flattened(votes, _logits(votes, model, said), _strength(said), model))


def evidence(votes: Votes, model: VoteModel) -> Floats:
    """The log-likelihood (N, C) of each vote under each true choice, up to a constant per vote.

    A vote that keeps what a model had suggested tells only that its annotator let it stand.
    """
    said = _likelihood(model, votes.annotator, votes.choice)
    if votes.shown is None:
        return np.log(said)
    saw = np.flatnonzero(votes.shown >= 0)
    shown, who = votes.shown[saw], votes.annotator[saw]
    right, wrong = (chance[saw] for chance in _keep_chances(votes, model))
    kept = votes.choice[saw] == shown
    changed = said[saw] / (1.0 - _likelihood(model, who, shown))
    true = shown[:, None] == np.arange(votes.choices)
    said[saw] = np.where(
        kept[:, None],
        np.where(true, right[:, None], wrong[:, None]),
        np.where(true, 1.0 - right[:, None], 1.0 - wrong[:, None]) * changed,
    )
    return np.log(said)


def confusion(model: VoteModel, annotator: int) -> Floats:
    """An annotator's matrix (C, C): true choice × said."""
    choices = len(model.prior)
    who = np.full(choices, annotator, dtype=np.int64)
    rows = _likelihood(model, who, np.arange(choices)).T
    return np.ascontiguousarray(rows / rows.sum(axis=1, keepdims=True))


def dump(model: VoteModel, annotators: Sequence[str], choices: Sequence[int]) -> Parameters:
    """The model as JSON, its annotators and choices by name."""
    people: dict[str, dict[str, Any]] = {
        name: {"accuracy": float(model.accuracy[index]), "hits": []} for index, name in enumerate(annotators)
    }
    for index, name in enumerate(annotators):
        if model.keep_right is not None and model.keep_wrong is not None:
            people[name]["keep"] = [float(model.keep_right[index]), float(model.keep_wrong[index])]
    raw: dict[str, Any] = {
        "choices": list(choices),
        "prior": model.prior.tolist(),
        "pool": float(model.pool),
        "temperature": model.temperature,
        "overlap": model.overlap,
        "shared_error": model.shared_error,
        "annotators": people,
    }
    if model.record is not None:
        raw["confusion"] = model.record.confusion.tolist()
        raw["pooled"] = model.record.shrinkage.pooled
        for pair, row in zip(model.record.pair.tolist(), model.record.hits.tolist(), strict=True):
            who, said = divmod(pair, len(choices))
            people[annotators[who]]["hits"] += [
                [choices[said], choices[true], count] for true, count in enumerate(row) if count
            ]
    return raw


def load(raw: Parameters, annotators: Sequence[str], choices: Sequence[int]) -> VoteModel:
    """The model for these annotators and choices, among which are all that were dumped.

    An annotator without a record is an average one; a new choice is as frequent as the rarest.
    """
    own: Mapping[str, Mapping[str, Any]] = raw["annotators"]
    known = dict(zip(raw["choices"], raw["prior"], strict=True))
    rarest = min(known.values(), default=1.0)
    prior = np.array([known.get(choice, rarest) for choice in choices], dtype=np.float64)
    pool = float(raw["pool"])
    keep = np.array(
        [own.get(name, {}).get("keep", (_share(*KEEP_RIGHT), _share(*KEEP_WRONG))) for name in annotators],
        dtype=np.float64,
    ).reshape(-1, 2)
    return VoteModel(
        accuracy=np.array([own.get(name, {}).get("accuracy", pool) for name in annotators], dtype=np.float64),
        prior=prior if len(choices) == len(known) else prior / prior.sum(),
        pool=pool,
        record=_load_record(raw, annotators, choices) if "confusion" in raw else None,
        keep_right=np.ascontiguousarray(keep[:, 0]),
        keep_wrong=np.ascontiguousarray(keep[:, 1]),
        temperature=float(raw["temperature"]),
        overlap=float(raw["overlap"]),
        shared_error=float(raw["shared_error"]),
    )


def _load_record(raw: Parameters, annotators: Sequence[str], choices: Sequence[int]) -> Record:
    column = {choice: index for index, choice in enumerate(choices)}
    hits: dict[int, Floats] = {}
    for who, name in enumerate(annotators):
        for said, true, count in raw["annotators"].get(name, {}).get("hits", ()):
            row = hits.setdefault(who * len(choices) + column[said], np.zeros(len(choices)))
            row[column[true]] = count
    pairs = sorted(hits)
    shrinkage = POOLED if raw["pooled"] else CLASSICAL
    table = np.array(raw["confusion"], dtype=np.float64)
    if len(choices) > len(raw["choices"]):
        known = np.array([column[choice] for choice in raw["choices"]], dtype=np.int64)
        wide = _one_coin(float(raw["pool"]) if shrinkage.pooled else 1.0 / len(choices), len(choices))
        wide[np.ix_(known, known)] = table * wide[np.ix_(known, known)].sum(axis=1, keepdims=True)
        table = wide
    return Record(
        confusion=table,
        pair=np.array(pairs, dtype=np.int64),
        hits=np.array([hits[pair] for pair in pairs], dtype=np.float64).reshape(-1, len(choices)),
        shrinkage=shrinkage,
    )


def _maximise(votes: Votes, belief: Floats, shrinkage: Shrinkage) -> VoteModel:
    """The parameters that explain the votes best where the truth is as believed."""
    choices = votes.choices
    prior = _column_sums(belief * _weight_of_questions(votes)[:, None]) + shrinkage.prior
    prior /= prior.sum()
    keep_right, keep_wrong = _keeps(votes, _of_shown(votes, belief))
    blind = _blind(votes)
    who, said, weight = blind.annotator, blind.choice, _weights(blind)
    accuracy, pool = _accuracies(blind, belief[blind.question, said], shrinkage)
    pair, row = np.unique(who * choices + said, return_inverse=True)
    flat = row.reshape(-1, 1) * choices + np.arange(choices)
    hits = _sums(flat, belief[blind.question] * weight[:, None], len(pair) * choices)
    hits = np.round(hits.reshape(-1, choices), DIGITS)
    table = np.full((choices, choices), 1.0 / choices)
    if shrinkage.pooled:
        flat = (pair % choices)[:, None] + np.arange(choices) * choices
        seen = _sums(flat, hits, choices**2).reshape(choices, choices)
        table = seen + shrinkage.pool * _one_coin(pool, choices)
        table /= table.sum(axis=1, keepdims=True)
    return VoteModel(accuracy, prior, pool, Record(table, pair, hits, shrinkage), keep_right, keep_wrong)


def _accuracies(votes: Votes, belief: Floats, shrinkage: Shrinkage) -> tuple[Floats, float]:
    """Each annotator's accuracy (K,) and the pool's, where what was said is so probably (N,) right."""
    weight = _weights(votes)
    own = _sums(votes.annotator, weight, votes.annotators)
    right = _sums(votes.annotator, weight * belief, votes.annotators)
    good, bad = ONE_COIN_ACCURACY
    pool = min(float((right.sum() + good) / (own.sum() + good + bad)), BEST_ACCURACY)
    return (right + shrinkage.accuracy * pool) / (own + shrinkage.accuracy), pool


def _keeps(votes: Votes, belief: Floats) -> tuple[Floats | None, Floats | None]:
    """How probably each annotator (K,) keeps a suggestion that is right, and one that is wrong.

    `belief` (N,) is how probably what was shown is right.
    """
    if votes.shown is None:
        return None, None
    saw = np.flatnonzero(votes.shown >= 0)
    who = votes.annotator[saw]
    kept = votes.choice[saw] == votes.shown[saw]
    weight = _weights(votes)[saw]
    found: list[Floats] = []
    for chance, prior in ((belief[saw], KEEP_RIGHT), (1.0 - belief[saw], KEEP_WRONG)):
        keeps = _sums(who, weight * chance * kept, votes.annotators)
        chances = _sums(who, weight * chance, votes.annotators)
        pool = (keeps.sum() + prior[0]) / (chances.sum() + sum(prior))
        found.append(np.clip((keeps + KEEP_STRENGTH * pool) / (chances + KEEP_STRENGTH), 0.01, 0.99))
    # whoever seems to keep wrong ones rather than right ones gives no evidence
    return np.maximum(found[0], found[1]), found[1]


def _fit_one_coin(votes: Votes, shrinkage: Shrinkage) -> VoteModel:
    """As `fit`, of one accuracy each; in the size of the votes, not of questions × choices."""
    asked = _weight_of_questions(votes)
    key, row = np.unique(votes.question * votes.choices + votes.choice, return_inverse=True)
    question, choice = np.divmod(key, votes.choices)
    support = np.bincount(row.ravel(), minlength=len(key))
    belief = support / np.bincount(votes.question, minlength=votes.questions)[question]
    prior = np.full(votes.choices, 1.0 / votes.choices)
    model = VoteModel(np.full(votes.annotators, 0.9), prior, 0.9)
    for _ in range(ROUNDS):
        if votes.known is not None:
            known = votes.known[question]
            belief = np.where(known >= 0, known == choice, belief)
        blind = _blind(votes)
        accuracy, pool = _accuracies(blind, _at(key, belief, blind.question, blind.choice, votes), shrinkage)
        floor = min(1.0 / votes.choices + 0.01, BEST_ACCURACY)
        shown = np.zeros(0) if votes.shown is None else _at(key, belief, votes.question, votes.shown, votes)
        model = VoteModel(np.clip(accuracy, floor, BEST_ACCURACY), prior, pool, None, *_keeps(votes, shown))
        # cells nobody spoke of keep their prior: only the others need a sum
        at, gain = _gains(votes, model)
        cells, back = np.unique(np.concatenate([key, at]), return_inverse=True)
        total = np.minimum(_sums(back[len(key) :], gain, len(cells)), 600.0)
        of_question, of_choice = np.divmod(cells, votes.choices)
        extra = prior[of_choice] * np.expm1(total)
        whole = 1.0 + _sums(of_question, extra, votes.questions)
        before = belief
        belief = (prior[of_choice] * np.exp(total) / whole[of_question])[back[: len(key)]]
        share = asked / whole
        prior = prior * share.sum() + _sums(of_choice, extra * share[of_question], votes.choices)
        prior = np.maximum(prior, 0.0) + shrinkage.prior
        prior /= prior.sum()
        model = replace(model, prior=prior)
        if not len(belief) or float(np.abs(belief - before).max()) < SETTLED_AT:
            break
    return model


def _gains(votes: Votes, model: VoteModel) -> tuple[Ints, Floats]:
    """By how much votes favour single choices over all others, when annotators have one accuracy.

    The cells (R,) question · C + choice, and the log-odds (R,) given to each.
    """
    accuracy = model.accuracy[votes.annotator]
    error = (1.0 - accuracy) / (votes.choices - 1)
    gain = np.log(accuracy / error)
    cell = votes.question * votes.choices + votes.choice
    if votes.shown is None:
        return cell, gain
    right, wrong = _keep_chances(votes, model)
    kept = votes.choice == votes.shown
    gain = np.where(kept, np.log(right / wrong), gain)
    changed = np.flatnonzero((votes.shown >= 0) & ~kept)
    loss = np.zeros(len(gain))
    loss[changed] = (np.log((1.0 - right) / (1.0 - wrong)) + np.log((1.0 - error) / (1.0 - accuracy)))[
        changed
    ]
    cells = np.concatenate([cell, (votes.question * votes.choices + votes.shown)[changed]])
    return cells, np.concatenate([gain, loss[changed]])


def _one_coin_logits(votes: Votes, model: VoteModel) -> tuple[Floats, Floats]:
    """The logits (M, C), and what each vote (N,) tells at all."""
    cell, gain = _gains(votes, model)
    total = _sums(cell, gain, votes.questions * votes.choices)
    return total.reshape(votes.questions, votes.choices) + np.log(model.prior), np.abs(
        gain[: len(votes.choice)]
    )


def _likelihood(model: VoteModel, annotator: Ints, said: Ints) -> Floats:
    """π (N, C): how probably these annotators say this where each choice is true; within (0, 1)."""
    choices = len(model.prior)
    if choices == 1:
        return np.full((len(said), 1), BEST_ACCURACY)
    if model.record is None:
        accuracy = model.accuracy[annotator]
        likelihood = np.repeat(((1.0 - accuracy) / (choices - 1))[:, None], choices, axis=1)
        likelihood[np.arange(len(said)), said] = accuracy
        return likelihood
    record, people = model.record, len(model.accuracy)
    strength = record.shrinkage.row
    found, trials, _ = _own_hits(model, annotator, said)
    expected = record.confusion.T[said]
    if record.shrinkage.pooled:
        expected = _expected(model, people, annotator, said)
    return np.clip((found + strength * expected) / (trials[annotator] + strength), 1e-9, 1.0 - 1e-9)


def _own_hits(model: VoteModel, annotator: Ints, said: Ints) -> tuple[Floats, Floats, Floats]:
    """The hits (N, C) of these pairs, every annotator's trials (K, C) by true choice and votes (K, C) by said."""
    assert model.record is not None
    choices, people = len(model.prior), len(model.accuracy)
    pair, hits = model.record.pair, model.record.hits
    flat = (pair // choices)[:, None] * choices + np.arange(choices)
    trials = _sums(flat, hits, people * choices)
    spoken = _sums(pair, hits.sum(axis=1), people * choices)
    found = np.zeros((len(said), choices))
    if len(pair):
        wanted = annotator * choices + said
        row = np.minimum(np.searchsorted(pair, wanted), len(pair) - 1)
        found = np.where((pair[row] == wanted)[:, None], hits[row], 0.0)
    return found, trials.reshape(people, choices), spoken.reshape(people, choices)


def _expected(model: VoteModel, people: int, annotator: Ints, said: Ints) -> Floats:
    """π (N, C) as an annotator's accuracy and habits alone suggest it.

    Of those who are right beyond guessing (Cohen's kappa) less often than the pool, a mixture of the pool and of
    guessing by habit; of the others, of the pool and of being always right.
    """
    assert model.record is not None
    choices, prior, pool = len(model.prior), model.prior, model.record.confusion
    _, _, spoken = _own_hits(model, annotator, said)
    habit = (spoken + choices * prior) / (spoken.sum(axis=1, keepdims=True) + choices)  # (K, C)
    guessing = (habit * prior).sum(axis=1)
    own = (model.accuracy - guessing) / np.maximum(1.0 - guessing, 1e-3)
    usual = float((prior * np.diagonal(pool)).sum())
    usual_guessing = float((_column_sums(prior[:, None] * pool) * prior).sum())
    common = (usual - usual_guessing) / max(1.0 - usual_guessing, 1e-3)
    attention = np.clip(own / max(common, 1e-3), 0.0, 1.0)
    care = np.clip((own - common) / max(1.0 - common, 1e-3), 0.0, 1.0)
    typical = np.ascontiguousarray(pool.T)[said]  # (N, C)
    perfect = np.where(said[:, None] == np.arange(choices), 0.999, 0.001 / choices)
    attention, care = attention[annotator][:, None], care[annotator][:, None]
    mixed = attention * typical + (1.0 - attention) * habit[annotator, said][:, None]
    return np.asarray(np.where(care > 0, (1.0 - care) * typical + care * perfect, mixed), dtype=np.float64)


def _tempered(votes: Votes, model: VoteModel, others: Floats) -> VoteModel:
    """The model with the temperature at which a question's other votes predict each vote best."""
    asked = np.bincount(votes.question, minlength=votes.questions)
    predictable = asked[votes.question] > 1
    if votes.shown is not None:
        predictable &= votes.shown < 0
    rest = (_logits(votes, model, others)[votes.question] - others)[predictable]
    chance = np.exp(others[predictable])
    scores = [
        float(np.log((_softmax(rest / heat) * chance).sum(axis=1)).sum())
        - (np.log(heat) / TEMPERATURE_WIDTH) ** 2 / 2
        for heat in TEMPERATURES
    ]
    return replace(model, temperature=TEMPERATURES[int(np.argmax(scores))])


def _calibrated(votes: Votes, model: VoteModel, others: Floats | None = None) -> VoteModel:
    """The model with the overlap and shared error that gold makes most probable; the usual ones without gold."""
    usual = replace(model, overlap=OVERLAP, shared_error=SHARED_ERROR * _usual_error(model))
    if votes.known is None:
        return usual
    asked = np.bincount(votes.question, minlength=votes.questions)
    gold = np.flatnonzero((votes.known >= 0) & (asked > 0))
    if not len(gold):
        return usual
    number = np.full(votes.questions, -1)
    number[gold] = np.arange(len(gold))
    rows = np.flatnonzero(number[votes.question] >= 0)
    about = replace(
        _rows(votes, rows), question=number[votes.question[rows]], questions=len(gold), known=None
    )
    if others is None:
        logits, strength = _one_coin_logits(about, model)
    else:
        logits, strength = _logits(about, model, others[rows]), _strength(others[rows])
    candidates = [
        replace(usual, overlap=doubt * usual.overlap, shared_error=doubt * usual.shared_error)
        for doubt in DOUBTS
    ]
    scores: list[float] = []
    for doubt, candidate in zip(DOUBTS, candidates, strict=True):
        settled = _softmax(_flattened(about, logits, strength, candidate))
        right = settled[np.arange(len(gold)), votes.known[gold]]
        prior = ((doubt - 1.0) / DOUBT_WIDTH) ** 2 / 2
        scores.append(float(np.log(np.maximum(right, 1e-12)).sum()) - prior)
    return candidates[int(np.argmax(scores))]


def _evidence_of_others(votes: Votes, model: VoteModel, belief: Floats) -> Floats:
    """The evidence (N, C) of each vote under a matrix that has not learnt from the vote's own question."""
    said = evidence(votes, model)
    if model.record is None:
        return said
    strength = model.record.shrinkage.row
    _, trials, _ = _own_hits(model, votes.annotator, votes.choice)
    own = belief[votes.question] * _weights(votes)[:, None]
    if votes.shown is not None:
        own = np.where((votes.shown < 0)[:, None], own, 0.0)
    learnt = trials[votes.annotator]
    without = (np.exp(said) * (learnt + strength) - own) / (np.maximum(learnt - own, 0.0) + strength)
    blind = np.log(np.clip(without, 1e-9, 1.0 - 1e-9))
    return blind if votes.shown is None else np.where((votes.shown < 0)[:, None], blind, said)


def _flattened(votes: Votes, logits: Floats, strength: Floats, model: VoteModel) -> Floats:
    """The logits (M, C) as sure as they deserve; as they are where nobody voted.

    Votes count by how much they tell (N,) beside the one on their question that tells most: a guesser beside two
    experts is no third witness. One more vote for the best choice never makes it less certain.
    """
    total = _sums(votes.question, strength, votes.questions)
    most = np.zeros(votes.questions)
    np.maximum.at(most, votes.question, strength)
    others = np.maximum(total / np.maximum(most, 1e-9) - 1.0, 0.0)
    ordered = np.partition(logits, -2, axis=1)
    lead = np.ascontiguousarray(ordered[:, -1] - ordered[:, -2])
    heat = model.temperature * (1.0 + model.overlap * others + model.shared_error * lead)
    asked = np.bincount(votes.question, minlength=votes.questions)
    return logits / np.where(asked > 0, heat, 1.0)[:, None]


def _strength(said: Floats) -> Floats:
    """What each vote (N,) tells at all: the range of its evidence."""
    return np.asarray(said.max(axis=1) - said.min(axis=1), dtype=np.float64)


def _usual_error(model: VoteModel) -> float:
    """How often the pool errs, every choice counting the same."""
    if model.record is None:
        return 1.0 - model.pool
    return 1.0 - float(np.diagonal(model.record.confusion).mean())


def _logits(votes: Votes, model: VoteModel, said: Floats) -> Floats:
    flat = votes.question[:, None] * votes.choices + np.arange(votes.choices)
    total = _sums(flat, said, votes.questions * votes.choices)
    return total.reshape(votes.questions, votes.choices) + np.log(model.prior)


def _shares(votes: Votes) -> Floats:
    """The share (M, C) of each question's votes; all alike where nobody voted."""
    flat = votes.question * votes.choices + votes.choice
    counts = np.bincount(flat, minlength=votes.questions * votes.choices).reshape(-1, votes.choices)
    asked = counts.sum(axis=1, keepdims=True)
    return np.where(asked > 0, counts / np.maximum(asked, 1), 1.0 / votes.choices)


def _clamped(votes: Votes, belief: Floats) -> Floats:
    if votes.known is None:
        return belief
    known = votes.known[:, None]
    return np.where(known >= 0, (known == np.arange(votes.choices)).astype(np.float64), belief)


def _in_order(votes: Votes) -> Votes:
    """By question, annotator and choice, so that no sum depends on how the votes came."""
    shown = np.full(len(votes.question), -1) if votes.shown is None else votes.shown
    weight = _weights(votes)
    return _rows(votes, np.lexsort((weight, shown, votes.choice, votes.annotator, votes.question)))


def _rows(votes: Votes, rows: Ints) -> Votes:
    return replace(
        votes,
        question=votes.question[rows],
        annotator=votes.annotator[rows],
        choice=votes.choice[rows],
        weight=None if votes.weight is None else votes.weight[rows],
        shown=None if votes.shown is None else votes.shown[rows],
    )


def _blind(votes: Votes) -> Votes:
    """The votes of those who saw no suggestion."""
    return votes if votes.shown is None else _rows(votes, np.flatnonzero(votes.shown < 0))


def _weights(votes: Votes) -> Floats:
    return np.ones(len(votes.question)) if votes.weight is None else votes.weight


def _weight_of_questions(votes: Votes) -> Floats:
    """The mean weight (M,) of each question's votes; 0 where nobody voted."""
    asked = np.bincount(votes.question, minlength=votes.questions)
    return _sums(votes.question, _weights(votes), votes.questions) / np.maximum(asked, 1)


def _of_shown(votes: Votes, belief: Floats) -> Floats:
    """How probably (N,) what each annotator was shown is right; meaningless where nothing was."""
    return np.zeros(0) if votes.shown is None else belief[votes.question, votes.shown]


def _at(key: Ints, belief: Floats, question: Ints, choice: Ints, votes: Votes) -> Floats:
    """The belief in these choices (N,) of these questions, of sparse cells; 0 in others."""
    wanted = question * votes.choices + choice
    row = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
    return np.where(key[row] == wanted, belief[row], 0.0) if len(key) else np.zeros(len(wanted))


def _keep_chances(votes: Votes, model: VoteModel) -> tuple[Floats, Floats]:
    """How probably (N,) each vote's annotator keeps a right suggestion, and a wrong one."""
    count = len(votes.annotator)
    if model.keep_right is None or model.keep_wrong is None:
        return np.full(count, _share(*KEEP_RIGHT)), np.full(count, _share(*KEEP_WRONG))
    return model.keep_right[votes.annotator], model.keep_wrong[votes.annotator]


def _softmax(logits: Floats) -> Floats:
    if not logits.size:
        return logits
    weight = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float64)


def _one_coin(accuracy: float, choices: int) -> Floats:
    table = np.full((choices, choices), (1.0 - accuracy) / max(choices - 1, 1))
    np.fill_diagonal(table, accuracy if choices > 1 else 1.0)
    return table


def _column_sums(table: Floats) -> Floats:
    """Row after row, so that the sum has one order."""
    rows, columns = table.shape
    return _sums(np.tile(np.arange(columns), rows), table, columns)


def _sums(key: Ints, values: Floats, size: int) -> Floats:
    """The sum (size,) of the values of each key, one after another in their order."""
    total = np.bincount(key.ravel(), weights=values.ravel(), minlength=size)
    return np.asarray(total, dtype=np.float64)


def _share(kept: float, changed: float) -> float:
    return kept / (kept + changed)
