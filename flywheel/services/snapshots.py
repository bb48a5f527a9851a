"""Freezing what is settled: a snapshot's bytes go to the store under their hashes, a row names them."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

from django.db import transaction

from flywheel import translate
from flywheel.models import Snapshot
from labeling import storage
from labeling.models import Project, Task, TaskState
from labeling.services import projects
from ml import schema as ml_schema

VALIDATION_SHARE: Final = 0.1


class NothingToLearn(Exception):
    """There is no settled picture to train on."""


def freeze(*, project: Project) -> Snapshot:
    """The snapshot of all that is settled now; frozen again without a change it is the same one.

    Raises `NothingToLearn`.
    """
    version = projects.current_schema(project)
    classes = translate.classes(version.schema)
    if not classes:
        raise NothingToLearn("the project's schema has neither a box nor a keypoints class to train on")
    known = {item.id for item in classes}
    examples: list[ml_schema.Example] = []
    revisions: dict[str, int] = {}
    settled = (
        Task.objects.filter(project=project, state=TaskState.SETTLED)
        .exclude(consensus=None)
        .select_related("image", "consensus")
        .defer("consensus__evidence")  # it is beside what is settled, and long
        .order_by("id")
    )
    for task in settled.iterator(chunk_size=500):
        assert task.consensus is not None
        split = _split(task)
        examples.append(
            translate.example(
                image=task.image,
                shapes=task.consensus.parsed,
                known_classes=known,
                split=split,
                group=task.group,
            )
        )
        revisions[task.image.sha256] = task.consensus.revision
    training = [item for item in examples if item.split != "gold"]
    if not any(item.objects for item in training):
        raise NothingToLearn("no settled picture outside gold has an object yet; label some first")
    if not any(item.split == "train" for item in training):
        examples = [_as_training(item) for item in examples]
    if not any(item.objects for item in examples if item.split != "train"):
        raise NothingToLearn(
            "There is nothing to measure a model on. Import some pictures with an expert's labels as gold, or "
            f"label more: of {len(training)} settled pictures, none with an object is in the tenth kept to measure on."
        )
    manifest, labels = ml_schema.write_labels(
        classes=classes,
        examples=examples,
        about={"project": project.pk, "schema_version": version.number, "revisions": revisions},
    )
    blobs = storage.store()
    labels_sha256 = storage.put_blob(blobs, labels)
    manifest_sha256 = storage.put_blob(blobs, manifest)
    with transaction.atomic():
        snapshot, _ = Snapshot.objects.get_or_create(
            project=project,
            version=manifest_sha256,
            defaults={
                "labels_sha256": labels_sha256,
                "images": len(training),
                "gold_images": len(examples) - len(training),
                "objects_count": sum(len(item.objects) for item in training),
            },
        )
    return snapshot


def unpack(*, snapshot: Snapshot, folder: Path) -> ml_schema.Snapshot:
    """Writes a snapshot as a folder that `ml` reads; what is there already is kept."""
    blobs = storage.store()
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    write_beside(folder / "labels.jsonl", storage.get_blob(blobs, snapshot.labels_sha256))
    write_beside(folder / "manifest.json", storage.get_blob(blobs, snapshot.version))
    opened = ml_schema.read_snapshot(folder)
    for example in opened.examples:
        if not opened.image_path(example).exists():
            write_beside(opened.image_path(example), storage.get_blob(blobs, example.sha256))
    return opened


def _split(task: Task) -> ml_schema.Split:
    """Gold measures; the rest is split by group, or picture, so that it never moves between versions."""
    if task.is_gold:  # what a reviewer accepted or corrected is an expert's answer too, and trains
        return "gold"
    name = f"{task.project_id}:{task.group or task.image.sha256}"
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "val" if share < VALIDATION_SHARE else "train"


def _as_training(example: ml_schema.Example) -> ml_schema.Example:
    if example.split == "gold":
        return example
    return ml_schema.Example(
        example.sha256, example.width, example.height, "train", example.objects, example.group
    )


def write_beside(path: Path, data: bytes) -> None:
    """Writes a file so that a crash leaves the whole of it or nothing."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    Path(beside).replace(path)
