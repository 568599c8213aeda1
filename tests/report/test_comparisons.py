from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_demo import demo_record, evidence, trial

from casemate.report.comparisons import comparisons
from casemate.report.facts import facts_of
from casemate.stats import holm, mcnemar

ATTACK = {"name": "bim", "epsilon": 8 / 255, "norm": "linf"}
FILTER = {"name": "median", "size": 3}


def with_rows(rows, eligible, success):
    columns = {
        "row": np.array(rows),
        "eligible": np.array(eligible, bool),
        "success": np.array(success, bool),
    }
    return replace(evidence(0.5, epsilon=8 / 255), samples=columns)


def compared(*trials):
    return comparisons(facts_of(replace(demo_record(), trials=trials, findings=())))


def test_samples_are_paired_by_their_row_and_only_where_both_count():
    plain = with_rows([1, 2, 3, 4, 5], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0])
    defended = with_rows([5, 4, 3, 2, 1], [1, 1, 1, 1, 1], [1, 0, 0, 0, 1])
    (found,) = compared(
        trial(1, ATTACK, evidence=plain, attacker=None),
        trial(2, ATTACK, evidence=defended, defense=FILTER, attacker="aware"),
    )
    # pairs 1..4: without (1, 1, 1, 0), with (1, 0, 0, 0)
    assert (found.without.number, found.defended.number) == (1, 2)
    assert found.pairs == 4
    assert found.change == pytest.approx(-0.5)
    assert found.p == pytest.approx(mcnemar(2, 0))


def test_several_comparisons_are_corrected():
    n = 40
    plain = with_rows(range(n), [1] * n, [1] * n)
    defended = [with_rows(range(n), [1] * n, [0] * k + [1] * (n - k)) for k in (3, 12, 20)]
    found = compared(
        trial(1, ATTACK, evidence=plain, attacker=None),
        *(
            trial(2 + i, ATTACK, evidence=e, defense={"name": "median", "size": i})
            for i, e in enumerate(defended)
        ),
    )
    raw = [mcnemar(k, 0) for k in (3, 12, 20)]
    assert [c.p for c in found] == pytest.approx(holm(raw))
    assert found[1].p > raw[1]


def test_trials_that_differ_in_more_are_not_compared():
    found = evidence(0.5, epsilon=8 / 255)
    other = trial(2, {**ATTACK, "steps": 99}, evidence=found, defense=FILTER)
    assert compared(trial(1, ATTACK, evidence=found, attacker=None), other) == ()


def test_without_common_samples_there_is_no_change_to_speak_of():
    (found,) = compared(
        trial(1, ATTACK, evidence=with_rows([1], [1], [1])),
        trial(2, ATTACK, evidence=with_rows([2], [1], [0]), defense=FILTER),
    )
    assert (found.pairs, found.change) == (0, None)
