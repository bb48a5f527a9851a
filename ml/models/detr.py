"""Transformer detectors of the DETR family from `transformers`: RT-DETR, RT-DETRv2 and D-FINE.

Each of a few hundred queries answers for one object or for none, so there is no suppression
(Carion et al. 2020). They learn from pretrained weights in few steps and from random ones hardly at all. They
find boxes; for classes with joints a `TopDownPose` looks at each box.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ml.boxes import Targets, cxcywh_to_xyxy, xyxy_to_cxcywh
from ml.decode import Found, best_of
from ml.models.base import EMBEDDING_SIZE
from ml.models.pose import TopDownPose
from ml.schema import Layout

LOSS_NAMES: Final = {"vfl": "class", "bbox": "box", "giou": "overlap", "fgl": "corners", "ddf": "distilled"}
"""What the parts of their loss are called here; each sums what it says over the decoder's layers."""
CLASS_TENSORS: Final = ("class_embed", "enc_score_head", "denoising_class_embed")
CANDIDATES: Final = 1000
NO_SUPPRESSION: Final = 1.0
TINY: Final = 1e-30  # what a fresh network answers may be very small
PADDING: Final = 114.0  # as `ml.data` pads


class DetrDetector(nn.Module):
    """See the module's docstring; `ml.models.base.Model` says what the methods promise.

    How sure a label is weighs nothing here: the loss of this family takes objects whole, so an ignored region
    is left out and what the model finds in it counts as a mistake. The loss is in float32 whatever the
    precision of the run, as its matching is not made for bfloat16.
    """

    stride = 32
    mean: Tensor
    std: Tensor
    mixer: Tensor  # [d, 128]

    def __init__(
        self, layout: Layout, detector: nn.Module, pose: TopDownPose | None, configuration: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.layout = layout
        self.configuration = configuration
        self.detector = _with_constants_as_buffers(detector)
        self.pose = pose
        settings: Any = detector.config
        self.loss_names = ("vfl", "bbox", "giou") + (
            ("fgl", "ddf") if settings.model_type == "d_fine" else ()
        )
        self.smallest = _smallest_side(settings.num_queries, settings.feat_strides)
        normalisation = configuration["detector"]
        self.register_buffer("mean", torch.tensor(normalisation["mean"]).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation["std"]).reshape(3, 1, 1), persistent=False)
        mixer = torch.randn(settings.d_model, EMBEDDING_SIZE, generator=torch.Generator().manual_seed(0))
        self.register_buffer(
            "mixer", mixer
        )  # in the weights: embeddings are compared for as long as they live
        self._aliases = _aliases_of(self)
        self.register_state_dict_post_hook(_without_aliases)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_with_aliases)  # type: ignore[no-untyped-call]

    def rows_of(self, name: str) -> str:
        if self.pose is not None and name.startswith("pose."):
            return self.pose.rows_of(name.removeprefix("pose."))
        return "classes" if any(part in CLASS_TENSORS for part in name.split(".")) else ""

    def losses(self, pictures: Tensor, targets: Targets) -> dict[str, Tensor]:
        height, width = self._canvas(pictures)
        size = targets.boxes.new_tensor([width, height] * 2)
        asked = (targets.weights > 0) & ~targets.ignored
        labels = [
            {
                "class_labels": targets.classes[index][asked[index]],
                "boxes": (
                    xyxy_to_cxcywh(targets.boxes[index][asked[index]].float().clamp(min=0)) / size
                ).clamp(max=1),
            }
            for index in range(len(pictures))
        ]
        with torch.autocast(pictures.device.type, enabled=False):
            found: Any = self.detector(self._seen(pictures), labels=labels)
            parts = {LOSS_NAMES[name]: found.logits.sum() * 0 for name in self.loss_names}
            for name, part in found.loss_dict.items():  # "loss_giou_aux_0"
                parts[LOSS_NAMES[name.split("_")[1]]] = parts[LOSS_NAMES[name.split("_")[1]]] + part
            if self.pose is not None:
                parts["joints"] = self.pose.loss(pictures.float(), targets, asked)
        return parts

    @torch.no_grad()
    def detect(self, pictures: Tensor, *, score_threshold: float, limit: int) -> tuple[list[Found], Tensor]:
        with torch.autocast(pictures.device.type, enabled=False):
            seen: Any = self.detector(self._seen(pictures))
        height, width = self._canvas(pictures)
        boxes = cxcywh_to_xyxy(seen.pred_boxes.float()) * seen.pred_boxes.new_tensor([width, height] * 2)
        scores = seen.logits.float().sigmoid()
        points = boxes.new_zeros(*boxes.shape[:2], 0, 3)
        owned = torch.zeros(len(self.layout.classes), 0, dtype=torch.bool, device=boxes.device)
        found = [
            best_of(
                scores[index],
                boxes[index],
                points[index],
                owned,
                score_threshold=score_threshold,
                iou_threshold=NO_SUPPRESSION,
                candidates=CANDIDATES,
                limit=limit,
            )
            for index in range(len(pictures))
        ]
        if self.pose is not None:
            found = [self._with_joints(picture, item) for picture, item in zip(pictures, found, strict=True)]
        coarsest = seen.encoder_last_hidden_state[-1].float().mean((2, 3))
        mixed = F.normalize(coarsest, dim=1, eps=TINY) @ self.mixer
        return found, F.normalize(mixed, dim=1, eps=TINY)

    def _with_joints(self, picture: Tensor, found: Found) -> Found:
        assert self.pose is not None
        points, spread = self.pose.points(picture.float(), found.boxes, found.classes)
        return replace(found, points=points, spread=spread)

    def _canvas(self, pictures: Tensor) -> tuple[int, int]:
        """(height, width) of what the detector sees: no side so short that there are fewer places than queries."""
        return max(pictures.shape[2], self.smallest), max(pictures.shape[3], self.smallest)

    def _seen(self, pictures: Tensor) -> Tensor:
        height, width = self._canvas(pictures)
        grown = (0, width - pictures.shape[3], 0, height - pictures.shape[2])
        return (F.pad(pictures.float(), grown, value=PADDING) - self.mean) / self.std


def _with_constants_as_buffers(network: nn.Module) -> nn.Module:
    """D-FINE keeps two fixed numbers as parameters that never learn; whoever looks for frozen weights finds none."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                delattr(module, name)
                module.register_buffer(name, parameter.detach())
    return network


def _smallest_side(queries: int, strides: tuple[int, ...]) -> int:
    """The smallest square, in multiples of 32, with at least as many places as there are queries.

    >>> _smallest_side(300, (8, 16, 32))
    128
    """
    side = 32
    while sum((side // stride) ** 2 for stride in strides) < queries:
        side += 32
    return side


def _aliases_of(model: nn.Module) -> dict[str, str]:
    """Tensors that several names share: each further name → the first."""
    first: dict[int, str] = {}
    aliases = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        known = first.setdefault(id(tensor), name)
        if known != name:
            aliases[name] = known
    return aliases


def _without_aliases(module: Any, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """Weights on disk hold a shared tensor once; safetensors refuses the same memory twice."""
    for name in module._aliases:
        state.pop(prefix + name, None)


def _with_aliases(module: Any, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, first in module._aliases.items():
        if prefix + first in state:
            state.setdefault(prefix + name, state[prefix + first])
