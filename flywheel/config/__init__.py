"""Settings, URLs and the entry points of the processes. The Celery app is loaded with Django."""

from flywheel.config.celery import app as celery_app

__all__ = ["celery_app"]
