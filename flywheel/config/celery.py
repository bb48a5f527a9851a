"""Celery delivers hints ("run job N"); the `Job` row is the record. See docs/adr/0003."""

import os
from pathlib import Path

from celery import Celery
from kombu import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flywheel.config.settings")

from django.conf import settings

GIVE_UP_SOON = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1}
"""For a broker that is down: the row waits for the sweeper, whoever made it need not (6 s with Redis otherwise)."""

app = Celery("labelwheel")
app.conf.update(
    broker_url=settings.BROKER_URL,
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    # Reduced and restored after a lost connection, it sometimes leaves a worker that never takes a message again.
    worker_enable_prefetch_count_reduction=False,
    task_default_queue="default",
    task_queues=[Queue("default"), Queue("gpu")],
    task_create_missing_queues=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options=GIVE_UP_SOON
    | ({"confirm_publish": True} if settings.BROKER_URL.startswith("amqp") else {}),
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    enable_utc=True,
    timezone="UTC",
    beat_schedule={
        "sweep jobs": {"task": "labeling.tasks.sweep", "schedule": settings.JOB_SWEEP_S},
        "advance rounds": {"task": "flywheel.tasks.tick", "schedule": settings.ROUND_TICK_S},
    },
    beat_schedule_filename=str(settings.HOME / "beat-schedule"),
    include=["labeling.tasks", "flywheel.tasks"],
)
if settings.BROKER_URL.startswith("filesystem://"):
    mail = Path(settings.HOME) / "broker"
    for folder in ("messages", "control", "processed"):
        (mail / folder).mkdir(parents=True, exist_ok=True)
    app.conf.broker_transport_options = {
        "data_folder_in": str(mail / "messages"),
        "data_folder_out": str(mail / "messages"),
        "control_folder": str(mail / "control"),
        "processed_folder": str(mail / "processed"),
        "store_processed": False,
        "polling_interval": 0.5,
    }
