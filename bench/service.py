"""The product as its users run it: `manage.py run` in a process of its own, and accounts by `add_user`."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from bench.report import ROOT

READY_WITHIN_S: Final = 180.0
STOPPED_WITHIN_S: Final = 40.0
LOG_LINES: Final = 25


class ServiceFailed(Exception):
    """The service, or a program of it, does not run; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Account:
    username: str
    password: str
    token: str


class Service:
    """The service in the data directory `home`, from entering to leaving the context."""

    def __init__(self, *, home: Path, port: int, serving: bool, say: Callable[[str], None]) -> None:
        self.home, self.say = home, say
        self.port = free_port(port)
        self.address = f"http://127.0.0.1:{self.port}"
        self.environment = {**os.environ, "LABELWHEEL_HOME": str(home)}
        self.command = [sys.executable, "manage.py", "run", "--port", str(self.port)]
        self.command += ["--serving-port", str(self.port + 1)] if serving else ["--no-serving"]
        self.log = home / "logs" / "run.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            # A session of its own: Ctrl+C reaches us alone, and we end it in order.
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def check(self) -> None:
        """Raises `ServiceFailed` if the service ended, or one of its programs dies again and again."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServiceFailed(f"The service ended. The end of {self.log}:\n{_tail(self.log)}")
        deaths = Counter(re.findall(r"^(\S+) ended \(", self.log.read_text(errors="replace"), re.MULTILINE))
        for name, count in deaths.items():
            if count > 1:
                log = self.home / "logs" / f"{name}.log"
                raise ServiceFailed(f"{name} died {count} times. The end of {log}:\n{_tail(log)}")

    def wait(self) -> None:
        """Returns when the service has ended by itself."""
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self.say("stopping the service")
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def add_accounts(self, names: Sequence[str]) -> list[Account]:
        """Accounts with generated passwords and tokens; those that were there get new ones."""
        options = ["--generate", "--token", "--replace-password"]
        running = [
            subprocess.Popen(
                [sys.executable, "manage.py", "add_user", name, *options],
                cwd=ROOT,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in names
        ]
        accounts = []
        for name, process in zip(names, running, strict=True):
            out, err = process.communicate()
            if process.returncode:
                raise ServiceFailed(f"manage.py add_user {name} failed:\n{err[-2000:]}")
            told = dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)
            accounts.append(Account(name, told["password"], told["token"]))
        return accounts

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            self.check()
            try:
                if httpx.get(f"{self.address}/health/ready", timeout=5.0).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.3)
        raise ServiceFailed(
            f"The service was not ready in {READY_WITHIN_S:g} s. The end of {self.log}:\n{_tail(self.log)}"
        )


def free_port(first: int) -> int:
    """The first port from `first` on that is free together with the one after it."""
    for port in range(first, first + 200):
        if all(_is_free(candidate) for candidate in (port, port + 1)):
            return port
    raise ServiceFailed(f"No two free ports from {first} to {first + 200}; choose others with --port.")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _tail(path: Path) -> str:
    if not path.exists():
        return "(there is no such file)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_LINES:])
