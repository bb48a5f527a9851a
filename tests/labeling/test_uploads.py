"""Uploads: files sent in many calls, one job that imports them, and nothing twice however often it dies."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.files.uploadedfile import SimpleUploadedFile

from labeling import storage, tasks
from labeling.models import Consensus, Event, Image, Job, JobState, Role, Task, TaskState, Upload
from labeling.services import clock, imports, jobs, uploads
from labeling.services.imports import Report
from tests.conftest import House, picture_bytes
from tests.labeling.test_api_imports import coco
from tests.labeling.threads import at_once

pytestmark = pytest.mark.django_db


class Door:
    """The API as a manager uses it for one upload."""

    def __init__(self, house: House, who: Role = Role.MANAGER) -> None:
        self.client = house.client(who)
        self.project = f"/api/v1/projects/{house.project.pk}"
        self.path = f"/api/v1/uploads/{self.client.post(f'{self.project}/uploads').json()['id']}"

    def send(self, files: dict[str, bytes]) -> Any:
        sent = [SimpleUploadedFile("x", data) for data in files.values()]
        return self.client.post(
            f"{self.path}/files", {"files": sent, "paths": list(files)}, format="multipart"
        )

    def begin(self, **options: Any) -> Job:
        answer = self.client.post(f"{self.path}/import", options)
        assert answer.status_code == 202, answer.json()
        return Job.objects.get(pk=answer.json()["id"])

    def look(self) -> Any:
        return self.client.get(self.path).json()


def report_of(job: Job) -> Report:
    job.refresh_from_db()
    assert job.state == JobState.DONE, job.error
    return Report.parse(job.result)


def pictures(count: int) -> dict[str, bytes]:
    return {f"in/{number:03}.png": picture_bytes(color=(number, 9, 9)) for number in range(count)}


def test_pictures_and_labels_of_different_calls_are_imported_by_one_job(house: House) -> None:
    door = Door(house)
    labels = door.send({"labels.json": coco("000.png")}).json()
    assert (labels["files"], labels["problems"]) == (1, [])
    door.send({"in/000.png": picture_bytes()})
    assert (door.look()["files"], door.look()["job"]) == (2, None)

    job = door.begin()
    tasks.run_job(job.pk)

    assert (report_of(job).created, report_of(job).labelled) == (1, 1)
    assert Task.objects.get().name == "in/000.png"
    shown = door.look()
    assert (shown["job"]["state"], shown["job"]["report"]["created"]) == ("done", 1)
    assert shown["files"] == 0, "what came in without a problem need not be kept"
    assert list(storage.store().names("uploads/")) == []


def test_a_page_finds_its_upload_again_and_what_is_there(house: House) -> None:
    door = Door(house)
    door.send(pictures(3))

    (found,) = door.client.get(f"{door.project}/uploads").json()
    page = door.client.get(f"/api/v1/uploads/{found['id']}/files?limit=2").json()
    rest = door.client.get(f"/api/v1/uploads/{found['id']}/files?limit=2&cursor={page['next']}").json()

    assert [file["path"] for file in page["items"] + rest["items"]] == list(pictures(3))
    assert page["items"][0]["size_bytes"] == len(pictures(1)["in/000.png"])
    assert house.client(Role.OWNER).get(f"{door.project}/uploads").json() == [], "another person's are theirs"


def test_a_file_sent_again_is_fine_and_another_under_its_path_is_refused(house: House) -> None:
    door = Door(house)
    door.send(pictures(2))

    again = door.send(pictures(3))
    other = door.send({"in/001.png": picture_bytes(color=(200, 0, 0)), "in/009.png": picture_bytes()})

    assert (again.status_code, again.json()["files"]) == (200, 3)
    assert (other.status_code, other.json()["code"]) == (409, "other_bytes")
    assert "in/001.png" in other.json()["message"]
    assert door.look()["files"] == 4, "the other file of that call is kept"


@pytest.mark.parametrize("name", ["", "..", "a\x00b.png", "x" * 1_001, "///"])
def test_a_path_that_cannot_be_one_is_a_problem_of_its_file_alone(house: House, name: str) -> None:
    taken = uploads.add(
        upload=uploads.begin(project=house.project, actor=house.people[Role.OWNER]),
        files=[
            (name, SimpleUploadedFile("x", picture_bytes())),
            ("a.png", SimpleUploadedFile("x", picture_bytes())),
        ],
    )

    assert (taken.files, len(taken.problems)) == (1, 1)


def test_after_the_import_began_no_file_comes_in_and_none_goes(house: House) -> None:
    door = Door(house)
    door.send(pictures(1))
    job = door.begin()

    assert door.send(pictures(2)).json()["code"] == "import_began"
    assert door.client.delete(door.path).json()["code"] == "still_importing"
    assert door.begin().pk == job.pk, "asked again, the same job"
    assert door.client.post(f"{door.path}/import", {"labels_as": "gold"}).json()["code"] == "still_importing"

    jobs.cancel(job=job)
    assert door.client.delete(door.path).status_code == 204
    assert not Upload.objects.exists()
    assert list(storage.store().names("uploads/")) == []


@pytest.mark.django_db(transaction=True)
def test_an_import_asked_for_many_times_at_once_is_one_job(house: House) -> None:
    door = Door(house)
    upload = Upload.objects.get()
    owner = house.people[Role.OWNER]
    params = {"labels_as": "settled", "add_classes": False}

    at_once(6, lambda _: uploads.start_import(upload=upload, actor=owner, params=params))

    assert Job.objects.filter(kind="import").count() == 1
    assert door.look()["job"]["state"] == "queued"


def test_after_a_problem_was_mended_the_same_upload_is_imported_again(house: House) -> None:
    door = Door(house)
    door.send({"a.png": picture_bytes(), "l.json": coco("a.png", "comet")})
    first = door.begin()
    tasks.run_job(first.pk)
    assert (report_of(first).created, len(report_of(first).problems)) == (0, 1)

    second = door.begin(add_classes=True)
    tasks.run_job(second.pk)

    assert second.pk != first.pk
    assert (report_of(second).created, report_of(second).labelled) == (1, 1)


def test_what_is_in_the_project_is_not_decoded_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        door = Door(house)
        door.send(pictures(3))
        job = door.begin()
        tasks.run_job(job.pk)
        monkeypatch.setattr("labeling.services.pictures.decode", lambda data: pytest.fail("decoded again"))

    assert (report_of(job).created, report_of(job).existing) == (0, 3)


class KilledError(BaseException):
    """As if the process had gone: nothing is tidied up."""


@pytest.mark.parametrize("dies_at", ["before", "within", "after"])
def test_a_killed_import_goes_on_and_adds_nothing_twice(
    house: House, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    monkeypatch.setattr(imports, "BATCH", 2)
    files = pictures(7) | {"broken.png": b"no picture", "labels.json": coco("003.png")}
    door = Door(house)
    door.send(files)
    job = door.begin()
    take, write = imports._Importer.take, imports._Importer._write
    batches: list[int] = []

    def dying(self: Any, *args: Any, **kwargs: Any) -> None:
        batches.append(1)
        if len(batches) == 3 and dies_at == "before":
            raise KilledError
        take(self, *args, **kwargs)
        if len(batches) == 3 and dies_at == "after":
            raise KilledError

    def dying_within(self: Any, *args: Any, **kwargs: Any) -> None:
        write(self, *args, **kwargs)
        if len(batches) == 3 and dies_at == "within":
            raise KilledError

    monkeypatch.setattr(imports._Importer, "take", dying)
    monkeypatch.setattr(imports._Importer, "_write", dying_within)
    with pytest.raises(KilledError):
        tasks.run_job(job.pk)
    there = Task.objects.count()
    assert there == {"before": 3, "within": 3, "after": 5}[dies_at]
    Job.objects.filter(pk=job.pk).update(lease_expires_at=clock.now() - timedelta(seconds=1))
    read: list[str] = []
    really = uploads.read

    def noted(upload: Upload, sha256: str) -> bytes:
        read.append(sha256)
        return really(upload, sha256)

    monkeypatch.setattr(uploads, "read", noted)

    tasks.run_job(job.pk)

    report = report_of(job)
    assert (report.created, report.existing, report.labelled, len(report.problems)) == (7, 0, 1, 1)
    assert Task.objects.count() == Image.objects.count() == 7
    assert Consensus.objects.count() == 1
    assert Event.objects.filter(verb="import").count() == 1
    assert len(read) <= 8 - there, "what was done is not read again"


def test_a_cancelled_import_says_what_stands_and_a_retry_adds_the_rest(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH", 2)
    door = Door(house)
    door.send(pictures(5))
    job = door.begin()
    take = imports._Importer.take

    def cancelled(self: Any, *args: Any, **kwargs: Any) -> None:
        take(self, *args, **kwargs)
        jobs.cancel(job=job)

    monkeypatch.setattr(imports._Importer, "take", cancelled)
    tasks.run_job(job.pk)
    shown = door.look()["job"]
    assert (shown["state"], shown["report"]["created"]) == ("cancelled", 2)
    assert "2 of 5 pictures" in shown["error"]
    assert "running it again adds the rest" in shown["error"]
    monkeypatch.setattr(imports._Importer, "take", take)

    assert door.client.post(f"/api/v1/jobs/{job.pk}/retry").status_code == 200
    tasks.run_job(job.pk)

    assert (report_of(job).created, report_of(job).existing) == (5, 0)


def test_a_worker_that_was_taken_over_imports_no_batch_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH", 2)
    door = Door(house)
    door.send(pictures(4))
    job = door.begin()
    zombie = jobs.claim(job.pk)
    assert zombie is not None
    prepared = imports._Importer._prepared

    def meanwhile(self: Any, *args: Any) -> Any:
        monkeypatch.setattr(imports._Importer, "_prepared", prepared)
        ready = prepared(self, *args)
        Job.objects.filter(pk=job.pk).update(lease_expires_at=clock.now() - timedelta(seconds=1))
        tasks.run_job(job.pk)
        return ready

    monkeypatch.setattr(imports._Importer, "_prepared", meanwhile)

    with pytest.raises(jobs.LostLease):
        imports.run(running=zombie)

    assert (report_of(job).created, Task.objects.count()) == (4, 4)


def test_labels_alone_settle_pictures_that_are_in_the_project_already(house: House) -> None:
    task, other = house.add_picture(name="deep/one.png"), house.add_picture(name="two.png")
    line = {
        "name": "renamed.png",
        "sha256": other.image.sha256,
        "shapes": [{"id": "a", "kind": "box", "class_id": 1, "xyxy": [1, 2, 3, 4]}],
    }
    schema = {"classes": [{"id": 1, "name": "cell", "kind": "box"}]}
    header = {"labelwheel": 1, "content": "settled", "schema": schema}
    door = Door(house)
    door.send(
        {
            "by-name.json": coco("deep/one.png"),
            "by-sha256.jsonl": f"{json.dumps(header)}\n{json.dumps(line)}\n".encode(),
            "nowhere.json": coco("three.png"),
        }
    )
    job = door.begin()
    tasks.run_job(job.pk)

    report = report_of(job)
    assert (report.created, report.existing, report.labelled) == (0, 2, 2)
    (problem,) = report.problems
    assert (problem.file, problem.field) == ("nowhere.json", "three.png")
    assert "nor in the project" in problem.reason
    assert set(Task.objects.values_list("pk", "state")) == {
        (task.pk, TaskState.SETTLED),
        (other.pk, TaskState.SETTLED),
    }


def test_labels_for_other_bytes_of_the_same_name_are_a_problem(house: House) -> None:
    house.add_picture(name="one.png")
    schema = {"classes": [{"id": 1, "name": "cell", "kind": "box"}]}
    header = {"labelwheel": 1, "content": "settled", "schema": schema}
    line = {"name": "one.png", "sha256": "0" * 64, "shapes": []}
    door = Door(house)
    door.send({"l.jsonl": f"{json.dumps(header)}\n{json.dumps(line)}\n".encode()})
    job = door.begin()
    tasks.run_job(job.pk)

    (problem,) = report_of(job).problems
    assert "other bytes" in problem.reason
    assert Task.objects.get().state == TaskState.QUEUED


def test_of_many_problems_the_first_thousand_are_listed_and_the_rest_counted(house: House) -> None:
    named = [{"id": number, "file_name": f"{number}.png"} for number in range(1_500)]
    door = Door(house)
    door.send({"l.json": json.dumps({"images": named, "annotations": [], "categories": []}).encode()})
    job = door.begin()
    tasks.run_job(job.pk)

    shown = door.client.get(f"/api/v1/jobs/{job.pk}").json()
    assert (len(shown["report"]["problems"]), shown["report"]["more_problems"]) == (1_000, 500)
    (listed,) = door.client.get(f"{door.project}/jobs").json()["items"]
    assert "problems" not in listed["result"]


def test_large_files_go_through_no_memory(house: House, settings: LazySettings, tmp_path: Path) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = (
        10  # so that Django puts it into a file, as it does with large ones
    )
    big = picture_bytes(size=(200, 200))
    door = Door(house)

    door.send({"big.png": big})

    (name,) = storage.store().names("uploads/")
    assert storage.store().get(name) == big


@pytest.mark.parametrize("role", [Role.REVIEWER, Role.ANNOTATOR, Role.VIEWER])
def test_only_managers_upload_and_nobody_sees_another_project_s(house: House, role: Role) -> None:
    path = Door(house).path

    assert house.client(role).get(path).status_code == 403
    assert house.client(role).post(f"{path}/import").status_code == 403
    assert house.client(house.stranger).get(path).status_code == 404
    assert house.client(house.stranger).delete(path).status_code == 404
    assert not Job.objects.exists()
