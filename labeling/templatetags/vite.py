"""Links to what Vite built: `{% vite "src/pages/project/main.tsx" %}` in a template."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from django import template
from django.conf import settings
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag
def vite(entry: str) -> SafeString:
    """The style sheets, preloads and module script of one entry, named by its source's path."""
    path: Path = settings.FRONTEND_DIST / ".vite" / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: build the pages with `make setup`")
    manifest = _manifest(path, path.stat().st_mtime_ns)
    chunk = manifest[entry]
    imported = [manifest[name] for name in _imports(manifest, entry)]
    own = [chunk["file"]] if chunk["file"].endswith(".css") else []
    styles = [name for item in (*imported, chunk) for name in item.get("css", ())] + own
    scripts = [] if own else [chunk["file"]]
    return format_html(
        "{}{}{}",
        _lines('<link rel="stylesheet" href="{}">\n', styles),
        _lines('<link rel="modulepreload" href="{}">\n', [item["file"] for item in imported]),
        _lines('<script type="module" src="{}"></script>\n', scripts),
    )


@lru_cache(maxsize=2)
def _manifest(path: Path, mtime_ns: int) -> dict[str, Any]:
    """The manifest, read once for each build."""
    return dict(json.loads(path.read_text()))


def _imports(manifest: dict[str, Any], entry: str) -> list[str]:
    """All chunks that an entry needs before it runs, each once."""
    found: list[str] = []
    waiting = list(manifest[entry].get("imports", ()))
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found.append(name)
            waiting.extend(manifest[name].get("imports", ()))
    return found


def _lines(line: str, names: list[str]) -> SafeString:
    return format_html_join("", line, ((static(name),) for name in dict.fromkeys(names)))
