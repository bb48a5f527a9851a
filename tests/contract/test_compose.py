"""docker-compose.yml: valid, whole, and its commands do work with its own variables on real parts.

No container runs here. The commands are those of the file, word for word; PostgreSQL and RabbitMQ are this
machine's, in a database and a virtual host that exist for the test alone.
"""

import ast
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

ROOT = Path(__file__).resolve().parents[2]
POSTGRES = "postgres://postgres@127.0.0.1:5432/postgres"
OURS = ("migrate", "web", "worker", "gpu-worker", "beat", "serving")
PARTS = ("postgres", "rabbitmq", "s3")

PING = """
import django
django.setup()
import sys
from labeling.services import jobs
print(jobs.enqueue(kind="ping", key=sys.argv[1], params={}).pk)
"""
STATE = """
import django
django.setup()
import sys
from labeling.models import Job
job = Job.objects.get(pk=int(sys.argv[1]))
print(job.state, job.error)
"""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    parsed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(parsed, dict)
    return parsed


def test_the_file_is_valid() -> None:
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"),
            str(ROOT / "docker-compose.yml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_service_of_a_team_is_there(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {*OURS, *PARTS}


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    named = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET)\w*)(\S)", text)
    assert {name for name, _ in named} == {
        "LABELWHEEL_SECRET_KEY", "POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "S3_SECRET_KEY",
    }  # fmt: skip
    assert re.findall(r"\$\{\w*(?:PASSWORD|SECRET)\w*(?!\w|:\?)", text) == []


def test_every_image_has_a_version(compose: dict[str, Any]) -> None:
    for name in PARTS:
        assert re.search(r":\d+(\.\d+)*(-\w+)?$", compose["services"][name]["image"]), name
    stages = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert all(re.search(r":\d", stage) or stage == "web" for stage in stages)


def test_the_images_do_not_run_as_root() -> None:
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")
    for stage in stages[2:]:
        assert re.findall(r"^USER (\S+)$", stage, re.MULTILINE)[-1] == "labelwheel"


def test_services_come_back_and_have_time_to_end(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if name != "migrate":
            assert service["restart"] == "unless-stopped", name
        if name not in ("migrate", "beat"):
            assert "stop_grace_period" in service, name


def test_what_others_wait_for_says_when_it_is_healthy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{name} waits for {needed}"
    assert {name for name in services if "healthcheck" in services[name]} == {"web", "serving", *PARTS}


def test_only_the_doors_are_published_and_at_loopback_by_default(compose: dict[str, Any]) -> None:
    published = {
        name: service["ports"] for name, service in compose["services"].items() if "ports" in service
    }
    assert set(published) == {"web", "serving"}
    assert all(port.startswith("${LABELWHEEL_BIND:-127.0.0.1}:") for [port] in published.values())


def test_the_variables_are_ones_that_the_settings_read(compose: dict[str, Any]) -> None:
    settings = (ROOT / "flywheel/config/settings.py").read_text()
    for name in OURS:
        for variable in compose["services"][name]["environment"]:
            if variable.startswith("LABELWHEEL_"):
                assert f'"{variable}"' in settings, f"{name}: {variable}"


def test_every_command_names_a_module_that_is_there(compose: dict[str, Any]) -> None:
    for name in OURS:
        words = compose["services"][name]["command"]
        for module in re.findall(r"(?:^|[= ])((?:flywheel|labeling)[\w.]*)", " ".join(words)):
            path = ROOT / module.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), f"{name}: {module}"


def test_the_health_check_is_python_that_parses(compose: dict[str, Any]) -> None:
    for name in ("web", "serving"):
        marker, python, option, source = compose["services"][name]["healthcheck"]["test"]
        assert (marker, python, option) == ("CMD", "python", "-c")
        ast.parse(source)


# --- the commands at work -----------------------------------------------------------------------------------


