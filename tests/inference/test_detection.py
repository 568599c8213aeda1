"""What monitors find, on tables in which it is known."""

from __future__ import annotations

import numpy as np
import pytest

from casemate.errors import UsageError
from casemate.evidence import MEASURES
from casemate.inference.detection import MONITORS, Watch, detection
from casemate.random import stream

CLASSES, GOAL = 10, 3
N = 1200
QUICK = Watch(windows=400)


def answered(label, draw, *, right=0.95, sure=20.0):
    hit = draw.random(len(label)) < right
    wrong = (label + draw.integers(1, CLASSES, len(label))) % CLASSES
    return np.where(hit, label, wrong), np.where(hit, draw.beta(sure, 1, N), draw.beta(3, 2, N))


def table(*, seed=0, right=0.95, sure=20.0, clean=None):
    draw = np.random.default_rng(seed)
    label = np.arange(N) % CLASSES
    columns = {"label": label}
    for who, (rate, how) in {"reference": (0.95, 20.0), "clean": (right, sure)}.items():
        columns[f"{who}_label"], columns[f"{who}_confidence"] = answered(
            label, draw, right=rate, sure=how
        )
    if clean is not None:
        columns["clean_label"] = clean(label)
    columns["attacked_label"] = np.full(N, GOAL)
    columns["attacked_confidence"] = np.full(N, 0.999)
    return columns


def found(columns, *, seed=0, watch=QUICK, **kwargs):
    measured = detection(columns, rng=stream(seed, "test"), watch=watch, **kwargs)
    return {m.name: m for m in measured}


def test_a_model_as_good_as_the_reference_raises_few_alarms():
    runs = [found(table(seed=s), seed=s) for s in range(20)]
    for name in MONITORS:
        words = (f"false alarms by {name}", f"detection by {name}")
        mean = np.mean([r[w].value for r in runs for w in words])
        assert 0 < mean < 0.035, name  # 1 % is asked for, of data of which there is more


def test_each_monitor_sees_what_it_is_for_and_nothing_else():
    swapped = found(table(clean=lambda y: np.where(np.arange(N) % 7 > 1, y, (y + 1) % CLASSES)))
    assert swapped["detection by accuracy"].value > 0.95
    assert swapped["detection by confidence"].value < 0.1
    assert swapped["detection by classes"].value < 0.1
    unsure = found(table(sure=8.0))
    assert unsure["detection by confidence"].value > 0.95
    assert unsure["detection by accuracy"].value < 0.1
    lean = found(table(clean=lambda y: np.where(y == 1, 2, y)))
    assert lean["detection by classes"].value > 0.95
    assert lean["detection by confidence"].value < 0.1


def test_a_model_that_is_the_reference_is_detected_as_often_as_there_are_false_alarms():
    columns = table()
    columns |= {f"clean_{k}": columns[f"reference_{k}"] for k in ("label", "confidence")}
    measured = found(columns)
    for name in MONITORS:
        assert measured[f"detection by {name}"].value == measured[f"false alarms by {name}"].value


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_triggers_show_as_far_as_they_are_used(share):
    measured = found(table(), goal=GOAL, triggered=True, watch=Watch(windows=400, share=share))
    assert set(measured) < set(MEASURES)
    assert len(measured) == 9
    for name in MONITORS:
        with_triggers = measured[f"detection by {name} with triggers"]
        if share:
            assert with_triggers.value > 0.95
        else:
            assert with_triggers.value < 0.1
        assert with_triggers.n == 400


def controlled(columns, like, shown_like=None):
    """Return the table with a control that answers as one of the others does."""
    pairs = {"control": like} | ({} if shown_like is None else {"control_attacked": shown_like})
    return columns | {
        f"{who}_{kind}": columns[f"{other}_{kind}"]
        for who, other in pairs.items()
        for kind in ("label", "confidence")
    }


