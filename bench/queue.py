"""`python -m bench.queue`: `next`, submit, lists and export, at up to a million tasks and a hundred people.

Each case is an installation of its own: a SQLite file, or a database of its own on a PostgreSQL server. Its tasks
are written into the tables (bench/population.py), all that is measured goes through HTTP on loopback.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg

from bench import peer, report
from bench.load import Connection, Times, at_once, timed
from bench.service import free_port

SIZES: Final = (10_000, 100_000, 1_000_000)
CLIENTS: Final = (1, 8, 32, 100)
BOXES: Final = 10
SETTLED: Final = 10_000
POSTGRES: Final = "postgres://postgres@127.0.0.1:5432/postgres"
SECONDS: Final = 12.0
QUICK_SECONDS: Final = 4.0
READY_WITHIN_S: Final = 60.0
MOST_PEER_CLIENTS: Final = 32
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Case:
    """One size on one database, and what was measured there."""

    database: str
    tasks: int
    clients: Sequence[int]
    seconds: float
    postgres: str
    workers: int
    threads: int
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Installation:
    """A running web process, its project and the tokens of its people."""

    host: str
    port: int
    pid: int
    home: Path
    environment: dict[str, str]
    project: int
    settled: int
    tokens: list[str]
    database_name: str

    def people(self, count: int) -> list[Connection]:
        return [Connection(self.host, self.port, token) for token in self.tokens[:count]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    results = []
    for database in options.database:
        for tasks in options.tasks:
            case = Case(
                database=database,
                tasks=tasks,
                clients=options.clients,
                seconds=QUICK_SECONDS if options.quick else SECONDS,
                postgres=options.postgres,
                workers=options.workers,
                threads=options.threads,
            )
            with _installed(case) as installation:
                _measure(case, installation)
            _say(f"{database}, {tasks:,} tasks: {json.dumps(case.figures)}")
            results.append(case.figures)
    beside: dict[str, Any] = {}
    if options.peer is not None:
        beside["peer"] = peer.measure(
            options.peer,
            tasks=options.tasks[0],
            clients=[count for count in options.clients if count <= MOST_PEER_CLIENTS],
            seconds=QUICK_SECONDS if options.quick else SECONDS,
            say=_say,
        )
    print(json.dumps({"cases": results, **beside, **report.about(quick=options.quick)}))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.queue", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 tasks, 1 and 32 people, short")
    parser.add_argument("--database", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--tasks", type=int, action="append", help="how many tasks; may be given again")
    parser.add_argument("--clients", type=int, action="append", help="how many people; may be given again")
    parser.add_argument("--postgres", default=POSTGRES, help="a server where databases may be made")
    parser.add_argument("--workers", type=int, default=2, help="web processes on PostgreSQL (%(default)s)")
    parser.add_argument("--threads", type=int, default=8, help="threads of each (%(default)s)")
    parser.add_argument("--peer", type=Path, help="an environment with Label Studio, to be measured beside")
    options = parser.parse_args(arguments)
    options.database = options.database or ["sqlite", "postgresql"]
    options.tasks = options.tasks or ([10_000] if options.quick else list(SIZES))
    options.clients = options.clients or ([1, 32] if options.quick else list(CLIENTS))
    return options


# --- an installation ------------------------------------------------------------------------------------------


@contextmanager
def _installed(case: Case) -> Iterator[Installation]:
    home = Path(tempfile.mkdtemp(prefix="labelwheel-queue-"))
    name = f"labelwheel_bench_{os.getpid()}"
    environment = {**os.environ, "LABELWHEEL_HOME": str(home), "LABELWHEEL_LOG_LEVEL": "WARNING"}
    environment.pop("LABELWHEEL_DATABASE_URL", None)
    if case.database == "postgresql":
        _administer(case.postgres, f"CREATE DATABASE {name}")
        environment["LABELWHEEL_DATABASE_URL"] = case.postgres.rsplit("/", 1)[0] + f"/{name}"
    try:
        _say(f"{case.database}: writing {case.tasks:,} tasks")
        _manage(environment, "manage.py", "migrate", "--verbosity", "0")
        wanted = {"tasks": case.tasks, "settled": SETTLED, "boxes": BOXES, "people": max(case.clients)}
        arguments = [part for name, value in wanted.items() for part in (f"--{name}", str(value))]
        told = _manage(environment, "-m", "bench.population", *arguments)
        filled = json.loads(told.splitlines()[-1])
        port = free_port(18_300)
        process = _web(
            environment, port, workers=case.workers if case.database == "postgresql" else 1, case=case
        )
        try:
            _await(port, process)
            yield Installation("127.0.0.1", port, process.pid, home, environment, filled["project"],
                               filled["settled"], filled["tokens"], name)  # fmt: skip
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        if case.database == "postgresql":
            _administer(case.postgres, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _web(environment: dict[str, str], port: int, *, workers: int, case: Case) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "flywheel.config.wsgi:application",
        "--bind",
        f"127.0.0.1:{port}",
    ]
    command += ["--worker-class", "gthread", "--workers", str(workers), "--threads", str(case.threads)]
    command += ["--keep-alive", "30", "--log-level", "warning"]
    return subprocess.Popen(command, cwd=report.ROOT, env=environment)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError("the web process did not start")


def _manage(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=report.ROOT, env=environment, stdout=subprocess.PIPE,
                          text=True, check=True)  # fmt: skip
    return done.stdout


def _administer(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.encode())


# --- the measures ---------------------------------------------------------------------------------------------


def _measure(case: Case, at: Installation) -> None:
    figures = case.figures
    figures |= {"database": case.database, "tasks": case.tasks, "clients": {}}
    audit = Audit()
    for count in case.clients:
        _say(f"{case.database}, {case.tasks:,} tasks: {count} people")
        figures["clients"][str(count)] = _queue(case, at, count, audit)
    by_clients = figures["clients"]
    if "1" in by_clients:
        figures["next_p50_ms"] = by_clients["1"]["next"]["p50_ms"]
        figures["next_p99_ms"] = by_clients["1"]["next"]["p99_ms"]
    if "32" in by_clients:
        figures["next_p99_ms_32"] = by_clients["32"]["next"]["p99_ms"]
        figures["submits_per_s_32"] = by_clients["32"]["submits_per_s"]
        figures["submit_web_cpu_ms"] = by_clients["32"]["submit_web_cpu_ms"]
    figures |= _lists(at)
    figures["web_rss_mb"] = round(sum(_rss_mb(pid) for pid in _family(at.pid)), 1)
    figures["export_answers_per_s"] = _export(at)
    figures |= audit.verdict(at)


@dataclass
class Audit:
    """Who was given what, and which answers were acknowledged."""

    holders: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    acknowledged: dict[str, str] = field(default_factory=dict)

    def verdict(self, at: Installation) -> dict[str, int]:
        """Tasks given to more than one person (each wants one answer), and answers that are not there once."""
        rows = _query(at, f"SELECT key, count(*) FROM labeling_annotation a JOIN labeling_task t ON t.id = a.task_id "
                          f"WHERE t.project_id = {at.project} GROUP BY key")  # fmt: skip
        stored = {str(key).replace("-", ""): count for key, count in rows}
        return {
            "over_assigned": sum(len(people) > 1 for people in self.holders.values()),
            "acknowledged": len(self.acknowledged),
            "lost": sum(key.replace("-", "") not in stored for key in self.acknowledged),
            "duplicates": sum(count > 1 for count in stored.values())
            + max(0, len(stored) - len(self.acknowledged)),
        }


def _queue(case: Case, at: Installation, count: int, audit: Audit) -> dict[str, Any]:
    people = at.people(count)
    mixed = _next_and_submit(case, at, people, audit)
    pure = _submits(case, at, people, audit)
    for person in people:
        person.close()
    return mixed | pure


def _next_and_submit(case: Case, at: Installation, people: list[Connection], audit: Audit) -> dict[str, Any]:
    """Each person: the next task, an answer of ten boxes, the next task …; one answer in twenty is sent twice."""
    asked, sent = [Times() for _ in people], [Times() for _ in people]
    deadline = time.monotonic() + case.seconds
    cpu = _cpu_s(at)

    def work(number: int) -> None:
        person = people[number]
        turn = 0
        while time.monotonic() < deadline:
            turn += 1
            leased = _next(at, person, asked[number], 1, number, audit)
            for item in leased:
                _submit(person, item, sent[number], audit, twice=turn % 20 == 0)

    took = at_once(work, range(len(people)))
    web, database = (after - before for after, before in zip(_cpu_s(at), cpu, strict=True))
    nexts, submits = _together(asked), _together(sent)
    calls = len(nexts.ms) + len(submits.ms)
    return {
        "next": nexts.summary(),
        "submit": submits.summary(),
        "pairs_per_s": round(len(submits.ms) / took, 1),
        "web_cpu_ms_per_call": round(web / calls * 1000, 2),
        "database_cpu_ms_per_call": round(database / calls * 1000, 2),
    }


def _submits(case: Case, at: Installation, people: list[Connection], audit: Audit) -> dict[str, Any]:
    """Submits alone: everybody leases ten tasks, then all hand them in at the same moment; again and again."""
    sent = [Times() for _ in people]
    seconds = web = database = 0.0
    while seconds < case.seconds:
        held = [_next(at, person, Times(), 10, number, audit) for number, person in enumerate(people)]
        before = _cpu_s(at)

        def work(number: int, held: list[list[Any]] = held) -> None:
            for item in held[number]:
                _submit(people[number], item, sent[number], audit)

        seconds += at_once(work, range(len(people)))
        after = _cpu_s(at)
        web, database = web + after[0] - before[0], database + after[1] - before[1]
    count = sum(len(times.ms) for times in sent)
    return {
        "submit_alone": _together(sent).summary(),
        "submits_per_s": round(count / seconds, 1),
        "submit_web_cpu_ms": round(web / count * 1000, 2),
        "submit_database_cpu_ms": round(database / count * 1000, 2),
    }


def _next(
    at: Installation, person: Connection, times: Times, count: int, number: int, audit: Audit
) -> list[Any]:
    status, body = timed(
        times, lambda: person.call("POST", f"projects/{at.project}/queue/next", {"count": count})
    )
    if status != 200:
        raise RuntimeError(f"next answered {status}: {body}")
    for item in body["leases"]:
        audit.holders[item["task"]["id"]].add(number)
    return list(body["leases"])


def _submit(person: Connection, item: Any, times: Times, audit: Audit, *, twice: bool = False) -> None:
    key = str(uuid4())
    body = {
        "key": key,
        "lease_token": item["lease"]["token"],
        "base_revision": item["base_revision"],
        "schema_version": 1,
        "shapes": _boxes(),
        "seconds_active": 31.5,
        "suggestions_from": item["suggestions_from"],
    }
    path = f"tasks/{item['task']['id']}/annotations"
    status, answer = timed(times, lambda: person.call("POST", path, body))
    if status != 201:
        raise RuntimeError(f"a submit answered {status}: {answer}")
    audit.acknowledged[key] = answer["id"]
    if twice:
        again = person.call("POST", path, body)
        if again != (status, answer):
            raise RuntimeError(f"the same submit was answered {again}, before {status} {answer}")


def _boxes() -> list[dict[str, Any]]:
    return [
        {
            "id": str(uuid4()),
            "kind": "box",
            "class_id": number % 5 + 1,
            "xyxy": [10.25 + 90 * number, 20.5, 95.75 + 90 * number, 140.0 + number],
            "provenance": "human_drawn",
        }
        for number in range(BOXES)
    ]


def _lists(at: Installation) -> dict[str, Any]:
    """The list of tasks: its first page, and one in its middle, 50 tasks each."""
    (owner,) = at.people(1)
    first, deep, counts = Times(), Times(), Times()
    ids = _query(at, f"SELECT min(id), max(id) FROM labeling_task WHERE project_id = {at.project}")
    middle = (ids[0][0] + ids[0][1]) // 2
    for _ in range(30):
        for times, query in ((first, ""), (deep, f"?cursor={middle}")):
            path = f"projects/{at.project}/tasks{query}"
            status, body = timed(times, partial(owner.call, "GET", path))
            assert status == 200, body
            assert len(body["items"]) == 50, body["next"]
        status, body = timed(counts, lambda: owner.call("GET", f"projects/{at.project}/progress"))
        assert status == 200, body
    return {
        "list_p50_ms": first.quantile(0.5),
        "list_deep_p50_ms": deep.quantile(0.5),
        "progress_p50_ms": counts.quantile(0.5),
    }


def _export(at: Installation) -> float:
    """Settled tasks a second, from the moment a worker begins an export as COCO to its end."""
    (owner,) = at.people(1)
    status, job = owner.call("POST", f"projects/{at.settled}/exports", {"format": "coco"})
    assert status == 202, job
    code = (
        "import time; from labeling import tasks; began = time.perf_counter(); "
        f"tasks.run_job({job['id']}); print(time.perf_counter() - began)"
    )
    took = float(
        _manage(at.environment, "manage.py", "shell", "--verbosity", "0", "-c", code).splitlines()[-1]
    )
    status, job = owner.call("GET", f"jobs/{job['id']}")
    assert job["state"] == "done", job
    assert job["result"]["pictures"] == SETTLED, job
    return round(SETTLED / took, 1)


# --- what the processes use -----------------------------------------------------------------------------------


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


def _cpu_s(at: Installation) -> tuple[float, float]:
    """CPU seconds so far of the web processes, and of this database's PostgreSQL processes."""
    web = sum(_process_cpu_s(pid) for pid in _family(at.pid))
    return web, sum(_process_cpu_s(pid) for pid in _backends(at.database_name))


def _backends(name: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f" {name} " in path.read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:
            continue  # it ended meanwhile
    return [pid for pid in found if pid != os.getpid()]


def _process_cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _query(at: Installation, statement: str) -> list[Any]:
    code = (
        "import json\nfrom django.db import connection\n"
        f"with connection.cursor() as cursor:\n    cursor.execute({statement!r})\n"
        "    print(json.dumps(cursor.fetchall(), default=str))"
    )
    told = _manage(at.environment, "manage.py", "shell", "--verbosity", "0", "-c", code)
    rows: list[Any] = json.loads(told.splitlines()[-1])
    return rows


def _together(parts: Sequence[Times]) -> Times:
    return Times([ms for part in parts for ms in part.ms])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
