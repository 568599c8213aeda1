from __future__ import annotations

from dataclasses import replace

from report_demo import demo_record, evidence, trial

from casemate.report.facts import facts_of
from casemate.report.scenarios import scenarios

ATTACK = {"name": "bim", "epsilon": 8 / 255, "norm": "linf"}


def of(*trials):
    return scenarios(facts_of(replace(demo_record(), trials=trials, findings=())))


def targeted(number, goal, samples=60, **kwargs):
    made = trial(number, ATTACK, goal=goal, evidence=evidence(0.5, epsilon=8 / 255), **kwargs)
    return replace(made, settings={**made.settings, "samples": samples})


def test_goals_are_columns_and_ways_to_attack_and_defend_are_rows():
    median = {"name": "median", "size": 3}
    found = of(
        targeted(1, (4, 2)),
        targeted(2, (1, 3), samples=44),
        targeted(3, (4, 2), defense=median),
        trial(4, ATTACK, evidence=evidence(0.5, epsilon=8 / 255)),
    )
    assert [s.name for s in found.scenarios] == [
        "stop → speed limit 60 km/h",
        "speed limit 30 km/h → speed limit 80 km/h",
    ]
    cells = [[c.number if c else None for c in row.cells] for row in found.rows]
    assert cells == [[1, 2], [3, None]]


def test_trials_that_differ_in_their_samples_alone_do_not_hide_each_other():
    found = of(targeted(1, (4, 2), samples=50), targeted(2, (4, 2), samples=500))
    assert [row.cells[0].number for row in found.rows] == [1, 2]


def test_without_goals_there_are_no_scenarios():
    assert of(trial(1, ATTACK, evidence=evidence(0.5, epsilon=8 / 255))) is None
