"""Exports: settled labels as a file, which imports back equal."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.utils import timezone

from labeling import storage, tasks
from labeling.formats import FORMATS
from labeling.models import ConsensusSource, Job, JobState, Role, Task
from labeling.services import annotations, consensus, exports, imports, jobs, projects
from labeling.shapes import Box, Json, Keypoints, Shape, Tag
from tests.conftest import House

pytestmark = pytest.mark.django_db

SHAPES: tuple[Shape, ...] = (
    Box("a", 1, (4.25, 5.5, 24.125, 25.0), "imported"),
    Box("b", 2, (0.0, 0.0, 64.0, 48.0), "imported"),
    Keypoints(
        "c",
        3,
        ((10.5, 11.5, 2), (12.0, 9.0, 1), (0.0, 0.0, 0), (30.0, 31.0, 2)),
        (8.0, 8.0, 33.0, 34.0),
        "imported",
    ),
)


def settle(house: House, task: Task, *shapes: Shape, gold: bool = False) -> None:
    consensus.set_answer(
        task=task,
        shapes=shapes,
        source=ConsensusSource.IMPORTED,
        actor=house.people[Role.OWNER],
        as_gold=gold,
    )


def start(house: House, format_name: str = "coco", **options: Any) -> Job:
    return exports.start(
        project=house.project, format_name=format_name, actor=house.people[Role.MANAGER], **options
    )


def written(job: Job) -> bytes:
    """The finished job's file."""
    job.refresh_from_db()
    assert job.state == JobState.DONE, job.error
    return b"".join(exports.file_of(job))


def export(house: House) -> tuple[Job, Json]:
    """The finished job and what its file says."""
    job = start(house)
    tasks.run_job(job.pk)
    file: Json = json.loads(written(job))
    return job, file


def lines(job: Job) -> list[Json]:
    return [json.loads(line) for line in written(job).splitlines()]


def same(shapes: Any) -> list[Shape]:
    """Shapes without what a file does not keep: whose they are and what they are called."""
    return sorted((replace(shape, id="", provenance="imported", score=None) for shape in shapes), key=repr)


def test_what_is_exported_imports_back_equal(house: House, tmp_path: Path) -> None:
    drawn = [house.add_picture(), house.add_picture(), house.add_picture()]
    settle(house, drawn[0], *SHAPES)
    settle(house, drawn[1], SHAPES[0], gold=True)
    settle(house, drawn[2])
    job, _ = export(house)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "labels.json").write_bytes(written(job))
    for task in drawn:
        original = storage.get_blob(storage.store(), task.image.sha256)
        (folder / task.name).write_bytes(original)
    other = projects.create(
        name="Elsewhere",
        schema=projects.current_schema(house.project).schema,
        owner=house.people[Role.OWNER],
    )

    report = imports.import_folder(
        project=other, folder=folder, labels_as="settled", actor=house.people[Role.OWNER]
    )

    assert (report.created, len(report.problems)) == (3, 0)
    for task in drawn:
        task.refresh_from_db()
        twin = Task.objects.get(project=other, name=task.name)
        assert task.consensus is not None
        shapes = () if twin.consensus is None else twin.consensus.parsed
        assert same(shapes) == same(task.consensus.parsed)


def test_only_settled_tasks_are_exported_in_the_order_of_the_tasks(house: House) -> None:
    first, _, last = (house.add_picture() for _ in range(3))
    settle(house, last, SHAPES[0])
    settle(house, first, SHAPES[1])

    job, file = export(house)

    assert [image["file_name"] for image in file["images"]] == [first.name, last.name]
    assert job.result["pictures"] == 2


def test_the_same_labels_give_the_same_file(house: House) -> None:
    settle(house, house.add_picture(), *SHAPES)

    assert export(house)[0].result["sha256"] == export(house)[0].result["sha256"]


def test_what_the_format_cannot_say_is_told(house: House) -> None:
    settle(house, house.add_picture(), SHAPES[0], Tag("t", 4))

    job, _ = export(house)

    assert sum(count for _, count in job.result["losses"]) >= 1


def test_an_empty_project_exports_an_empty_file(house: House) -> None:
    job, file = export(house)

    assert (job.result["pictures"], file["annotations"]) == (0, [])


