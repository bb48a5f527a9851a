"""The real parts that faults happen to: the service's processes, people at its HTTP API, and brokers of our own."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID, uuid4

import httpx
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from kombu.exceptions import OperationalError

from flywheel.config.celery import app as celery
from flywheel.management.commands import run
from flywheel.management.supervisor import Program, Supervisor
from labeling.models import Lease, Membership, Project, Role
from labeling.services import accounts
from tests.conftest import box

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 120.0
"""What is waited for takes a second or two; a machine that does much else may take longer."""
HANDLERS: Final = ("--include", "tests.faults.handlers")
Json = dict[str, Any]


def until(
    condition: Callable[[], bool],
    what: str,
    *,
    within_s: float = PATIENCE_S,
    each: Callable[[], None] = lambda: None,
) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {within_s:g} s for {what}"
        each()
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def database_url() -> str:
    """The database of the tests, for processes of the service."""
    own = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{own['NAME']}"
    return f"postgres://{own['USER']}:{own['PASSWORD']}@{own['HOST']}:{own['PORT']}/{own['NAME']}"


# --- processes --------------------------------------------------------------------------------------------


def web(port: int, *more: str, wrong_by_s: int = 0) -> Program:
    """Gunicorn, as `manage.py run` starts it; if wished with a clock of its own that is wrong."""
    (program,) = (item for item in _programs(port) if item.name == "web")
    command = [*program.command, *more]
    if wrong_by_s:
        command[1:3] = ["-m", "tests.faults.wrong_clock", str(wrong_by_s), "gunicorn"]
    return Program(f"web-{port}", command)


def worker(number: int = 1, *, app: str = "flywheel.config") -> Program:
    """A Celery worker as `manage.py run` starts it, which knows the tests' kinds of jobs too."""
    (program,) = (item for item in _programs(0) if item.name == "worker")
    command = [f"worker-{number}@%h" if part == "worker@%h" else part for part in program.command]
    command[command.index("flywheel.config")] = app
    return Program(f"worker-{number}", [*command, *HANDLERS])


def beat(memory: Path, number: int = 1) -> Program:
    """Celery's clock, which remembers in a folder; several are what nobody should start, and somebody will."""
    (program,) = (item for item in _programs(0) if item.name == "beat")
    return Program(f"beat-{number}", [*program.command, "--schedule", str(memory / f"beat-{number}")])


def _programs(port: int) -> list[Program]:
    options = {"host": "127.0.0.1", "port": port, "serving_port": port + 1, "threads": 8}
    return run._programs(options | {"no_gpu": True, "no_serving": True}, lambda line: None)


