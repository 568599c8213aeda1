from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from casemate.report.curves import Chart, Point, Series
from casemate.report.plots import MOST_SERIES, draw, drawn

HOSTILE = '<img src=x onerror="document.title=1">$\\frac{1}{2}$&amp;'


def parsed(markup):
    return ET.fromstring(markup)  # noqa: S314 - our own figure, which must be well formed


def series(label="pgd", values=(0.2, 0.6, 0.9), *, kind="budget", control=False):
    points = tuple(
        Point(x=(i + 1) / 255, value=v, low=v - 0.05, high=v + 0.05, n=100, trial=i)
        for i, v in enumerate(values)
    )
    return Series(label=label, kind=kind, control=control, points=points)


def chart(*members):
    return Chart(norm="linf", series=members)


def heights_of_labels(markup, words):
    texts = [e for e in parsed(markup).iter("text") if e.text in words]
    assert len(texts) == len(words)
    return [float(e.get("y")) for e in texts]


def test_labels_stand_beside_the_axis_whatever_it_spans():
    members = [series(f"a{i}", (0.98, 0.97 - i / 1000)) for i in range(4)]
    drawing = draw(Chart(norm="linf", series=tuple(members), measure="clean accuracy"))
    heights = heights_of_labels(drawing, [f"a{i}" for i in range(4)])
    assert max(heights) - min(heights) < 100  # a quarter of the picture
    assert all(abs(a - b) > 10 for i, a in enumerate(heights) for b in heights[:i])


def test_labels_are_text_and_escaped():
    markup = draw(chart(series(HOSTILE)))
    root = parsed(markup)
    assert {e.tag for e in root.iter()} <= {"svg", "g", "path", "rect", "text", "tspan"}
    assert "<img" not in markup
    texts = [e.text for e in root.iter("text")]
    assert any(t.startswith("<img src=x") for t in texts)  # cut, but as it is: no mathematics
    assert HOSTILE in root.get("aria-label")


def test_control_and_direction_characters_do_not_reach_the_figure():
    markup = draw(chart(series("a\u202eb\x00c\nd")))
    parsed(markup)
    assert "\u202e" not in markup
    assert "a⟨U+202E⟩b⟨U+0…" in markup


def test_a_script_that_the_measuring_font_lacks_is_drawn_without_a_warning():
    assert "攻撃" in draw(chart(series("攻撃")))


def test_colors_come_from_the_page():
    markup = draw(chart(series(), series("noise", control=True)))
    assert not re.search(r"#[0-9a-fA-F]{3,6}\b", markup)
    assert {"var(--series-1)", "var(--control)", "var(--line)", "var(--muted)"} <= set(
        re.findall(r"var\(--[\w-]+\)", markup)
    )


@pytest.mark.parametrize("forbidden", ["style=", "id=", "href", "<style", "url(", "font-family"])
def test_nothing_that_the_policy_of_the_page_forbids(forbidden):
    assert forbidden not in draw(chart(series(), series("b", kind="distance")))


def test_budgets_label_the_axis():
    texts = [e.text for e in parsed(draw(chart(series()))).iter("text")]
    assert {"0", "1/255", "2/255", "3/255", "100 %"} <= set(texts)
    assert "L∞ budget ε, in the domain's units" in texts


def test_curves_pass_through_their_points():
    # the y axis runs linearly from 0 to 100 %, so heights of markers are in the ratio of values
    root = parsed(draw(chart(series(values=(0.0, 0.5, 1.0)))))
    markers = [
        float(re.search(r"translate\(\S+ (\S+)\)", e.get("transform"))[1])
        for e in root.iter("path")
        if " C " in e.get("d")  # round markers have curves, lines and bands have none
    ]
    zero, half, one = markers
    assert zero - half == pytest.approx(half - one, rel=1e-3)
    assert zero > one


def test_of_many_attacks_the_most_successful_are_drawn():
    members = [series(f"a{i}", values=(i / 20,)) for i in range(MOST_SERIES + 3)]
    kept = drawn(chart(*members))
    assert [s.label for s in kept] == [f"a{i}" for i in range(3, MOST_SERIES + 3)]


def test_the_same_chart_is_the_same_text():
    assert draw(chart(series())) == draw(chart(series()))
