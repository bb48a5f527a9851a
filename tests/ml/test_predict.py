import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml import predict
from ml.checkpoint import BrokenModel, write_json
from ml.data import BrokenPicture, cached_pictures, open_picture, prepare
from ml.predict import Predictor
from ml.schema import Detection, read_snapshot
from ml.train import Fitted


@pytest.fixture(scope="module")
def predictor(fitted: Fitted) -> Predictor:
    return Predictor.load(fitted.folder, "cpu")


@pytest.fixture(scope="module")
def paths(snapshot: Path) -> list[Path]:
    return sorted((snapshot / "images").iterdir())


def test_detections_are_inside_the_picture_best_first(predictor: Predictor, paths: list[Path]) -> None:
    for path in paths:
        picture = open_picture(path)
        [found] = predictor.predict([picture], score_threshold=0.0, limit=20)
        assert 0 < len(found) <= 20
        assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
        for item in found:
            x1, y1, x2, y2 = item.xyxy
            assert 0 <= x1 <= x2 <= picture.width
            assert 0 <= y1 <= y2 <= picture.height
            assert item.score > 0
            assert len(item.points) == (8 if item.class_id == 4 else 0)


def test_a_picture_is_seen_the_same_alone_and_in_company(predictor: Predictor, paths: list[Path]) -> None:
    upright = Image.new("RGB", (240, 320), "green")
    pictures = [open_picture(paths[0]), upright, open_picture(paths[1])]
    together = predictor.look(pictures)
    for picture, seen in zip(pictures, together, strict=True):
        [alone] = predictor.look([picture])
        assert [item.class_id for item in alone.detections] == [item.class_id for item in seen.detections]
        for one, other in zip(alone.detections, seen.detections, strict=True):
            assert one.xyxy == pytest.approx(other.xyxy, abs=1e-2)
            assert one.score == pytest.approx(other.score, abs=1e-5)
        np.testing.assert_allclose(alone.embedding, seen.embedding, atol=1e-5)


def test_training_batch_prediction_and_serving_see_the_same_pixels(
    predictor: Predictor, snapshot: Path, tmp_path: Path
) -> None:
    opened = read_snapshot(snapshot)
    cache = cached_pictures(opened, predictor.side, tmp_path)
    example = opened.examples[0]
    from_bytes = prepare(open_picture(opened.image_path(example).read_bytes()), predictor.side)
    assert np.array_equal(cache[0], from_bytes.pixels)
    [served] = predictor.predict([open_picture(opened.image_path(example).read_bytes())])
    [(_, batch)] = predictor.predict_files([opened.image_path(example)])
    assert served == batch.detections


def test_a_turned_picture_is_answered_in_its_upright_pixels(predictor: Predictor, paths: list[Path]) -> None:
    upright = open_picture(paths[0])
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    lying.getexif()[0x0112] = 6
    assert predictor.predict([lying]) == predictor.predict([upright])


def test_an_embedding_has_length_one_and_like_pictures_are_close(
    predictor: Predictor, paths: list[Path]
) -> None:
    picture = open_picture(paths[0])
    brighter = picture.point(lambda value: min(255, value + 4))
    same, other, far = predictor.look([picture, brighter, Image.new("RGB", (320, 240), "blue")])
    assert same.embedding.shape == (128,)
    assert np.linalg.norm(same.embedding) == pytest.approx(1, abs=1e-5)
    assert same.embedding @ other.embedding > same.embedding @ far.embedding


def test_each_detection_of_a_skeleton_says_how_much_rivals_disagree(
    predictor: Predictor, paths: list[Path]
) -> None:
    for _, seen in predictor.predict_files(paths, score_threshold=0.0, limit=30):
        assert len(seen.spread) == len(seen.detections)
        for item, spread in zip(seen.detections, seen.spread, strict=True):
            assert spread >= 0
            assert item.class_id == 4 or spread == 0


def test_files_come_in_order_with_progress(predictor: Predictor, paths: list[Path]) -> None:
    heard: list[tuple[int, int]] = []
    seen = list(predictor.predict_files(paths[:5], 2, lambda done, total: heard.append((done, total))))
    assert [path for path, _ in seen] == paths[:5]
    assert heard == [(2, 5), (4, 5), (5, 5)]


def test_no_pictures_give_no_answers(predictor: Predictor) -> None:
    assert predictor.predict([]) == []
    assert list(predictor.predict_files([])) == []


def test_classes_and_card_come_from_the_folder(predictor: Predictor, fitted: Fitted) -> None:
    assert [item.name for item in predictor.classes] == ["ball", "crate", "tent", "figure"]
    assert predictor.classes[3].flip_index == (0, 1, 4, 5, 2, 3, 7, 6)
    assert predictor.card["weights_sha256"] == fitted.weights_sha256


def test_a_folder_that_is_no_model_is_refused(fitted: Fitted, tmp_path: Path) -> None:
    with pytest.raises(BrokenModel):
        Predictor.load(tmp_path)
    weights = (fitted.folder / "model.safetensors").read_bytes()
    write_json(tmp_path / "card.json", dict(fitted.card))
    (tmp_path / "model.safetensors").write_bytes(weights[:-10])
    with pytest.raises(BrokenModel):
        Predictor.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    write_json(tmp_path / "card.json", dict(fitted.card) | {"classes": []})
    with pytest.raises(BrokenModel):
        Predictor.load(tmp_path)


def test_bytes_that_are_no_picture_are_refused(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no picture")
    with pytest.raises(BrokenPicture):
        list(predictor.predict_files([tmp_path / "note.txt"]))


def test_the_command_prints_a_line_a_picture(
    fitted: Fitted, paths: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.main(["--model", str(fitted.folder), *map(str, paths[:2])]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in paths[:2]]
    for line in lines:
        for item in line["detections"]:
            Detection(**item)
    assert predict.main(["--model", "nowhere", str(paths[0])]) == 2
    assert "nowhere" in capsys.readouterr().err
