"""The documents keep up with the code: settings, dependencies, links, and the words of the contracts."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^(```.*?^```|    .*?$)", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The link targets that a page's headings make."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    missing = []
    for target in LINK.findall(CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            missing.append(target)
    assert missing == []


def test_every_document_can_be_found_from_the_readme() -> None:
    seen: set[Path] = set()
    open_pages = [ROOT / "README.md"]
    while open_pages:
        page = open_pages.pop()
        if page in seen:
            continue
        seen.add(page)
        for target in LINK.findall(CODE.sub("", page.read_text())):
            linked = (page.parent / target.partition("#")[0]).resolve()
            if linked.is_dir():
                open_pages += linked.glob("*.md")
            elif linked.suffix == ".md" and linked.exists():
                open_pages.append(linked)
    assert {name_of(page) for page in PAGES} - {name_of(page) for page in seen} == set()


def test_the_settings_page_lists_exactly_the_variables_that_are_read() -> None:
    read = set(re.findall(r'"(LABELWHEEL_\w+)"', (ROOT / "flywheel/config/settings.py").read_text()))
    page = (ROOT / "docs/reference/settings.md").read_text()
    ours, compose = page.split("## Compose only")
    assert set(re.findall(r"^\| `(LABELWHEEL_\w+)` \|", ours, re.MULTILINE)) == read
    compose_file = (ROOT / "docker-compose.yml").read_text()
    for variable in re.findall(r"`([A-Z][A-Z0-9_]+)`[,|  ]", compose):
        assert f"${{{variable}" in compose_file, variable


def test_no_other_module_reads_our_variables() -> None:
    elsewhere = [
        name_of(path)
        for package in ("labeling", "flywheel", "ml")
        for path in (ROOT / package).rglob("*.py")
        if path.name not in ("settings.py", "run.py") and '"LABELWHEEL_' in path.read_text()
    ]
    assert elsewhere == []


def test_every_direct_dependency_has_its_reason() -> None:
    page = (ROOT / "docs/dependencies.md").read_text().lower()
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {
        re.split(r"[=<>\[~!]", line)[0].strip().lower()
        for group in project["dependency-groups"].values()
        for line in group
    }
    package: dict[str, Any] = json.loads((ROOT / "frontend/package.json").read_text())
    wanted |= set(package["dependencies"]) | set(package["devDependencies"])
    named = {
        name.strip() for row in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE) for name in row.split(",")
    }
    assert wanted - named == set()


def test_the_constraints_agree_with_what_is_asked_for() -> None:
    pinned = {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version in re.findall(
            r"^([\w.\-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
        )
    }
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for group in project["dependency-groups"].values():
        for line in group:
            name, wanted = re.split(r"==", line)
            name = re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()
            if name == "torch":
                assert name not in pinned
                assert f"torch=={wanted}" in (ROOT / "Makefile").read_text()
                assert f"torch=={wanted}" in (ROOT / "Dockerfile").read_text()
            else:
                assert pinned[name].startswith(wanted.removesuffix("*")), name


def test_each_decision_says_what_it_costs_and_what_lost() -> None:
    decisions = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    numbers = [int(path.name[:4]) for path in decisions]
    assert numbers == list(range(1, len(numbers) + 1))
    for path in decisions:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]} "), path.name
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["The question", "The decision", "What it costs", "What lost"], path.name


def test_the_make_targets_that_the_documents_name_are_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:^    |`)make ([a-z]+)", page.read_text(), re.MULTILINE))
        assert named <= targets, name_of(page)


def test_the_options_of_run_that_the_documents_name_are_there() -> None:
    source = (ROOT / "flywheel/management/commands/run.py").read_text()
    for page in PAGES:
        for arguments in re.findall(r'\bARGS="(--[^"]+)"', page.read_text()):
            for option in re.findall(r"--[a-z-]+", arguments):
                assert f'"{option}"' in source, option
