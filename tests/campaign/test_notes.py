from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from casemate.campaign.notes import bounded

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=700),
    lambda inner: st.lists(inner, max_size=80) | st.dictionaries(st.text(max_size=90), inner),
    max_leaves=200,
)


def test_what_is_short_stays_as_it_is():
    notes = {
        "layer": "fc3",
        "flagged": [2, 0],
        "found": 2,
        "accuracy": {"before": 0.98, "pruned": 0.91},
        "warning": None,
        "sure": True,
    }
    found = bounded(notes)
    assert found == notes
    assert list(found) == list(notes)
    assert found["sure"] is True


def test_a_long_list_keeps_its_start_and_says_how_long_it_was():
    found = bounded({"norms": [float(v) for v in range(64)], "pruned": list(range(99, -1, -1))})
    assert found["norms"] == [float(v) for v in range(64)]
    assert found["pruned"] == {
        "entries": 100,
        "smallest": 0,
        "largest": 99,
        "first": list(range(99, 35, -1)),
    }
    assert bounded({"names": ["a"] * 65})["names"] == {"entries": 65, "first": ["a"] * 64}


def test_a_note_that_is_still_too_long_keeps_less_and_no_other_note_does():
    rows = [[0.123456789] * 64 for _ in range(64)]
    found = bounded({"noise": rows, "norms": list(range(64))})
    assert found["norms"] == list(range(64))
    assert found["noise"]["entries"] == 64
    assert len(found["noise"]["first"]) == 16
    assert len(found["noise"]["first"][0]["first"]) == 16


def test_masks_by_layer_are_cut_layer_by_layer():
    found = bounded({"masks": {f"layer {i}": [0.5] * 100 for i in range(70)}})["masks"]
    assert found["left out"] == "54 more entries"
    assert found["layer 0"]["entries"] == 100
    assert len(found["layer 0"]["first"]) == 16


def test_long_texts_names_and_many_notes_are_cut():
    found = bounded({"n" * 99: "x" * 501, **{str(i): i for i in range(40)}})
    assert found["n" * 80 + " … (99 characters)"] == "x" * 500 + " … (501 characters)"
    assert found["left out"] == "11 more notes"
    assert len(found) == 31


def test_numbers_that_are_not_finite_are_words():
    found = bounded({"score": math.inf, "lows": [-math.inf, math.nan, 1.5]})
    assert found == {"score": "infinite", "lows": ["minus infinite", "not a number", 1.5]}
    many = bounded({"norms": [math.inf, *range(70)]})["norms"]
    assert (many["smallest"], many["largest"]) == (0, 69)


def test_what_is_no_json_is_named_and_not_kept():
    deep = {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}
    found = bounded({"thing": object(), "deep": deep, 3: "three"})
    assert found["thing"] == "left out: a object"
    assert found["deep"]["a"]["b"]["c"]["d"]["e"] == "left out: nested too deep"
    assert found["3"] == "three"


@given(st.dictionaries(st.text(max_size=90), PLAIN, max_size=40))
def test_whatever_is_noted_is_small_strict_json_and_comes_back(notes):
    found = bounded(notes)
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert len(found) <= 31
    assert all(len(json.dumps(v)) <= 8192 for v in found.values())
