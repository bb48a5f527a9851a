"""A model folder as an ONNX file, for programs without torch.

The file answers what the network answers, before any threshold or suppression; `docs/how-to/export-to-onnx.md`
says how to go on from there. It is handed out only after onnxruntime and torch agreed on drawn pictures, raw
and decoded. Also a command: `python -m ml.export --model DIR --out FILE`.
"""

import argparse
import copy
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from ml.boxes import iou_xyxy
from ml.data import GREY
from ml.decode import Found
from ml.models import Model
from ml.predict import SCORE_THRESHOLD, Predictor
from ml.schema import canonical_json

OPSET: Final = 20
ABSOLUTE, RELATIVE = 1e-3, 1e-4
"""How far onnxruntime may be from torch in any number: so much, and so much of what torch says."""
SAME_BOX_IOU: Final = 0.99
LIMIT: Final = 100

OUTPUTS: Final[Mapping[str, str]] = {
    "logits": "[batch, places, classes]: the sigmoid is the score of each class",
    "boxes": "[batch, places, 4]: left, top, right, bottom in the input's pixels",
    "joints": "[batch, places, joints, 3]: x, y in the input's pixels, and a logit; all classes' joints in turn",
    "centres": "[places, 2]: x, y of the place that answers, in the input's pixels",
    "embedding": "[batch, 128], of length 1: like pictures lie close",
}


class ExportRefused(ValueError):
    """There is no file; the message says why and what to do."""


@runtime_checkable
class Exportable(Protocol):
    """A model whose `forward` gives tensors by these names, and whose `detect` decodes what `forward` gives."""

    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the file's answers are from torch's: the largest difference by output, over drawn pictures.

    `detections` were compared after decoding; all of them were found by both.
    """

    differences: Mapping[str, float]
    detections: int


@dataclass(frozen=True, slots=True)
class Exported:
    path: Path
    bytes: int
    parity: Parity


def export(folder: Path, out: Path, on_progress: Callable[[str], None] = lambda _: None) -> Exported:
    """Writes a model folder as an ONNX file, there in full or not at all.

    Batch and sides are free; sides are multiples of the model's stride. Raises `BrokenModel`, or
    `ExportRefused` also when the file's answers are not the model's.
    """
    onnx = _tool("onnx")
    _tool("onnxscript")
    predictor = Predictor.load(folder, "cpu")
    model = predictor.model
    if not isinstance(model, Exportable) or not isinstance(model, nn.Module):
        raise ExportRefused(
            f"A model of architecture {predictor.card['architecture']!r} cannot be exported; "
            "train one of the built-in architecture, or export it with its own library."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        on_progress("writing the network")
        _write(model, predictor, beside)
        proto = onnx.load(beside)
        onnx.helper.set_model_props(proto, _notes(predictor, model.outputs))
        onnx.checker.check_model(proto, full_check=True)
        onnx.save(proto, beside)
        on_progress("comparing onnxruntime with torch")
        parity = compare(predictor.model, onnx_model(predictor.model, beside), predictor.side)
        size = beside.stat().st_size
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
    return Exported(out, size, parity)


def onnx_model(model: Model, path: Path) -> Model:
    """`model` with its network run by onnxruntime: what comes before and after it is the same code."""
    runtime = _tool("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(pictures: Tensor) -> tuple[Tensor, ...]:
        answers = session.run(None, {"pictures": pictures.to(torch.uint8).numpy()})
        return tuple(torch.from_numpy(answer) for answer in answers)

    twin = cast(nn.Module, copy.copy(model))
    twin.forward = forward
    return cast(Model, twin)


def compare(model: Model, exported: Model, side: int) -> Parity:
    """Both on drawn pictures of several sizes and batches. Raises `ExportRefused` where they disagree."""
    network, other = cast(nn.Module, model), cast(nn.Module, exported)
    names = cast(Exportable, model).outputs
    differences = dict.fromkeys(names, 0.0)
    detections = 0
    long = -(-side // model.stride) * model.stride
    short = max(model.stride, long // 2 // model.stride * model.stride)
    for number, (batch, height, width) in enumerate(((1, long, long), (3, short, long), (2, long, short))):
        pictures = _drawn(batch, height, width, seed=number)
        with torch.no_grad():
            answers, theirs = network(pictures), other(pictures)
        for name, mine, its in zip(names, answers, theirs, strict=True):
            _refuse_difference(name, mine, its)
            if mine.numel():
                differences[name] = max(differences[name], (mine - its).abs().max().item())
        found, _ = model.detect(pictures, score_threshold=SCORE_THRESHOLD, limit=LIMIT)
        its_found, _ = exported.detect(pictures, score_threshold=SCORE_THRESHOLD, limit=LIMIT)
        for one, another in zip(found, its_found, strict=True):
            _refuse_other_detections(one, another)
            _refuse_other_detections(another, one)
            detections += len(one.scores)
    return Parity(differences, detections)


def _refuse_difference(name: str, mine: Tensor, its: Tensor) -> None:
    if mine.shape != its.shape:
        raise ExportRefused(
            f"The exported file's {name} are {list(its.shape)}, and torch's {list(mine.shape)}."
        )
    over = (mine - its).abs() - (ABSOLUTE + RELATIVE * mine.abs())
    if mine.numel() and not bool((over <= 0).all()):
        raise ExportRefused(
            f"The exported file disagrees with torch: its {name} are up to "
            f"{(mine - its).abs().max().item():.3g} away, {ABSOLUTE:g} and {RELATIVE:g} of the value are allowed. "
            "It was not kept; please report the versions of torch, onnx and onnxruntime."
        )


def _refuse_other_detections(mine: Found, its: Found) -> None:
    """Whether each of mine, unless it is at the edge of being shown at all, is one of theirs."""
    for box, score, channel in zip(mine.boxes, mine.scores, mine.classes, strict=True):
        if score <= SCORE_THRESHOLD + ABSOLUTE or (
            len(its.scores) == LIMIT and score <= its.scores[-1] + ABSOLUTE
        ):
            continue
        same = (its.classes == channel) & ((its.scores - score).abs() <= 2 * ABSOLUTE)
        same &= iou_xyxy(its.boxes, box[None]) > SAME_BOX_IOU
        if not same.any():
            raise ExportRefused(
                f"The exported file and torch find different objects: one of score {score.item():.3f} is missing. "
                "It was not kept; please report the versions of torch, onnx and onnxruntime."
            )


def _write(model: nn.Module, predictor: Predictor, path: Path) -> None:
    stride = predictor.model.stride
    rows, columns = torch.export.Dim("rows", min=1), torch.export.Dim("columns", min=1)
    free = {0: torch.export.Dim("batch", min=1), 2: stride * rows, 3: stride * columns}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside of the exporter itself
        program = torch.onnx.export(
            model,
            (_drawn(2, 3 * stride, 4 * stride, seed=0),),
            dynamo=True,
            input_names=["pictures"],
            output_names=list(cast(Exportable, model).outputs),
            dynamic_shapes={"pictures": free},
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=False)


def _notes(predictor: Predictor, outputs: Sequence[str]) -> dict[str, str]:
    """What stands in the file's metadata; each value is JSON."""
    card = predictor.card
    kept = ("architecture", "classes", "side", "snapshot", "weights_sha256", "code_version")
    preprocessing = {
        "orientation": "as EXIF says",
        "colour": "RGB, 8 bit",
        "longest_side": predictor.side,
        "resampling": "bilinear with antialiasing (Pillow's resize)",
        "padding": f"right and bottom with {GREY} to multiples of {predictor.model.stride}",
        "input": "pictures: uint8 [batch, 3, height, width], 0 to 255; the network normalises itself",
    }
    notes = {
        "labelwheel.model": {name: card.get(name) for name in kept},
        "labelwheel.preprocessing": preprocessing,
        "labelwheel.outputs": {name: OUTPUTS[name] for name in outputs},
    }
    return {name: canonical_json(value).decode() for name, value in notes.items()}


