"""`manage.py run`: the whole service on one machine, started and kept running by one command."""

import fcntl
import http.client
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from argparse import ArgumentParser
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from flywheel.management.supervisor import Program, Say, Supervisor

WATCH_EVERY_S: Final = 0.2
QUIET_THREADS: Final = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Torch's threads sleep while they wait: they share the cores with the web server, and spinning costs both."""
PORT_PATIENCE_S: Final = 10.0
"""For so long the programs of a run that was killed may still hold their ports."""
QUIET_CELERY: Final = ("--loglevel", "warning", "--without-gossip", "--without-mingle", "--without-heartbeat")


class Command(BaseCommand):
    help = "Runs the service on this machine: migrates the database, then web, workers, clock and serving."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (%(default)s)")
        parser.add_argument("--port", type=int, default=8000, help="the port of the pages (%(default)s)")
        parser.add_argument("--serving-port", type=int, help="the port of the serving API (port + 1)")
        parser.add_argument("--no-serving", action="store_true", help="leave the serving API out")
        parser.add_argument("--no-gpu", action="store_true", help="leave the worker that trains out")
        parser.add_argument("--threads", type=int, default=8, help="threads of the web process (%(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        home: Path = settings.HOME
        options["serving_port"] = options["serving_port"] or options["port"] + 1
        with _only_one(home):
            _wait_for_port(options["host"], options["port"], "--port")
            if not options["no_serving"]:
                _wait_for_port(options["host"], options["serving_port"], "--serving-port")
            call_command("migrate", interactive=False, verbosity=0)
            if not settings.FRONTEND_DIST.is_dir():
                self._say("frontend/dist is missing, so pages come without script and style: `make setup`")
            call_command("collectstatic", interactive=False, verbosity=0)
            supervisor = Supervisor(
                _programs(options, self._say),
                home=home,
                directory=settings.BASE_DIR,
                environment={**os.environ, "LABELWHEEL_HOME": str(home), "PYTHONUNBUFFERED": "1"}
                | QUIET_THREADS,
                say=self._say,
            )
            self._run(supervisor, host=options["host"], port=options["port"])

    def _run(self, supervisor: Supervisor, *, host: str, port: int) -> None:
        stopping = threading.Event()

        def stop(number: int, frame: FrameType | None) -> None:
            stopping.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        answered = False
        try:
            while not stopping.is_set():
                supervisor.watch()
                if not answered and _web_answers(host, port):
                    answered = True
                    self._say(f"ready: http://{_reachable(host)}:{port}/  (Ctrl+C ends it)")
                stopping.wait(WATCH_EVERY_S)
        finally:
            self._say("stopping")
            supervisor.stop()
            self._say("stopped")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _programs(options: dict[str, Any], say: Say) -> list[Program]:
    host, port = options["host"], options["port"]
    celery = (sys.executable, "-m", "celery", "-A", "flywheel.config")
    web = (
        *(sys.executable, "-m", "gunicorn", "flywheel.config.wsgi:application"),
        *("--bind", f"{host}:{port}", "--worker-class", "gthread", "--workers", "1"),
        *("--threads", str(options["threads"]), "--graceful-timeout", "15", "--no-control-socket"),
    )
    worker = (*celery, "worker", "-Q", "default", "-P", "solo", "-n", "worker@%h", *QUIET_CELERY)
    gpu = (
        *(*celery, "worker", "-Q", "gpu", "-I", "flywheel.gpu", "-P", "solo", "-n", "gpu@%h"),
        *QUIET_CELERY,
    )
    beat = (*celery, "beat", "--loglevel", "warning", "--pidfile=")
    serving = (
        *(sys.executable, "-m", "uvicorn", "flywheel.serving.asgi:application", "--host", host),
        *("--port", str(options["serving_port"]), "--log-level", "warning"),
    )
    programs = [Program("web", web), Program("worker", worker), Program("beat", beat)]
    if importlib.util.find_spec("torch") is None:
        say("PyTorch is not installed: no training and no serving on this machine")
        return programs
    if not options["no_gpu"]:
        programs.append(Program("gpu", gpu))
    if not options["no_serving"]:
        programs.append(Program("serving", serving))
    return programs


def _only_one(home: Path) -> IO[str]:
    """Holds the data directory while the file is open: two runs in it would share pid files and clocks."""
    path = home / "run" / "supervisor.pid"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        other = file.read().strip()
        file.close()
        raise CommandError(
            f"process {other} already runs the service in {home}; stop it first, or set LABELWHEEL_HOME to "
            "another directory"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _wait_for_port(host: str, port: int, option: str, *, patience_s: float = PORT_PATIENCE_S) -> None:
    """Returns when nobody listens at this port. Raises `CommandError` if somebody keeps doing so."""
    deadline = time.monotonic() + patience_s
    while True:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise CommandError(
                        f"cannot listen at {host}, port {port} ({error.strerror}); choose another with {option}"
                    ) from error
            else:
                return
        time.sleep(WATCH_EVERY_S)


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104


def _web_answers(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(_reachable(host), port, timeout=1)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
