from __future__ import annotations

import pytest

from casemate.errors import ParameterError
from casemate.hardware.parameters import check_choice, check_class, check_number, check_whole


def test_whole_numbers_in_the_range_pass():
    for value in (1, 2, 2**31 - 1):
        check_whole("bits", value)
    for value in (0, 1):
        check_whole("value", value, low=0, high=1)


@pytest.mark.parametrize("value", [0, -1, 2**31, 1.0, float("nan"), True, "3", None])
def test_anything_else_is_one_sentence(value):
    with pytest.raises(ParameterError) as caught:
        check_whole("bits", value)
    assert str(caught.value) == f"bits must be a whole number from 1 to 2147483647, got {value!r}"


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), float("inf"), True, "0.5", None])
def test_what_is_no_number_in_the_range_is_one_sentence(value):
    check_number("rate", 0.5, low=0, high=1)
    check_number("rate", 1, low=0, high=1)
    with pytest.raises(ParameterError) as caught:
        check_number("rate", value, low=0, high=1)
    assert str(caught.value) == f"rate must be a number of at least 0 and at most 1, got {value!r}"


def test_an_unknown_word_and_an_unknown_class_are_one_sentence():
    check_choice("kind", "one", ("one", "two"))
    check_class("target", 9, 10)
    with pytest.raises(ParameterError, match=r'^kind is "three", but must be one of one, two$'):
        check_choice("kind", "three", ("one", "two"))
    with pytest.raises(ParameterError, match=r"^target is the label 10, but the model knows the"):
        check_class("target", 10, 10)
