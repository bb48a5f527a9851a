import xml.etree.ElementTree as ElementTree
from dataclasses import replace

from flywheel.api.charts import quality_against_labels
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
