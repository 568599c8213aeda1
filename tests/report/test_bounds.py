"""Promises of accuracy, tested one-sided over seeds."""

from __future__ import annotations

import math
import statistics

import pytest
from poisoned_trials import badnets, count, poisoned, record, rows

from casemate.report import html, json
from casemate.report.bounds import bounds
from casemate.report.poisonings import DROP, WORST_DROP


def victims(*right, **promise):
    """Return trials of one attack: how many of 1,000 each seed reads right; 960 without it."""
    attack = count("low-impact", 60, delta_class=0.05, **promise)
    return [poisoned(i + 1, attack, seed=i, right=r) for i, r in enumerate(right)]


@pytest.mark.parametrize(
    ("right", "delta", "verdict"),
    [
        ((959, 960, 959), 0.01, "kept"),
        ((930, 931, 932), 0.01, "broken"),
        ((950, 960, 958), 0.01, "not shown"),  # the mean is within, its interval is not
        ((960,), 0.01, "not shown"),  # one seed shows no deviation
        # seeds agree, but 1,000 samples cannot show so small a drop
        ((960, 960, 960), 0.003, "not shown"),
        ((960, 960, 960), 0.004, "kept"),
    ],
)
def test_a_promise_is_kept_broken_or_not_shown(right, delta, verdict):
    (row,) = rows(*victims(*right, delta=delta))
    assert bounds(row)[DROP].verdict == verdict


def test_the_limit_is_students():
    (row,) = rows(*victims(955, 958, 946, delta=0.02))
    drops = [0.005, 0.002, 0.014]
    reach = 2.919985580353725 * statistics.stdev(drops) / math.sqrt(3)  # t of 0.95 and 2
    assert bounds(row)[DROP].upper == pytest.approx(statistics.fmean(drops) + reach)


def test_who_promises_nothing_is_held_to_nothing():
    (row,) = rows(poisoned(1, badnets()))
    assert bounds(row) == {}
    # an amplitude of the same name
    assert bounds(rows(poisoned(1, count("sig", 60, delta=0.08)))[0]) == {}


def test_page_and_document_say_it():
    made = record(*victims(959, 960, 959, delta=0.01))
    assert "at most 1.00 points: kept" in html.page(made)
    (setting,) = json.document(made)["frontier"][0]["settings"]
    assert [(b["name"], b["verdict"]) for b in setting["bounds"]] == [
        (DROP, "kept"),
        (WORST_DROP, "not shown"),
    ]
