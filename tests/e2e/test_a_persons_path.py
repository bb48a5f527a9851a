"""Log in, annotate three pictures with boxes and a skeleton, submit; the database has exactly that."""

import json
import re
from collections.abc import Sequence
from io import BytesIO

import pytest
from PIL import Image as Pillow
from PIL import ImageDraw
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from labeling.models import Annotation, Prediction, Project, Role, Task
from labeling.services import pictures
from tests.conftest import House, make_house
from tests.e2e.conftest import screenshot

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
NEAR = 1.0  # a screen pixel is about as wide as a picture pixel here


@pytest.fixture
def house(transactional_db: None, sent: list[tuple[str, list[int], str]]) -> House:
    house = make_house(answers_per_task=1, blind_share=0.0)
    for number in range(3):
        image = pictures.store(scene(number))
        Task.objects.create(project=house.project, image=image, name=f"scene {number}.png", slots=1)
    return house


def scene(number: int) -> bytes:
    picture = Pillow.new("RGB", (640, 480), (228, 222, 210))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((100 + 20 * number, 120, 220 + 20 * number, 240), fill=(180, 70, 60))
    draw.ellipse((330, 60, 400, 130), fill=(70, 110, 170))
    draw.line((430, 380, 560, 300), fill=(60, 50, 50), width=14)
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def test_log_in_annotate_three_pictures_and_find_them_in_the_database(
    live_server: LiveServer, house: House, page: Page
) -> None:
    open_annotator(page, live_server, house)
    for number in range(3):
        see(page, f"scene {number}.png")
        expect(page.get_by_test_id("object-count")).to_have_text("0")
        page.keyboard.press("1")
        drag(page, (100 + 20 * number, 120), (220 + 20 * number, 240))
        drag(page, (330, 60), (400, 130))
        page.keyboard.press("2")  # of the selected box: the one just drawn
        page.keyboard.press("3")
        for joint in ((560, 300), (550, 320), (535, 290), (430, 380)):
            click(page, joint)
        expect(page.get_by_test_id("object-count")).to_have_text("3")
        screenshot(page, f"annotate-{number}")
        submit(page)
    expect(page.get_by_test_id("empty-queue")).to_be_visible()
    screenshot(page, "annotate-empty")
    expect(page.get_by_test_id("transfer")).to_have_attribute("data-state", "saved")

    answers = Annotation.objects.select_related("task").order_by("task_id")
    assert [answer.task.name for answer in answers] == [f"scene {n}.png" for n in range(3)]
    for number, answer in enumerate(answers):
        assert answer.author == house.people[Role.ANNOTATOR]
        assert answer.seconds_active > 0
        first, second, pose = answer.shapes
        assert (first["kind"], first["class_id"], first["provenance"]) == ("box", 1, "human_drawn")
        assert first["xyxy"] == pytest.approx([100 + 20 * number, 120, 220 + 20 * number, 240], abs=NEAR)
        assert (second["kind"], second["class_id"]) == ("box", 2)
        assert second["xyxy"] == pytest.approx([330, 60, 400, 130], abs=NEAR)
        assert (pose["kind"], pose["class_id"]) == ("keypoints", 3)
        assert [point[2] for point in pose["points"]] == [2, 2, 2, 2]
        for placed, meant in zip(
            pose["points"], ((560, 300), (550, 320), (535, 290), (430, 380)), strict=True
        ):
            assert placed[:2] == pytest.approx(meant, abs=NEAR)


def test_a_box_is_moved_resized_undone_and_redone(live_server: LiveServer, house: House, page: Page) -> None:
    open_annotator(page, live_server, house)
    page.keyboard.press("1")
    drag(page, (100, 100), (200, 180))
    page.keyboard.press("v")
    drag(page, (150, 140), (170, 160))
    drag(page, (220, 200), (240, 230))
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    expect(page.get_by_test_id("object-count")).to_have_text("0")
    for _ in range(3):
        page.keyboard.press("Control+Shift+Z")
    expect(page.get_by_test_id("object-count")).to_have_text("1")
    submit(page)
    answer = Annotation.objects.get()
    assert answer.shapes[0]["xyxy"] == pytest.approx([120, 120, 240, 230], abs=NEAR)


