from __future__ import annotations

import pytest

from casemate.data.class_names import check_class_names, plain_text
from casemate.errors import UsageError


@pytest.mark.parametrize("names", [("0",), ("Stop", "stop"), ("Fußgänger", "通行止め　x", "a b")])
def test_plain_text_is_taken(names):
    check_class_names(names, "here")


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ((), "no classes"),
        (("a", ""), "class 1 has 0 characters"),
        (("   ",), "all blank"),
        (("x" * 201,), "201 characters"),
        (("a", "b", "a"), "two classes are named 'a'"),
        (("a\nb",), r"'a\\nb', holds control"),
        (("\x1b[2J",), r"'\\x1b\[2J', holds control"),
        (("\u202egpj.exe",), "holds control"),
        (("\ud800",), "holds control"),
    ],
)
def test_names_that_lead_astray_are_refused(names, part):
    with pytest.raises(UsageError, match=f"^here: .*{part}"):
        check_class_names(names, "here")


def test_plain_text_escapes_only_what_needs_it():
    assert plain_text("signs é") == "signs é"
    assert plain_text("signs\x1b[2J") == r"'signs\x1b[2J'"
