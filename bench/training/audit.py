"""Label audit: BCCD's own mistakes, which are known, and mistakes planted in drawn and in real pictures.

BCCD (Shenggan, 364 pictures) has 15 pictures full of red cells none of which is boxed, two boxes without area and
eight pairs of boxes on one cell. The scoring was chosen on drawn pictures alone, never by these.
"""

import hashlib
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.training.planted import Planted, figures, plant
from bench.training.sets import RealSet, bccd
from ml import synthetic
from ml.audit import audit
from ml.findings import Doubtful, review_list
from ml.metrics import iou_matrix
from ml.predict import Predictor
from ml.schema import DetectedClass, Example, Object, write_labels
from ml.train import TrainConfig, fit

FIRST: Final = 30
CELLS: Final = "RBC"
PLANTED_SHARE: Final = 0.35
STEPS: Final = 260
DRAWN_STEPS: Final = 400
DRAWN: Final = 240


def run(*, quick: bool, sets: Path, work: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """`audit_hits_30`: of the 15 pictures, how many are among the first 30, the worst seed's; CPU in core-seconds."""
    steps = 120 if quick else STEPS
    real = with_flat_boxes(bccd(sets), sets / "bccd" / "BCCD" / "Annotations")
    cells = next(item.id for item in real.classes if item.name == CELLS)
    examples = [replace(item, split="train") for item in (*real.train, *real.test)]
    unboxed = {item.sha256 for item in examples if all(one.class_id != cells for one in item.objects)}
    per_seed = []
    for seed in seeds[:1] if quick else seeds:
        snapshot = _write(work / "bccd", real.classes, examples, real.paths)
        found, spent = _audit(snapshot, work / f"bccd-{steps}-{seed}", _config(real.symmetry, steps, seed))
        per_seed.append(_own_mistakes(found, examples, unboxed) | {"seed": seed, "core_seconds": spent})
        _say(f"BCCD, seed {seed}: {per_seed[-1]}")
    clean = [
        replace(item, objects=tuple(one for one in item.objects if one.xyxy[0] < one.xyxy[2]))
        for item in examples
        if item.sha256 not in unboxed
    ]
    answer: dict[str, Any] = {
        "audit_hits_30": min(item["hits_30"] for item in per_seed),
        "unboxed": len(unboxed),
        "zero_area_found": min(item["zero_area_found"] for item in per_seed),
        "doubled_found": min(item["doubled_found"] for item in per_seed),
        "steps_a_fold": steps,
        "per_seed": per_seed,
        "planted": {
            "bccd": _planted(clean, real.classes, real.paths, work, _config(real.symmetry, steps, 0), 5)
        },
    }
    if not quick:
        drawn, classes, paths = _drawn(work / "drawn-source")
        answer["planted"]["drawn"] = _planted(
            drawn, classes, paths, work / "drawn", _config("upright", DRAWN_STEPS, 0), 5
        )
    return answer


def with_flat_boxes(real: RealSet, annotations: Path) -> RealSet:
    """The boxes without area too, which the product's importer refuses and names."""
    class_of = {item.name: item.id for item in real.classes}
    by_stem = {path.stem: sha256 for sha256, path in real.paths.items()}
    flat: dict[str, list[Object]] = {}
    for path in sorted(annotations.glob("*.xml")):
        for item in ElementTree.parse(path).iter("object"):
            x1, y1, x2, y2 = (
                float(item.findtext(f"bndbox/{name}", "0")) for name in ("xmin", "ymin", "xmax", "ymax")
            )
            if x1 >= x2 or y1 >= y2:
                found = Object(class_of[item.findtext("name", "")], (x1, y1, x2, y2))
                flat.setdefault(by_stem[path.stem], []).append(found)

    def mended(examples: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(replace(item, objects=(*item.objects, *flat.get(item.sha256, ()))) for item in examples)

    return replace(real, train=mended(real.train), test=mended(real.test))


def _own_mistakes(
    found: Sequence[Doubtful], examples: Sequence[Example], unboxed: set[str]
) -> dict[str, Any]:
    kinds = [one.kind for item in found for one in item.findings]
    flat = sum(
        box.xyxy[0] >= box.xyxy[2] or box.xyxy[1] >= box.xyxy[3] for item in examples for box in item.objects
    )
    return {
        "hits_30": sum(item.sha256 in unboxed for item in found[:FIRST]),
        "ranks": [rank for rank, item in enumerate(found, start=1) if item.sha256 in unboxed],
        "zero_area_found": kinds.count("zero_area"),
        "zero_area": flat,
        "doubled_found": kinds.count("doubled"),
        "doubled": sum(_twins(item) for item in examples),
    }


def _twins(example: Example) -> int:
    """Pairs of boxes of a class that overlap by more than .8, counted another way than the audit does."""
    overlap = iou_matrix([item.xyxy for item in example.objects], [item.xyxy for item in example.objects])
    classes = np.array([item.class_id for item in example.objects])
    same = classes[:, None] == classes[None]
    return int(np.triu((overlap > 0.8) & same, k=1).sum())


def _planted(
    clean: Sequence[Example],
    classes: Sequence[DetectedClass],
    paths: Mapping[str, Path],
    work: Path,
    config: TrainConfig,
    seed: int,
) -> dict[str, Any]:
    """Out of fold, as the product does it, and by one model that learnt from the spoilt labels it judges."""
    spoilt, planted = plant(clean, classes, share=PLANTED_SHARE, seed=seed)
    snapshot = _write(work / "planted", classes, spoilt, paths)
    found, spent = _audit(snapshot, work / f"planted-{config.steps}", config)
    answer = figures(found, planted, len(spoilt)) | {"core_seconds": spent}
    _say(f"planted: {answer}")
    answer["in_fold"] = _in_fold(spoilt, classes, paths, planted, work, config)
    _say(f"planted, judged by a model that learnt from them: {answer['in_fold']}")
    return answer


def _in_fold(
    spoilt: Sequence[Example],
    classes: Sequence[DetectedClass],
    paths: Mapping[str, Path],
    planted: Sequence[Planted],
    work: Path,
    config: TrainConfig,
) -> dict[str, Any]:
    """The same core-seconds in one model instead of two, which has seen every label."""
    began = time.process_time()
    learnable = [
        replace(item, objects=tuple(one for one in item.objects if _learnable(one, item))) for item in spoilt
    ]
    folder = _write(work / "learnable", classes, learnable, paths)
    fitted = fit(folder, work / f"one-model-{config.steps}", config=replace(config, steps=2 * config.steps))
    predictor = Predictor.load(fitted.folder, "cpu")
    seen = predictor.predict_files([folder / "images" / item.sha256 for item in spoilt])
    found = review_list(spoilt, [one.detections for _, one in seen], classes)
    return figures(found, planted, len(spoilt)) | {"core_seconds": round(time.process_time() - began, 1)}


def _learnable(item: Object, example: Example) -> bool:
    x1, y1, x2, y2 = item.xyxy
    return x1 < min(x2, example.width) and y1 < min(y2, example.height) and x2 > 0 and y2 > 0


def _audit(snapshot: Path, work: Path, config: TrainConfig) -> tuple[tuple[Doubtful, ...], float]:
    began = time.process_time()
    done = audit(snapshot, work, config=config)
    return done.doubtful, round(time.process_time() - began, 1)


def _config(symmetry: str, steps: int, seed: int) -> TrainConfig:
    return TrainConfig(steps=steps, symmetry="any" if symmetry == "any" else "upright", seed=seed, threads=1)


def _drawn(folder: Path) -> tuple[list[Example], list[DetectedClass], dict[str, Path]]:
    labels = synthetic.draw(folder, count=DRAWN, seed=11)
    objects: dict[int, list[Object]] = {}
    for item in labels["annotations"]:
        x, y, width, height = item["bbox"]
        objects.setdefault(item["image_id"], []).append(
            Object(item["category_id"], (x, y, x + width, y + height))
        )
    examples, paths = [], {}
    for image in labels["images"]:
        path = folder / "images" / image["file_name"]
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        own = tuple(objects.get(image["id"], ()))
        examples.append(Example(sha256, image["width"], image["height"], "train", own))
        paths[sha256] = path
    return examples, [DetectedClass(item["id"], item["name"]) for item in labels["categories"]], paths


def _write(
    folder: Path, classes: Sequence[DetectedClass], examples: Sequence[Example], paths: Mapping[str, Path]
) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for item in examples:
        link = folder / "images" / item.sha256
        if not link.exists():
            link.symlink_to(paths[item.sha256].resolve())
    manifest, labels = write_labels(classes=classes, examples=examples, about={"bench": "audit"})
    (folder / "manifest.json").write_bytes(manifest)
    (folder / "labels.jsonl").write_bytes(labels)
    return folder


def _say(told: str) -> None:
    print(told, file=sys.stderr, flush=True)
