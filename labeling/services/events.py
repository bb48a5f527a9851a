"""The append-only record: who did what to which object. Written in the transaction of what it describes."""

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import models

from labeling.models import Event, Project


def record(
    *,
    project: Project | None,
    actor: AbstractBaseUser | None,
    verb: str,
    subject: models.Model,
    data: dict[str, Any] | None = None,
) -> Event:
    return Event.objects.create(
        project=project,
        actor_id=None if actor is None else actor.pk,
        verb=verb,
        object_type=subject._meta.model_name or "",
        object_id=str(subject.pk),
        data=data or {},
    )
