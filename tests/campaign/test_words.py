from __future__ import annotations

import pytest

from casemate.campaign.words import amount, changed, figure, leaves, title


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8 / 255, "8/255"), (1 / 3, "85/255"), (1 / 7, "0.142857"), (0.2, "0.2"), (0.0, "0"),
        (None, "none"), (7, "7"), ("a", "a"),
    ],
)  # fmt: skip
def test_figures_read_as_people_write_them(value, text):
    assert figure(value) == text


def test_a_title_names_attack_goal_and_defense():
    settings = {
        "attack": {"name": "bim", "epsilon": 8 / 255, "steps": 3},
        "goal": {"from": "Stop", "to": None},
        "defense": {"name": "median", "window": 3},
        "attacker": "aware",
    }
    assert title(settings) == "bim 8/255, Stop → any wrong class, median 3 (aware)"
    bare = {"attack": {"name": "lbfgs"}, "goal": {"from": None, "to": None}, "defense": None}
    assert title(bare) == "lbfgs"


def test_changes_name_what_appeared_and_vanished():
    before = {"attack": {"name": "a", "x": 1}, "defense": None, "data": "0f"}
    now = {"attack": {"name": "a", "y": 2}, "defense": {"name": "m"}, "data": "1f"}
    assert changed(before, now) == (
        "attack.y absent → 2, defense.name absent → m, the data itself, attack.x 1 → absent, "
        "defense none → absent"
    )
    assert changed(now, now) == ""


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"count": 1, "percent": None, "per_class": False}, "1 sample"),
        ({"count": 60, "percent": None, "per_class": True}, "60 samples of each class touched"),
        ({"count": None, "percent": 33.333333, "per_class": False}, "33.33 %"),
        ({"count": None, "percent": None, "per_class": True}, ""), ("all", ""), (None, ""),
    ],
)  # fmt: skip
def test_an_amount_is_a_count_or_a_share(asked, text):
    assert amount({"name": "badnets", "amount": asked}) == text


def test_leaves_have_dotted_names():
    assert leaves({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {
        "a.b": 1,
        "a.c.d": [2],
        "e": None,
    }
