from __future__ import annotations

import pytest

from casemate.campaign.note_figures import note_figures
from casemate.evidence import FALSE_FLAG, FLAGGED, MEASURES, NAMED

TARGET = 3


def values(notes, target):
    return {m.name: m.value for m in note_figures(notes, target)}


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (TARGET, {FLAGGED: 1.0, NAMED: 1.0}),
        (0, {FLAGGED: 1.0, NAMED: 0.0}),
        (None, {FLAGGED: 0.0, NAMED: 0.0}),
    ],
)
def test_a_planted_backdoor_is_flagged_and_its_target_named_or_not(named, expected):
    assert values({"score": 2.5, "found": named}, TARGET) == expected


@pytest.mark.parametrize(("named", "expected"), [(0, 1.0), (3, 1.0), (None, 0.0)])
def test_where_no_backdoor_is_a_flag_is_false(named, expected):
    assert values({"score": 2.5, "found": named}, None) == {FALSE_FLAG: expected}


def test_the_first_class_is_a_target_as_well():
    assert values({"found": 0}, 0) == {FLAGGED: 1.0, NAMED: 1.0}
    assert values({"found": None}, 0) == {FLAGGED: 0.0, NAMED: 0.0}


def test_a_trial_is_one_observation():
    assert {m.n for m in note_figures({"found": 1}, 1)} == {1}


def test_epsilon_is_a_bound_and_no_estimate():
    (found,) = note_figures({"epsilon": 3.5, "delta": 1e-5}, TARGET)
    assert (found.name, found.value, found.low, found.high) == ("epsilon", 3.5, 3.5, 3.5)
    assert (found.unit, found.method) == (MEASURES["epsilon"], "exact")


@pytest.mark.parametrize(
    "notes", [{}, {"layer": "fc3"}, {"epsilon": 3.5}, {"epsilon": "none", "delta": 1e-5}], ids=str
)
def test_other_notes_are_no_figures(notes):
    assert note_figures(notes, TARGET) == []


def test_policies_can_name_the_figures():
    found = [*note_figures({"found": 1}, 1), *note_figures({"found": 1}, None)]
    assert all(MEASURES[m.name] == m.unit == "1" for m in found)
