from __future__ import annotations

import pytest

from casemate.report import formats
from casemate.stats import Measurement, mean, rate


def plain(text):
    return text.replace("\u00a0", " ")


def test_a_rate_is_a_percentage_with_one_decimal_and_its_interval():
    # Wilson's interval of 47 of 50, by hand: center 0.9086, half-width 0.0701
    found = rate("attack success rate", 47, 50)
    assert plain(formats.figure(found)) == "94.0 %"
    assert formats.interval(found) == "[83.8, 97.9]"


def test_no_interval_leaves_what_is_possible():
    trues = mean("confidence in true class, attacked", [0.9, 1.0], "probability")
    assert trues.high > 1
    assert formats.interval(trues) == "[31.5, 100.0]"
    drop = mean("clean accuracy drop", [0.9, -0.5], "1")
    assert formats.interval(drop) == "[-100.0, 100.0]"


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.1234, "+12.3"), (-0.004, "\u22120.4"), (0.0, "0.0"), (-0.0001, "0.0"), (None, "\u2013")],
)
def test_a_difference_of_shares_has_its_sign(value, words):
    assert formats.points(value) == words


def test_what_was_not_measured_is_no_zero():
    nothing = rate("attack success rate", 0, 0)
    assert formats.figure(nothing) == "not measured"
    assert formats.figure(None) == "not measured"
    assert formats.interval(nothing) == ""


def test_units_decide_between_percent_and_number():
    assert plain(formats.figure(mean("confidence", [0.5, 0.7], "probability"))) == "60.0 %"
    assert formats.figure(mean("ssim", [0.5, 0.7], "index")) == "0.600"
    single = Measurement(name="d", value=0.031372, n=1, low=None, high=None, unit="domain units")
    assert (formats.figure(single), formats.interval(single)) == ("0.0314", "")


@pytest.mark.parametrize(
    ("epsilon", "words"),
    [
        (8 / 255, "8/255"),
        (1.0, "1"),
        (0.3, "0.3"),
        (0.2, "0.2"),
        (16 / 255, "16/255"),
        (None, "\N{EN DASH}"),
        (0.0, "0"),
        (2.5 / 255, "0.009804"),
    ],
)
def test_budgets_are_written_as_people_write_them(epsilon, words):
    assert formats.budget(epsilon) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0314, "0.0314"),
        (12.0, "12.0"),
        (1234.4, "1,234"),
        (0.000123, "1.23e-04"),
        (float("nan"), "\N{EN DASH}"),
        (float("-inf"), "\N{MINUS SIGN}∞"),
        (0.0, "0.00"),
    ],
)
def test_numbers(value, words):
    assert formats.number(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.42, "0.4 s"), (125, "2 min 5 s"), (3780, "1 h 3 min")]
)
def test_durations(seconds, words):
    assert plain(formats.duration(seconds)) == words


def test_plurals():
    assert formats.plural(1, "trial") == "1 trial"
    assert formats.plural(1234, "trial") == "1,234 trials"
