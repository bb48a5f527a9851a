"""How reliable people are and how well they agree: `{% interval … %}` and `{% agreement_matrix pairs %}`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

PEOPLE_SHOWN: Final = 24
LEVELS: Final = 5
"""Shades of a cell, so that what is said by colour is said by few; each cell has its figure too."""


@register.simple_tag
def interval(value: float, low: float, high: float) -> SafeString:
    """A share of 0 to 1 as a dot on its interval, and in figures."""
    told = f"{value:.2f}, probably {low:.2f} to {high:.2f}"
    return format_html(
        '<span class="interval"><svg viewBox="0 0 100 12" role="img" aria-label="{}">'
        '<line class="interval-scale" x1="0" x2="100" y1="6" y2="6"></line>'
        '<line class="interval-range" x1="{}" x2="{}" y1="6" y2="6"></line>'
        '<circle class="interval-value" cx="{}" cy="6" r="4"></circle></svg>'
        '<span>{} <span class="quiet-text">{}–{}</span></span></span>',
        told,
        f"{100 * low:.1f}",
        f"{100 * high:.1f}",
        f"{100 * value:.1f}",
        f"{value:.2f}",
        f"{low:.2f}",
        f"{high:.2f}",
    )


@register.simple_tag
def measured(details: Mapping[str, Any], name: str) -> SafeString:
    """The same for one of a skill's measured shares; a dash where it was not measured."""
    found = details.get(name)
    if found is None:
        return mark_safe('<span class="quiet-text">–</span>')
    low, high = found["interval"]
    return interval(found["value"], low, high)


@register.simple_tag
def agreement_matrix(pairs: Sequence[Mapping[str, Any]]) -> SafeString:
    """Annotator by annotator: F1 of one's objects against the other's, and on how many pictures."""
    people = most_compared(pairs)
    if not people:
        return mark_safe("")
    found = {(pair["one"], pair["other"]): pair for pair in pairs}
    head = format_html_join("", '<th scope="col">{}</th>', ((name,) for name in people))
    rows = format_html_join(
        "",
        '<tr><th scope="row">{}</th>{}</tr>',
        (
            (one, mark_safe("".join(_cell(found.get((one, two)) or found.get((two, one))) for two in people)))  # noqa: S308 (each is a SafeString)
            for one in people
        ),
    )
    return format_html(
        '<table class="matrix"><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table>', head, rows
    )


def most_compared(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Who shares most pictures with others, by name; at most as many as a page can show.

    >>> most_compared([{"one": "b", "other": "a", "images": 3}])
    ['a', 'b']
    """
    shared: dict[str, int] = {}
    for pair in pairs:
        for end in ("one", "other"):
            shared[pair[end]] = shared.get(pair[end], 0) + pair["images"]
    chosen = sorted(shared, key=lambda name: (-shared[name], name))[:PEOPLE_SHOWN]
    return sorted(chosen)


def _cell(pair: Mapping[str, Any] | None) -> SafeString:
    if pair is None:
        return mark_safe('<td class="quiet-text">–</td>')
    level = min(LEVELS - 1, int(pair["f1"] * LEVELS))
    told = f"{pair['one']} and {pair['other']}: {pair['images']} pictures"
    return format_html('<td class="heat-{}" title="{}">{}</td>', level, told, f"{pair['f1']:.2f}")
