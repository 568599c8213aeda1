from __future__ import annotations

import pytest

from casemate import errors
from casemate.errors import CasemateError, ExitCode, UsageError, did_you_mean

KNOWN = ("fgsm", "bim", "pgd", "lbfgs")


def test_exit_codes_are_the_published_ones():
    assert {code.name: int(code) for code in ExitCode} == {
        "MET": 0,
        "VIOLATED": 1,
        "USAGE": 2,
        "INCOMPLETE": 3,
    }


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("UsageError", ExitCode.USAGE),
        ("AccessDeniedError", ExitCode.USAGE),
        ("StoreError", ExitCode.USAGE),
        ("BudgetExceededError", ExitCode.INCOMPLETE),
    ],
)
def test_an_error_knows_its_exit_code(name, code):
    error = getattr(errors, name)("a sentence")
    assert isinstance(error, CasemateError)
    assert error.exit_code is code
    assert str(error) == "a sentence"


def test_a_usage_error_is_a_value_error():
    """Callers of the Python API need not know our classes."""
    with pytest.raises(ValueError, match="sentence"):
        raise UsageError("sentence")


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("fgms", ' Did you mean "fgsm"?'),
        ("l-bfgs", ' Did you mean "lbfgs"?'),
        ("PGD", ' Did you mean "pgd"?'),
        ("quantum", " Known: bim, fgsm, lbfgs, pgd."),
    ],
)
def test_did_you_mean(word, answer):
    assert did_you_mean(word, KNOWN) == answer


def test_did_you_mean_without_anything_known_says_nothing():
    assert did_you_mean("x", ()) == ""