def test_a_control_that_is_the_reference_gives_the_false_alarms():
    measured = found(controlled(table(right=0.9), "reference"))
    assert len(measured) == 9
    for name in MONITORS:
        over = measured[f"alarms by {name} over another clean model"]
        assert over.value == measured[f"false alarms by {name}"].value
    assert measured["detection by accuracy"].value > 0.5


def test_a_control_that_is_the_victim_raises_what_the_victim_raises():
    columns = controlled(table(right=0.93, sure=12.0), "clean", "attacked")
    measured = found(columns, goal=GOAL, triggered=True)
    assert len(measured) == 15
    assert set(measured) < set(MEASURES)
    for name in MONITORS:
        for use in ("", " with triggers"):
            over = measured[f"alarms by {name} over another clean model{use}"]
            assert over.value == measured[f"detection by {name}{use}"].value  # the same windows
    assert 0 < measured["detection by confidence"].value < 1


def test_a_control_leaves_the_figures_of_the_victim_as_they_were():
    columns = table(right=0.92)
    without = found(columns, goal=GOAL, triggered=True)
    both = found(controlled(columns, "reference", "attacked"), goal=GOAL, triggered=True)
    assert {k: m for k, m in both.items() if k in without} == without


def test_a_trigger_that_any_model_falls_for_is_not_the_backdoor():
    resists = controlled(table(), "reference", "reference")
    falls = controlled(table(), "reference", "attacked")
    words = "alarms by accuracy over another clean model with triggers"
    assert found(resists, goal=GOAL, triggered=True)[words].value < 0.1
    bad_victim = controlled(table(right=0.7), "reference", "reference")
    assert found(bad_victim, goal=GOAL, triggered=True)[words].value < 0.1
    assert found(falls, goal=GOAL, triggered=True)[words].value > 0.7
    falls["label"] = np.full(N, GOAL)  # there is nothing to put a trigger on
    found(falls, goal=GOAL, triggered=True)


def test_inputs_of_the_attackers_class_carry_no_trigger():
    columns = table()
    columns["attacked_label"] = np.where(columns["label"] == GOAL, 0, columns["label"])
    columns["clean_label"] = columns["reference_label"] = columns["label"]
    measured = found(columns, goal=GOAL, triggered=True, watch=Watch(windows=400, share=1.0))
    assert measured["detection by accuracy with triggers"].value == 0
    untargeted = found(columns, triggered=True, watch=Watch(windows=400, share=1.0))
    assert untargeted["detection by accuracy with triggers"].value == 1
    columns["label"] = np.full(N, GOAL)  # there is nothing to put a trigger on
    found(columns, goal=GOAL, triggered=True)


def test_the_same_stream_gives_the_same_figures_and_another_others():
    columns = table(right=0.92)
    assert found(columns) == found(columns)
    assert found(columns) != found(columns, seed=1)


def test_intervals_are_over_windows():
    m = found(table(right=0.9))["detection by accuracy"]
    assert (m.n, m.unit, m.method) == (400, "1", "wilson")
    assert m.low < m.value < m.high


def test_with_fewer_samples_than_a_window_nothing_is_measured():
    few = {k: v[:199] for k, v in table().items()}
    measured = found(few)
    assert len(measured) == 6
    assert all(m.value is None and m.n == 0 for m in measured.values())
    enough = {k: v[:200] for k, v in table().items()}
    assert all(m.n == 400 for m in found(enough).values())


def test_labels_alone_have_two_monitors():
    labels = {k: v for k, v in table().items() if "confidence" not in k}
    assert set(found(labels)) == {
        f"{words} by {name}"
        for words in ("false alarms", "detection")
        for name in ("accuracy", "classes")
    }


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"size": 0}, "watch.size"),
        ({"false_alarms": 0}, "watch.false_alarms"),
        ({"windows": 99}, "watch.windows must be a whole number from 100"),
        ({"false_alarms": 0.001}, None),
        ({"share": 1.5}, "watch.share"),
    ],
)
def test_what_is_no_watch_is_refused(wrong, words):
    if words is None:
        Watch(**wrong)
        return
    with pytest.raises(UsageError, match=words):
        Watch(**wrong)