def test_suggestions_are_accepted_rejected_and_never_an_answer_by_themselves(
    live_server: LiveServer, house: House, page: Page
) -> None:
    task = Task.objects.order_by("id")[0]
    Project.objects.update(suggestions_from="m1")
    suggested = [
        {"id": "m0", "kind": "box", "class_id": 1, "xyxy": [100, 120, 220, 240], "score": 0.9},
        {"id": "m1", "kind": "box", "class_id": 2, "xyxy": [330, 60, 400, 130], "score": 0.8},
        {"id": "m2", "kind": "box", "class_id": 1, "xyxy": [10, 400, 90, 470], "score": 0.5},
    ]
    Prediction.objects.create(
        task=task, model="m1", shapes=[shape | {"provenance": "model_only"} for shape in suggested]
    )
    open_annotator(page, live_server, house)
    expect(page.get_by_test_id("suggestion-count")).to_have_text("3")
    screenshot(page, "suggestions")
    page.keyboard.press("Tab")
    page.keyboard.press("a")
    page.keyboard.press("a")
    expect(page.get_by_test_id("object-count")).to_have_text("2")
    submit(page)
    expect(page.get_by_test_id("transfer")).to_have_attribute("data-state", "saved")
    answer = Annotation.objects.get(task=task)
    assert answer.suggestions_from == "m1"
    assert sorted(shape["xyxy"] for shape in answer.shapes) == [[100, 120, 220, 240], [330, 60, 400, 130]]
    assert {shape["provenance"] for shape in answer.shapes} == {"human_accepted"}


def test_a_reload_loses_no_unsent_work(live_server: LiveServer, house: House, page: Page) -> None:
    open_annotator(page, live_server, house)
    page.keyboard.press("1")
    drag(page, (100, 120), (220, 240))
    expect(page.get_by_test_id("object-count")).to_have_text("1")
    page.wait_for_timeout(300)
    page.reload()
    expect(page.get_by_test_id("object-count")).to_have_text("1")


def open_annotator(page: Page, live_server: LiveServer, house: House) -> None:
    log_in(page, live_server, house.people[Role.ANNOTATOR].username)
    page.goto(f"{live_server.url}/projects/{house.project.pk}/annotate/")
    see(page, "scene 0.png")


def see(page: Page, name: str) -> None:
    """Until the picture is painted: nobody draws, and the page takes no drawing, before it is there."""
    expect(page.get_by_role("application", name=f"Picture {name}")).to_be_visible()
    expect(page.get_by_test_id("canvas")).to_have_attribute("data-painted-task", re.compile(r"\d+"))


def submit(page: Page) -> None:
    """Until the server has answered."""
    with page.expect_response(lambda answer: answer.url.endswith("/annotations") and answer.status == 201):
        page.keyboard.press("Control+Enter")


def log_in(page: Page, live_server: LiveServer, username: str) -> None:
    page.goto(f"{live_server.url}/")
    page.get_by_label("Name").fill(username)
    page.get_by_label("Password").fill("correct horse")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="My projects")).to_be_visible()


def drag(page: Page, start: Sequence[float], end: Sequence[float]) -> None:
    """From one point of the picture to another, as a hand would: press, move, release."""
    page.mouse.move(*on_screen(page, start))
    page.mouse.down()
    page.mouse.move(*on_screen(page, [(a + b) / 2 for a, b in zip(start, end, strict=True)]))
    page.mouse.move(*on_screen(page, end))
    page.mouse.up()


def click(page: Page, point: Sequence[float]) -> None:
    page.mouse.click(*on_screen(page, point))


def on_screen(page: Page, point: Sequence[float]) -> tuple[float, float]:
    canvas = page.locator("canvas[data-image-to-screen]")
    view = json.loads(canvas.get_attribute("data-image-to-screen") or "")
    box = canvas.bounding_box()
    assert box is not None
    return box["x"] + view["x"] + view["scale"] * point[0], box["y"] + view["y"] + view["scale"] * point[1]
