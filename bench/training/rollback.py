"""How long a roll-back takes until people see the earlier champion's suggestions again.

Each database is an installation of its own, in which every open task has a prediction of both champions. The time
is that of the request and of the next task that a person is given after it, which must carry the earlier one's
shapes. A second click, which names the champion it was made against, must change nothing.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psycopg

from bench.report import ROOT

BOXES: Final = 5
TURNS: Final = 5
WRITTEN_AT_ONCE: Final = 2000


def run(*, tasks: int, postgres: str | None) -> dict[str, Any]:
    """Database → `rollback_s` (the slowest of `TURNS`), all of them, and how a second click was answered.

    `postgres` is the address of a server on which a database may be made; without it only SQLite is measured.
    """
    found = {"sqlite": _measured(tasks, None)}
    if postgres is not None:
        found["postgresql"] = _measured(tasks, postgres)
    return found


def _measured(tasks: int, postgres: str | None) -> dict[str, Any]:
    home = Path(tempfile.mkdtemp(prefix="labelwheel-rollback-"))
    name = f"labelwheel_rollback_{os.getpid()}"
    environment = {**os.environ, "LABELWHEEL_HOME": str(home), "LABELWHEEL_LOG_LEVEL": "WARNING"}
    environment.pop("LABELWHEEL_DATABASE_URL", None)
    if postgres is not None:
        _administer(postgres, f"CREATE DATABASE {name}")
        environment["LABELWHEEL_DATABASE_URL"] = postgres.rsplit("/", 1)[0] + f"/{name}"
    try:
        _python(environment, "manage.py", "migrate", "--verbosity", "0")
        told = _python(environment, "-m", "bench.population", "--tasks", str(tasks), "--people", "1")
        filled = json.loads(told.splitlines()[-1])
        arguments = ["--project", str(filled["project"]), "--token", filled["tokens"][0]]
        told = _python(environment, "-m", "bench.training.rollback", *arguments)
        answer: dict[str, Any] = json.loads(told.splitlines()[-1])
        return answer
    finally:
        shutil.rmtree(home, ignore_errors=True)
        if postgres is not None:
            _administer(postgres, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _administer(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.encode())


def _python(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[:2])} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    """Inside the installation: writes two champions and their predictions, and goes back and forth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", type=int, required=True)
    parser.add_argument("--token", required=True)
    options = parser.parse_args()

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flywheel.config.settings")
    import django

    django.setup()
    from django.utils import timezone
    from rest_framework.test import APIClient

    from flywheel.models import ModelVersion, Snapshot, TrainingRun
    from flywheel.services import promotion
    from labeling.models import Lease, Prediction, Project

    project = Project.objects.get(pk=options.project)
    Project.objects.filter(pk=project.pk).update(blind_share=0.0, gold_share=0.0)
    project.tasks.update(blind=False)
    snapshot = Snapshot.objects.create(
        project=project, version="a" * 64, labels_sha256="b" * 64, images=1, gold_images=0, objects_count=1
    )

    def model(number: int) -> ModelVersion:
        made = ModelVersion.objects.create(
            project=project,
            number=number,
            weights_sha256="c" * 64,
            card={},
            run=TrainingRun.objects.create(
                project=project, snapshot=snapshot, key=str(number), config={}, code_version="0"
            ),
        )
        shapes = [_shape(number, box) for box in range(BOXES)]
        rows = (
            Prediction(task_id=task_id, model=made.name, shapes=shapes)
            for task_id in project.tasks.values_list("pk", flat=True)
        )
        Prediction.objects.bulk_create(rows, batch_size=WRITTEN_AT_ONCE)
        return made

    first, second = model(1), model(2)
    client = APIClient(HTTP_AUTHORIZATION=f"Token {options.token}", HTTP_HOST="localhost")
    address = f"/api/v1/projects/{project.pk}"
    seconds, twice = [], []
    for _ in range(TURNS):
        for one in (first, second):
            promotion.promote(model=one, actor=None, now=timezone.now())
        Lease.objects.filter(task__project=project).delete()
        wanted = {"champion": second.pk}
        began = time.perf_counter()
        back = client.post(f"{address}/roll-back", wanted, format="json")
        after = client.post(f"{address}/queue/next", {"count": 1}, format="json")
        seconds.append(time.perf_counter() - began)
        assert back.status_code == 200, back.content
        assert back.json()["id"] == first.pk
        shown = after.json()["leases"][0]["suggestions"]
        assert [item["xyxy"][0] for item in shown] == [_shape(1, box)["xyxy"][0] for box in range(BOXES)], (
            shown
        )
        twice.append(client.post(f"{address}/roll-back", wanted, format="json").status_code)
    print(
        json.dumps(
            {
                "tasks": project.tasks.count(),
                "predictions": Prediction.objects.filter(task__project=project).count(),
                "rollback_s": round(max(seconds), 3),
                "each_s": [round(item, 3) for item in seconds],
                "second_click": sorted(set(twice)),
            }
        )
    )


def _shape(model: int, box: int) -> dict[str, Any]:
    """Where a shape begins tells whose it is."""
    left = 100.0 * box + model
    return {
        "kind": "box",
        "class_id": 1,
        "id": f"{model}-{box}",
        "xyxy": [left, 10, left + 50, 60],
        "score": 0.9,
    }


if __name__ == "__main__":
    main()
