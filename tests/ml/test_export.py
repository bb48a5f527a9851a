"""A model as an ONNX file. One export for all tests here, as it takes seconds."""

import json
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from ml import export
from ml.data import open_picture
from ml.export import Exported, ExportRefused, compare, onnx_model
from ml.predict import Predictor
from ml.train import Fitted

onnx: Any = pytest.importorskip(
    "onnx", reason="the optional extra is not installed: pip install --group onnx"
)
pytest.importorskip("onnxruntime", reason="the optional extra is not installed: pip install --group onnx")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export.export(fitted.folder, tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture
def predictor(fitted: Fitted) -> Predictor:
    return Predictor.load(fitted.folder, "cpu")


def test_the_file_agrees_with_torch_and_says_by_how_much(exported: Exported) -> None:
    assert exported.bytes == exported.path.stat().st_size > 1_000_000
    assert set(exported.parity.differences) == {"logits", "boxes", "joints", "centres", "embedding"}
    assert all(0 <= value < 0.01 for value in exported.parity.differences.values())
    assert exported.parity.detections > 0
    assert [path.name for path in exported.path.parent.iterdir()] == ["model.onnx"]


def test_pictures_are_answered_alike_by_both(
    exported: Exported, predictor: Predictor, snapshot: Path
) -> None:
    twin = Predictor(onnx_model(predictor.model, exported.path), predictor.card, torch.device("cpu"))
    pictures = [open_picture(path) for path in sorted((snapshot / "images").iterdir())[:5]]
    for mine, its in zip(predictor.look(pictures), twin.look(pictures), strict=True):
        assert [item.class_id for item in mine.detections] == [item.class_id for item in its.detections]
        for one, other in zip(mine.detections, its.detections, strict=True):
            assert one.xyxy == pytest.approx(other.xyxy, abs=0.05)
            assert one.score == pytest.approx(other.score, abs=1e-3)
            assert one.points == pytest.approx(other.points, abs=0.05)
        assert mine.embedding == pytest.approx(its.embedding, abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (5, 3, 64, 160)])
def test_batch_and_sides_are_free(exported: Exported, predictor: Predictor, shape: tuple[int, ...]) -> None:
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mine = cast(nn.Module, predictor.model)(pictures)
    its = cast(nn.Module, onnx_model(predictor.model, exported.path))(pictures)
    for one, other in zip(mine, its, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


def test_the_file_names_its_classes_and_how_pictures_go_in(exported: Exported, fitted: Fitted) -> None:
    notes = {item.key: json.loads(item.value) for item in onnx.load(exported.path).metadata_props}
    assert notes["labelwheel.model"]["weights_sha256"] == fitted.weights_sha256
    assert notes["labelwheel.model"]["classes"] == fitted.card["classes"]
    assert notes["labelwheel.preprocessing"]["longest_side"] == fitted.card["side"]
    assert "114" in notes["labelwheel.preprocessing"]["padding"]
    assert list(notes["labelwheel.outputs"]) == sorted(exported.parity.differences)


def test_a_file_that_disagrees_is_refused_with_the_difference(
    exported: Exported, predictor: Predictor
) -> None:
    twin = onnx_model(predictor.model, exported.path)
    with torch.no_grad():
        next(
            parameter
            for name, parameter in predictor.model.named_parameters()
            if name.startswith("class_head") and parameter.ndim == 1
        ).add_(0.01)
    with pytest.raises(ExportRefused, match=r"its logits are up to 0\.0\d+ away"):
        compare(predictor.model, twin, predictor.side)


def test_nothing_is_left_of_a_file_that_is_refused(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: Exported
) -> None:
    def disagree(*_: object) -> None:
        raise ExportRefused("disagrees")

    def copied(model: object, predictor: object, path: Path) -> None:
        path.write_bytes(exported.path.read_bytes())

    monkeypatch.setattr(export, "_write", copied)
    monkeypatch.setattr(export, "compare", disagree)
    with pytest.raises(ExportRefused):
        export.export(fitted.folder, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tool", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_the_refusal_says_what_to_install(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, exported: Exported
) -> None:
    monkeypatch.setattr(export, "_write", lambda *args: args[2].write_bytes(exported.path.read_bytes()))
    monkeypatch.setitem(sys.modules, tool, None)
    with pytest.raises(ExportRefused, match="pip install --group onnx"):
        export.export(fitted.folder, tmp_path / "model.onnx")


def test_the_command_says_why_there_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(["--model", str(tmp_path / "nowhere"), "--out", str(tmp_path / "m.onnx")]) == 2
    assert "nowhere" in capsys.readouterr().err
