"""The supervisor behind `manage.py run`, on small programs of its own."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.management.base import CommandError

from flywheel.management.commands import run
from flywheel.management.supervisor import Program, Supervisor

ENDS_ON_SIGTERM = """
    import signal, sys, time
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    print("up", flush=True)
    while True:
        time.sleep(0.05)
"""
IGNORES_SIGTERM = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("up", flush=True)
    while True:
        time.sleep(0.05)
"""
STARTS_A_CHILD = """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    time.sleep(60)
"""


def program(name: str, source: str) -> Program:
    return Program(name, (sys.executable, "-c", textwrap.dedent(source)))


def until(
    condition: Callable[[], bool], *, within_s: float = 15.0, each: Callable[[], None] | None = None
) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        if each is not None:
            each()
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Bench:
    """A supervisor with short delays, and what it said."""

    def __init__(self, home: Path, *programs: Program, patience_s: float = 5.0) -> None:
        self.home = home
        self.said: list[str] = []
        self.supervisor = Supervisor(
            programs,
            home=home,
            directory=home,
            environment=dict(os.environ),
            say=self.said.append,
            first_delay_s=0.05,
            longest_delay_s=0.2,
            patience_s=patience_s,
        )

    def pid(self, name: str) -> int:
        return int((self.home / "run" / f"{name}.pid").read_text())

    def log(self, name: str) -> str:
        path = self.home / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def watch_until(self, condition: Callable[[], bool]) -> None:
        until(condition, each=self.supervisor.watch)


BenchMaker = Callable[..., Bench]


@pytest.fixture
def bench_of(tmp_path: Path) -> Iterator[BenchMaker]:
    made: list[Bench] = []

    def make(*programs: Program, patience_s: float = 5.0) -> Bench:
        made.append(Bench(tmp_path, *programs, patience_s=patience_s))
        return made[-1]

    yield make
    for bench in made:
        bench.supervisor.stop()


def test_what_a_program_prints_goes_to_its_log_and_its_process_id_to_a_file(bench_of: BenchMaker) -> None:
    bench = bench_of(program("web", ENDS_ON_SIGTERM))
    bench.watch_until(lambda: "up" in bench.log("web"))
    assert is_alive(bench.pid("web"))
    assert bench.said == [f"web started (process {bench.pid('web')})"]


def test_a_program_that_was_killed_is_started_again(bench_of: BenchMaker) -> None:
    bench = bench_of(program("web", ENDS_ON_SIGTERM))
    bench.watch_until(lambda: "up" in bench.log("web"))
    first = bench.pid("web")
    os.kill(first, signal.SIGKILL)
    bench.watch_until(lambda: bench.log("web").count("up") == 2)
    assert bench.pid("web") != first
    assert any(line.startswith("web ended (SIGKILL); again in 0.05 s") for line in bench.said)


def test_a_program_that_keeps_dying_is_started_less_and_less_often(bench_of: BenchMaker) -> None:
    bench = bench_of(program("web", "raise SystemExit(3)"))
    bench.watch_until(lambda: sum("ended" in line for line in bench.said) >= 5)
    delays = [line.split("again in ")[1].split(" s;")[0] for line in bench.said if "ended" in line]
    assert delays[:5] == ["0.05", "0.1", "0.2", "0.2", "0.2"]
    assert "web ended (exit code 3)" in bench.said[1]


def test_a_dying_program_leaves_the_others_alone(bench_of: BenchMaker) -> None:
    bench = bench_of(program("worker", "raise SystemExit(1)"), program("web", ENDS_ON_SIGTERM))
    bench.watch_until(lambda: "up" in bench.log("web"))
    web = bench.pid("web")
    bench.watch_until(lambda: sum("worker ended" in line for line in bench.said) >= 3)
    assert bench.pid("web") == web
    assert is_alive(web)


def test_what_a_dead_program_had_started_is_ended_too(bench_of: BenchMaker) -> None:
    bench = bench_of(program("web", STARTS_A_CHILD))
    bench.watch_until(lambda: bench.log("web").count("\n") == 1)
    child = int(bench.log("web").split()[0])
    os.kill(bench.pid("web"), signal.SIGKILL)
    bench.watch_until(lambda: not is_alive(child))


def test_stop_asks_every_program_to_end(bench_of: BenchMaker) -> None:
    bench = bench_of(program("web", ENDS_ON_SIGTERM), program("beat", ENDS_ON_SIGTERM))
    bench.watch_until(lambda: "up" in bench.log("web") and "up" in bench.log("beat"))
    processes = [bench.pid("web"), bench.pid("beat")]
    bench.supervisor.stop()
    assert not any(is_alive(process) for process in processes)
    assert list((bench.home / "run").iterdir()) == []
    assert not any("killed" in line for line in bench.said)


