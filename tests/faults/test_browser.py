"""Faults between a person's browser and the service. Each test is named after its fault in docs/reliability.md."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import BrowserContext, Page, expect
from playwright.sync_api import Error as PlaywrightError
from pytest_django.live_server_helper import LiveServer

from labeling.models import Annotation, Role, Task
from labeling.services import pictures
from tests.conftest import House, make_house
from tests.e2e.conftest import ARGUMENTS, browser, context, page
from tests.e2e.test_a_persons_path import drag, log_in, scene
from tests.faults.parts import until

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
    expect(page.get_by_test_id("canvas")).to_have_attribute("data-painted-task", re.compile(r"\d+"))


def draw(page: Page, left: float) -> None:
    page.keyboard.press("1")
    drag(page, (left, 100), (left + 120, 240))


def count(page: Page, objects: int) -> None:
    expect(page.get_by_test_id("object-count")).to_have_text(str(objects))


def sent_state(page: Page, state: str) -> None:
    expect(page.get_by_test_id("transfer")).to_have_attribute("data-state", state, timeout=60_000)
