"""The wheel with its real processes: web, workers, beat, serving; one of them killed in the middle of a round."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import draw_folder

ROOT = Path(__file__).parents[2]
TRAINING = {"steps": 80, "side": 96, "batch": 4}
PATIENCE_S = 240.0
PREPARE = """
import json, sys
from pathlib import Path
from django.contrib.auth.models import User
from labeling.formats import inspect
from labeling.services import accounts, imports, projects
folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
owner = User.objects.create_user("owner", password="correct horse")
project = projects.create(name="Drawn", schema=inspect(folder).schema, owner=owner, round_settings=settings)
imports.import_folder(project=project, folder=folder, labels_as="settled", test_as_gold=True, actor=owner)
print(accounts.make_token(user=owner, name="test")[1])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("drawn"), train=12, test=6, seed=5)


class Installation:
    """A service of its own, in a folder of its own, on ports of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.serving_port = free_port()
        self.token = ""
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("LABELWHEEL_")
        } | {
            "LABELWHEEL_HOME": str(home),
            "LABELWHEEL_JOB_LEASE_S": "6",
            "LABELWHEEL_JOB_SWEEP_S": "2",
            "LABELWHEEL_ROUND_TICK_S": "1",
            "LABELWHEEL_TRAIN_THREADS": "1",
            "DJANGO_SETTINGS_MODULE": "flywheel.config.settings",
        }

    def prepare(self, folder: Path) -> None:
        settings = {"target_new_labels": 12, "training": TRAINING}
        self.command("manage.py", "migrate", "--verbosity", "0")
        script = "import django; django.setup()" + PREPARE
        self.token = self.command("-c", script, str(folder), json.dumps(settings)).strip()

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def running(self) -> Iterator[None]:
        ports = ["--port", str(self.port), "--serving-port", str(self.serving_port)]
        with (self.home / "run.out").open("wb") as out:
            supervisor = subprocess.Popen(
                [sys.executable, "manage.py", "run", *ports],
                cwd=ROOT,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            try:
                yield
            finally:
                supervisor.send_signal(signal.SIGTERM)
                supervisor.wait(timeout=60)

    def signal_the_gpu_worker(self, number: signal.Signals) -> None:
        os.kill(int((self.home / "run" / "gpu.pid").read_text()), number)

    def row(self, query: str) -> dict[str, Any]:
        """The one row of a query, {} when there is none (yet)."""
        database = sqlite3.connect(f"file:{self.home / 'labelwheel.sqlite3'}?mode=ro", uri=True, timeout=20)
        database.row_factory = sqlite3.Row
        try:
            found = database.execute(query).fetchone()
        except sqlite3.OperationalError:  # the tables are not made yet
            return {}
        finally:
            database.close()
        return {} if found is None else dict(found)

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > until:
                logs = "\n".join(
                    f"== {path.name}\n{path.read_text()[-2000:]}" for path in self.home.glob("logs/*.log")
                )
                raise AssertionError(f"waited {PATIENCE_S} s for {what}\n{logs}")
            time.sleep(0.1)

    def wait_for_the_first_round(self) -> dict[str, Any]:
        query = "SELECT status, reason FROM flywheel_round WHERE number = 1"
        ended = ("done", "failed", "cancelled")
        self.wait_for("the first round to end", lambda: self.row(query).get("status") in ended)
        return self.row(query)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, token: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url, data=body, headers={"Authorization": f"Token {token}"})
    if body is not None:
        request.add_header("Content-Type", "application/octet-stream")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


WEIGHTS = "SELECT weights_sha256 FROM flywheel_modelversion WHERE number = 1"
TRAIN_JOB = "SELECT state, progress, attempts, crashes, error FROM labeling_job WHERE kind = 'train'"


@pytest.mark.slow
def test_a_worker_stopped_and_one_killed_in_training_change_nothing_but_the_time(
    folder: Path, tmp_path: Path
) -> None:
    undisturbed, killed = Installation(tmp_path / "undisturbed"), Installation(tmp_path / "killed")
    for installation in (undisturbed, killed):
        installation.home.mkdir()
        installation.prepare(folder)
    with undisturbed.running():
        assert undisturbed.wait_for_the_first_round()["status"] == "done"
        model = undisturbed.row("SELECT status FROM flywheel_modelversion WHERE number = 1")
        picture = next(iter((folder / "test").iterdir())).read_bytes()
        serving = f"http://127.0.0.1:{undisturbed.serving_port}/v1/1/predict"
        status, answer = ask(serving, undisturbed.token, picture)
        assert (status == 200) == (model["status"] == "champion"), answer
        assert ask(serving, "lw_wrong", picture)[0] == 401
        assert ask(serving.replace("/1/", "/99/"), undisturbed.token, picture)[0] == 404

    with killed.running():
        killed.wait_for("training to begin", lambda: killed.row(TRAIN_JOB).get("progress", 0.0) > 0.1)
        killed.signal_the_gpu_worker(signal.SIGTERM)
        killed.wait_for("the job to be handed back", lambda: killed.row(TRAIN_JOB)["attempts"] == 2)
        assert killed.row(TRAIN_JOB)["crashes"] == 0
        killed.wait_for("training to go on", lambda: killed.row(TRAIN_JOB)["progress"] > 0.4)
        killed.signal_the_gpu_worker(signal.SIGKILL)
        assert killed.row(TRAIN_JOB)["state"] == "running"
        round_one = killed.wait_for_the_first_round()
    assert round_one["status"] == "done", round_one["reason"]
    job = killed.row(TRAIN_JOB)
    assert (job["state"], job["attempts"], job["crashes"]) == ("done", 3, 1)
    assert killed.row(WEIGHTS) == undisturbed.row(WEIGHTS)
    assert killed.row("SELECT COUNT(*) AS models FROM flywheel_modelversion") == {"models": 1}


@pytest.mark.slow
def test_the_trainer_runs_alone_on_a_snapshot_of_the_service(folder: Path, tmp_path: Path) -> None:
    installation = Installation(tmp_path / "home")
    installation.home.mkdir()
    installation.prepare(folder)
    snapshot, out = tmp_path / "snapshot", tmp_path / "model"
    installation.command("manage.py", "export_snapshot", "1", str(snapshot))
    without_django = (
        "import runpy, sys; sys.modules['django'] = None; sys.modules['celery'] = None;"
        "sys.argv = ['ml.train', *sys.argv[1:]]; runpy.run_module('ml.train', run_name='__main__')"
    )
    told = installation.command(
        "-c", without_django, "--snapshot", str(snapshot), "--out", str(out), "--steps", "4", "--side", "96"
    )
    card = json.loads((out / "card.json").read_text())
    assert card["snapshot"] in told
    assert (out / "model.safetensors").stat().st_size > 0
