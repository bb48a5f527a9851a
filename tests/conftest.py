"""What tests of the service share: a store of their own, and a project with people in every role."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from PIL import Image as Pillow
from rest_framework.test import APIClient

from labeling import schema, storage
from labeling.models import Project, Role, Task
from labeling.services import pictures, projects
from ml import synthetic
from tests import live

# Several test processes share few cores: torch's threads would wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

BOXES_AND_POSES = {
    "classes": [
        {"id": 1, "name": "cell", "kind": "box", "key": "1"},
        {"id": 2, "name": "seed", "kind": "box", "key": "2"},
        {
            "id": 3,
            "name": "mouse",
            "kind": "keypoints",
            "key": "3",
            "skeleton": {
                "joints": ["nose", "left ear", "right ear", "tail"],
                "edges": [[0, 1], [0, 2], [0, 3]],
                "pairs": [[1, 2]],
            },
        },
        {"id": 4, "name": "blurred", "kind": "tag", "key": "4"},
    ]
}


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, settings: LazySettings) -> Iterator[None]:
    """Each test has a store and a work directory of its own; passwords are hashed quickly."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.STORE_DIRECTORY = tmp_path / "store"
    settings.WORK_DIRECTORY = tmp_path / "work"
    settings.TRAIN_THREADS = 1
    storage.store.cache_clear()
    yield
    storage.store.cache_clear()


@pytest.fixture(scope="session")
def _gate() -> Iterator[live.Gate]:
    gate = live.Gate()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(WSGIHandler, "__call__", live.guarded(WSGIHandler.__call__, gate))
        yield gate


@pytest.fixture(autouse=True)
def _live_server_is_quiet_between_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set up after the database, so that it closes the gate before the database is emptied."""
    if "live_server" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("transactional_db")
    gate: live.Gate = request.getfixturevalue("_gate")
    gate.open()
    yield
    gate.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int], str]]:
    """What would have gone to the broker: (Celery task, arguments, queue)."""
    messages: list[tuple[str, list[int], str]] = []
    monkeypatch.setattr(
        "labeling.services.jobs.send", lambda task, args, queue: messages.append((task, args, queue))
    )
    return messages


@dataclass
class House:
    """A project with a person in each role, and one person who is no member."""

    project: Project
    people: dict[Role, User]
    stranger: User

    def client(self, who: Role | User) -> APIClient:
        client = APIClient()
        client.force_authenticate(self.people[who] if isinstance(who, Role) else who)
        return client

    def add_picture(self, **fields: Any) -> Task:
        """A task with a new little picture of 64 × 48 pixels."""
        number = Task.objects.count()
        image = pictures.store(picture_bytes(color=(number % 256, number // 256 % 256, 128)))
        defaults = {"name": f"{number}.png", "slots": self.project.answers_per_task}
        return Task.objects.create(project=self.project, image=image, **(defaults | fields))


@pytest.fixture
def house(db: None, sent: list[tuple[str, list[int], str]]) -> House:
    return make_house()


def make_house(**options: Any) -> House:
    """A project that wants two answers a picture and hides no gold (which is by chance), unless an option says so."""
    options = {"answers_per_task": 2, "gold_share": 0.0} | options
    people = {role: User.objects.create_user(f"the {role.value}", password="correct horse") for role in Role}
    owner = people[Role.OWNER]
    project = projects.create(
        name="Cells and mice", schema=schema.parse(BOXES_AND_POSES), owner=owner, **options
    )
    for role, person in people.items():
        if role != Role.OWNER:
            projects.set_member(project=project, username=person.username, role=role, actor=owner)
    return House(project, people, User.objects.create_user("the stranger", password="correct horse"))


def picture_bytes(
    *, size: tuple[int, int] = (64, 48), color: tuple[int, int, int] = (90, 120, 40), kind: str = "PNG"
) -> bytes:
    out = BytesIO()
    Pillow.new("RGB", size, color).save(out, kind)
    return out.getvalue()


def draw_folder(folder: Path, *, train: int, test: int, seed: int) -> Path:
    """Draws little pictures with labels into `train` and `test` below a folder."""
    labels = synthetic.draw(folder, count=train + test, seed=seed, size=(96, 72))
    for image in labels["images"]:
        split = folder / ("test" if image["id"] > train else "train")
        split.mkdir(exist_ok=True)
        (folder / "images" / image["file_name"]).rename(split / image["file_name"])
    return folder


def box(shape_id: str = "a", **fields: Any) -> dict[str, Any]:
    return {"id": shape_id, "kind": "box", "class_id": 1, "xyxy": [4.0, 5.0, 24.0, 25.0]} | fields


__all__ = ["BOXES_AND_POSES", "House", "box", "draw_folder", "make_house", "picture_bytes"]
