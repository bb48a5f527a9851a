"""`python -m bench.faults`: 32 simulated annotators work while the service's processes are killed again and again.

Each hands its answers in under a key until it hears a definite word; some come late, some twice on purpose. At
the end every acknowledged answer must be in the database once, as it was sent, and no task may at any time have
had more people than it needs. What a run found can be added to an earlier run's result: `--add RESULT.json`.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg

from bench import report
from bench.load import Connection
from bench.service import free_port
from flywheel.management.supervisor import Program, Supervisor

POSTGRES: Final = "postgres://postgres@127.0.0.1:5432/postgres"
PEOPLE: Final = 32
ANSWERS: Final = 2
"""So many people each task wants."""
LEASE_S: Final = 10
AWAY: Final = 0.01
"""How often somebody leaves for about as long as their leases last."""
AHEAD: Final = 4
WEB_PROCESSES: Final = 4
WEB_THREADS: Final = 4
QUIET_CELERY: Final = ("--loglevel", "warning", "--without-gossip", "--without-mingle", "--without-heartbeat")
MASTER_EVERY, WORKER_EVERY = 40, 10
"""Each such kill is of gunicorn's master and with it the whole web, or of the worker, and not of one web process."""
GIVE_UP_S: Final = 120.0
BLINK_S: Final = 0.05
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    acknowledged: int
    kills: int
    minutes: float


FULL: Final = Wanted(acknowledged=26_000, kills=520, minutes=25)
QUICK: Final = Wanted(acknowledged=1_500, kills=40, minutes=2)


@dataclass
class Hold:
    """A lease as its holder saw it: for sure from `since` to `until`, by the machine's clock."""

    task_id: int
    person: int
    token: int
    since: float
    until: float