@contextmanager
def throw_away_database() -> Iterator[str]:
    name = f"compose_{secrets.token_hex(6)}"
    try:
        server = psycopg.connect(POSTGRES, connect_timeout=2, autocommit=True)
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL at 127.0.0.1:5432 lets user postgres in")
    with server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield f"postgres://postgres@127.0.0.1:5432/{name}"
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def throw_away_virtual_host() -> Iterator[str]:
    control = shutil.which("rabbitmqctl")
    if control is None or os.geteuid() != 0:
        pytest.skip("a RabbitMQ virtual host of its own needs rabbitmqctl and root")
    name = f"compose_{secrets.token_hex(6)}"

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([control, "--quiet", *words], capture_output=True, text=True, check=False)

    if ask("add_vhost", name).returncode != 0:
        pytest.skip("no RabbitMQ runs here")
    try:
        allowed = ask("set_permissions", "--vhost", name, "guest", ".*", ".*", ".*")
        assert allowed.returncode == 0, allowed.stderr
        yield f"amqp://guest:guest@127.0.0.1:5672/{name}"
    finally:
        ask("delete_vhost", name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


@dataclass
class Team:
    """The file's commands, each with its own variables, whose values are this machine's."""

    compose: dict[str, Any]
    values: dict[str, str]
    home: Path

    def environment(self, service: str) -> dict[str, str]:
        named = self.compose["services"][service]["environment"]
        bare = {name: value for name, value in os.environ.items() if not name.startswith("LABELWHEEL_")}
        return {
            **bare,
            **{name: self.values[name] for name in named if name in self.values},
            "LABELWHEEL_HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    @contextmanager
    def running(self, service: str) -> Iterator[subprocess.Popen[bytes]]:
        with self.log(service).open("wb") as log:
            process = subprocess.Popen(
                self.compose["services"][service]["command"],
                cwd=ROOT,
                env=self.environment(service),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise

    def done(self, service: str) -> None:
        subprocess.run(
            self.compose["services"][service]["command"],
            cwd=ROOT,
            env=self.environment(service),
            check=True,
            capture_output=True,
        )

    def ask(self, source: str, *words: object) -> str:
        environment = {**self.environment("web"), "DJANGO_SETTINGS_MODULE": "flywheel.config.settings"}
        answer = subprocess.run(
            [sys.executable, "-c", source, *map(str, words)],
            cwd=ROOT,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return answer.stdout.strip()

    def log(self, service: str) -> Path:
        return self.home / f"{service}.log"


@pytest.fixture
def team(compose: dict[str, Any], tmp_path: Path) -> Iterator[Team]:
    with ExitStack() as parts:
        yield Team(
            compose=compose,
            home=tmp_path,
            values={
                "LABELWHEEL_SECRET_KEY": secrets.token_urlsafe(50),
                "LABELWHEEL_ALLOWED_HOSTS": "127.0.0.1",
                "LABELWHEEL_TRUSTED_ORIGINS": "",
                "LABELWHEEL_HTTPS": "0",
                "LABELWHEEL_DATABASE_URL": parts.enter_context(throw_away_database()),
                "LABELWHEEL_BROKER_URL": parts.enter_context(throw_away_virtual_host()),
                "LABELWHEEL_S3_ENDPOINT": "",  # the directory: an S3 store has tests of its own
                "LABELWHEEL_LOG_LEVEL": "INFO",
                "PORT": str(free_port()),
            },
        )


def status_of(url: str) -> int | None:
    """The answer's HTTP status; nothing while none answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@pytest.mark.slow
def test_the_files_own_commands_serve_and_do_a_job(team: Team) -> None:
    team.done("migrate")
    with team.running("web") as web, team.running("worker"), team.running("beat"):
        url = f"http://127.0.0.1:{team.values['PORT']}/health/ready"
        deadline = time.monotonic() + 60
        while (status := status_of(url)) != 200:
            assert web.poll() is None, team.log("web").read_text()
            assert time.monotonic() < deadline, f"{status}\n{team.log('web').read_text()}"
            time.sleep(0.3)

        job = team.ask(PING, f"ping-{secrets.token_hex(4)}")
        deadline = time.monotonic() + 60
        while not (state := team.ask(STATE, job)).startswith("done"):
            assert time.monotonic() < deadline, f"{state}\n{team.log('worker').read_text()}"
            time.sleep(0.3)

        healthy = subprocess.run(
            team.compose["services"]["web"]["healthcheck"]["test"][1:],
            env=team.environment("web"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert healthy.returncode == 0, healthy.stderr
