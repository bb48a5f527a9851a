"""POST /projects/{id}/images: pictures and label files, from a form or a whole folder."""

import json
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.files.uploadedfile import SimpleUploadedFile

from labeling import tasks
from labeling.models import Prediction, Role, Task, TaskState
from labeling.services import predictions, projects
from tests.conftest import House, box, picture_bytes


def upload(house: House, files: dict[str, bytes], *, who: Role = Role.MANAGER, **fields: Any) -> Any:
    return house.client(who).post(
        f"/api/v1/projects/{house.project.pk}/images",
        {"files": [SimpleUploadedFile(path, data) for path, data in files.items()], **fields},
        format="multipart",
    )


def report(house: House, answer: Any) -> Any:
    """What the import that was asked for did."""
    assert answer.status_code == 202, answer.json()
    tasks.run_job(answer.json()["id"])
    job = house.client(Role.MANAGER).get(f"/api/v1/jobs/{answer.json()['id']}").json()
    assert job["state"] == "done", job["error"]
    return job["report"]


def coco(file_name: str, category: str = "cell") -> bytes:
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": file_name, "width": 64, "height": 48}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [4, 5, 20, 21]}],
            "categories": [{"id": 7, "name": category}],
        }
    ).encode()


def test_pictures_become_tasks_and_bad_files_are_listed(house: House) -> None:
    files = {"a.png": picture_bytes(), "b.png": picture_bytes(color=(1, 2, 3)), "c.png": b"no picture"}
    told = report(house, upload(house, files))
    assert (told["created"], told["existing"]) == (2, 0)
    (problem,) = told["problems"]
    assert problem["file"] == "c.png"
    assert "not a picture" in problem["reason"]
    again = report(house, upload(house, files))
    assert (again["created"], again["existing"]) == (0, 2)
    assert Task.objects.count() == 2


def test_same_names_in_two_folders_stay_apart_by_their_paths(house: House) -> None:
    pictures = [SimpleUploadedFile("0.png", picture_bytes(color=(n, n, n))) for n in (1, 2)]
    answer = house.client(Role.MANAGER).post(
        f"/api/v1/projects/{house.project.pk}/images",
        {"files": pictures, "paths": ["left/0.png", "right/0.png"]},
        format="multipart",
    )
    assert report(house, answer)["created"] == 2
    assert set(Task.objects.values_list("name", flat=True)) == {"left/0.png", "right/0.png"}


def test_a_path_that_leads_out_of_the_folder_stays_in_it(house: House) -> None:
    answer = upload(house, {"a.png": picture_bytes()}, paths=["../../../etc/a.png"])
    assert report(house, answer)["created"] == 1
    assert Task.objects.get().name == "etc/a.png"


@pytest.mark.parametrize("labels_as", ["settled", "gold"])
def test_labels_settle_their_picture_under_the_projects_own_class(house: House, labels_as: str) -> None:
    answer = upload(house, {"a.png": picture_bytes(), "l.json": coco("a.png")}, labels_as=labels_as)
    assert report(house, answer)["labelled"] == 1
    task = Task.objects.get()
    assert (task.state, task.is_gold, task.slots) == (TaskState.SETTLED, labels_as == "gold", 0)
    assert task.consensus is not None
    (shape,) = task.consensus.shapes
    assert (shape["class_id"], shape["xyxy"], shape["provenance"]) == (1, [4, 5, 24, 26], "imported")


def test_an_unknown_class_refuses_the_picture_or_is_added_when_asked(house: House) -> None:
    files = {"a.png": picture_bytes(), "l.json": coco("a.png", "comet")}
    refused = report(house, upload(house, files))
    assert refused["created"] == 0
    assert "comet" in refused["problems"][0]["reason"]
    assert report(house, upload(house, files, add_classes="true"))["labelled"] == 1
    added = projects.current_schema(house.project).schema.by_name("comet")
    assert added is not None
    assert added.id not in (1, 2, 3, 4)


def test_bad_fields_are_refused_by_name(house: House) -> None:
    assert upload(house, {}).json()["param"] == "files"
    assert upload(house, {"a.png": picture_bytes()}, labels_as="truth").json()["param"] == "labels_as"
    assert upload(house, {"a.png": picture_bytes()}, paths=["a", "b"]).json()["param"] == "paths"


def test_an_upload_over_the_limit_is_refused_before_it_is_read(house: House, settings: LazySettings) -> None:
    settings.MAX_UPLOAD_BYTES = 100
    answer = upload(house, {"a.png": picture_bytes()})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("role", [Role.REVIEWER, Role.ANNOTATOR, Role.VIEWER])
def test_only_managers_import(house: House, role: Role) -> None:
    assert upload(house, {"a.png": picture_bytes()}, who=role).status_code == 403
    assert not Task.objects.exists()


def test_the_blind_share_of_new_pictures_is_shown_without_suggestions(house: House) -> None:
    pictures = {f"{n}.png": picture_bytes(color=(n, 0, 0)) for n in range(40)}
    house.project.blind_share = 0.5
    house.project.save()
    report(house, upload(house, pictures))
    assert 8 <= Task.objects.filter(blind=True).count() <= 32

    house.project.suggestions_from = "m1"
    house.project.save()
    for task in Task.objects.all():
        Prediction.objects.create(task=task, model="m1", shapes=[box() | {"score": 0.9}])
        task.project = house.project
        assert bool(predictions.suggestions(task=task)) is not task.blind