def test_the_exported_file_is_fetched_under_a_plain_name(house: House) -> None:
    settle(house, house.add_picture(), *SHAPES)
    client = house.client(Role.MANAGER)
    started = client.post(f"/api/v1/projects/{house.project.pk}/exports", {"format": "coco"})
    path = f"/api/v1/jobs/{started.json()['id']}"
    assert (started.status_code, started.json()["state"]) == (202, "queued")
    assert client.get(f"{path}/file").json()["code"] == "no_file"

    tasks.run_job(started.json()["id"])
    response = client.get(f"{path}/file")

    assert client.get(path).json()["state"] == "done"
    assert (
        response["Content-Disposition"] == f'attachment; filename="labelwheel-{house.project.pk}-coco.json"'
    )
    assert response["Content-Type"] == "application/json"
    assert len(json.loads(response.getvalue())["annotations"]) == 3


@pytest.mark.parametrize("name", ["", "voc", "../coco", None, 7])
def test_a_format_that_is_not_offered_is_refused(house: House, name: object) -> None:
    response = house.client(Role.MANAGER).post(
        f"/api/v1/projects/{house.project.pk}/exports", {"format": name}
    )

    assert (response.status_code, response.json()["param"]) == (400, "format")
    assert not Job.objects.exists()


def test_every_format_that_is_offered_can_be_served() -> None:
    assert set(exports.CONTENT_TYPES) == set(exports.WRITERS) <= set(FORMATS)


def test_an_export_does_not_see_another_project(house: House, sent: object) -> None:
    settle(house, house.add_picture(), *SHAPES)
    elsewhere = projects.create(
        name="Elsewhere",
        schema=projects.current_schema(house.project).schema,
        owner=house.people[Role.OWNER],
    )
    job = exports.start(project=elsewhere, format_name="jsonl", actor=house.people[Role.OWNER])
    tasks.run_job(job.pk)

    assert len(lines(job)) == 1, "the header alone"


