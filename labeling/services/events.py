"""The append-only record: who did what to which object, from where. Written in the transaction of what it describes."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser
from django.db import models

from labeling import rows
from labeling.models import Event, Project

MAX_CLIENT: Final = 200
_client: ContextVar[str | None] = ContextVar("client", default=None)


def record(
    *,
    project: Project | None,
    actor: AbstractBaseUser | None,
    verb: str,
    subject: models.Model,
    data: dict[str, Any] | None = None,
) -> Event:
    event = Event(
        project=project,
        actor_id=None if actor is None else actor.pk,
        verb=verb,
        object_type=subject._meta.model_name or "",
        object_id=str(subject.pk),
        data=data or {},
        client=current_client(),
    )
    rows.insert(event)
    return event


def record_all(
    *,
    project: Project,
    actor: AbstractBaseUser,
    verb: str,
    subjects: Iterable[tuple[models.Model, dict[str, Any]]],
) -> None:
    """The same done to many: an event for each, in one statement."""
    Event.objects.bulk_create(
        Event(
            project=project,
            actor_id=actor.pk,
            verb=verb,
            object_type=subject._meta.model_name or "",
            object_id=str(subject.pk),
            data=data,
            client=current_client(),
        )
        for subject, data in subjects
    )


@contextmanager
def client(name: str) -> Iterator[None]:
    """What is recorded in here is done by this browser, program or job."""
    before = _client.set(_storable(name))
    try:
        yield
    finally:
        _client.reset(before)


def name_client(name: str) -> None:
    """Says more exactly who it is, until the `client` around this ends."""
    _client.set(_storable(name))


def current_client() -> str:
    name = _client.get()
    return command(sys.argv) if name is None else name


def command(argv: list[str]) -> str:
    """
    >>> command(["/srv/manage.py", "import_folder", "pictures"])
    'manage.py import_folder'
    >>> command(["/srv/.venv/bin/gunicorn"])
    ''
    """
    if len(argv) > 1 and Path(argv[0]).name == "manage.py":
        return _storable(f"manage.py {argv[1]}")
    return ""


def _storable(name: str) -> str:
    return "".join(character for character in name if character.isprintable())[:MAX_CLIENT]
