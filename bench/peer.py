"""Label Studio doing the same work in the same run: one person's next task, ten boxes, the next task.

It is installed into an environment of its own, which this project never depends on:
`python -m venv DIR && DIR/bin/pip install label-studio`, then `python -m bench.queue --peer DIR`.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from bench.load import Connection, Times, at_once, timed
from bench.service import free_port

TOKEN: Final = (
    "0123456789abcdef0123456789abcdef01234567"  # of an installation that lives for minutes, on loopback
)
READY_WITHIN_S: Final = 180.0
IMPORT_AT_ONCE: Final = 2_000
BOXES: Final = 10
CONFIG: Final = """<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">
<Label value="cell"/><Label value="seed"/></RectangleLabels></View>"""
MAKE_PEOPLE: Final = """
from organizations.models import Organization
from rest_framework.authtoken.models import Token
from users.models import User
for number in range({count}):
    user, _ = User.objects.get_or_create(email=f"p{{number}}@example.com", defaults={{"username": f"p{{number}}"}})
    user.active_organization = Organization.objects.first()
    user.save()
    user.active_organization.add_user(user)
    print("TOKEN", Token.objects.get_or_create(user=user)[0].key)
"""


def measure(
    environment: Path, *, tasks: int, clients: Sequence[int], seconds: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """`next` and submit of Label Studio on its own SQLite and server, in the form of our own figures."""
    with _running(environment, say) as (port, home):
        tokens = _people(environment, home, max(clients))
        say(f"Label Studio: importing {tasks:,} tasks")
        project = _project(port, tasks)
        figures: dict[str, Any] = {
            "name": "Label Studio",
            "version": _version(environment),
            "tasks": tasks,
            "clients": {},
        }
        for count in clients:
            say(f"Label Studio, {tasks:,} tasks: {count} people")
            figures["clients"][str(count)] = _work(port, project, tokens[:count], seconds)
        return figures


def _work(port: int, project: int, tokens: Sequence[str], seconds: float) -> dict[str, Any]:
    people = [Connection("127.0.0.1", port, token, root="/api/") for token in tokens]
    asked, sent = [Times() for _ in people], [Times() for _ in people]
    holders: dict[int, set[int]] = defaultdict(set)
    errors: Counter[int] = Counter()
    deadline = time.monotonic() + seconds

    def work(number: int) -> None:
        person = people[number]
        while time.monotonic() < deadline or not asked[number].ms:
            status, task = timed(asked[number], partial(person.call, "GET", f"projects/{project}/next"))
            if status != 200:
                errors[status] += 1
                continue
            holders[task["id"]].add(number)
            path, body = f"tasks/{task['id']}/annotations/", {"result": _boxes(), "lead_time": 31.5}
            status, _ = timed(sent[number], partial(person.call, "POST", path, body))
            if status != 201:
                errors[status] += 1

    took = at_once(work, range(len(people)))
    for person in people:
        person.close()
    nexts = Times([ms for times in asked for ms in times.ms])
    submits = Times([ms for times in sent for ms in times.ms])
    return {
        "next": nexts.summary(),
        "submit": submits.summary(),
        "pairs_per_s": round(len(submits.ms) / took, 2),
        "errors": {str(status): count for status, count in errors.items()},
        "over_assigned": sum(len(people) > 1 for people in holders.values()),
    }


def _boxes() -> list[dict[str, Any]]:
    return [
        {
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": 1280,
            "original_height": 960,
            "value": {"x": 1 + 9 * number, "y": 2, "width": 7, "height": 12, "rectanglelabels": ["cell"]},
        }
        for number in range(BOXES)
    ]


@contextmanager
def _running(environment: Path, say: Callable[[str], None]) -> Iterator[tuple[int, Path]]:
    home = Path(tempfile.mkdtemp(prefix="labelwheel-peer-"))
    port = free_port(18_500)
    command = [str(environment / "bin" / "label-studio"), "start", "--no-browser", "--port", str(port)]
    say("Label Studio: starting")
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=_variables(home), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while _status(port) != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Label Studio did not start:\n{(home / 'log').read_text()[-2000:]}")
            time.sleep(1)
        yield port, home
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _variables(home: Path) -> dict[str, str]:
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("LABELWHEEL_", "DJANGO_"))
    }
    return ours | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(home),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_USERNAME": "owner@example.com",
        "LABEL_STUDIO_PASSWORD": "a long enough one",
        "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "COLLECT_ANALYTICS": "False",
    }


def _status(port: int) -> int:
    try:
        return _http(port).get("projects", timeout=10).status_code
    except httpx.TransportError:
        return 0


def _http(port: int) -> httpx.Client:
    headers = {"Authorization": f"Token {TOKEN}"}
    return httpx.Client(base_url=f"http://127.0.0.1:{port}/api/", headers=headers, timeout=600)


def _people(environment: Path, home: Path, count: int) -> list[str]:
    script = home / "people.py"
    script.write_text(MAKE_PEOPLE.format(count=count))
    told = subprocess.run(
        [str(environment / "bin" / "label-studio"), "shell"],
        env=_variables(home),
        input=f"exec(open({str(script)!r}).read())\n",
        capture_output=True,
        text=True,
        check=True,
    )
    tokens = [line.split()[-1] for line in told.stdout.splitlines() if "TOKEN " in line]
    if len(tokens) != count:
        raise RuntimeError(f"Label Studio made {len(tokens)} of {count} people:\n{told.stderr[-2000:]}")
    return tokens


def _project(port: int, tasks: int) -> int:
    with _http(port) as client:
        made = client.post("projects", json={"title": "queue", "label_config": CONFIG})
        made.raise_for_status()
        project = int(made.json()["id"])
        for first in range(0, tasks, IMPORT_AT_ONCE):
            many = [
                {"image": f"/data/{number}.jpg"}
                for number in range(first, min(tasks, first + IMPORT_AT_ONCE))
            ]
            client.post(f"projects/{project}/import", json=many).raise_for_status()
        return project


def _version(environment: Path) -> str:
    code = "import importlib.metadata; print(importlib.metadata.version('label-studio'))"
    told = subprocess.run(
        [str(environment / "bin" / "python"), "-c", code], capture_output=True, text=True, check=True
    )
    return told.stdout.strip()
