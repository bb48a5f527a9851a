"""The GPU worker's jobs: train, evaluate, predict, audit, export. Beside serving, the only importer of torch."""

import torch
from celery import shared_task
from django.conf import settings

from flywheel.gpu import audit, evaluation, export, prediction, training
from labeling.services import jobs

__all__ = ["audit", "evaluation", "export", "prediction", "run_job", "training"]


@shared_task(name="flywheel.gpu.run_job")
def run_job(job_id: int) -> None:
    torch.set_num_threads(settings.TRAIN_THREADS)
    jobs.run(job_id)
