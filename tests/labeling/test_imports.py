"""Imports: what is good comes in, what is not is listed with its reason, and twice is as once."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.core.management.base import CommandError

from labeling import tasks
from labeling.models import (
    Consensus,
    ConsensusSource,
    Event,
    Image,
    Project,
    Role,
    SchemaVersion,
    Task,
    TaskState,
)
from labeling.services import imports, projects
from labeling.services.imports import LabelsAs, Report
from labeling.shapes import Json
from tests.conftest import House, picture_bytes

pytestmark = pytest.mark.django_db

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def picture(folder: Path, name: str, *, color: tuple[int, int, int] = (9, 9, 9)) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes(color=color))
    return path


def coco(
    *names: str,
    category: str = "cell",
    size: tuple[int, int] = (64, 48),
    bbox: Iterable[float] = (4, 5, 20, 20),
) -> Json:
    return {
        "images": [
            {"id": number, "file_name": name, "width": size[0], "height": size[1]}
            for number, name in enumerate(names, start=1)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": list(bbox),
                "area": 400,
                "iscrowd": 0,
            }
            for number, _ in enumerate(names, start=1)
        ],
        "categories": [{"id": 1, "name": category}],
    }


def bring_in(house: House, folder: Path, labels_as: LabelsAs = "settled", **options: Any) -> Report:
    return imports.import_folder(
        project=house.project, folder=folder, labels_as=labels_as, actor=house.people[Role.MANAGER], **options
    )


def counts(report: Report) -> tuple[int, int, int, int]:
    return report.created, report.existing, report.labelled, len(report.problems)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures with labels."""
    here = tmp_path / "folder"
    for number, name in enumerate(("one.png", "two.png")):
        picture(here, name, color=(number, 0, 0))
    (here / "labels.json").write_text(json.dumps(coco("one.png", "two.png")))
    return here


def test_pictures_and_labels_come_in(house: House, folder: Path) -> None:
    assert counts(bring_in(house, folder)) == (2, 0, 2, 0)

    for task in Task.objects.select_related("consensus"):
        assert (task.state, task.slots, task.is_gold) == (TaskState.SETTLED, 0, False)
        assert task.consensus is not None
        assert task.consensus.source == ConsensusSource.IMPORTED
        assert [shape["xyxy"] for shape in task.consensus.shapes] == [[4, 5, 24, 25]]


def test_importing_again_adds_nothing(house: House, folder: Path) -> None:
    bring_in(house, folder)
    before = (
        Task.objects.count(),
        Image.objects.count(),
        Consensus.objects.count(),
        SchemaVersion.objects.count(),
    )

    assert counts(bring_in(house, folder, add_classes=True)) == (0, 2, 0, 0)

    after = (
        Task.objects.count(),
        Image.objects.count(),
        Consensus.objects.count(),
        SchemaVersion.objects.count(),
    )
    assert after == before


def test_what_is_no_picture_is_listed_and_the_rest_comes_in(house: House, folder: Path) -> None:
    (folder / "broken.png").write_bytes(picture_bytes()[:60])
    (folder / "text.jpg").write_text("not a picture")
    (folder / "empty.png").touch()

    report = bring_in(house, folder)

    assert counts(report) == (2, 0, 2, 3)
    assert {problem.file for problem in report.problems} == {"broken.png", "text.jpg", "empty.png"}
    assert all(problem.reason for problem in report.problems)


def test_a_picture_twice_under_two_names_is_one_task(house: House, folder: Path) -> None:
    shutil.copy(folder / "one.png", folder / "same.png")

    assert counts(bring_in(house, folder)) == (2, 1, 2, 0)


def test_an_unknown_class_refuses_that_picture_and_is_listed(house: House, folder: Path) -> None:
    (folder / "labels.json").write_text(json.dumps(coco("one.png", category="comet")))

    report = bring_in(house, folder)

    assert counts(report) == (1, 0, 0, 1)
    assert "class comet is not in the project's schema" in report.problems[0].reason
    assert report.problems[0].field == "one.png"
    assert Task.objects.get().name == "two.png"


def test_an_unknown_class_is_added_where_that_is_asked(house: House, folder: Path) -> None:
    (folder / "labels.json").write_text(json.dumps(coco("one.png", category="comet")))

    assert counts(bring_in(house, folder, add_classes=True)) == (2, 0, 1, 0)

    schema = projects.current_schema(house.project).schema
    comet = schema.by_name("comet")
    assert comet is not None
    assert comet.id == 5  # 1, the file's, is the project's cell
    consensus = Task.objects.get(name="one.png").consensus
    assert consensus is not None
    assert consensus.shapes[0]["class_id"] == 5


def test_the_id_of_a_class_that_was_removed_is_never_used_again(house: House, folder: Path) -> None:
    current = projects.current_schema(house.project)
    kept = type(current.schema)(current.schema.classes[:2])
    projects.save_schema(project=house.project, schema=kept, base_version=1, actor=house.people[Role.OWNER])
    labels = coco("one.png", category="comet")
    labels["categories"][0]["id"] = labels["annotations"][0]["category_id"] = 3
    (folder / "labels.json").write_text(json.dumps(labels))

    bring_in(house, folder, add_classes=True)

    comet = projects.current_schema(house.project).schema.by_name("comet")
    assert comet is not None
    assert comet.id == 5


def test_labels_for_another_size_are_listed_and_not_taken(house: House, folder: Path) -> None:
    (folder / "labels.json").write_text(json.dumps(coco("one.png", "two.png", size=(48, 64))))

    report = bring_in(house, folder)

    assert counts(report) == (0, 0, 0, 2)
    assert report.problems[0].reason == "labels are for 48 × 64 pixels, the picture has 64 × 48"


def test_a_box_is_cut_to_its_picture_and_one_wholly_outside_is_left_out(house: House, folder: Path) -> None:
    labels = coco("one.png", "two.png", bbox=(50, 40, 40, 40))
    labels["annotations"][1]["bbox"] = [100, 100, 5, 5]
    (folder / "labels.json").write_text(json.dumps(labels))

    report = bring_in(house, folder)

    assert (report.labelled, len(report.problems)) == (2, 1)
    assert "lies outside the picture" in report.problems[0].reason
    shapes = {
        task.name: task.consensus.shapes
        for task in Task.objects.select_related("consensus")
        if task.consensus
    }
    assert [shape["xyxy"] for shape in shapes["one.png"]] == [[50, 40, 64, 48]]
    assert shapes["two.png"] == []


def test_labels_can_be_ignored(house: House, folder: Path) -> None:
    assert counts(bring_in(house, folder, "ignore")) == (2, 0, 0, 0)
    assert set(Task.objects.values_list("state", "slots")) == {("queued", 2)}


def test_labels_that_come_after_their_pictures_are_taken(house: House, folder: Path) -> None:
    bring_in(house, folder, "ignore")

    assert counts(bring_in(house, folder)) == (0, 2, 2, 0)
    assert set(Task.objects.values_list("state", "slots")) == {("settled", 0)}


def test_gold_is_never_lost_to_a_later_import(house: House, folder: Path) -> None:
    assert bring_in(house, folder, "gold").gold == 2
    (folder / "labels.json").write_text(json.dumps(coco("one.png", "two.png", bbox=(0, 0, 3, 3))))

    report = bring_in(house, folder, "settled")

    assert report.labelled == 0
    for task in Task.objects.select_related("consensus"):
        assert task.is_gold
        assert task.consensus is not None
        assert task.consensus.shapes[0]["xyxy"] == [4, 5, 24, 25]


def test_the_test_split_becomes_gold_where_that_is_asked(house: House, tmp_path: Path) -> None:
    picture(tmp_path / "in", "train/one.png", color=(1, 0, 0))
    picture(tmp_path / "in", "test/two.png", color=(2, 0, 0))
    (tmp_path / "in" / "labels.json").write_text(json.dumps(coco("one.png", "two.png")))

    report = bring_in(house, tmp_path / "in", test_as_gold=True)

    assert (report.labelled, report.gold) == (2, 1)
    assert Task.objects.get(is_gold=True).name == "test/two.png"


def test_an_import_is_recorded(house: House, folder: Path) -> None:
    bring_in(house, folder)

    event = Event.objects.get(verb="import")
    assert event.actor == house.people[Role.MANAGER]
    assert event.data == {"created": 2, "existing": 0, "labelled": 2, "problems": 0}


def test_a_link_that_leads_out_of_the_folder_is_not_followed(
    house: House, folder: Path, tmp_path: Path
) -> None:
    secret = picture(tmp_path, "secret.png", color=(7, 7, 7))
    (folder / "link.png").symlink_to(secret)
    (folder / "outside").symlink_to(tmp_path)

    bring_in(house, folder)

    assert sorted(Task.objects.values_list("name", flat=True)) == ["one.png", "two.png"]


def test_a_name_that_is_no_text_is_listed_and_the_rest_comes_in(house: House, folder: Path) -> None:
    try:
        (folder / os.fsdecode(b"\xff\xfe.png")).write_bytes(picture_bytes(color=(5, 5, 5)))
    except OSError:
        pytest.skip("this file system takes no such names")

    report = bring_in(house, folder)

    assert counts(report) == (2, 0, 2, 1)
    str(report.problems[0]).encode()
    assert "name" in report.problems[0].reason


def upload(house: House, *files: SimpleUploadedFile, **fields: str) -> Json:
    response = house.client(Role.MANAGER).post(
        f"/api/v1/projects/{house.project.pk}/images", {"files": list(files), **fields}, format="multipart"
    )
    assert response.status_code == 202, response.content
    tasks.run_job(response.json()["id"])
    report: Json = house.client(Role.MANAGER).get(f"/api/v1/jobs/{response.json()['id']}").json()["report"]
    return report


def test_uploads_come_in_with_their_labels(house: House, folder: Path) -> None:
    files = [SimpleUploadedFile(path.name, path.read_bytes()) for path in folder.iterdir()]

    report = upload(house, *files, labels_as="gold")

    assert report == {
        "created": 2,
        "existing": 0,
        "labelled": 2,
        "gold": 2,
        "problems": [],
        "more_problems": 0,
    }


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd.png", "/etc/one.png", "C:\\one.png", "a\\..\\..\\b.png", "…/é.png"]
)
def test_an_upload_s_name_leads_nowhere_else(house: House, name: str) -> None:
    report = upload(house, SimpleUploadedFile(name, picture_bytes()))

    assert report["created"] == 1
    task = Task.objects.get()
    assert ".." not in Path(task.name).parts
    assert not Path(task.name).is_absolute()


def test_what_is_neither_picture_nor_labels_is_listed(house: House) -> None:
    report = upload(
        house,
        SimpleUploadedFile("notes.txt", b"hello"),
        SimpleUploadedFile("broken.json", b"{"),
        SimpleUploadedFile("good.png", picture_bytes()),
        SimpleUploadedFile("page.svg", b"<svg/>"),
    )

    assert report["created"] == 1
    assert sorted(problem["file"] for problem in report["problems"]) == [
        "broken.json",
        "notes.txt",
        "page.svg",
    ]


def test_one_name_twice_in_an_upload_is_listed(house: House) -> None:
    files = [SimpleUploadedFile("a.png", picture_bytes(color=(number, 0, 0))) for number in range(2)]

    report = upload(house, *files)

    assert (report["created"], len(report["problems"])) == (1, 1)


@pytest.mark.parametrize(("fields", "param"), [({"labels_as": "truth"}, "labels_as"), ({}, "files")])
def test_an_upload_without_files_or_with_an_unknown_use_is_refused(
    house: House, fields: dict[str, str], param: str
) -> None:
    body: Json = fields | ({"files": SimpleUploadedFile("a.png", picture_bytes())} if fields else {})

    response = house.client(Role.MANAGER).post(
        f"/api/v1/projects/{house.project.pk}/images", body, format="multipart"
    )

    assert (response.status_code, response.json()["param"]) == (400, param)


def by_command(house: House, folder: Path, *options: str, project: str = "From a folder") -> Project:
    call_command("import_folder", str(folder), "--project", project, "--user", "the owner", *options)
    return Project.objects.get(name=project)


def some_of(name: str, tmp_path: Path, paths: Iterable[str]) -> Path:
    """A copy of some files of a data set that lies beside the repository; skips where it does not."""
    source = DATA / name
    if not source.is_dir():
        pytest.skip(f"{source} is not there")
    for path in paths:
        for found in sorted(source.glob(path)):
            copy = tmp_path / name / found.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, copy)
    return tmp_path / name


def shapes_of(project: Project) -> list[Json]:
    settled = Task.objects.filter(project=project, consensus__isnull=False).select_related("consensus")
    return [shape for task in settled if task.consensus for shape in task.consensus.shapes]


def test_bccd_comes_in_by_the_command_with_its_test_split_as_gold(house: House, tmp_path: Path) -> None:
    folder = some_of("bccd", tmp_path, ["BCCD/*/BloodImage_0000*", "BCCD/ImageSets/Main/*"])

    project = by_command(house, folder, "--test-as-gold")

    names = {item.name for item in projects.current_schema(project).schema.classes}
    assert names == {"RBC", "WBC", "Platelets"}
    pictures = len(list((folder / "BCCD" / "JPEGImages").iterdir()))
    assert Task.objects.filter(project=project, state="settled").count() == pictures
    test_split = (folder / "BCCD" / "ImageSets" / "Main" / "test.txt").read_text().split()
    gold = {Path(name).stem for name in Task.objects.filter(is_gold=True).values_list("name", flat=True)}
    assert gold == {name for name in test_split if name.startswith("BloodImage_0000")}
    assert len(shapes_of(project)) > 5 * pictures


def test_microcontrollers_come_in_by_the_command(house: House, tmp_path: Path) -> None:
    folder = some_of("microcontrollers", tmp_path, ["images/test/*"])

    project = by_command(house, folder)

    pictures = [
        path for path in (folder / "images" / "test").iterdir() if path.suffix.lower() in (".jpg", ".png")
    ]
    assert Task.objects.filter(project=project, state="settled").count() == len(pictures)
    assert {shape["kind"] for shape in shapes_of(project)} == {"box"}


def test_dlc_openfield_comes_in_by_the_command_as_keypoints(house: House, tmp_path: Path) -> None:
    folder = some_of("dlc_openfield", tmp_path, ["labeled-data/m4s1/*.csv", "labeled-data/m4s1/img00[0-2]*"])

    project = by_command(house, folder)

    (mouse,) = projects.current_schema(project).schema.classes
    assert mouse.skeleton is not None
    assert {"snout", "leftear", "rightear", "tailbase"} <= set(mouse.skeleton.joints)
    shapes = shapes_of(project)
    assert shapes
    assert {len(shape["points"]) for shape in shapes} == {len(mouse.skeleton.joints)}


def test_the_command_says_what_it_did_and_what_was_wrong(
    house: House, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.png").write_text("x")

    project = by_command(house, folder)

    told = capsys.readouterr()
    assert (
        f"project {project.pk}: 2 pictures imported, 0 were there, 2 with labels (0 gold), 1 problems"
        in told.out
    )
    assert "broken.png: is not a picture" in told.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["/nowhere/at/all", "--project", "New", "--user", "the owner"], "is no folder"),
        ([".", "--project", "New", "--user", "nobody"], "no account named nobody"),
        ([".", "--project", "77", "--user", "the owner"], "no project 77"),
    ],
)
def test_the_command_says_what_is_missing(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(CommandError, match=told):
        call_command("import_folder", *arguments)
