"""Exports: settled labels as a file, which imports back equal."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labeling import storage, tasks
from labeling.formats import FORMATS
from labeling.models import ConsensusSource, Job, JobState, Role, Task
from labeling.services import consensus, exports, imports, projects
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


def export(house: House) -> tuple[Job, Json]:
    """The finished job and what its file says."""
    job = exports.start(project=house.project, format_name="coco", actor=house.people[Role.MANAGER])
    tasks.run_job(job.pk)
    job.refresh_from_db()
    assert job.state == JobState.DONE, job.error
    file: Json = json.loads(storage.get_blob(storage.store(), job.result["sha256"]))
    return job, file


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
    (folder / "labels.json").write_bytes(storage.get_blob(storage.store(), job.result["sha256"]))
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

    assert (report.created, report.problems) == (3, [])
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
    assert len(json.loads(response.content)["annotations"]) == 3


@pytest.mark.parametrize("name", ["", "voc", "../coco", None, 7])
def test_a_format_that_is_not_offered_is_refused(house: House, name: object) -> None:
    response = house.client(Role.MANAGER).post(
        f"/api/v1/projects/{house.project.pk}/exports", {"format": name}
    )

    assert (response.status_code, response.json()["param"]) == (400, "format")
    assert not Job.objects.exists()


def test_every_format_that_is_offered_can_be_served() -> None:
    assert set(exports.CONTENT_TYPES) <= set(FORMATS)


def test_an_export_does_not_see_another_project(house: House, sent: object) -> None:
    settle(house, house.add_picture(), *SHAPES)
    elsewhere = projects.create(
        name="Elsewhere",
        schema=projects.current_schema(house.project).schema,
        owner=house.people[Role.OWNER],
    )

    assert exports.settled(elsewhere).images == ()
