"""Architectures from `transformers`, with tiny random networks saved to folders; nothing asks a network."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ml.boxes import Targets
from ml.checkpoint import sha256_of
from ml.data import open_picture
from ml.models import Model, UnusableArchitecture, architecture, configuration_of, restored
from ml.predict import Predictor
from ml.schema import DetectedClass, Layout
from ml.train import Cancelled, Progress, TrainConfig, TrainingRefused, fit
from ml.training.warm_start import Start, take_over
from tests.ml.conftest import TINY

transformers: Any = pytest.importorskip(
    "transformers", reason="the optional extra is not installed: pip install --group transformers"
)

BALL = DetectedClass(2, "Ball")
DOG = DetectedClass(5, "dog", ("nose", "tail"), flip_index=(0, 1))
LAYOUT = Layout((BALL, DOG))
KNOWN = {0: "tree", 1: "ball", 2: "cat"}
KNOWN_JOINTS = {0: "left ear", 1: "nose", 2: "chin"}
SMALL = {
    "encoder_hidden_dim": 16,
    "encoder_in_channels": [16, 16, 32],
    "d_model": 16,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "decoder_in_channels": [16, 16, 16],
    "decoder_layers": 2,
    "num_queries": 30,
    "num_denoising": 10,
    "hidden_expansion": 0.5,
}
WIDTHS = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 16, 32],
    "depths": [1, 1, 1, 1],
    "out_indices": [2, 3, 4],
}


def named(names: dict[int, str]) -> dict[str, Any]:
    return {"id2label": names, "label2id": {name: index for index, name in names.items()}}


def tiny_rt_detr_v2() -> Any:
    backbone = transformers.RTDetrResNetConfig(**WIDTHS, layer_type="basic")
    config = transformers.RTDetrV2Config(backbone_config=backbone, **SMALL, **named(KNOWN))
    return transformers.RTDetrV2ForObjectDetection(config)


def tiny_d_fine() -> Any:
    backbone = transformers.HGNetV2Config(
        **WIDTHS,
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 16, 16],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[8, 16, 16, 32],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
    )
    config = transformers.DFineConfig(backbone_config=backbone, depth_mult=0.34, **SMALL, **named(KNOWN))
    return transformers.DFineForObjectDetection(config)


def tiny_vitpose() -> Any:
    backbone = transformers.VitPoseBackboneConfig(
        image_size=(64, 48), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, out_indices=[2]
    )
    config = transformers.VitPoseConfig(backbone_config=backbone, **named(KNOWN_JOINTS))
    return transformers.VitPoseForPoseEstimation(config)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, network in (("v2", tiny_rt_detr_v2()), ("fine", tiny_d_fine()), ("pose", tiny_vitpose())):
            network.save_pretrained(folder / name)
    return folder


@pytest.fixture(params=["v2", "fine"])
def name(request: pytest.FixtureRequest, weights: Path) -> str:
    return f"transformers:{weights / request.param}+{weights / 'pose'}"


def built(name: str, layout: Layout = LAYOUT) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return architecture(name)(layout)


def one_of_each() -> tuple[torch.Tensor, Targets]:
    pictures = torch.full((1, 3, 64, 96), 114.0)
    pictures[..., 8:32, 8:32] = 255
    pictures[..., 10:54, 50:90] = 20
    points = torch.zeros(1, 2, 2, 3)
    points[0, 1] = torch.tensor([[55.0, 15.0, 2.0], [85.0, 50.0, 2.0]])
    return pictures, Targets(
        boxes=torch.tensor([[[8.0, 8, 32, 32], [50, 10, 90, 54]]]),
        classes=torch.tensor([[0, 1]]),
        points=points,
        weights=torch.ones(1, 2),
        ignored=torch.zeros(1, 2, dtype=torch.bool),
    )


def test_two_boxes_and_their_joints_are_learnt(name: str) -> None:
    model = built(name)
    pictures, targets = one_of_each()
    optimizer = torch.optim.AdamW([p for _, p in model.named_parameters()], lr=3e-3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        totals, joints = [], []
        for _ in range(40):
            optimizer.zero_grad()
            parts = model.losses(pictures, targets)
            total = torch.stack(list(parts.values())).sum()
            total.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([p for _, p in model.named_parameters()], 10.0)
            optimizer.step()
            totals.append(total.item())
            joints.append(parts["joints"].item())
    assert sum(totals[-5:]) < 0.8 * sum(totals[:5])
    assert sum(joints[-5:]) < 0.6 * sum(joints[:5])


def test_no_weight_is_frozen_and_a_gradient_reaches_each(name: str) -> None:
    model = built(name)
    pictures, targets = one_of_each()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(2):  # the last layers begin at zero and let gradients through once they moved
            torch.stack(list(model.losses(pictures, targets).values())).sum().backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for key, parameter in model.named_parameters():
                    assert parameter.grad is not None, key
                    parameter.sub_(1e-3 * parameter.grad)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0, key


def test_every_detection_is_of_the_picture_and_carries_its_joints(name: str) -> None:
    model = built(name).train(False)
    pictures, _ = one_of_each()
    (found, other), embedding = model.detect(torch.cat((pictures, pictures)), score_threshold=0.0, limit=7)
    assert found.boxes.shape == (7, 4)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert found.points.shape == (7, 2, 3)
    assert ((found.points[..., 2] >= 0) & (found.points[..., 2] <= 1)).all()
    assert torch.allclose(found.boxes, other.boxes, atol=1e-3)
    assert embedding.shape == (2, 128)
    assert embedding.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_rebuilt_from_its_card_it_answers_the_same(name: str) -> None:
    model = built(name).train(False)
    again = restored(name, LAYOUT, json.loads(json.dumps(configuration_of(model)))).train(False)
    again.load_state_dict(model.state_dict())
    pictures, _ = one_of_each()
    [first], embedding = model.detect(pictures, score_threshold=0.0, limit=30)
    [second], same = again.detect(pictures, score_threshold=0.0, limit=30)
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(first.points, second.points)
    assert torch.equal(embedding, same)


def test_a_class_that_the_weights_know_by_name_keeps_what_they_learnt(weights: Path) -> None:
    given = tiny_rt_detr_v2().from_pretrained(weights / "v2").state_dict()
    state = built(f"transformers:{weights / 'v2'}+{weights / 'pose'}").state_dict()
    for head in ("model.enc_score_head.weight", "model.denoising_class_embed.weight"):
        assert torch.equal(state[f"detector.{head}"][0], given[head][1]), "Ball is their ball"
        assert not any(torch.equal(state[f"detector.{head}"][1], row) for row in given[head]), "dog is new"
    backbone = next(key for key in given if key.startswith("model.backbone") and key.endswith("weight"))
    assert torch.equal(state[f"detector.{backbone}"], given[backbone])
    joints = tiny_vitpose().from_pretrained(weights / "pose").state_dict()["head.conv.weight"]
    assert torch.equal(state["pose.network.head.conv.weight"][0], joints[1]), "nose is their nose"


def test_a_warm_start_keeps_classes_and_joints_by_name(name: str) -> None:
    old = built(name)
    cat = DetectedClass(7, "cat")
    model = built(name, Layout((cat, replace(DOG, joints=("ear", "tail")))))
    take_over(model, Start("", LAYOUT, old.state_dict()))
    before, after = old.state_dict(), model.state_dict()
    bias = "detector.model.enc_score_head.weight"
    assert torch.equal(after[bias][1], before[bias][1])
    assert torch.equal(after["pose.network.head.conv.weight"][1], before["pose.network.head.conv.weight"][1])
    assert not torch.equal(
        after["pose.network.head.conv.weight"][0], before["pose.network.head.conv.weight"][0]
    )


def test_pictures_without_any_object_still_teach_and_name_the_same_parts(name: str) -> None:
    model = built(name)
    pictures, targets = one_of_each()
    none = Targets(
        torch.zeros(1, 0, 4),
        torch.zeros(1, 0, dtype=torch.int64),
        torch.zeros(1, 0, 2, 3),
        torch.zeros(1, 0),
        torch.zeros(1, 0, dtype=torch.bool),
    )
    parts = model.losses(pictures, none)
    assert parts["class"].item() > 0
    assert parts["box"].item() == parts["joints"].item() == 0
    assert parts.keys() == model.losses(pictures, targets).keys()


def test_a_trained_folder_needs_neither_the_weights_nor_a_network_and_resumes_equal(
    snapshot: Path, weights: Path, tmp_path: Path
) -> None:
    own = tmp_path / "weights"
    own.mkdir()
    for part in ("v2", "pose"):
        (own / part).mkdir()
        for file in (weights / part).iterdir():
            (own / part / file.name).write_bytes(file.read_bytes())
    config = TrainConfig(
        architecture=f"transformers:{own / 'v2'}+{own / 'pose'}",
        steps=6,
        batch=2,
        side=96,
        threads=1,
        learning_rate=1e-4,
        checkpoint_steps=3,
        precision="float32",
    )
    whole = fit(snapshot, tmp_path / "whole", config=config)

    heard: list[Progress] = []
    asked = iter([False] * 4 + [True] * 10)
    with pytest.raises(Cancelled):
        fit(
            snapshot,
            tmp_path / "cut",
            config=config,
            on_progress=heard.append,
            should_stop=lambda: next(asked),
        )
    resumed = fit(snapshot, tmp_path / "cut", config=config)
    assert resumed.weights_sha256 == whole.weights_sha256 == sha256_of(tmp_path / "cut/model.safetensors")

    (own / "v2/model.safetensors").unlink()
    (own / "pose/model.safetensors").unlink()
    pictures = [open_picture(path) for path in sorted((snapshot / "images").iterdir())[:2]]
    first = Predictor.load(whole.folder, "cpu").look(pictures, score_threshold=0.0, limit=5)
    second = Predictor.load(resumed.folder, "cpu").look(pictures, score_threshold=0.0, limit=5)
    assert [seen.detections for seen in first] == [seen.detections for seen in second]
    assert all(len(seen.detections) == 5 for seen in first)


def test_a_narrow_picture_has_room_for_all_queries(weights: Path) -> None:
    model = built(f"transformers:{weights / 'v2'}", Layout((BALL,))).train(False)
    [found], _ = model.detect(torch.zeros(1, 3, 32, 32), score_threshold=0.0, limit=300)
    assert len(found.boxes) == SMALL["num_queries"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("transformers:", "comes a folder"),
        ("transformers:{weights}/v2", "'dog' has joints"),
        ("transformers:{weights}/pose+{weights}/pose", "type 'vitpose' cannot be used here"),
        ("transformers:{weights}/v2+{weights}/v2", "choose one of vitpose"),
        ("transformers:{weights}/nothing/is/here+{weights}/pose", "cannot be used"),
        ("detectron9", "There is no architecture 'detectron9'; choose one of dense-small"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_sentence(weights: Path, asked: str, told: str) -> None:
    with pytest.raises(UnusableArchitecture, match=told):
        architecture(asked.format(weights=weights))(LAYOUT)


def test_weights_as_a_pickle_are_refused(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((weights / "v2/config.json").read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UnusableArchitecture, match=r"model\.safetensors"):
        architecture(f"transformers:{tmp_path}")(Layout((BALL,)))


def test_weights_without_their_head_are_refused(weights: Path, tmp_path: Path) -> None:
    network = tiny_rt_detr_v2()
    network.save_pretrained(
        tmp_path,
        state_dict={key: t for key, t in network.state_dict().items() if "enc_score_head" not in key},
    )
    with pytest.raises(UnusableArchitecture, match="lack 2 tensors"):
        architecture(f"transformers:{tmp_path}")(Layout((BALL,)))


def test_a_run_says_why_its_weights_cannot_be_used(snapshot: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingRefused, match="cannot be used"):
        fit(snapshot, tmp_path, config=replace(TINY, architecture=f"transformers:{tmp_path}+{tmp_path}"))


def test_without_the_extra_the_refusal_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ml.models.pretrained", raising=False)
    monkeypatch.delattr("ml.models.pretrained", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UnusableArchitecture, match="pip install --group transformers"):
        architecture("transformers:anything")
