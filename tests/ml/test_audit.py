"""The audit of a small snapshot of drawn pictures, with models that learn for a second."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ml import audit as command
from ml.audit import audit, fold_members
from ml.schema import Example, Object, Split, read_snapshot
from ml.train import Cancelled, TrainingRefused
from tests.ml.conftest import TINY, drawn_pictures, write_snapshot


def example(number: int, group: str = "", split: Split = "train") -> Example:
    return Example(f"{number:064d}", 100, 100, split, (), group)


@pytest.fixture(scope="module")
def flawed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Ten drawn pictures, one with a flat box and a box outside; and that one's hash."""
    folder = tmp_path_factory.mktemp("flawed")
    classes, pictures = drawn_pictures(folder / "source", 10)
    content, first = pictures[0]
    flat, away = Object(1, (5, 5, 5, 9)), Object(1, (1000, 1000, 1010, 1010))
    pictures[0] = (content, replace(first, objects=(*first.objects, flat, away)))
    return write_snapshot(folder / "snapshot", classes, pictures), first.sha256


def test_pictures_of_a_group_are_in_one_fold_and_folds_are_even() -> None:
    examples = [example(number, group=f"video {number // 4}" if number < 8 else "") for number in range(20)]
    members = fold_members(examples, 3)
    assert sorted(index for own in members for index in own) == list(range(20))
    assert sum(set(range(4)) <= set(own) for own in members) == 1
    assert sum(set(range(4, 8)) <= set(own) for own in members) == 1
    assert max(map(len, members)) - min(map(len, members)) <= 1


def test_the_same_pictures_in_another_order_make_the_same_folds() -> None:
    examples = [example(number) for number in range(9)]
    there = [{examples[index].sha256 for index in own} for own in fold_members(examples, 2)]
    back = [{examples[::-1][index].sha256 for index in own} for own in fold_members(examples[::-1], 2)]
    assert there == back


def test_one_group_cannot_be_audited_by_what_it_did_not_teach() -> None:
    with pytest.raises(TrainingRefused, match="as many pictures or groups"):
        fold_members([example(1, "a"), example(2, "a")], 2)


def test_flaws_are_found_and_do_not_stop_the_training(flawed: tuple[Path, str], tmp_path: Path) -> None:
    snapshot, spoilt = flawed
    told: list[float] = []
    done = audit(
        snapshot, tmp_path, config=replace(TINY, steps=4), on_progress=lambda share, _: told.append(share)
    )
    assert (done.pictures, done.folds) == (10, 2)
    kinds = {item.sha256: {one.kind for one in item.findings} for item in done.doubtful}
    assert {"zero_area", "outside"} <= kinds[spoilt]
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)


def test_no_model_learns_from_gold_or_from_what_it_judges(flawed: tuple[Path, str], tmp_path: Path) -> None:
    opened = read_snapshot(flawed[0])
    gold = opened.examples[4].sha256
    changed = [replace(item, split="gold" if item.sha256 == gold else item.split) for item in opened.examples]
    contents = [(opened.image_path(item).read_bytes(), item) for item in changed]
    snapshot = write_snapshot(tmp_path / "snapshot", opened.classes, contents)
    audit(snapshot, tmp_path / "work", config=replace(TINY, steps=2))
    learnt = [
        {item.sha256 for item in read_snapshot(tmp_path / "work" / f"fold-{number}").examples}
        for number in (0, 1)
    ]
    everything = {item.sha256 for item in changed}
    assert learnt[0] | learnt[1] == everything - {gold}
    assert not learnt[0] & learnt[1]


def test_an_audit_that_was_stopped_goes_on_and_says_the_same(
    flawed: tuple[Path, str], tmp_path: Path
) -> None:
    config = replace(TINY, steps=6, checkpoint_steps=2)
    calm = audit(flawed[0], tmp_path / "calm", config=config)
    asked = 0

    def after_a_while() -> bool:
        nonlocal asked
        asked += 1
        return asked > 9

    with pytest.raises(Cancelled):
        audit(flawed[0], tmp_path / "stopped", config=config, should_stop=after_a_while)
    assert audit(flawed[0], tmp_path / "stopped", config=config).doubtful == calm.doubtful


def test_the_command_prints_the_list(
    flawed: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--snapshot", str(flawed[0]), "--work", str(tmp_path), "--steps", "2", "--side", "96"]
    assert command.main(arguments) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == sorted(rows, key=lambda row: -row["score"])
    assert flawed[1] in {row["sha256"] for row in rows}


def test_the_command_says_why_it_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--snapshot", str(tmp_path), "--work", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
