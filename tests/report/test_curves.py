from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_demo import demo_record, evidence, trial

from casemate.report.curves import charts
from casemate.report.facts import facts_of
from casemate.stats import wilson


def charts_of(*trials):
    return charts(facts_of(replace(demo_record(), trials=trials, findings=())))


def pgd(number, levels, **more):
    attack = {"name": "pgd", "epsilon": levels / 255, "norm": "linf", **more}
    return trial(number, attack, evidence=evidence(levels / 20, epsilon=levels / 255, seed=number))


def test_trials_that_differ_in_epsilon_alone_make_one_curve():
    trials = [pgd(1, 8), pgd(2, 2), pgd(3, 4), pgd(4, 4, steps=99)]
    found = charts_of(*trials)
    chart = found[1]
    assert all(found[n] is chart for n in (2, 3, 4))
    assert [[p.trial for p in s.points] for s in chart.series] == [[2, 3, 1], [4]]
    assert [s.label for s in chart.series] == ["pgd", "pgd (steps 99)"]
    for point in chart.series[0].points:
        measured = trials[point.trial - 1].evidence["attack success rate"]
        assert (point.value, point.low, point.high, point.n) == (
            measured.value,
            measured.low,
            measured.high,
            measured.n,
        )


def test_another_norm_goal_or_defense_is_another_chart():
    l2 = {"name": "pgd", "epsilon": 0.5, "norm": "l2"}
    linf = {"name": "pgd", "epsilon": 8 / 255, "norm": "linf"}
    data = evidence(0.5, epsilon=0.5, norm="l2")
    found = charts_of(
        trial(1, l2, evidence=data),
        trial(2, linf, evidence=data),
        trial(3, linf, goal=(4, 2), evidence=data),
        trial(4, linf, goal=(4, 2), defense={"name": "median", "size": 3}, evidence=data),
    )
    assert len({id(chart) for chart in found.values()}) == 4


def test_a_search_for_the_smallest_perturbation_is_a_distribution_of_distances():
    samples = {
        "eligible": np.array([True, True, True, True, False]),
        "success": np.array([True, True, False, True, True]),
        "l2": np.array([0.3, 0.1, 9.0, 0.2, 0.05]),
        "row": np.arange(5),
    }
    found = replace(evidence(0.7, norm="l2"), samples=samples)
    chart = charts_of(trial(1, {"name": "lbfgs", "norm": "l2"}, evidence=found))[1]
    (series,) = chart.series
    assert series.kind == "distance"
    assert [(p.x, p.value) for p in series.points] == [(0.1, 0.25), (0.2, 0.5), (0.3, 0.75)]
    assert (series.points[1].low, series.points[1].high) == wilson(2, 4)


def test_long_distributions_keep_their_ends():
    found = evidence(1.0, norm="l2", n=1000)
    chart = charts_of(trial(1, {"name": "lbfgs", "norm": "l2"}, evidence=found))[1]
    points = chart.series[0].points
    distances = found.samples["l2"][found.samples["success"] & found.samples["eligible"]]
    assert points[0].x == pytest.approx(distances.min())
    assert points[-1].x == pytest.approx(distances.max())
    assert points[-1].value == pytest.approx(found["attack success rate"].value)


def test_without_evidence_there_is_no_chart():
    assert charts_of(trial(1, {"name": "pgd"}, status="failed")) == {}
