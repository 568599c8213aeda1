from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.campaign.numbers import parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [("8/255", 8 / 255), (" 1 / 3 ", 1 / 3), ("1e-3", 1e-3), ("-2", -2.0), (".5", 0.5), (3, 3.0)],
)
def test_numbers_and_fractions(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "1/0", "8/255/2", "__import__('os')", "inf", "nan", "1_000", "", "/", "9" * 400, True, None,
        [1], math.inf, math.nan, 10**400, "1+1", "\uff10.\uff15",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r"must be|zero below"):
        parse_number(text)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 10**6))
def test_a_fraction_is_the_quotient(top, bottom):
    assert parse_number(top) == top
    assert parse_number(f"{top!r}/{bottom}") == top / bottom
