"""Links to the built pages, and progress drawn without inline styles."""

import json
from pathlib import Path

import pytest
from django.template import Context, Template

MANIFEST = {
    "src/styles/site.css": {"file": "assets/site-1.css", "isEntry": True},
    "src/pages/annotate/main.tsx": {
        "file": "assets/annotate-2.js",
        "isEntry": True,
        "imports": ["_client.js"],
        "css": ["assets/annotate-3.css"],
    },
    "_client.js": {"file": "assets/client-4.js", "imports": ["_preact.js"]},
    "_preact.js": {"file": "assets/preact-5.js", "imports": ["_client.js"]},
}


def render(template: str, **context: object) -> str:
    return Template("{% load vite progress %}" + template).render(Context(context))


@pytest.fixture
def built(tmp_path: Path, settings: object) -> Path:
    manifest = tmp_path / ".vite" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps(MANIFEST))
    settings.FRONTEND_DIST = tmp_path  # type: ignore[attr-defined]
    return manifest


def test_a_script_comes_with_its_style_and_all_it_imports_each_once(built: Path) -> None:
    html = render('{% vite "src/pages/annotate/main.tsx" %}')
    assert html.splitlines() == [
        '<link rel="stylesheet" href="/static/assets/annotate-3.css">',
        '<link rel="modulepreload" href="/static/assets/client-4.js">',
        '<link rel="modulepreload" href="/static/assets/preact-5.js">',
        '<script type="module" src="/static/assets/annotate-2.js"></script>',
    ]


def test_a_style_sheet_alone_has_no_script(built: Path) -> None:
    html = render('{% vite "src/styles/site.css" %}')
    assert html == '<link rel="stylesheet" href="/static/assets/site-1.css">\n'


def test_a_new_build_is_seen_without_a_restart(built: Path) -> None:
    render('{% vite "src/styles/site.css" %}')
    built.write_text(json.dumps({"src/styles/site.css": {"file": "assets/site-9.css"}}) + " ")
    assert "site-9.css" in render('{% vite "src/styles/site.css" %}')


def test_pages_that_were_never_built_say_how_to_build_them(built: Path) -> None:
    built.unlink()
    with pytest.raises(FileNotFoundError, match="make setup"):
        render('{% vite "src/styles/site.css" %}')


PROGRESS = {"settled": 3, "needs_review": 0, "disputed": 1, "in_progress": 0, "queued": 4, "rejected": 0}


def test_the_bar_shares_its_width_among_the_states() -> None:
    html = render("{% progress_bar progress %}", progress=PROGRESS)
    assert 'x="0.000" y="0" width="37.500" height="1" class="fill-settled"' in html
    assert 'x="37.500" y="0" width="12.500" height="1" class="fill-disputed"' in html
    assert 'x="50.000" y="0" width="50.000" height="1" class="fill-queued"' in html
    assert 'aria-label="3 settled, 1 disputed, 4 queued"' in html


def test_a_project_without_tasks_has_an_empty_bar() -> None:
    html = render("{% progress_bar progress %}", progress=dict.fromkeys(PROGRESS, 0))
    assert 'aria-label="no tasks yet"' in html
    assert 'width="0.000"' in html


def test_neither_bar_nor_legend_has_a_style_attribute() -> None:
    html = render("{% progress_bar progress %}{% progress_legend progress %}", progress=PROGRESS)
    assert "style=" not in html
    assert "#" not in html
