"""Tests in a real browser: Debian's Chromium, driven by Playwright against a live server of this code."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENSHOTS = os.environ.get("LABELWHEEL_SCREENSHOTS", "")
"""A folder to keep pictures of the pages in; none are taken when it is empty."""


AXE = Path(__file__).resolve().parents[2] / "frontend/node_modules/axe-core/axe.min.js"


def chromium() -> str | None:
    """Where this machine's browser is, if it has one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for one file's tests: its event loop lives in this thread, where other tests want none."""
    executable = chromium()
    if executable is None:
        pytest.skip("no Chromium on this machine: browser tests are skipped")
    if not (django_settings.FRONTEND_DIST / ".vite" / "manifest.json").is_file():
        pytest.skip("the pages are not built (make setup): browser tests are skipped")
    with sync_playwright() as playwright, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(
            "DJANGO_ALLOW_ASYNC_UNSAFE", "true"
        )  # the tests' few queries beside the loop are safe
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1360, "height": 860})
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []


def screenshot(page: Page, name: str) -> None:
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def axe_violations(page: Page) -> list[str]:
    """What axe finds against accessibility on the page as it is: rule and first place of each."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run().then((results) => results.violations)")
    return [f"{item['id']}: {item['nodes'][0]['html']}" for item in found]