class Crew:
    """Programs of the service, each started again when it dies while somebody `waits`."""

    def __init__(self, home: Path, programs: Sequence[Program], **environment: str) -> None:
        home.mkdir(exist_ok=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LABELWHEEL_")}
        self.home = home
        self.said: list[str] = []
        self.environment = (
            clean
            | {
                "DJANGO_SETTINGS_MODULE": "flywheel.config.settings",
                "LABELWHEEL_HOME": str(home),
                "LABELWHEEL_DATABASE_URL": database_url(),
                "LABELWHEEL_SECRET_KEY": settings.SECRET_KEY,
                "LABELWHEEL_JOB_LEASE_S": "2",
                "LABELWHEEL_JOB_SWEEP_S": "0.5",
                "LABELWHEEL_ROUND_TICK_S": "60",
                "PYTHONUNBUFFERED": "1",
            }
            | environment
        )
        self._supervisor = Supervisor(
            programs,
            home=home,
            directory=ROOT,
            environment=self.environment,
            say=self.said.append,
            first_delay_s=0.05,
            longest_delay_s=0.1,
            patience_s=0.2,
        )

    def __enter__(self) -> Self:
        self._supervisor.watch()
        return self

    def __exit__(self, *error: object) -> None:
        self._supervisor.stop()

    def pid(self, name: str) -> int:
        return int((self.home / "run" / f"{name}.pid").read_text())

    def children(self, name: str) -> list[int]:
        """The processes that a program started itself."""
        pid = self.pid(name)
        with suppress(FileNotFoundError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def send(self, name: str, number: signal.Signals) -> None:
        os.kill(self.pid(name), number)

    def deaths(self, name: str) -> list[str]:
        """How a program ended, each time that it did."""
        return [line for line in self.said if line.startswith(f"{name} ended")]

    def waits(self, condition: Callable[[], bool], what: str) -> None:
        try:
            until(condition, what, each=self._supervisor.watch)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted(self.home.glob("logs/*.log"))
        )


# --- people -----------------------------------------------------------------------------------------------


class Door:
    """The HTTP API at a port, for many people at once."""

    def __init__(self, port: int) -> None:
        self.port = port
        # A kept connection may be closed by the server in the moment that it is used again.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=PATIENCE_S, verify=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()

    @property
    def is_open(self) -> bool:
        try:
            return self.http.get("/health/ready").is_success
        except httpx.TransportError:
            return False


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a token at a door."""

    user: User
    token: str
    door: Door

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        return self.door.http.request(
            method, f"/api/v1/{path}", json=body, headers={"Authorization": f"Token {self.token}"}
        )

    def at(self, door: Door) -> "Person":
        return Person(self.user, self.token, door)

    def next(self, project: Project, count: int = 1) -> list[Json]:
        response = self.ask("POST", f"projects/{project.pk}/queue/next", {"count": count})
        assert response.status_code == 200, response.text
        leases: list[Json] = response.json()["leases"]
        return leases

    def submit(self, leased: Json, **changes: Any) -> httpx.Response:
        return self.ask("POST", f"tasks/{leased['task']['id']}/annotations", answer_to(leased) | changes)

    def submit_until_answered(self, body: Json, task_id: int) -> httpx.Response:
        """As the page does: again and again with the same key, until the service answers."""
        return insist(lambda: self.ask("POST", f"tasks/{task_id}/annotations", body))


def answer_to(leased: Json, key: UUID | None = None) -> Json:
    """The body of a submit: one box, somewhere."""
    left, top = random.uniform(0, 30), random.uniform(0, 20)
    return {
        "key": str(key or uuid4()),
        "lease_token": leased["lease"]["token"],
        "base_revision": leased["base_revision"],
        "schema_version": 1,
        "shapes": [box(xyxy=[left, top, left + 20, top + 20])],
        "seconds_active": 1.5,
        "suggestions_from": leased["suggestions_from"],
        "tab": "",
    }


def insist(call: Callable[[], httpx.Response], *, within_s: float = PATIENCE_S) -> httpx.Response:
    """The first answer that is one: no broken connection, no 5xx."""
    deadline = time.monotonic() + within_s
    while True:
        with suppress(httpx.TransportError):
            response = call()
            if response.status_code < 500:
                return response
        assert time.monotonic() < deadline, f"no answer for {within_s:g} s"
        time.sleep(0.05)


def crowd(project: Project, door: Door, size: int, role: Role = Role.ANNOTATOR) -> list[Person]:
    """New members of a project."""
    users = User.objects.bulk_create(
        User(username=f"{role.value} {number}", password=f"!{uuid4()}") for number in range(size)
    )
    Membership.objects.bulk_create(Membership(project=project, user=user, role=role) for user in users)
    return [Person(user, accounts.make_token(user=user, name="fault")[1], door) for user in users]


def let_leases_run_out(project: Project) -> None:
    Lease.objects.filter(task__project=project).update(expires_at="2020-01-01T00:00:00Z")


# --- brokers ----------------------------------------------------------------------------------------------


class Broker:
    """A broker of our own, which may be killed and wiped."""

    name = ""
    url = ""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> tuple[list[str], Mapping[str, str]]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def start(self) -> None:
        self.home.mkdir(exist_ok=True)
        command, environment = self.command()
        with (self.home / "out").open("ab") as out:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environment}, cwd=self.home, stdout=out, stderr=out,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        until(self._answers, f"{self.name} to answer")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Everything that it would remember is gone; it must be dead."""
        shutil.rmtree(self.home)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.home / "out").read_text()[-2000:]
        try:
            with celery.connection_for_write(self.url, connect_timeout=2) as connected:
                connected.ensure_connection(max_retries=1, interval_start=0)
        except OperationalError:
            return False
        return True

    @contextmanager
    def connected(self) -> Iterator[Any]:
        with celery.connection_for_write(self.url) as connected:
            yield connected

    def hint(self, *job_ids: int) -> None:
        """Sends messages "run job N", as the service does."""
        with self.connected() as connected:
            for job_id in job_ids:
                celery.send_task(
                    "labeling.tasks.run_job", args=[job_id], queue="default", connection=connected
                )


class Redis(Broker):
    name = "redis-server"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> tuple[list[str], Mapping[str, str]]:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        return [str(shutil.which("redis-server")), *options], {}

    def waiting(self) -> int:
        """How many messages wait for the workers."""
        with self.connected() as connected:
            return int(connected.default_channel.client.llen("default"))

    def sent(self) -> int:
        """How many messages were ever sent."""
        with self.connected() as connected:
            return int(connected.default_channel.client.info("commandstats")["cmdstat_lpush"]["calls"])

    @staticmethod
    def is_here() -> bool:
        return shutil.which("redis-server") is not None


class RabbitMQ(Broker):
    """Takes a message back that is not acknowledged for so long, by default half an hour."""

    name = "rabbitmq-server"
    server = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

    def __init__(self, home: Path, *, patience_ms: int = 1_800_000) -> None:
        super().__init__(home)
        self._patience_ms = patience_ms
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._node = f"faults-{uuid4().hex[:12]}@localhost"
        self._node_port = free_port()

    def command(self) -> tuple[list[str], Mapping[str, str]]:
        (self.home / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        patience = f"{{consumer_timeout, {self._patience_ms}}}, {{channel_tick_interval, 1000}}"
        (self.home / "advanced.config").write_text(f"[{{rabbit, [{patience}]}}].")
        (self.home / "plugins").write_text("[].")
        return [str(self.server)], {
            "HOME": str(self.home),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.home / "database"),
            "RABBITMQ_LOG_BASE": str(self.home / "log"),
            "RABBITMQ_PID_FILE": str(self.home / "pid"),
        }

    @staticmethod
    def is_here() -> bool:
        return RabbitMQ.server.is_file()