def test_stop_kills_a_program_that_does_not_end_in_time(bench_of: BenchMaker) -> None:
    bench = bench_of(program("gpu", IGNORES_SIGTERM), patience_s=0.3)
    bench.watch_until(lambda: "up" in bench.log("gpu"))
    process = bench.pid("gpu")
    bench.supervisor.stop()
    assert not is_alive(process)
    assert bench.said[-1] == "gpu did not end within 0.3 s: killed"


def test_a_long_log_is_put_aside_when_its_program_starts(
    bench_of: BenchMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flywheel.management.supervisor.MAX_LOG_BYTES", 10)
    bench = bench_of(program("web", ENDS_ON_SIGTERM))
    (tmp_path / "logs" / "web.log").write_text("what an earlier run printed\n")
    bench.watch_until(lambda: bench.log("web") == "up\n")
    assert (tmp_path / "logs" / "web.log.1").read_text() == "what an earlier run printed\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's part of this is Linux's")
def test_programs_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    source = f"""
        import os, sys, time
        from pathlib import Path
        from flywheel.management.supervisor import Program, Supervisor
        here = Path({str(tmp_path)!r})
        child = Program("web", (sys.executable, "-c", {textwrap.dedent(ENDS_ON_SIGTERM)!r}))
        supervisor = Supervisor([child], home=here, directory=here, environment=os.environ, say=print)
        while True:
            supervisor.watch()
            time.sleep(0.05)
    """
    log, pid_file = tmp_path / "logs" / "web.log", tmp_path / "run" / "web.pid"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)], cwd=Path(run.__file__).parents[3]
    ) as supervisor:
        until(lambda: log.exists() and "up" in log.read_text())
        child = int(pid_file.read_text())
        supervisor.kill()
    until(lambda: not is_alive(child))


def test_a_second_run_in_the_same_home_is_refused_with_the_first_ones_process_id(tmp_path: Path) -> None:
    with run._only_one(tmp_path), pytest.raises(CommandError, match=f"process {os.getpid()} already runs"):
        run._only_one(tmp_path)
    run._only_one(tmp_path).close()


def test_a_port_that_somebody_else_holds_is_named_with_the_option_to_choose_another() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CommandError, match=f"port {port} .* choose another with --port"):
            run._wait_for_port("127.0.0.1", port, "--port", patience_s=0)
    run._wait_for_port("127.0.0.1", port, "--port", patience_s=0)


def test_the_programs_are_those_that_a_team_runs_too() -> None:
    options = {
        "host": "127.0.0.1", "port": 9000, "serving_port": 9001, "no_serving": False, "no_gpu": False,
        "threads": 8,
    }  # fmt: skip
    said: list[str] = []
    programs = {program.name: " ".join(program.command) for program in run._programs(options, said.append)}
    assert list(programs)[:3] == ["web", "worker", "beat"]
    assert "--bind 127.0.0.1:9000" in programs["web"]
    if not said:  # PyTorch is here
        assert "--port 9001" in programs["serving"]
        assert "-Q gpu" in programs["gpu"]
    lean = run._programs({**options, "no_serving": True, "no_gpu": True}, said.append)
    assert [program.name for program in lean] == ["web", "worker", "beat"]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.slow
def test_one_command_runs_the_service_and_ends_all_of_it(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "console"
    with (
        log.open("wb") as console,
        subprocess.Popen(
            [sys.executable, "manage.py", "run", "--port", str(port), "--no-gpu", "--no-serving"],
            cwd=Path(run.__file__).parents[3],
            env={
                **os.environ,
                "LABELWHEEL_HOME": str(tmp_path),
                "LABELWHEEL_DATABASE_URL": f"sqlite:///{tmp_path}/db",
            },
            stdout=console,
            stderr=subprocess.STDOUT,
        ) as service,
    ):
        try:
            until(lambda: f"ready: http://127.0.0.1:{port}/" in log.read_text(), within_s=60)
            web = int((tmp_path / "run/web.pid").read_text())
            os.kill(web, signal.SIGKILL)
            until(lambda: not is_alive(web))
            until(lambda: answers(f"http://127.0.0.1:{port}/health/ready"), within_s=30)
            programs = [int(path.read_text()) for path in (tmp_path / "run").glob("[!s]*.pid")]
            assert len(programs) == 3
        finally:
            service.terminate()
        assert service.wait(timeout=40) == 0, log.read_text()
    assert not any(is_alive(program) for program in programs)
    assert "killed" not in log.read_text()
