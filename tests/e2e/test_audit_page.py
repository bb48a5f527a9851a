"""A reviewer goes down the list of a label audit: dismisses one doubt, and opens another picture in review."""

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from flywheel.models import Dismissal, LabelAudit
from flywheel.services import audits
from labeling.models import ConsensusSource, Role, Task
from labeling.services import consensus, pictures
from labeling.shapes import Box
from ml.findings import Doubtful, Finding
from tests.conftest import House, make_house
from tests.e2e.conftest import axe_violations, screenshot
from tests.e2e.test_a_persons_path import log_in, scene

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

RED = Box("red", 1, (100.0, 120.0, 220.0, 240.0))
BLUE = (330.0, 60.0, 400.0, 130.0)
FINDINGS = (
    (
        Finding("missing", 2, BLUE, 0.93, "The model sees a mouse that nobody labelled."),
        Finding("missing", 2, (425.0, 290.0, 565.0, 390.0), 0.8, "The model sees a mouse that nobody labelled."),
        Finding("spurious", 1, RED.xyxy, 0.3, "The model sees no cell here.", 0),
    ),
    (
        Finding(
            "place", 1, (70.0, 120.0, 190.0, 240.0), 0.6,
            "The model sees this cell in another place or size.", 0, other=RED.xyxy,
        ),
    ),
    (Finding("zero_area", 1, (300.0, 200.0, 300.0, 200.0), 1.0, "The box of this cell has no area.", 0),),
    (
        Finding("class", 1, RED.xyxy, 0.7, "The model takes this cell for a mouse.", 0, other_class_id=2),
        Finding("doubled", 1, (102.0, 121.0, 221.0, 241.0), 1.0, "This cell is labelled twice.", 1, other=RED.xyxy),
    ),
)  # fmt: skip


@pytest.fixture
def house(transactional_db: None, sent: list[tuple[str, list[int], str]]) -> House:
    """Four settled pictures, each with something in doubt."""
    house = make_house()
    owner = house.people[Role.OWNER]
    doubtful, revisions = [], {}
    for number, findings in enumerate(FINDINGS):
        image = pictures.store(scene(number))
        task = Task.objects.create(project=house.project, image=image, name=f"scene {number}.png", slots=0)
        settled = consensus.set_answer(task=task, shapes=(RED,), source=ConsensusSource.IMPORTED, actor=owner)
        doubtful.append(Doubtful(image.sha256, 9.0 - number, findings))
        revisions[image.sha256] = settled.revision
    audit = LabelAudit.objects.create(project=house.project)
    audits.keep(audit=audit, doubtful=doubtful, revisions=revisions, pictures=40)
    return house


def test_a_reviewer_goes_down_the_list_of_an_audit(live_server: LiveServer, house: House, page: Page) -> None:
    log_in(page, live_server, house.people[Role.REVIEWER].username)
    page.set_default_timeout(10_000)
    page.goto(f"{live_server.url}/projects/{house.project.pk}/")
    page.get_by_role("link", name="Label audit").first.click()

    doubts = page.get_by_test_id("doubt")
    expect(doubts).to_have_count(4)
    expect(doubts.first).to_contain_text("2×")
    page.wait_for_load_state("networkidle")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(150)
        screenshot(page, f"audit-{scheme}")
        assert axe_violations(page) == []

    page.get_by_role("button", name="The labels are right: scene 0.png").click()
    expect(doubts).to_have_count(3)
    expect(page.locator("#said")).to_contain_text("Dismissed: scene 0.png")
    expect(page.get_by_role("link", name="Open scene 1.png")).to_be_focused()
    assert Dismissal.objects.get().task.name == "scene 0.png"
    page.reload()
    expect(doubts).to_have_count(3)

    page.get_by_role("link", name="Open scene 1.png").click()
    expect(page.get_by_test_id("task")).to_have_text("scene 1.png")
    expect(page.get_by_test_id("accept")).to_be_disabled()
    expect(page.get_by_test_id("reopen")).to_be_enabled()
    screenshot(page, "audit-opened")


def test_an_audit_that_waits_can_be_cancelled(live_server: LiveServer, house: House, page: Page) -> None:
    log_in(page, live_server, house.people[Role.REVIEWER].username)
    page.set_default_timeout(10_000)
    page.goto(f"{live_server.url}/projects/{house.project.pk}/label-audit/")
    page.get_by_role("button", name="Audit again").click()
    expect(page.locator("#work")).to_contain_text("waits for a worker")
    expect(page.get_by_role("button", name="Audit again")).to_be_disabled()
    screenshot(page, "audit-running")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#work")).to_contain_text("Cancelled by a person")
    assert LabelAudit.objects.get(finished_at=None).created_at < timezone.now()
