import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from flywheel.api.charts import axis_end, quality_against_labels, training_curves
from flywheel.selectors import CurvePoint

FIRST = CurvePoint(
    round=1,
    labelled=16,
    ap50=0.49,
    ap50_low=0.4,
    ap50_high=0.58,
    ap=0.28,
    pck=None,
    decision="promoted",
    random_f1=None,
    random_pictures=0,
    accepted_share=None,
    seconds_per_answer=None,
)
SECOND = replace(FIRST, round=2, labelled=48, ap50=0.6, decision="rejected", random_f1=0.7, random_pictures=5)


def test_no_point_is_no_chart() -> None:
    assert quality_against_labels([]) == ""


def test_each_round_is_a_mark_that_says_what_became_of_its_model() -> None:
    svg = ElementTree.fromstring(quality_against_labels([FIRST, SECOND]))
    marks = list(svg.iter("circle"))
    assert [mark.get("class") for mark in marks] == ["chart-kept", "chart-refused"]
    titles = [title.text for mark in marks for title in mark.iter("title")]
    assert titles == [
        "Round 1: 16 pictures, AP50 0.490, promoted",
        "Round 2: 48 pictures, AP50 0.600, rejected",
    ]
    higher, lower = float(marks[1].get("cy", "")), float(marks[0].get("cy", ""))
    assert higher < lower
    assert len(list(svg.iter("rect"))) == 1
    assert "48 pictures 0.60" in (svg.get("aria-label") or "")


@pytest.mark.parametrize(
    ("most", "end"), [(7.42, 8), (8, 8), (8.1, 10), (0.31, 0.4), (0.04, 0.04), (1234, 2000), (0, 1)]
)
def test_a_loss_axis_ends_at_a_short_number_above_all_points(most: float, end: float) -> None:
    assert axis_end(most) == pytest.approx(end)


def test_each_training_is_a_line_and_the_first_steps_do_not_hide_the_rest() -> None:
    falling = [{"step": 10.0 * row, "loss": 900.0 if row == 1 else 3.0} for row in range(1, 21)]
    svg = ElementTree.fromstring(training_curves([("run 1", falling), ("run 2", falling[:5])], "loss"))
    lines = list(svg.iter("polyline"))
    assert [len(line.attrib["points"].split()) for line in lines] == [20, 5]
    ticks = [text.text for text in svg.iter("text") if "chart-tick-y" in text.attrib["class"]]
    assert ticks == ["0", "1", "2", "3", "4"]
    assert "run 2 3 at step 50" in svg.attrib["aria-label"]


def test_without_a_point_there_is_no_chart_of_losses() -> None:
    assert training_curves([("run 1", []), ("run 2", [{"step": 10.0}])], "loss") == ""
