"""A reviewer looks at what people drew, accepts, sends one object back, and the author mends it."""

from datetime import datetime
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from labeling.models import Return, Role, Task, TaskState
from labeling.services import annotations, pictures
from labeling.shapes import Box
from tests.conftest import House, make_house
from tests.e2e.conftest import screenshot
from tests.e2e.test_a_persons_path import log_in, scene

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

NOW = datetime.fromisoformat("2026-03-02T10:00:00+00:00")


@pytest.fixture
def house(transactional_db: None, sent: list[tuple[str, list[int], str]]) -> House:
    """Two pictures wait for a reviewer; about the first people agree less."""
    house = make_house(consensus_method="majority", review_risk=0.0)
    for number in range(2):
        image = pictures.store(scene(number))
        task = Task.objects.create(project=house.project, image=image, name=f"scene {number}.png", slots=2)
        near = Box("red", 1, (100.0 + 20 * number, 120.0, 220.0 + 20 * number, 240.0))
        blue = Box("blue", 2, (330.0, 60.0, 400.0, 130.0))
        hand_in(task, house.people[Role.ANNOTATOR], near, blue)
        line = (Box("line", 2, (425.0, 290.0, 565.0, 390.0)),) if number == 0 else (blue,)
        hand_in(task, house.people[Role.OWNER], near, *line)
    return house


def hand_in(task: Task, author: User, *shapes: Box) -> None:
    annotations.submit(
        task=task,
        author=author,
        key=uuid4(),
        shapes=shapes,
        base_revision=0,
        seconds_active=2.0,
        suggestions_from="",
        now=NOW,
    )


def test_a_reviewer_sends_one_object_back_and_accepts_the_other_picture(
    live_server: LiveServer, house: House, page: Page, browser: Browser
) -> None:
    log_in(page, live_server, house.people[Role.REVIEWER].username)
    page.set_default_timeout(10_000)
    page.goto(f"{live_server.url}/projects/{house.project.pk}/")
    page.get_by_role("link", name="Review (2)").click()

    expect(page.get_by_test_id("task")).to_have_text("scene 0.png")  # the riskier of the two
    task = Task.objects.get(name="scene 0.png")
    expect(page.locator("#review-stage")).to_have_attribute("data-painted-task", str(task.pk))
    page.get_by_test_id("layer-the annotator").get_by_role("checkbox").check()
    page.get_by_test_id("layer-the annotator").get_by_role("button", name="seed").click()
    page.get_by_test_id("comment").fill("Is this not a cell?")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(100)
        screenshot(page, f"review-{scheme}")
    page.get_by_test_id("send-back").click()

    expect(page.get_by_test_id("task")).to_have_text("scene 1.png")
    sent = Return.objects.get()
    assert (sent.author, sent.shape_id, sent.comment) == (
        house.people[Role.ANNOTATOR],
        "blue",
        "Is this not a cell?",
    )
    page.keyboard.press("a")
    expect(page.get_by_test_id("empty")).to_have_attribute("data-code", "with_authors")
    screenshot(page, "review-empty")
    assert Task.objects.get(name="scene 1.png").state == TaskState.SETTLED

    other = browser.new_context(viewport={"width": 1360, "height": 860})
    theirs = other.new_page()
    log_in(theirs, live_server, house.people[Role.ANNOTATOR].username)
    theirs.goto(f"{live_server.url}/projects/{house.project.pk}/")
    expect(theirs.get_by_test_id("returns")).to_contain_text("Is this not a cell?")
    screenshot(theirs, "returned")
    theirs.get_by_test_id(f"open-{sent.pk}").click()
    expect(theirs.get_by_test_id("object-count")).to_have_text("2")
    other.close()