@pytest.mark.parametrize("format_name", ["coco", "jsonl"])
def test_a_killed_export_goes_on_behind_its_last_checkpoint(
    house: House, monkeypatch: pytest.MonkeyPatch, format_name: str
) -> None:
    for number in range(7):
        settle(house, house.add_picture(), *SHAPES, Tag(f"t{number}", 4))
    whole = start(house, format_name)
    tasks.run_job(whole.pk)
    monkeypatch.setattr(exports, "CHUNK", 2)
    job = start(house, format_name)
    reports: list[int] = []
    really = jobs.Running.report

    def killed_at_the_third(running: jobs.Running, *args: Any, **kwargs: Any) -> None:
        really(running, *args, **kwargs)
        reports.append(running.checkpoint["last"])
        if len(reports) == 2:
            (part,) = (folder for folder in (running_folder(job)).iterdir())
            for path in part.iterdir():
                with path.open("ab") as file:
                    file.write(b"half a li")  # written after the checkpoint, and then the light went out
            raise KeyboardInterrupt

    monkeypatch.setattr(jobs.Running, "report", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        tasks.run_job(job.pk)
    monkeypatch.setattr(jobs.Running, "report", really)
    Job.objects.filter(pk=job.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    read: list[int] = []
    settled = exports.settled

    def noted(**asked: Any) -> Any:
        read.append(asked["after"])
        return settled(**asked)

    monkeypatch.setattr(exports, "settled", noted)

    tasks.run_job(job.pk)

    assert written(job) == written(whole)
    assert job.result["losses"] == whole.result["losses"]
    assert read[0] == reports[-1], "it began where it stood"
    assert not running_folder(job).exists()


def test_an_export_whose_parts_are_gone_begins_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        settle(house, house.add_picture(), *SHAPES)
    whole, job = start(house), start(house)
    tasks.run_job(whole.pk)
    elsewhere = {
        "token": 1, "sizes": [10, 10], "last": 10**9, "done": 2, "until": "2020-01-01T00:00:00+00:00",
        "losses": [],
    }  # fmt: skip
    Job.objects.filter(pk=job.pk).update(checkpoint=elsewhere)

    tasks.run_job(job.pk)

    assert written(job) == written(whole)


def test_a_worker_that_was_taken_over_writes_into_no_file_of_its_successor(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        settle(house, house.add_picture(), *SHAPES)
    whole, job = start(house), start(house)
    tasks.run_job(whole.pk)
    zombie = jobs.claim(job.pk)
    assert zombie is not None
    monkeypatch.setattr(exports, "CHUNK", 1)
    settled = exports.settled

    def taken_over(**asked: Any) -> Any:
        monkeypatch.setattr(exports, "settled", settled)
        Job.objects.filter(pk=job.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
        tasks.run_job(job.pk)
        return settled(**asked)

    monkeypatch.setattr(exports, "settled", taken_over)

    with pytest.raises(jobs.LostLease):
        exports.run(running=zombie)

    assert written(job) == written(whole)


def test_an_export_can_be_cancelled_on_its_way(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        settle(house, house.add_picture(), *SHAPES)
    monkeypatch.setattr(exports, "CHUNK", 1)
    job = start(house)
    settled = exports.settled

    def cancelled(**asked: Any) -> Any:
        jobs.cancel(job=job)
        return settled(**asked)

    monkeypatch.setattr(exports, "settled", cancelled)

    tasks.run_job(job.pk)

    job.refresh_from_db()
    assert (job.state, job.result) == (JobState.CANCELLED, {})
    assert 0 < job.progress < 1


def test_what_settles_while_an_export_runs_is_left_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = house.add_picture(), house.add_picture()
    settle(house, first, *SHAPES)
    job = start(house, "jsonl")
    settled = exports.settled

    def meanwhile(**asked: Any) -> Any:
        monkeypatch.setattr(exports, "settled", settled)
        settle(house, second, *SHAPES)
        return settled(**asked)

    monkeypatch.setattr(exports, "settled", meanwhile)
    tasks.run_job(job.pk)

    assert [line["name"] for line in lines(job)[1:]] == [first.name]


def test_jsonl_comes_back_and_is_written_again_byte_for_byte(house: House, tmp_path: Path) -> None:
    pictures = [house.add_picture() for _ in range(4)]
    score = Box("öß", 1, (0.1, 0.2, 1 / 3, 1e-7 + 1), "consensus", 0.123456, {"z": 1, "a": "é", "flag": True})
    settle(house, pictures[3], *SHAPES, Tag("t", 4))
    settle(house, pictures[0], score, gold=True)
    settle(house, pictures[1])
    job = start(house, "jsonl")
    tasks.run_job(job.pk)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "labels.jsonl").write_bytes(written(job))
    for task in pictures:
        (folder / task.name).write_bytes(storage.get_blob(storage.store(), task.image.sha256))
    owner = house.people[Role.OWNER]
    other = projects.create(
        name="Elsewhere", schema=projects.current_schema(house.project).schema, owner=owner
    )

    report = imports.import_folder(project=other, folder=folder, labels_as="settled", actor=owner)
    again = exports.start(project=other, format_name="jsonl", actor=owner)
    tasks.run_job(again.pk)

    assert (report.created, report.labelled, report.gold, len(report.problems)) == (4, 3, 1, 0)
    assert written(again) == written(job)


def test_everybodys_answers_are_exported_with_their_names(house: House) -> None:
    task, other = house.add_picture(), house.add_picture()
    for role, x in ((Role.ANNOTATOR, 1.0), (Role.REVIEWER, 2.0)):
        answer(house, task, role, x)
    answer(house, task, Role.ANNOTATOR, 3.0, base_revision=1)
    answer(house, other, Role.ANNOTATOR, 4.0)
    job = start(house, "jsonl", content="answers")
    tasks.run_job(job.pk)

    header, *told = lines(job)

    assert header["content"] == "answers"
    assert sorted(
        (line["name"], line["author"], line["revision"], line["shapes"][0]["xyxy"][0]) for line in told
    ) == [
        (task.name, "the annotator", 2, 3.0),
        (task.name, "the reviewer", 1, 2.0),
        (other.name, "the annotator", 1, 4.0),
    ]
    assert job.result["name"] == f"labelwheel-{house.project.pk}-answers.jsonl"


def test_answers_are_not_offered_as_coco(house: House) -> None:
    response = house.client(Role.MANAGER).post(
        f"/api/v1/projects/{house.project.pk}/exports", {"format": "coco", "content": "answers"}
    )

    assert (response.status_code, response.json()["param"]) == (400, "format")


def answer(house: House, task: Task, role: Role, x: float, *, base_revision: int = 0) -> None:
    annotations.submit(
        task=task,
        author=house.people[role],
        key=uuid4(),
        shapes=[Box("a", 1, (x, 1.0, x + 9, 9.0))],
        base_revision=base_revision,
        seconds_active=1.5,
        suggestions_from="",
        now=timezone.now(),
    )


def running_folder(job: Job) -> Path:
    return Path(settings.WORK_DIRECTORY) / "exports" / str(job.pk)
