"""Charts as SVG, drawn on the server: they print, and a test can read them. Colours come from the style sheet."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from django.utils.safestring import SafeString, mark_safe

from flywheel.selectors import CurvePoint

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 48, 16, 48
RUN_COLOURS = 5


def quality_against_labels(points: Sequence[CurvePoint]) -> SafeString:
    """AP50 on gold with its 90 % interval, and the random slice's F1, against labelled pictures; "" without any."""
    if not points:
        return mark_safe("")
    most = max(point.labelled for point in points) * 1.08
    parts = [*_axes(most), *_band(points, most)]
    parts.append(_line([(point.labelled, point.ap50) for point in points], most, "chart-quality"))
    sliced = [(point.labelled, point.random_f1) for point in points if point.random_f1 is not None]
    parts.append(_line(sliced, most, "chart-random"))
    for point in points:
        x, y = _x(point.labelled, most), _y(point.ap50)
        told = f"Round {point.round}: {point.labelled} pictures, AP50 {point.ap50:.3f}, {point.decision}"
        mark = "chart-kept" if point.decision == "promoted" else "chart-refused"
        parts.append(
            f'<circle class="{mark}" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{escape(told)}</title></circle>'
        )
        parts.append(f'<text class="chart-value" x="{x + 9:.1f}" y="{y + 16:.1f}">{point.ap50:.2f}</text>')
    for labelled, f1 in sliced:
        x, y = _x(labelled, most), _y(f1)
        parts.append(
            f'<rect class="chart-random-mark" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8">'
            f"<title>Random slice: F1 {f1:.3f}</title></rect>"
        )
    told = "; ".join(f"{point.labelled} pictures {point.ap50:.2f}" for point in points)
    return mark_safe(  # noqa: S308  (numbers and escaped text only)
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="AP50 on gold against labelled pictures: {escape(told)}">{"".join(parts)}</svg>'
    )


def training_curves(curves: Sequence[tuple[str, Sequence[Mapping[str, float]]]], part: str) -> SafeString:
    """One part of the loss against steps, a line for each named curve; "" where there is no point at all.

    The axis ends where the highest point after the first and the first tenth lies: they would hide the rest.
    """
    drawn = [(name, [(row["step"], row[part]) for row in rows if part in row]) for name, rows in curves]
    drawn = [(name, pairs) for name, pairs in drawn if pairs]
    if not drawn:
        return mark_safe("")
    steps = max(pairs[-1][0] for _, pairs in drawn)
    later = [value for _, pairs in drawn for _, value in pairs[len(pairs) // 10 + (len(pairs) > 1) :]]
    highest = axis_end(max(later))
    parts = [*_loss_axes(steps, highest)]
    for row, (name, pairs) in enumerate(drawn):
        shown = [(x, min(value / highest, 1.0)) for x, value in pairs]
        told = f"{name}: {pairs[-1][1]:.3g} at step {pairs[-1][0]:.0f}"
        parts.append(f"<g><title>{escape(told)}</title>")
        parts.append(_line(shown, steps, f"chart-run chart-run-{row % RUN_COLOURS}"))
        x, y = _x(shown[-1][0], steps), _y(shown[-1][1])
        parts.append(
            f'<circle class="chart-run-mark chart-run-{row % RUN_COLOURS}" cx="{x:.1f}" cy="{y:.1f}" r="4"/></g>'
        )
    told = "; ".join(f"{name} {pairs[-1][1]:.3g} at step {pairs[-1][0]:.0f}" for name, pairs in drawn)
    return mark_safe(  # noqa: S308  (numbers and escaped text only)
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(part)} against steps: {escape(told)}">{"".join(parts)}</svg>'
    )


def axis_end(most: float) -> float:
    """The lowest 1, 2, 4 or 8 times a power of ten that is not below `most`, so that quarters are short to write.

    >>> axis_end(7.42), axis_end(0.31), axis_end(0)
    (8.0, 0.4, 1.0)
    """
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(round(times * power, 12) for times in (1, 2, 4, 8, 10) if times * power >= most)


def _loss_axes(steps: float, highest: float) -> list[str]:
    parts = []
    for quarter in range(5):
        y = _y(quarter / 4)
        parts.append(f'<line class="chart-grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="chart-tick chart-tick-y" x="{LEFT - 8}" y="{y + 4:.1f}">{highest * quarter / 4:g}</text>'
        )
    tick = round_step(steps)
    for number in range(int(steps // tick) + 1):
        x, y = _x(number * tick, steps), HEIGHT - BOTTOM + 18
        parts.append(f'<text class="chart-tick chart-tick-x" x="{x:.1f}" y="{y}">{number * tick}</text>')
    parts.append(
        f'<text class="chart-label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}">optimiser steps</text>'
    )
    return parts


def round_step(most: float, at_most: int = 7) -> int:
    """The distance of ticks on an axis from 0 to `most`: 1, 2 or 5 times a power of ten.

    >>> round_step(17), round_step(140), round_step(9000)
    (5, 20, 2000)
    """
    power = 1
    while True:
        for step in (power, 2 * power, 5 * power):
            if most / step <= at_most:
                return step
        power *= 10


def _axes(most: float) -> list[str]:
    parts = []
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        parts.append(f'<line class="chart-grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="chart-tick chart-tick-y" x="{LEFT - 8}" y="{y + 4:.1f}">{tenth / 10:.1f}</text>'
        )
    step = round_step(most)
    for number in range(int(most // step) + 1):
        labelled = number * step
        x, y = _x(labelled, most), HEIGHT - BOTTOM + 18
        parts.append(f'<text class="chart-tick chart-tick-x" x="{x:.1f}" y="{y}">{labelled:.0f}</text>')
    parts.append(
        f'<text class="chart-label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}">labelled pictures</text>'
    )
    return parts


def _band(points: Sequence[CurvePoint], most: float) -> list[str]:
    known = [point for point in points if point.ap50_low is not None and point.ap50_high is not None]
    if not known:
        return []
    above = [f"{_x(p.labelled, most):.1f},{_y(p.ap50_high or 0):.1f}" for p in known]
    below = [f"{_x(p.labelled, most):.1f},{_y(p.ap50_low or 0):.1f}" for p in reversed(known)]
    bars = [
        f'<line class="chart-interval" x1="{_x(p.labelled, most):.1f}" x2="{_x(p.labelled, most):.1f}" '
        f'y1="{_y(p.ap50_low or 0):.1f}" y2="{_y(p.ap50_high or 0):.1f}"/>'
        for p in known
    ]
    return [f'<polygon class="chart-band" points="{" ".join(above + below)}"/>', *bars]


def _line(pairs: Sequence[tuple[float, float]], most: float, name: str) -> str:
    if len(pairs) < 2:
        return ""
    points = " ".join(f"{_x(x, most):.1f},{_y(y):.1f}" for x, y in pairs)
    return f'<polyline class="{name}" points="{points}"/>'


def _x(labelled: float, most: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * labelled / most


def _y(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)
