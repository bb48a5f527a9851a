from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ml.checkpoint import read_card
from ml.schema import Detection, Example, Object
from ml.train import Fitted, fit
from ml.training.hard import hardest, mistakes
from tests.ml.conftest import TINY

TWO = Example("a" * 64, 100, 100, "train", (Object(1, (0, 0, 20, 20)), Object(2, (50, 50, 90, 90))))


def test_what_is_not_found_or_not_there_is_a_mistake() -> None:
    right = [Detection(1, 0.9, (0, 0, 20, 20)), Detection(2, 0.8, (50, 50, 90, 90))]
    assert mistakes(TWO, right) == 0
    assert mistakes(TWO, right[:1]) == 1
    assert mistakes(TWO, [*right, Detection(1, 0.7, (60, 0, 90, 30))]) == 1
    assert mistakes(TWO, [*right, Detection(1, 0.3, (60, 0, 90, 30))]) == 0, "not sure of it"
    assert mistakes(TWO, [right[0], Detection(1, 0.8, (50, 50, 90, 90))]) == 2, "one of the wrong class"
    assert mistakes(TWO, []) == 2


def test_what_lies_in_a_crowd_is_no_mistake() -> None:
    crowd = replace(TWO, objects=(Object(1, (0, 0, 60, 60), crowd=True),))
    assert mistakes(crowd, [Detection(1, 0.9, (5, 5, 25, 25))]) == 0
    assert mistakes(crowd, []) == 0


@given(st.dictionaries(st.integers(0, 50), st.integers(0, 5)), st.floats(0, 1))
def test_none_left_out_has_more_mistakes_than_one_taken(counts: dict[int, int], share: float) -> None:
    taken = hardest(counts, share)
    assert len(taken) <= share * len(counts) + 0.5
    assert all(counts[index] > 0 for index in taken)
    left = [counts[index] for index in counts if index not in taken]
    assert (
        not taken
        or not left
        or len(taken) < round(share * len(counts))
        or max(left) <= min(counts[index] for index in taken)
    )


def test_a_pass_goes_twice_through_what_the_first_model_gets_wrong(
    fitted: Fitted, snapshot: Path, tmp_path: Path
) -> None:
    config = replace(TINY, steps=4, hard=0.0)
    plain = fit(snapshot, tmp_path / "plain", config=config, warm_start=fitted.folder)
    hard = fit(snapshot, tmp_path / "hard", config=replace(config, hard=0.5), warm_start=fitted.folder)
    assert plain.card["hard_pictures"] == 0
    assert hard.card["hard_pictures"] == 4, "a model of 24 steps finds little, so half of the 8 pictures"
    assert hard.weights_sha256 != plain.weights_sha256
    again = fit(snapshot, tmp_path / "again", config=replace(config, hard=0.5), warm_start=fitted.folder)
    assert again.weights_sha256 == hard.weights_sha256
    assert read_card(hard.folder)["config"]["hard"] == 0.5


def test_from_scratch_no_picture_is_hard(fitted: Fitted, snapshot: Path, tmp_path: Path) -> None:
    scratch = fit(snapshot, tmp_path, config=replace(TINY, hard=0.5), code_version="abc")
    assert scratch.card["hard_pictures"] == 0
    assert scratch.weights_sha256 == fitted.weights_sha256