def _drawn(batch: int, height: int, width: int, *, seed: int) -> Tensor:
    """Noisy pictures with bright and dark rectangles: uint8 [batch, 3, height, width]."""
    random = torch.Generator().manual_seed(seed)
    pictures = torch.randint(96, 160, (batch, 3, height, width), generator=random)
    for picture in pictures:
        for _ in range(6):
            top, left = (int(torch.randint(0, extent, (1,), generator=random)) for extent in (height, width))
            tall, wide = (int(torch.randint(8, 64, (1,), generator=random)) for _ in range(2))
            colour = torch.randint(0, 256, (3, 1, 1), generator=random)
            picture[:, top : top + tall, left : left + wide] = colour
    return pictures.to(torch.uint8)


def _tool(name: str) -> ModuleType:
    """Imported when asked for, as they are optional."""
    try:
        return __import__(name)
    except ImportError as error:
        raise ExportRefused(
            f"Exporting needs {name}, which is not installed here: run "
            "`.venv/bin/pip install --group onnx -c constraints.txt`, then start again."
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ml.export", description="Write a model folder as an ONNX file that agrees with torch."
    )
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        exported = export(options.model, options.out, lambda told: print(told, file=sys.stderr, flush=True))
    except ValueError as error:  # BrokenModel, ExportRefused
        print(error, file=sys.stderr)
        return 2
    answer: dict[str, Any] = {"out": str(exported.path), "bytes": exported.bytes, **asdict(exported.parity)}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
