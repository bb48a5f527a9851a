"""Faults of the web processes and of people at the API. Each test is named after its fault in docs/reliability.md."""

import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Event, Lock
from typing import Any

import httpx
import pytest
from django.db import connection, transaction

from labeling.models import Annotation, Draft, Lease, Project, Role, Task
from labeling.services import clock
from tests.conftest import House, box, make_house, picture_bytes
from tests.faults.parts import (
    ROOT,
    Crew,
    Door,
    Json,
    Person,
    answer_to,
    crowd,
    free_port,
    insist,
    let_leases_run_out,
    until,
    web,
)

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]
Sent = list[tuple[str, list[int], str]]
ESTABLISHED = "01"


def house_of(*, tasks: int, answers: int = 1) -> House:
    house = make_house(answers_per_task=answers, gold_share=0.0)
    for _ in range(tasks):
        house.add_picture()
    return house


class Ledger:
    """What was sent and what was acknowledged, as the people at the API saw it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.sent: dict[str, int] = {}
        self.acknowledged: dict[str, Json] = {}

    def submit(self, person: Person, leased: Json) -> None:
        """Hands an answer in until it is acknowledged, always under the same key."""
        body, task_id = answer_to(leased), leased["task"]["id"]
        with self._lock:
            self.sent[body["key"]] = task_id
        response = insist(lambda: person.ask("POST", f"tasks/{task_id}/annotations", body))
        assert response.status_code == 201, response.text
        with self._lock:
            self.acknowledged[body["key"]] = response.json()

    def agrees(self) -> None:
        """Every acknowledged answer is there, once and as it was told, and there is nothing else."""
        stored = {str(row.key): row for row in Annotation.objects.all()}
        assert stored.keys() == self.acknowledged.keys() == self.sent.keys()
        for key, told in self.acknowledged.items():
            assert (str(stored[key].pk), stored[key].task_id) == (told["id"], self.sent[key])
            assert stored[key].response == told
        assert Annotation.objects.count() == len(self.sent)


def work_until_empty(person: Person, project: Project, ledger: Ledger) -> None:
    while True:
        response = insist(lambda: person.ask("POST", f"projects/{project.pk}/queue/next", {"count": 3}))
        assert response.status_code == 200, response.text
        if not (leases := response.json()["leases"]):
            return
        for leased in leases:
            ledger.submit(person, leased)


def answers_per_task() -> Counter[int]:
    return Counter(Annotation.objects.filter(is_current=True).values_list("task_id", flat=True))


# --- F1, F25 ----------------------------------------------------------------------------------------------


def test_f1_web_killed_in_submits_loses_and_doubles_nothing(tmp_path: Path, sent: Sent) -> None:
    house = house_of(tasks=40, answers=2)
    ledger, port = Ledger(), free_port()
    with Crew(tmp_path / "home", [web(port, "--workers", "2")]) as crew, Door(port) as door:
        crew.waits(lambda: door.is_open, "the service to answer")
        people = crowd(house.project, door, 8)
        with ThreadPoolExecutor(len(people)) as pool:
            working = [pool.submit(work_until_empty, person, house.project, ledger) for person in people]
            for kills in range(1, 5):
                crew.waits(
                    lambda: len(ledger.acknowledged) >= 12 * kills,  # noqa: B023  called at once
                    f"answers to be taken after {kills - 1} kills",
                )
                victims = crew.children(f"web-{port}") if kills != 3 else [crew.pid(f"web-{port}")]
                kill(random.choice(victims))
            crew.waits(lambda: all(item.done() for item in working), "all work to be done")
            for item in working:
                item.result()
        assert len(crew.deaths(f"web-{port}")) == 1  # the third kill was of the master
    ledger.agrees()
    assert set(answers_per_task().values()) == {2}
    assert len(ledger.acknowledged) == 80


def test_f25_web_that_is_asked_to_end_answers_what_it_has_begun(tmp_path: Path, sent: Sent) -> None:
    house = house_of(tasks=4)
    port = free_port()
    name = f"web-{port}"
    with Crew(tmp_path / "home", [web(port)]) as crew, Door(port) as door:
        crew.waits(lambda: door.is_open, "the service to answer")
        people = crowd(house.project, door, 4)
        leases = [person.next(house.project)[0] for person in people]
        with ThreadPoolExecutor(len(people)) as pool:
            with writes_wait():
                answers = [pool.submit(p.submit, leased) for p, leased in zip(people, leases, strict=True)]
                until(lambda: requests_taken(port) >= 4, "the submits to be in the service's hands")
                crew.send(name, signal.SIGTERM)
                crew.waits(lambda: "Handling signal: term" in crew.logs(), "the service to end")
                assert not any(answer.done() for answer in answers)
            assert [answer.result().status_code for answer in answers] == [201] * 4
        crew.waits(lambda: len(crew.deaths(name)) == 1, "the service to end")
        assert "exit code 0" in crew.deaths(name)[0]
    assert Annotation.objects.count() == 4


def kill(pid: int) -> None:
    subprocess.run(["kill", "-9", str(pid)], check=False)


@contextmanager
def writes_wait() -> Iterator[None]:
    """While it lasts, nobody else can change a task."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            list(Task.objects.select_for_update())
        yield


