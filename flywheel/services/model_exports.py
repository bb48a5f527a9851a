"""Asking for a model as an ONNX file. A GPU worker writes it; the job's file is what is downloaded."""

from typing import Final

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from flywheel.models import ModelVersion
from labeling.models import Job
from labeling.services import events, jobs

CONTENT_TYPE: Final = "application/octet-stream"


def start(*, model: ModelVersion, actor: AbstractBaseUser) -> Job:
    """The job that writes this model as ONNX: asked for twice it is the same, one that failed is tried again."""
    with transaction.atomic():
        job = jobs.enqueue(
            kind="export_model",
            key=f"export-model:{model.pk}:{model.weights_sha256}",
            queue="gpu",
            project=model.project,
            params={"model": model.pk, "title": f"Export {model.name} as ONNX"},
            created_by=actor,
        )
        jobs.retry(job=job)
        events.record(project=model.project, actor=actor, verb="export_model", subject=model)
    job.refresh_from_db()
    return job
