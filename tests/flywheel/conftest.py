"""A small world to turn the wheel in: drawn pictures with known labels, and workers that run in the test."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User

import flywheel.gpu
import flywheel.tasks
import labeling.tasks
from labeling.formats import inspect
from labeling.models import Project
from labeling.services import imports, projects
from tests.conftest import draw_folder

RUNNERS: dict[str, Callable[..., None]] = {
    "labeling.tasks.run_job": labeling.tasks.run_job,
    "flywheel.gpu.run_job": flywheel.gpu.run_job,
    "flywheel.tasks.tick": flywheel.tasks.tick,
}
TINY_TRAINING = {"steps": 4, "side": 96, "batch": 4}
Message = tuple[str, list[int], str]


class Workers:
    """Does what was sent to the broker, in the order it was sent, until nothing is left."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        self.done: list[Message] = []

    def run(self, *, at_most: int = 100) -> None:
        while self.messages and at_most:
            message = self.messages.pop(0)
            RUNNERS[message[0]](*message[1])
            self.done.append(message)
            at_most -= 1

    def turn(self) -> None:
        """A tick, and all that follows from it."""
        self.messages.append(("flywheel.tasks.tick", [], "default"))
        self.run()


@pytest.fixture
def workers(sent: list[Message]) -> Workers:
    return Workers(sent)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eighteen drawn pictures with labels; the last six are its test split."""
    return draw_folder(tmp_path_factory.mktemp("drawn"), train=12, test=6, seed=3)


@pytest.fixture
def project(transactional_db: None, drawn: Path, sent: list[Message]) -> Project:
    """Eight settled pictures, six gold ones, four to be labelled; training is tiny."""
    owner = User.objects.create_user("owner", password="correct horse")
    made = projects.create(
        name="Drawn",
        schema=inspect(drawn).schema,
        owner=owner,
        round_settings={"target_new_labels": 8, "training": TINY_TRAINING},
    )
    imports.import_folder(project=made, folder=drawn, labels_as="settled", test_as_gold=True, actor=owner)
    for task in made.tasks.filter(is_gold=False).order_by("id")[8:]:
        made.tasks.filter(pk=task.pk).update(state="queued", slots=2, consensus=None, settled_at=None)
    return made
