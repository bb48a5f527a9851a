"""Detectors whose weights come from elsewhere: `transformers:DETECTOR` or `transformers:DETECTOR+POSE`.

DETECTOR names weights of RT-DETR, RT-DETRv2 or D-FINE, POSE of ViTPose: each a local folder as
`save_pretrained` writes it, or a name on the Hugging Face hub. Only safetensors are read, and no code comes
with them. Heads are made for the project's classes and joints; those that the weights know by the same name
keep what was learnt of them.

A trained model's folder holds its own weights and, in its card, the configuration that `from_configuration`
rebuilds it from, so nothing of the original is needed again.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import (
    AutoConfig,
    DFineForObjectDetection,
    RTDetrForObjectDetection,
    RTDetrV2ForObjectDetection,
    VitPoseForPoseEstimation,
)
from transformers.utils import cached_file, logging

from ml.models.base import Build, Model, UnusableArchitecture
from ml.models.detr import CLASS_TENSORS, DetrDetector
from ml.models.pose import TopDownPose
from ml.schema import Layout

DETECTORS: Final[Mapping[str, Any]] = {
    "rt_detr": RTDetrForObjectDetection,
    "rt_detr_v2": RTDetrV2ForObjectDetection,
    "d_fine": DFineForObjectDetection,
}
POSES: Final[Mapping[str, Any]] = {"vitpose": VitPoseForPoseEstimation}
BACKBONES: Final = ("rt_detr_resnet", "hgnet_v2", "vitpose_backbone")
"""The ones that are built from their configuration alone; others would ask a network or another library."""
PRIOR: Final = 0.01
"""Class score of a fresh head."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def from_weights(name: str) -> Build:
    """What builds a detector from the weights of this name. Raises `UnusableArchitecture`, also when it builds."""
    detector_name, _, pose_name = name.partition("+")
    if not detector_name:
        raise UnusableArchitecture("After transformers: comes a folder with weights, or a name on the hub.")

    def build(layout: Layout) -> Model:
        if layout.joint_count and not pose_name:
            raise UnusableArchitecture(
                f"{detector_name!r} finds boxes, and {_with_joints(layout)} has joints: name the weights of a "
                "ViTPose after a plus sign, transformers:DETECTOR+POSE, or train dense-small."
            )
        given = _read(detector_name, DETECTORS)
        configuration: dict[str, Any] = {
            "detector": {"config": _plain(given.config), **_normalisation(detector_name, normalised=False)},
            "pose": None,
        }
        given_pose = None
        if layout.joint_count:
            given_pose = _read(pose_name, POSES)
            configuration["pose"] = {
                "config": _plain(given_pose.config),
                **_normalisation(pose_name, normalised=True),
            }
        model = from_configuration(layout, configuration)
        names = [item.name for item in layout.classes]
        _take_over(model.detector, given, names, CLASS_TENSORS)
        if model.pose is not None and given_pose is not None:
            joints = [joint for item in layout.classes for joint in item.joints]
            _take_over(model.pose.network, given_pose, joints, ("head",))
        return model

    return build


def from_configuration(layout: Layout, configuration: Mapping[str, Any]) -> DetrDetector:
    """A detector with fresh weights, from what a card keeps. Raises `UnusableArchitecture`."""
    try:
        raw = configuration["detector"]["config"]
        names = [item.name for item in layout.classes]
        detector = _fresh(raw | {"initializer_bias_prior_prob": PRIOR}, names, DETECTORS)
        pose = None
        if configuration["pose"] is not None:
            joints = [joint for item in layout.classes for joint in item.joints]
            network = _fresh(configuration["pose"]["config"], joints, POSES)
            pose = TopDownPose(layout, network, configuration["pose"]["mean"], configuration["pose"]["std"])
        return DetrDetector(layout, detector, pose, configuration)
    except (KeyError, TypeError) as error:
        raise UnusableArchitecture(f"The configuration of the model is not complete: {error!r}") from error


def _fresh(raw: Mapping[str, Any], names: Sequence[str], known: Mapping[str, Any]) -> Any:
    """A network with fresh weights that answers for these names."""
    _refuse_unknown(raw, known)
    settings = {key: value for key, value in raw.items() if key not in ("id2label", "label2id", "dtype")}
    model_type = settings.pop("model_type")
    labels = {index: f"{index} {name}" for index, name in enumerate(names)}  # distinct, whatever the names
    config = AutoConfig.for_model(
        model_type, **settings, id2label=labels, label2id={name: index for index, name in labels.items()}
    )
    return known[model_type](config).float()


def _read(name: str, known: Mapping[str, Any]) -> Any:
    """The network that a folder or a hub name holds, as it is."""
    logging.disable_progress_bar()
    here = Path(name).exists()
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=here)
        _refuse_unknown(_plain(config), known)
        network, report = known[config.model_type].from_pretrained(
            name,
            config=config,
            use_safetensors=True,
            local_files_only=here,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        if isinstance(error, UnusableArchitecture):
            raise
        raise UnusableArchitecture(
            f"The weights {name!r} cannot be used: {' '.join(str(error).split())[:300]} "
            "Give a folder with config.json and model.safetensors, or the hub name of one; a hub name needs "
            "the network, or weights in its cache."
        ) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise UnusableArchitecture(
            f"The weights {name!r} lack {len(missing)} tensors of the network, {missing[0]} for one; "
            "give weights that were saved with their head."
        )
    return network


def _refuse_unknown(raw: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    kind = raw.get("model_type")
    if kind not in known:
        raise UnusableArchitecture(
            f"A network of type {kind!r} cannot be used here; choose one of {', '.join(known)}."
        )
    backbone = (raw.get("backbone_config") or {}).get("model_type")
    if backbone not in BACKBONES:
        raise UnusableArchitecture(
            f"A {kind} with a backbone of type {backbone!r} cannot be used here; choose one of {', '.join(BACKBONES)}."
        )


def _plain(config: Any) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in raw.items() if key not in ("_name_or_path", "transformers_version")}


def _normalisation(name: str, *, normalised: bool) -> dict[str, list[float]]:
    """{mean, std} in 0–255 from the weights' `preprocessor_config.json`; `normalised` says what is usual."""
    path = cached_file(
        name,
        "preprocessor_config.json",
        local_files_only=Path(name).exists(),
        _raise_exceptions_for_missing_entries=False,
    )
    told: dict[str, Any] = {} if path is None else json.loads(Path(path).read_text())
    unit = told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 1.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if told.get("do_normalize", normalised):
        mean, std = told.get("image_mean") or MEAN, told.get("image_std") or STD
    return {"mean": [value / unit for value in mean], "std": [value / unit for value in std]}


def _take_over(mine: nn.Module, given: Any, names: Sequence[str], heads: Sequence[str]) -> None:
    """Copies into `mine` the given weights; of a head's rows those whose names both know."""
    known = {_spelt(name): int(index) for index, name in given.config.id2label.items()}
    rows = [(row, known[_spelt(name)]) for row, name in enumerate(names) if _spelt(name) in known]
    theirs = given.state_dict()
    with torch.no_grad():
        for name, tensor in mine.state_dict().items():
            other = theirs[name]
            if any(part in heads for part in name.split(".")) and _is_last(name):
                for row, its in rows:
                    tensor[row] = other[its]
            else:
                tensor.copy_(other)


def _is_last(name: str) -> bool:
    """Whether a tensor of a pose's head is the layer with a row per joint; a class head has no other layers."""
    return not name.startswith("head.") or name.startswith("head.conv.")


def _spelt(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _with_joints(layout: Layout) -> str:
    return next(f"class {item.name!r}" for item in layout.classes if item.joints)
