"""A manager sees how reliable people are, has it learnt again, and goes back; a reviewer sees why a task is there."""

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from labeling import tasks as _handlers  # noqa: F401  (registers what does a job)
from labeling.models import Job, JobState, Project, Role, Task
from labeling.services import jobs, pictures, projects, refits
from labeling.shapes import Box
from tests.conftest import House, make_house
from tests.e2e.conftest import axe_violations, screenshot
from tests.e2e.test_a_persons_path import log_in, scene
from tests.e2e.test_a_reviewers_path import hand_in

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

PEOPLE = (Role.ANNOTATOR, Role.REVIEWER, Role.MANAGER)
RED = Box("red", 1, (100.0, 120.0, 220.0, 240.0))
BLUE = Box("blue", 2, (330.0, 60.0, 400.0, 130.0))
LINE = Box("line", 2, (425.0, 290.0, 565.0, 390.0))


@pytest.fixture
def house(transactional_db: None, sent: list[tuple[str, list[int], str]]) -> House:
    """Ten pictures that three people answered, who agree but for one, and a fit that knows them."""
    house = make_house(answers_per_task=3)
    for number in range(10):
        image = pictures.store(scene(number))
        task = Task.objects.create(project=house.project, image=image, name=f"scene {number}.png", slots=3)
        hand_in(task, house.people[Role.ANNOTATOR], RED, BLUE)
        hand_in(task, house.people[Role.REVIEWER], RED, *((BLUE,) if number % 2 else ()))
        hand_in(task, house.people[Role.MANAGER], RED, BLUE, *((LINE,) if number % 5 == 0 else ()))
    refits.refit(project=house.project)
    house.project = Project.objects.get()
    return house


def done(job: Job) -> None:
    jobs.run(job.pk)
    job.refresh_from_db()
    assert job.state == JobState.DONE, job.error


def test_a_manager_has_the_annotators_learnt_again_and_goes_back(
    live_server: LiveServer, house: House, page: Page
) -> None:
    log_in(page, live_server, house.people[Role.MANAGER].username)
    page.set_default_timeout(10_000)
    page.goto(f"{live_server.url}/projects/{house.project.pk}/")
    page.get_by_role("link", name="Quality").first.click()

    expect(page.locator("#people")).to_contain_text("the annotator")
    expect(page.locator("#agreement")).to_contain_text("10 of 10 pictures")
    expect(page.locator("#fits")).to_contain_text("in force")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(100)
        screenshot(page, f"quality-{scheme}")
        assert axe_violations(page) == []

    task = Task.objects.create(
        project=house.project, image=pictures.store(scene(90)), name="one more.png", slots=3
    )
    hand_in(task, house.people[Role.ANNOTATOR], RED)
    hand_in(task, house.people[Role.REVIEWER], RED, BLUE, LINE)
    page.get_by_role("button", name="Learn again").click()
    expect(page.locator("#fits")).to_contain_text("waits for a worker")
    expect(page.get_by_role("button", name="Learn again")).to_be_disabled()
    screenshot(page, "quality-running")
    done(Job.objects.get(kind="refit"))

    back = page.get_by_role("button", name="Go back to fit 1")
    expect(back).to_be_enabled()
    back.click()
    expect(page.locator("#fits")).to_contain_text("Go back to what fit 1 knew")
    done(Job.objects.get(kind="refit", state=JobState.QUEUED))
    expect(page.locator("#fits")).to_contain_text("An earlier fit is in force")
    screenshot(page, "quality-undone")
    assert Project.objects.select_related("consensus_fit").get().consensus_fit.number == 1  # type: ignore[union-attr]


def test_a_reviewer_is_told_why_a_picture_is_there_and_what_speaks_for_each_object(
    live_server: LiveServer, house: House, page: Page
) -> None:
    projects.change(
        project=house.project,
        changes={"overlap": "adaptive", "most_answers": 2, "target_risk": 0.0, "review_share": 0.0},
        actor=house.people[Role.OWNER],
    )
    task = Task.objects.create(
        project=house.project, image=pictures.store(scene(90)), name="doubtful.png", slots=2
    )
    hand_in(task, house.people[Role.ANNOTATOR], RED, BLUE)
    hand_in(task, house.people[Role.MANAGER], RED, LINE)
    log_in(page, live_server, house.people[Role.REVIEWER].username)
    page.set_default_timeout(10_000)
    page.goto(f"{live_server.url}/projects/{house.project.pk}/review/")

    expect(page.get_by_test_id("task")).to_have_text("doubtful.png")
    expect(page.get_by_test_id("why")).to_contain_text("It has as many answers as it may get")
    expect(page.get_by_role("list", name="Expected errors by cause")).to_be_visible()
    page.get_by_test_id("layer-Consensus").get_by_role("button", name="cell").click()
    expect(page.get_by_test_id("object-doubts")).to_contain_text("Drawn by the annotator, the manager")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(100)
        screenshot(page, f"review-why-{scheme}")
        assert axe_violations(page) == []
