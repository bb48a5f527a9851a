"""What the demo labels, and how it tells what came out."""

import json
from pathlib import Path

import pytest

from bench import material as materials
from bench.demo import RoundResult, table
from bench.material import NothingToLabel
from labeling.formats import inspect
from ml import synthetic


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    synthetic.draw(folder, count=30, seed=1, size=(64, 48))
    return folder


def test_without_a_test_split_gold_is_a_draw_that_comes_out_the_same(drawn: Path) -> None:
    first, again = materials.read(drawn, labelled=10), materials.read(drawn, labelled=10)
    assert first == again
    assert (len(first.gold), len(first.pool)) == (7, 23)
    assert not {item.name for item in first.gold} & {item.name for item in first.pool}
    assert [item.name for item in first.pool] != sorted(item.name for item in first.pool)


def test_the_pool_is_no_larger_than_a_few_times_what_is_labelled(drawn: Path) -> None:
    assert len(materials.read(drawn, labelled=2).pool) == 8


def test_a_large_enough_test_split_is_gold(tmp_path: Path) -> None:
    labels = synthetic.draw(tmp_path, count=26, seed=1, size=(64, 48))
    for image in labels["images"]:
        split = "test" if image["id"] <= 20 else "train"
        (tmp_path / split).mkdir(exist_ok=True)
        (tmp_path / "images" / image["file_name"]).rename(tmp_path / split / image["file_name"])
    found = materials.read(tmp_path, labelled=4)
    assert {item.path.parent.name for item in found.gold} == {"test"}
    assert {item.path.parent.name for item in found.pool} == {"train"}


def test_gold_goes_up_with_labels_that_read_back_equal(drawn: Path, tmp_path: Path) -> None:
    material = materials.read(drawn, labelled=10)
    for files in materials.batches_with_labels(material):
        for name, data in files:
            (tmp_path / name).write_bytes(data)
    plan = inspect(tmp_path)
    assert len(plan.problems) == 0
    read = {picture.path.name: picture.labels for picture in plan.pictures}
    for item in material.gold:
        labels = read[item.name]
        assert labels is not None
        assert [shape.class_id for shape in labels.shapes] == [shape.class_id for shape in item.labels.shapes]


def test_pictures_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    for part, seed in (("a", 1), ("b", 2)):
        (tmp_path / part).mkdir()
        labels = synthetic.draw(tmp_path / part, count=3, seed=seed, size=(64, 48))
        for image in labels["images"]:
            image["file_name"] = f"{part}/images/{image['file_name']}"
        (tmp_path / part / "labels.json").write_text(json.dumps(labels))
    found = materials.read(tmp_path, labelled=4)
    names = [item.name for item in (*found.pool, *found.gold)]
    assert len(set(names)) == len(names) == 6


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    synthetic.draw(tmp_path, count=2, seed=1, size=(64, 48))
    (tmp_path / "labels.json").unlink()
    with pytest.raises(NothingToLabel, match="no pictures with labels"):
        materials.read(tmp_path, labelled=4)


def result(number: int, seconds: float, by_hand: float) -> RoundResult:
    return RoundResult(
        number=number,
        labelled=16 * number,
        consensus_f1=0.99,
        f1={"careful": 0.98, "sloppy": 0.9},
        model={"ap50": 0.8, "ap": 0.5, "pck": None},
        decision="promoted",
        reason="",
        accepted_share=None if number == 1 else 0.6,
        seconds=dict.fromkeys(("low", "nominal", "high"), seconds),
        by_hand=dict.fromkeys(("low", "nominal", "high"), by_hand),
        training_s=1.0,
    )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(40.0, "shortened round 2"), (60.0, "lengthened round 2"), (50.1, "hardly changed round 2")],
)
def test_the_table_says_whether_suggestions_saved_time(seconds: float, told: str) -> None:
    text = table([result(1, 50, 50), result(2, seconds, 50)], 4.2)
    assert told in text
    assert "PCK" not in text
    assert "0.940" in text  # the annotators' mean F1


def test_a_round_dumps_what_the_benchmarks_row_asks_for() -> None:
    row = json.loads(json.dumps(result(2, 40, 50).dump()))
    assert row["saved"] == pytest.approx(0.2)
    wanted = {"labelled", "consensus_f1", "annotator_f1", "ap50", "accepted_share", "seconds_per_picture"}
    assert wanted <= set(row)
