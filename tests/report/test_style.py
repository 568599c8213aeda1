"""Contrast by the formula of WCAG 2.2 (1.4.3): 4.5:1 for text on every surface that it meets."""

from __future__ import annotations

import re

import pytest

from casemate.report.html import asset

COLORS = {
    name: pair
    for name, *pair in re.findall(
        r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", asset("report.css")
    )
}
TEXT = ("ink", "muted", "link", "violated", "passed", "inconclusive", "measured", "not-run")
CURVES = ("control", *(f"series-{i}" for i in range(1, 7)))


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_formula():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("surface", ["page", "surface", "raised"])
@pytest.mark.parametrize("name", TEXT)
def test_text_can_be_read(name, surface, theme):
    assert contrast(COLORS[name][theme], COLORS[surface][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", CURVES)
def test_labels_of_curves_can_be_read(name, theme):
    assert contrast(COLORS[name][theme], COLORS["surface"][theme]) >= 4.5
