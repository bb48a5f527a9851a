"""Settled labels as files of other tools, written by a job and kept in the store."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from django.contrib.auth.models import AbstractBaseUser

from labeling import storage
from labeling.formats import FORMATS, Dataset, ImageLabels
from labeling.formats.report import LossLedger
from labeling.models import Job, Project, Task, TaskState
from labeling.schema import Schema
from labeling.services import jobs, projects
from labeling.shapes import Shape

CONTENT_TYPES: Final = {"coco": "application/json"}


def start(*, project: Project, format_name: str, actor: AbstractBaseUser) -> Job:
    """A job that writes the project's settled labels in a format."""
    return jobs.enqueue(
        kind="export",
        key=f"export:{project.pk}:{uuid4()}",
        project=project,
        params={"project": project.pk, "format": format_name},
        created_by=actor,
    )


def run(*, running: jobs.Running) -> dict[str, Any]:
    """Writes the file and puts it into the store; the job's result names it, and what the format left out."""
    project = Project.objects.get(pk=running.params["project"])
    format_name = running.params["format"]
    running.report(0.1, "collecting the settled labels")
    dataset = settled(project)
    running.report(0.5, f"writing {len(dataset.images)} pictures")
    with tempfile.TemporaryDirectory(prefix="labelwheel-export-") as name:
        losses = dataset.losses + FORMATS[format_name].write(dataset, Path(name))
        (written,) = Path(name).iterdir()
        data = written.read_bytes()
        suffix = written.suffix
    sha256 = storage.put_blob(storage.store(), data)
    return {
        "sha256": sha256,
        "name": f"labelwheel-{project.pk}-{format_name}{suffix}",
        "content_type": CONTENT_TYPES[format_name],
        "pictures": len(dataset.images),
        "losses": [[what, count] for what, count in losses.items],
    }


def settled(project: Project) -> Dataset:
    """The project's settled labels, gold among them, in the order of the tasks."""
    tasks = (
        Task.objects.filter(project=project, state=TaskState.SETTLED)
        .exclude(consensus=None)
        .select_related("image", "consensus")
        .order_by("id")
    )
    schema = projects.current_schema(project).schema
    removed = LossLedger()
    images = []
    for task in tasks.iterator(chunk_size=500):
        assert task.consensus is not None
        images.append(
            ImageLabels(
                file_name=task.name,
                width=task.image.width,
                height=task.image.height,
                shapes=_of_schema(task.consensus.parsed, schema, removed),
            )
        )
    return Dataset(schema=schema, images=tuple(images), losses=removed.report())


def _of_schema(shapes: Iterable[Shape], schema: Schema, removed: LossLedger) -> tuple[Shape, ...]:
    """The shapes whose class is still in the schema; the others are counted."""
    fitting = []
    for shape in shapes:
        if schema.problem_with(shape) is None:
            fitting.append(shape)
        else:
            removed.add("shape of a class that was removed")
    return tuple(fitting)
