from __future__ import annotations

import pytest

from casemate.campaign.words import amount, changed, figure, leaves, title, titles


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8 / 255, "8/255"), (1 / 3, "85/255"), (1 / 7, "0.142857"), (0.2, "0.2"), (0.0, "0"),
        (None, "none"), (7, "7"), ("a", "a"), (True, "true"), ([1, 8 / 255], "[1, 8/255]"),
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


def settings(attack, **more):
    """Return a trial's settings in the order in which a plan has them."""
    return {
        "data": {"source": "digits"},
        "model_digest": f"model of {more}",
        "training": None,
        "attack": attack,
        "goal": {"from": None, "to": None},
        "defense": None,
        "samples": 100,
        "seed": 0,
        **more,
    }


def backdoor(target, seed):
    attack = {"name": "badnets", "target": target, "amount": {"percent": 1.0}}
    return settings(None, training={"attack": attack, "defense": None}, seed=seed)


def test_trials_that_read_the_same_say_what_tells_them_apart():
    assert titles([backdoor(t, s) for t in (0, "stop") for s in (0, 1)]) == [
        "badnets 1 %, target 0, seed 0",
        "badnets 1 %, target 0, seed 1",
        "badnets 1 %, target stop, seed 0",
        "badnets 1 %, target stop, seed 1",
    ]


def test_trials_that_read_differently_say_no_more():
    bim, pgd = {"name": "bim", "epsilon": 0.1, "steps": 3}, {"name": "pgd", "epsilon": 0.1}
    found = titles([settings(bim), settings(pgd, seed=1), settings({**bim, "epsilon": 0.2})])
    assert found == ["bim 0.1", "pgd 0.1", "bim 0.2"]
    assert titles([settings(bim, seed=s) for s in (3, 3)]) == ["bim 0.1", "bim 0.1"]
    assert titles([]) == []


def test_names_of_settings_are_as_long_as_it_takes():
    one, two = (
        {"name": "pgd", "epsilon": 0.1, "step_size": s, "random_start": s > 1} for s in (1, 2)
    )
    models = ({"architecture": "vgg", "recipe": {"epochs": e}} for e in (3, 10))
    found = titles([settings(a, model=m) for a, m in zip((one, two), models, strict=True)])
    assert found == [
        "pgd 0.1, step size 1, random start false, epochs 3",
        "pgd 0.1, step size 2, random start true, epochs 10",
    ]
    gates = ({"attack": {"name": "blended", "pattern": p}, "defense": None} for p in (1, 2))
    chains = [
        settings({"name": "noise", "pattern": 3 - i}, training=g) for i, g in enumerate(gates)
    ]
    assert titles(chains) == [
        "blended, then noise, training attack pattern 1, attack pattern 3",
        "blended, then noise, training attack pattern 2, attack pattern 2",
    ]


def test_samples_tell_trials_apart_where_nothing_else_does():
    bim = {"name": "bim", "epsilon": 0.1}
    assert titles([settings(bim, samples=n) for n in (20, 50)]) == [
        "bim 0.1, samples 20",
        "bim 0.1, samples 50",
    ]
    sources = [settings(bim, samples=n, data={"source": s}) for n, s in ((20, "a"), (50, "b"))]
    assert titles(sources) == ["bim 0.1, source a", "bim 0.1, source b"]


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
