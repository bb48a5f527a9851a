"""Keeps the programs of one machine's service running, and ends them together.

Each program gets a process group of its own, so that Ctrl+C reaches the supervisor alone and every program
is ended in one way. On Linux the kernel ends the programs of a supervisor that was killed itself.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

PR_SET_PDEATHSIG: Final = 1
MAX_LOG_BYTES: Final = 10 * 1024**2
STEADY_S: Final = 60.0
"""A program that ran for so long did not fail at its start: its next restart waits the shortest time."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    name: str
    command: Sequence[str]


@dataclass
class _State:
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    deaths_in_a_row: int = 0


class Supervisor:
    """Starts programs, starts again those that die (after 1 s, 2 s, 4 s … 30 s), and stops all of them.

    `home/logs/NAME.log` takes what a program prints; `home/run/NAME.pid` holds its process id while it runs.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        home: Path,
        directory: Path,
        environment: Mapping[str, str],
        say: Say,
        first_delay_s: float = 1.0,
        longest_delay_s: float = 30.0,
        patience_s: float = 20.0,
    ) -> None:
        self.programs = programs
        self.logs = home / "logs"
        self.pids = home / "run"
        self.directory = directory
        self.environment = environment
        self.say = say
        self.first_delay_s = first_delay_s
        self.longest_delay_s = longest_delay_s
        self.patience_s = patience_s
        self._states = {program.name: _State() for program in programs}
        self.logs.mkdir(parents=True, exist_ok=True)
        self.pids.mkdir(parents=True, exist_ok=True)

    def watch(self) -> None:
        """Starts what should run and does not. Call it again and again; it never waits."""
        now = time.monotonic()
        for program in self.programs:
            state = self._states[program.name]
            if state.process is not None and state.process.poll() is not None:
                self._note_death(program, state, now)
            if state.process is None and now >= state.start_at:
                self._start(program, state, now)

    def stop(self) -> None:
        """Asks every program to end, and kills those that have not after `patience_s`."""
        running = [
            (program, process)
            for program in self.programs
            if (process := self._states[program.name].process) is not None
        ]
        for _, process in running:
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + self.patience_s
        for program, process in running:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.say(f"{program.name} did not end within {self.patience_s:g} s: killed")
            _signal_group(process, signal.SIGKILL)
            process.wait()
            self._pid_file(program).unlink(missing_ok=True)
            self._states[program.name].process = None

    def _start(self, program: Program, state: _State, now: float) -> None:
        with self._open_log(program) as log:
            state.process = subprocess.Popen(  # noqa: S603  the commands are our own
                program.command,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent(os.getpid()),
            )
        state.started_at = now
        self._pid_file(program).write_text(f"{state.process.pid}\n")
        self.say(f"{program.name} started (process {state.process.pid})")

    def _note_death(self, program: Program, state: _State, now: float) -> None:
        assert state.process is not None
        # What the program itself started must not outlive it and hold, say, its port.
        _signal_group(state.process, signal.SIGKILL)
        if now - state.started_at >= STEADY_S:
            state.deaths_in_a_row = 0
        delay_s = min(self.first_delay_s * 2**state.deaths_in_a_row, self.longest_delay_s)
        state.deaths_in_a_row += 1
        state.start_at = now + delay_s
        self.say(
            f"{program.name} ended ({_how(state.process.returncode)}); again in {delay_s:g} s; "
            f"its log: {self._log_file(program)}"
        )
        state.process = None
        self._pid_file(program).unlink(missing_ok=True)

    def _open_log(self, program: Program) -> IO[bytes]:
        path = self._log_file(program)
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")

    def _log_file(self, program: Program) -> Path:
        return self.logs / f"{program.name}.log"

    def _pid_file(self, program: Program) -> Path:
        return self.pids / f"{program.name}.pid"


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signals a program and what it started; its process id is its group's. Nothing left is fine."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS answers the second for a group of zombies
        return


def _how(return_code: int) -> str:
    if return_code >= 0:
        return f"exit code {return_code}"
    return signal.Signals(-return_code).name


def _end_with_parent(parent: int) -> Callable[[], None] | None:
    """What a new process does before its program: asks Linux for a SIGTERM when its parent dies."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask
