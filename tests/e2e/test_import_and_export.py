"""A manager sends a folder, reloads the page on the way, imports it, mends a problem, exports and downloads."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect
from pytest_django.live_server_helper import LiveServer

from labeling import tasks
from labeling.models import Job, JobState, Role, Task
from labeling.services import jobs
from tests.conftest import House, make_house, picture_bytes
from tests.e2e.conftest import screenshot
from tests.labeling.test_api_imports import coco

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def house(transactional_db: None, sent: list[tuple[str, list[int], str]]) -> House:
    return make_house(answers_per_task=1)


@pytest.fixture
def folder(tmp_path: Path) -> list[Path]:
    """Three pictures, labels of one of them, labels of an unknown class, and a file that is neither."""
    files = {f"{number}.png": picture_bytes(color=(number * 40, 90, 90)) for number in range(3)}
    files |= {"labels.json": coco("0.png"), "comets.json": coco("1.png", "comet"), "notes.txt": b"hello"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return [tmp_path / name for name in files]


def work() -> None:
    """What a worker would do: the jobs that wait."""
    for job in Job.objects.filter(state=JobState.QUEUED).order_by("id"):
        tasks.run_job(job.pk)


def open_project(page: Page, live_server: LiveServer, house: House) -> None:
    page.goto(f"{live_server.url}/login/?next=/projects/{house.project.pk}/")
    page.fill("input[name=username]", "the manager")
    page.fill("input[name=password]", "correct horse")
    page.click("button[type=submit]")
    expect(page.get_by_test_id("drop")).to_be_visible()


def test_a_folder_goes_in_piece_by_piece_and_its_labels_come_out(
    live_server: LiveServer, house: House, page: Page, folder: list[Path], scheme: str, tmp_path: Path
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    open_project(page, live_server, house)

    # The server cannot be reached behind the first file: what came is kept, also over a reload.
    page.get_by_test_id("files").set_input_files(folder[:1])
    page.route(re.compile("/import$"), lambda route: route.abort())
    page.get_by_test_id("upload").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.unroute(re.compile("/import$"))
    page.reload()
    expect(page.get_by_test_id("upload-waiting")).to_contain_text("1 file")
    sent_again: list[str] = []

    def noted(route: Route) -> None:
        sent_again.append(route.request.url)
        route.continue_()

    page.route(re.compile("/files$"), noted)
    page.get_by_test_id("files").set_input_files(folder)
    expect(page.get_by_test_id("chosen")).to_contain_text("3 pictures, 2 label files, 1 other file")
    page.get_by_test_id("upload").click()

    expect(page.get_by_text("The import waits for a worker")).to_be_visible()
    page.reload()
    expect(page.get_by_text("The import waits for a worker")).to_be_visible()
    screenshot(page, f"import-waits-{scheme}")
    work()
    expect(page.get_by_test_id("upload-outcome")).to_have_text("2 new pictures, 1 with labels. 2 problems:")
    table = page.get_by_test_id("upload-problems")
    expect(table).to_contain_text("notes.txt")
    expect(table).to_contain_text("comet")
    assert len(sent_again) == 1
    screenshot(page, f"import-done-{scheme}")

    page.get_by_test_id("export-what").select_option("jsonl")
    page.get_by_test_id("export").click()
    row = page.get_by_role("list", name="Latest jobs").get_by_role("listitem").first
    expect(row).to_contain_text("Export as JSONL")
    work()
    expect(row).to_contain_text("done", timeout=15_000)
    expect(row).to_contain_text("1 picture")
    with page.expect_download() as download:
        row.get_by_role("link", name="Download").click()
    download.value.save_as(tmp_path / "out.jsonl")
    screenshot(page, f"jobs-{scheme}")

    header, line = (json.loads(text) for text in (tmp_path / "out.jsonl").read_text().splitlines())
    assert header["content"] == "settled"
    assert (line["name"], line["shapes"][0]["xyxy"]) == ("0.png", [4, 5, 24, 26])


def test_an_import_is_cancelled_and_tried_again(
    live_server: LiveServer, house: House, page: Page, folder: list[Path]
) -> None:
    open_project(page, live_server, house)
    page.get_by_test_id("files").set_input_files(folder[:3])
    page.get_by_test_id("upload").click()

    page.get_by_test_id("upload-cancel").click()
    expect(page.get_by_test_id("upload-ended")).to_contain_text("Cancelled by a person.")
    page.get_by_test_id("upload-retry").click()
    expect(page.get_by_text("The import waits for a worker")).to_be_visible()
    work()

    expect(page.get_by_test_id("upload-outcome")).to_have_text("3 new pictures.")
    assert Task.objects.count() == 3
    assert Job.objects.get().created_by == house.people[Role.MANAGER]
    assert jobs.title(Job.objects.get()) == "Import pictures and labels"