@dataclass
class Ledger:
    """What was asked, sent and acknowledged."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    next_calls: int = 0
    holds: dict[tuple[int, int], Hold] = field(default_factory=dict)
    sent: dict[str, Json] = field(default_factory=dict)
    acknowledged: dict[str, Json] = field(default_factory=dict)
    unlike: int = 0
    """Answers to a repeated key that were not those of the first time."""
    refused: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    """Times that the connection broke, or nobody was there, three times in a row."""
    unavailable: int = 0

    def leased(self, person: int, leases: Sequence[Json], at: float) -> None:
        with self.lock:
            self.next_calls += 1
            for item in leases:
                token, until = item["lease"]["token"], _timestamp(item["lease"]["expires_at"])
                hold = self.holds.setdefault(
                    (item["task"]["id"], token), Hold(item["task"]["id"], person, token, at, until)
                )
                hold.until = max(hold.until, until)

    def ends(self, task_id: int, token: int, at: float) -> None:
        with self.lock:
            hold = self.holds[task_id, token]
            hold.until = min(hold.until, at)

    def answered(self, key: str, body: Json, status: int, answer: Json) -> None:
        with self.lock:
            if status != 201:
                self.refused[f"{status} {answer.get('code')}"] += 1
                return
            before = self.acknowledged.setdefault(key, answer)
            self.unlike += before != answer
            hold = self.holds[answer["task_id"], body["lease_token"]]
            if not answer["late"]:
                hold.until = float("inf")  # in time: the answer keeps the place


class Annotator:
    """One person who works without a pause, and not always as they should."""

    def __init__(self, number: int, port: int, token: str, project: int, ledger: Ledger) -> None:
        self.number = number
        self.project = project
        self.ledger = ledger
        self.connection = Connection("127.0.0.1", port, token)
        self.other_tab = Connection("127.0.0.1", port, token)
        self.dice = random.Random(number)

    def work(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            if not self.turn():
                time.sleep(1.0)
        self.connection.close()
        self.other_tab.close()

    def turn(self) -> bool:
        count = self.dice.randint(1, AHEAD)
        status, body = self.ask(f"projects/{self.project}/queue/next", {"count": count})
        assert status == 200, body
        self.ledger.leased(self.number, body["leases"], time.time())
        if self.dice.random() < AWAY:  # and what was in hand is answered too late
            time.sleep(LEASE_S * self.dice.uniform(0.9, 1.5))
        for item in body["leases"]:
            self.handle(item)
        return bool(body["leases"])

    def handle(self, item: Json) -> None:
        path, token = f"tasks/{item['task']['id']}", item["lease"]["token"]
        draw = self.dice.random()
        if draw < 0.04:
            self.ledger.ends(item["task"]["id"], token, time.time())
            self.ask(f"{path}/release", {"token": token})
        elif draw < 0.06:
            self.ledger.ends(item["task"]["id"], token, time.time())
            self.ask(f"{path}/skip", {"token": token, "reason": "too dark"})
        else:
            self.submit(item)

    def submit(self, item: Json) -> None:
        left, top = self.dice.uniform(0, 900), self.dice.uniform(0, 700)
        shape = {"id": "a", "kind": "box", "class_id": 1, "xyxy": [left, top, left + 50, top + 40]}
        body = {
            "key": str(uuid4()),
            "lease_token": item["lease"]["token"],
            "base_revision": item["base_revision"],
            "schema_version": 1,
            "shapes": [shape | {"provenance": "human_drawn"}],
            "seconds_active": 1.0,
            "suggestions_from": item["suggestions_from"],
            "tab": "",
        }
        task_id = item["task"]["id"]
        with self.ledger.lock:
            self.ledger.sent[body["key"]] = {"task": task_id, "person": self.number, "xyxy": shape["xyxy"]}
        draw = self.dice.random()
        if draw < 0.05:  # the other tab sends the same at the same moment
            thread = threading.Thread(target=self.send, args=(self.other_tab, task_id, body))
            thread.start()
            self.send(self.connection, task_id, body)
            thread.join()
        else:
            self.send(self.connection, task_id, body)
        if draw > 0.95:
            self.send(self.connection, task_id, body)

    def send(self, connection: Connection, task_id: int, body: Json) -> None:
        # Until we know better the place is given up now: nobody may be called over-assigned who was not.
        self.ledger.ends(task_id, body["lease_token"], time.time())
        status, answer = self.ask(f"tasks/{task_id}/annotations", body, connection)
        self.ledger.answered(body["key"], body, status, answer)

    def ask(self, path: str, body: Json, connection: Connection | None = None) -> tuple[int, Any]:
        """The first definite answer: sent again when the connection broke, and after a 5xx."""
        connection = connection or self.connection
        deadline = time.monotonic() + GIVE_UP_S
        while time.monotonic() < deadline:
            try:
                status, answer = connection.call("POST", path, body)
            except OSError:  # three times in a row
                connection.close()
                self.ledger.broken += 1
            else:
                if status < 500:
                    return status, answer
                self.ledger.unavailable += 1
            time.sleep(self.dice.uniform(0.5, 2) * BLINK_S)
        raise AssertionError(f"no definite answer for {GIVE_UP_S:g} s: {path}")


# --- the service, and who kills it ----------------------------------------------------------------------------


@dataclass
class Installation:
    """A service of its own in a folder or database of its own."""

    database: str
    home: Path
    port: int
    environment: dict[str, str]
    supervisor: Supervisor
    project: int
    tokens: list[str]

    def pid(self, program: str) -> int | None:
        with suppress(OSError, ValueError):
            return int((self.home / "run" / f"{program}.pid").read_text())
        return None

    def web_processes(self) -> list[int]:
        master = self.pid("web")
        with suppress(OSError):
            return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
        return []

    def kill_one(self, number: int, dice: random.Random) -> int:
        """Kills a process outright; how many died (none, if it was just being started)."""
        if number % MASTER_EVERY == 0:
            victim = self.pid("web")
        elif number % WORKER_EVERY == 0:
            victim = self.pid("worker")
        else:
            victim = dice.choice(self.web_processes() or [0]) or None
        if victim is None:
            return 0
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return 0
        return 1

    def rows(self, statement: str) -> list[Any]:
        if self.database == "sqlite":
            with closing(sqlite3.connect(self.home / "labelwheel.sqlite3", timeout=20)) as database:
                rows = database.execute(statement).fetchall()
                database.commit()
                return rows
        with psycopg.connect(self.environment["LABELWHEEL_DATABASE_URL"]) as server:
            return server.execute(statement.encode()).fetchall()


@contextmanager
def installed(database: str, postgres: str, tasks: int) -> Iterator[Installation]:
    home = Path(tempfile.mkdtemp(prefix="labelwheel-faults-"))
    name = f"labelwheel_faults_{os.getpid()}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LABELWHEEL_")}
    environment |= {"LABELWHEEL_HOME": str(home), "LABELWHEEL_LOG_LEVEL": "WARNING"}
    environment |= {"LABELWHEEL_JOB_SWEEP_S": "5", "LABELWHEEL_ROUND_TICK_S": "3600"}
    if database == "postgresql":
        _administer(postgres, f"CREATE DATABASE {name}")
        environment["LABELWHEEL_DATABASE_URL"] = postgres.rsplit("/", 1)[0] + f"/{name}"
    port = free_port(18_600)
    supervisor = Supervisor(
        _programs(port),
        home=home,
        directory=report.ROOT,
        environment=environment,
        say=lambda line: None,
        first_delay_s=0.05,
        longest_delay_s=0.05,
        patience_s=15.0,
    )
    try:
        _say(f"{database}: writing {tasks:,} tasks")
        _manage(environment, "manage.py", "migrate", "--verbosity", "0")
        options = {"tasks": tasks, "people": PEOPLE, "answers": ANSWERS}
        arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        filled = json.loads(_manage(environment, "-m", "bench.population", *arguments).splitlines()[-1])
        at = Installation(database, home, port, environment, supervisor, filled["project"], filled["tokens"])
        at.rows(f"UPDATE labeling_project SET lease_seconds = {LEASE_S}, gold_share = 0 RETURNING id")
        supervisor.watch()
        _await(port)
        yield at
    finally:
        supervisor.stop()
        if database == "postgresql":
            _administer(postgres, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        shutil.rmtree(home, ignore_errors=True)


def _programs(port: int) -> list[Program]:
    """As `manage.py run` starts them, with several web processes that share what they load: they are back sooner."""
    celery = (sys.executable, "-m", "celery", "-A", "flywheel.config")
    web = (
        *(sys.executable, "-m", "gunicorn", "bench.warm:application", "--preload"),
        *("--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--workers", str(WEB_PROCESSES)),
        *("--threads", str(WEB_THREADS), "--graceful-timeout", "15", "--no-control-socket"),
        *("--log-level", "critical"),
    )
    worker = (*celery, "worker", "-Q", "default", "-P", "solo", "-n", "faults@%h", *QUIET_CELERY)
    beat = (*celery, "beat", "--loglevel", "warning", "--pidfile=")
    return [Program("web", web), Program("worker", worker), Program("beat", beat)]


def _manage(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=report.ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def _administer(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.encode())


def _await(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5).is_success:
                return
        time.sleep(0.2)
    raise RuntimeError("the service did not start")


# --- a run ----------------------------------------------------------------------------------------------------


def run(at: Installation, wanted: Wanted, seed: int) -> Json:
    """Works and kills until there is enough of both; what was found."""
    ledger, dice = Ledger(), random.Random(seed)
    people = [Annotator(number, at.port, token, at.project, ledger) for number, token in enumerate(at.tokens)]
    over = threading.Event()
    failures: list[BaseException] = []

    def work(person: Annotator) -> None:
        try:
            person.work(over.is_set)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    began = told = time.monotonic()
    for thread in threads:
        thread.start()
    kills = 0
    while not over.is_set() and not failures:
        at.supervisor.watch()
        # Never ahead of the answers: each kill meets the same amount of work.
        due = len(ledger.acknowledged) * wanted.kills / wanted.acknowledged
        if kills < due and dice.random() < 0.5:
            kills += at.kill_one(kills + 1, dice)
        if time.monotonic() - told > 20:
            told = time.monotonic()
            _say(f"{at.database}: {len(ledger.acknowledged):,} answers acknowledged, {kills} kills")
        enough = len(ledger.acknowledged) >= wanted.acknowledged and kills >= wanted.kills
        if enough or time.monotonic() - began > wanted.minutes * 60:
            over.set()
        time.sleep(BLINK_S)
    over.set()
    for thread in threads:
        while thread.is_alive():
            at.supervisor.watch()
            thread.join(BLINK_S)
    if failures:
        raise failures[0]
    seconds = time.monotonic() - began
    return {
        "database": at.database,
        "seconds": round(seconds, 1),
        "kills": kills,
        "acknowledged": len(ledger.acknowledged),
        "next_calls": ledger.next_calls,
        **audit(at, ledger),
        "broken_connections": ledger.broken,
        "answers_5xx": ledger.unavailable,
        "refused": dict(ledger.refused),
        "late": sum(answer["late"] for answer in ledger.acknowledged.values()),
    }


def audit(at: Installation, ledger: Ledger) -> Json:
    """What the database holds, against what the people were told."""
    rows = at.rows("SELECT key, id, task_id, author_id, revision, late, shapes FROM labeling_annotation")
    stored: dict[str, list[Json]] = defaultdict(list)
    for key, own_id, task_id, author_id, revision, late, shapes in rows:
        drawn = json.loads(shapes) if isinstance(shapes, str) else shapes
        stored[str(UUID(str(key)))].append(
            {
                "id": str(UUID(str(own_id))),
                "task": task_id,
                "author": author_id,
                "revision": revision,
                "late": bool(late),
                "xyxy": [box["xyxy"] for box in drawn],
            }
        )
    lost = sum(
        not any(_is_what_was_sent(row, told, ledger.sent[key]) for row in stored.get(key, []))
        for key, told in ledger.acknowledged.items()
    )
    persons_answers = Counter((row["task"], row["author"]) for own in stored.values() for row in own)
    twice = sum(len(own) - 1 for own in stored.values())
    twice += sum(count - 1 for count in persons_answers.values())
    in_time = Counter(row["task"] for own in stored.values() for row in own if not row["late"])
    return {
        "lost": lost,
        "twice": twice,
        "unlike": ledger.unlike,
        "stored_unacknowledged": len(stored.keys() - ledger.acknowledged.keys()),
        "over_assigned": len(
            crowded(ledger.holds.values()) | {task for task, count in in_time.items() if count > ANSWERS}
        ),
    }


def crowded(holds: Iterable[Hold]) -> set[int]:
    """The tasks that at some moment more people held or had answered in time than they need."""
    by_task: dict[int, list[Hold]] = defaultdict(list)
    for hold in holds:
        if hold.until > hold.since:
            by_task[hold.task_id].append(hold)
    found = set()
    for task_id, own in by_task.items():
        for moment in (hold.since for hold in own):
            people = {hold.person for hold in own if hold.since <= moment < hold.until}
            if len(people) > ANSWERS:
                found.add(task_id)
    return found


def _is_what_was_sent(row: Json, told: Json, sent: Json) -> bool:
    return bool(
        row["id"] == told["id"]
        and row["task"] == told["task_id"] == sent["task"]
        and row["revision"] == told["revision"]
        and row["xyxy"] == [sent["xyxy"]]
    )


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# --- the command ----------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes")
    parser.add_argument("--database", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--postgres", default=POSTGRES, help="a server where databases may be made")
    parser.add_argument("--acknowledged", type=int, help="so many answers on each database")
    parser.add_argument("--kills", type=int, help="so many kills on each database")
    parser.add_argument("--minutes", type=float, help="at most so long on each database")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--add", type=Path, action="append", default=[], help="an earlier result to sum up with"
    )
    options = parser.parse_args(arguments)
    usual = QUICK if options.quick else FULL
    wanted = Wanted(
        options.acknowledged or usual.acknowledged,
        options.kills or usual.kills,
        options.minutes or usual.minutes,
    )
    parts = [part for path in options.add for part in json.loads(path.read_text())["parts"]]
    for database in options.database or ["sqlite", "postgresql"]:
        # A quarter of the tasks is left over, so that nobody waits for the last ones.
        with installed(database, options.postgres, wanted.acknowledged * 5 // 4 // ANSWERS + 200) as at:
            parts.append(run(at, wanted, options.seed))
        _say(json.dumps(parts[-1]))
    sums = ("kills", "acknowledged", "lost", "twice", "over_assigned", "next_calls", "unlike")
    totals = {name: sum(part[name] for part in parts) for name in sums}
    print(json.dumps({**totals, "parts": parts, **report.about(quick=options.quick)}))
    return 1 if totals["lost"] or totals["twice"] or totals["over_assigned"] else 0


def _say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
