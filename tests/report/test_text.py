from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from casemate.report.text import cut, tail, visible, whole


def test_a_right_to_left_override_is_written_out():
    assert visible("a\u202eb") == "a⟨U+202E⟩b"


def test_letters_of_any_script_stay():
    text = "Straße 停止 עצור é\n\tx"
    assert visible(text) == text


@given(st.text())
def test_nothing_hidden_survives(text):
    shown = visible(text)
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not [c for c in shown if unicodedata.category(c) in hidden and c not in "\n\t"]


@given(st.text(min_size=0, max_size=300), st.integers(10, 100))
def test_cut_keeps_short_texts_and_says_how_long_others_are(text, longest):
    shown = cut(text, longest)
    if len(text) <= longest:
        assert shown == text
    else:
        assert f"({len(text):,} characters)" in shown
        assert len(shown) <= longest + len(f" …  ({len(text):,} characters)")
        assert shown.startswith(text[: longest // 2])


def test_the_end_of_a_traceback_is_kept():
    text = "first\n" * 100 + "ValueError: here"
    assert tail(text, 16).endswith("ValueError: here")
    assert "600 characters left out" in tail(text, 16)
    assert tail("short", 16) == "short"


def test_a_sentence_is_whole_unless_it_is_endless():
    assert whole("word " * 100) == "word " * 100
    assert len(whole("word " * 1000)) < 700
