"""A project's progress by state: `{% progress_bar progress %}` and `{% progress_legend progress %}`."""

from collections.abc import Mapping
from typing import Final

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()

STATES: Final = {
    "settled": "settled",
    "needs_review": "needs review",
    "disputed": "disputed",
    "in_progress": "in progress",
    "queued": "queued",
    "rejected": "rejected",
}
"""In the order in which they are drawn, with the words for them."""


@register.simple_tag
def progress_bar(progress: Mapping[str, int], css_class: str = "progress-bar") -> SafeString:
    """One bar of all tasks by state, as SVG: its widths need no inline style, which our policy forbids."""
    total = sum(progress[state] for state in STATES)
    parts = []
    left = 0.0
    for state in STATES:
        width = 100 * progress[state] / total if total else 0.0
        parts.append((f"{left:.3f}", f"{width:.3f}", state))
        left += width
    return format_html(
        '<svg class="{}" viewBox="0 0 100 1" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>',
        css_class,
        in_words(progress),
        format_html_join("", '<rect x="{}" y="0" width="{}" height="1" class="fill-{}"></rect>', parts),
    )


@register.simple_tag
def progress_legend(progress: Mapping[str, int]) -> SafeString:
    """The states with their colours and counts."""
    return format_html_join(
        "",
        '<li><span class="key fill-{}" aria-hidden="true"></span>{}'
        '<span class="value" data-state="{}">{}</span></li>',
        ((state, word, state, progress[state]) for state, word in STATES.items()),
    )


def in_words(progress: Mapping[str, int]) -> str:
    """What the bar shows, for those who do not see it.

    >>> in_words({"settled": 3, "needs_review": 0, "disputed": 0, "in_progress": 1, "queued": 0, "rejected": 0})
    '3 settled, 1 in progress'
    """
    named = [f"{progress[state]} {word}" for state, word in STATES.items() if progress[state]]
    return ", ".join(named) or "no tasks yet"
