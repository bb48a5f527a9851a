"""Faults between a person's browser and the service. Each test is named after its fault in docs/reliability.md."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import Browser, BrowserContext, Page, expect
from playwright.sync_api import Error as PlaywrightError
from pytest_django.live_server_helper import LiveServer

from labeling.models import Annotation, Role, Task
from labeling.services import pictures
from tests.conftest import House, make_house
from tests.e2e.conftest import ARGUMENTS, browser, chromium, context, page
from tests.e2e.test_a_persons_path import drag, log_in, scene

__all__ = ["browser", "context", "page"]
pytestmark = [pytest.mark.faults, pytest.mark.e2e, pytest.mark.django_db(transaction=True)]


def make_scenes(count: int) -> House:
    house = make_house(answers_per_task=1, blind_share=0.0, gold_share=0.0)
    image = [pictures.store(scene(number)) for number in range(count)]
    for number in range(count):
        Task.objects.create(project=house.project, image=image[number], name=f"scene {number}.png", slots=1)
    return house


def begin(page: Page, live_server: LiveServer, house: House) -> None:
    log_in(page, live_server, house.people[Role.ANNOTATOR].username)
    page.goto(f"{live_server.url}/projects/{house.project.pk}/annotate/")
    painted(page)


def painted(page: Page) -> None:
    """Until the picture is painted: nobody draws, and the page takes no drawing, before it is there."""
    current = page.locator(".in-hand [aria-current=true]").get_attribute("data-testid") or ""
    task_id = current.removeprefix("in-hand-")
    expect(page.get_by_test_id("canvas")).to_have_attribute("data-painted-task", task_id, timeout=20_000)


def draw(page: Page, left: float) -> None:
    page.keyboard.press("1")
    drag(page, (left, 100), (left + 120, 240))


def count(page: Page, objects: int) -> None:
    expect(page.get_by_test_id("object-count")).to_have_text(str(objects))


def sent_state(page: Page, state: str) -> None:
    expect(page.get_by_test_id("transfer")).to_have_attribute("data-state", state, timeout=60_000)


# --- F5 ---------------------------------------------------------------------------------------------------


def test_f5_a_page_that_crashed_has_the_work_again(
    live_server: LiveServer, browser: Browser, page: Page
) -> None:
    house = make_scenes(2)
    begin(page, live_server, house)
    draw(page, 100)
    draw(page, 300)
    count(page, 2)
    page.wait_for_timeout(1_000)  # no more than this second may be lost
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    with page.expect_event("crash"):
        for process in processes:
            if process["type"] == "renderer":
                os.kill(process["id"], signal.SIGKILL)

    again = page.context.new_page()
    again.goto(f"{live_server.url}/projects/{house.project.pk}/annotate/")
    painted(again)

    count(again, 2)


def test_f5_a_browser_killed_while_drawing_has_the_work_again(
    live_server: LiveServer, browser: Browser, tmp_path: Path
) -> None:
    house = make_scenes(2)
    first = open_profile(browser, tmp_path / "profile")
    page = first.pages[0]
    begin(page, live_server, house)
    draw(page, 100)
    draw(page, 300)
    count(page, 2)
    page.wait_for_timeout(1_000)  # no more than this second may be lost
    for pid in processes_of(tmp_path / "profile"):
        os.kill(pid, signal.SIGKILL)
    with suppress(PlaywrightError):  # where the driver has not noticed the kill yet
        first.close()

    second = open_profile(browser, tmp_path / "profile")
    second.clear_cookies()  # whether the killed browser had stored its login is chance
    page = second.pages[0]
    begin(page, live_server, house)
    count(page, 2)
    second.close()


def open_profile(browser: Browser, profile: Path) -> BrowserContext:
    return browser.browser_type.launch_persistent_context(
        profile,
        executable_path=chromium(),
        args=ARGUMENTS,
        viewport={"width": 1360, "height": 860},
    )


def processes_of(profile: Path) -> list[int]:
    """The browser's own process, which the others die with."""
    named = f"--user-data-dir={profile}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            if named in arguments and not any(part.startswith(b"--type=") for part in arguments):
                found.append(int(process.name))
    assert found
    return found


# --- F6, F7 -----------------------------------------------------------------------------------------------


def test_f6_a_session_that_ends_during_work_costs_a_login_and_no_work(
    live_server: LiveServer, page: Page
) -> None:
    house = make_scenes(2)
    begin(page, live_server, house)
    draw(page, 100)
    count(page, 1)
    Session.objects.all().delete()
    page.keyboard.press("Control+Enter")
    sent_state(page, "signed-out")
    assert not Annotation.objects.exists()

    login = page.context.new_page()
    log_in(login, live_server, house.people[Role.ANNOTATOR].username)
    login.close()

    page.bring_to_front()
    sent_state(page, "saved")
    answer = Annotation.objects.get()
    assert [shape["kind"] for shape in answer.shapes] == ["box"]


def test_f7_twenty_pictures_labelled_without_a_network_arrive_once_each(
    live_server: LiveServer, page: Page
) -> None:
    """The page holds four pictures and more: so many are labelled offline, then the network must come back."""
    house = make_scenes(20)
    begin(page, live_server, house)
    tunnels: list[int] = []
    while sum(tunnels) < 20:
        pips = page.locator(".in-hand .pip")
        expect(pips.nth(min(3, 19 - sum(tunnels)))).to_be_visible(timeout=60_000)
        expect(page.locator(".in-hand .pip[data-ready=false]")).to_have_count(0, timeout=60_000)
        page.context.set_offline(True)
        in_hand = page.locator(".in-hand .pip[data-ready=true]").count()
        for _ in range(in_hand):
            painted(page)
            draw(page, 100)
            count(page, 1)
            page.keyboard.press("Control+Enter")
        assert Annotation.objects.count() == sum(tunnels)
        tunnels.append(in_hand)
        page.context.set_offline(False)
        sent_state(page, "saved")
    assert min(tunnels[:-1]) >= 4
    answers = Annotation.objects.all()
    assert len({answer.task_id for answer in answers}) == len(answers) == 20
    assert {len(answer.shapes) for answer in answers} == {1}