def requests_taken(port: int) -> int:
    """How many connections the service has accepted and has read all that came."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    own = [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == ESTABLISHED]
    return sum(row[4].endswith(":00000000") and row[9] != "0" for row in own)


# --- F2, F3, F4 -------------------------------------------------------------------------------------------


def test_f2_one_key_twenty_times_in_parallel_is_one_answer(door: Door, sent: Sent) -> None:
    house = house_of(tasks=1)
    (person,) = crowd(house.project, door, 1)
    (leased,) = person.next(house.project)
    body, line = answer_to(leased), Barrier(20)

    def submit(number: int) -> httpx.Response:
        line.wait(timeout=30)
        return person.submit(leased, **body)

    with ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(submit, range(20)))

    assert {response.status_code for response in responses} == {201}
    assert len({response.content for response in responses}) == 1
    assert Annotation.objects.count() == 1
    changed = person.submit(leased, **body | {"shapes": []})
    assert (changed.status_code, changed.json()["code"]) == (422, "key_reused")


def test_f3_of_two_tabs_with_one_base_the_second_is_refused_and_keeps_its_work(
    door: Door, sent: Sent
) -> None:
    house = house_of(tasks=1)
    (person,) = crowd(house.project, door, 1)
    (leased,) = person.next(house.project)
    task_id = leased["task"]["id"]
    works = {tab: [box(tab, xyxy=[side, side, 40, 40])] for tab, side in (("left", 3), ("right", 9))}
    for tab, shapes in works.items():
        body = {"token": leased["lease"]["token"], "shapes": shapes, "tab": tab, "sequence": 1}
        assert person.ask("PUT", f"tasks/{task_id}/draft", body).is_success
    line = Barrier(2)

    def submit(tab: str) -> tuple[str, httpx.Response]:
        line.wait(timeout=30)
        return tab, person.submit(leased, shapes=works[tab], tab=tab)

    with ThreadPoolExecutor(2) as pool:
        responses = sorted(pool.map(submit, works), key=lambda item: item[1].status_code)

    (first, taken), (second, stale) = responses
    assert (taken.status_code, stale.status_code, stale.json()["code"]) == (201, 409, "stale_revision")
    assert [shape["id"] for shape in Annotation.objects.get().shapes] == [first]
    assert [shape["id"] for shape in Draft.objects.get().shapes] == [second]


def test_f4_fifty_people_who_ask_at_once_never_hold_one_task_together(door: Door, sent: Sent) -> None:
    house = house_of(tasks=0)
    tasks = [house.add_picture() for _ in range(80)]
    people = crowd(house.project, door, 50)
    line = Barrier(len(people))
    held: list[list[int]] = []
    lock = Lock()

    def ask(person: Person) -> list[Json]:
        line.wait(timeout=60)
        leases = person.next(house.project)
        with lock:
            held.append([leased["task"]["id"] for leased in leases])
        return leases

    def answer(person: Person, leases: list[Json]) -> None:
        for leased in leases:
            if random.random() < 0.2:
                body = {"token": leased["lease"]["token"]}
                assert person.ask("POST", f"tasks/{leased['task']['id']}/release", body).is_success
            else:
                assert person.submit(leased).status_code == 201

    with ThreadPoolExecutor(len(people)) as pool:
        for _ in range(4):
            held.clear()
            leases = list(pool.map(ask, people))
            taken = [task_id for one in held for task_id in one]
            assert len(taken) == len(set(taken)), "two people hold one task"
            open_tasks = len(tasks) - Annotation.objects.count()
            assert len(taken) == min(len(people), open_tasks)
            list(pool.map(answer, people, leases))
    assert set(answers_per_task().values()) == {1}


# --- F8 ---------------------------------------------------------------------------------------------------


def test_f8_a_late_answer_takes_the_free_place(door: Door, sent: Sent) -> None:
    house = house_of(tasks=1)
    late, other = crowd(house.project, door, 2)
    (leased,) = late.next(house.project)
    let_leases_run_out(house.project)
    (again,) = other.next(house.project)
    release = {"token": again["lease"]["token"]}
    assert other.ask("POST", f"tasks/{again['task']['id']}/release", release).is_success

    assert late.submit(leased).status_code == 201

    assert other.next(house.project) == []
    assert answers_per_task() == {leased["task"]["id"]: 1}


def test_f8_a_late_answer_to_a_task_that_another_holds_is_kept_beside_theirs(door: Door, sent: Sent) -> None:
    house = house_of(tasks=1)
    late, other = crowd(house.project, door, 2)
    (leased,) = late.next(house.project)
    let_leases_run_out(house.project)
    (again,) = other.next(house.project)
    assert again["task"]["id"] == leased["task"]["id"]
    assert again["lease"]["token"] > leased["lease"]["token"]
    task = f"tasks/{leased['task']['id']}"
    for action in ("heartbeat", "skip"):
        refused = late.ask("POST", f"{task}/{action}", {"token": leased["lease"]["token"], "reason": "dark"})
        assert (refused.status_code, refused.json()["code"]) == (409, "lease_lost"), refused.text

    extra, in_time = late.submit(leased), other.submit(again)

    assert (extra.status_code, extra.json()["late"]) == (201, True)
    assert (in_time.status_code, in_time.json()["late"]) == (201, False)
    assert set(Annotation.objects.values_list("author_id", flat=True)) == {late.user.pk, other.user.pk}


# --- F18 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong_by_s", [3600, -3600])
def test_f18_a_web_process_whose_clock_is_wrong_by_an_hour_takes_no_lease_away(
    door: Door, tmp_path: Path, sent: Sent, wrong_by_s: int
) -> None:
    house = house_of(tasks=2)
    first, second = crowd(house.project, door, 2)
    (held,) = first.next(house.project)
    port = free_port()
    with Crew(tmp_path / "home", [web(port, wrong_by_s=wrong_by_s)]) as crew, Door(port) as wrong:
        crew.waits(lambda: wrong.is_open, "the service with the wrong clock to answer")
        (other,) = second.at(wrong).next(house.project)
        if connection.vendor == "postgresql":  # on SQLite the process's clock is the database's: there is one
            assert other["task"]["id"] != held["task"]["id"]
            beat = {"token": held["lease"]["token"]}
            assert first.at(wrong).ask("POST", f"tasks/{held['task']['id']}/heartbeat", beat).is_success
            lasts = [lease.expires_at - clock.now() for lease in Lease.objects.all()]
            assert len(lasts) == 2
            assert all(200 < last.total_seconds() <= 300 for last in lasts)
            assert first.next(house.project)[0]["lease"]["token"] == held["lease"]["token"]
        assert first.at(wrong).submit(held).status_code == 201
    assert answers_per_task()[held["task"]["id"]] == 1


# --- F19 --------------------------------------------------------------------------------------------------


def test_f19_an_import_and_twenty_annotators_do_not_stop_each_other(
    door: Door, tmp_path: Path, sent: Sent
) -> None:
    house = house_of(tasks=60)
    people = crowd(house.project, door, 20)
    folder, home = tmp_path / "pictures", tmp_path / "home"
    folder.mkdir()
    for number in range(300):
        color = (number % 256, 255, number // 256)
        (folder / f"{number}.png").write_bytes(picture_bytes(size=(16, 12), color=color))
    imported = Event()
    statuses: Counter[int] = Counter()
    lock = Lock()

    def work(person: Person) -> None:
        while not imported.wait(0.3):
            asked = person.ask("POST", f"projects/{house.project.pk}/queue/next", {"count": 2})
            answers = [person.submit(leased) for leased in asked.json().get("leases", [])]
            with lock:
                statuses.update(response.status_code for response in (asked, *answers))

    with ThreadPoolExecutor(len(people)) as pool:
        working = [pool.submit(work, person) for person in people]
        try:
            done = command(
                home, "import_folder", str(folder), "--project", str(house.project.pk), "--user", "the owner"
            )
        finally:
            imported.set()
        for item in working:
            item.result()
    assert "300 pictures imported" in done, done
    assert Task.objects.count() == 360
    assert set(statuses) == {200, 201}
    assert statuses[201] == Annotation.objects.count() > 20
    assert set(answers_per_task().values()) == {1}


def command(home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=Crew(home, []).environment,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "locked" not in done.stderr
    return done.stdout


# --- F20 --------------------------------------------------------------------------------------------------


def test_f20_a_class_removed_during_work_is_told_and_the_work_stays(door: Door, sent: Sent) -> None:
    house = house_of(tasks=1)
    (person,) = crowd(house.project, door, 1)
    (manager,) = crowd(house.project, door, 1, Role.MANAGER)
    (leased,) = person.next(house.project)
    task = f"tasks/{leased['task']['id']}"
    work = [box("kept", class_id=1), box("gone", class_id=2)]
    draft = {"token": leased["lease"]["token"], "shapes": work, "tab": "one", "sequence": 1}
    assert person.ask("PUT", f"{task}/draft", draft).is_success
    schema: dict[str, Any] = house.project.schema_versions.get().definition
    fewer = schema | {"classes": [item for item in schema["classes"] if item["id"] != 2]}
    path = f"projects/{house.project.pk}/schema"
    assert manager.ask("PUT", path, {"base_version": 1, "schema": fewer}).is_success

    refused = person.submit(leased, shapes=work, tab="one")

    assert (refused.status_code, refused.json()["code"]) == (409, "schema_changed"), refused.text
    (again,) = person.next(house.project)
    assert [shape["id"] for shape in again["draft"]["shapes"]] == ["kept", "gone"]
    assert person.submit(again, shapes=work[:1], schema_version=2, tab="one").status_code == 201
    assert Draft.objects.count() == 0
