from __future__ import annotations

from dataclasses import replace

import pytest
from report_demo import demo_record, evidence, trial

from casemate.evidence import Verdict
from casemate.report.facts import State, facts_of
from casemate.report.matrix import matrix, untested
from casemate.threats import Stage, taxonomy

DONE = evidence(0.5, epsilon=0.1, n=20)


def cells(*trials):
    rows = matrix(facts_of(replace(demo_record(), trials=trials, findings=())))
    return {(row.id, cell.stage): cell for row in rows for cell in row.cells}


def white(number, verdict=None, status="finished", name="pgd"):
    found = DONE if status == "finished" else None
    return trial(number, {"name": name}, evidence=found, verdict=verdict, status=status)


HERE = ("evasion-white-box", Stage.INFERENCE)


@pytest.mark.parametrize(
    ("trials", "state"),
    [
        ([white(1, Verdict.PASS)], State.PASSED),
        ([white(1)], State.MEASURED),
        ([white(1, Verdict.PASS), white(2)], State.PASSED),
        ([white(1, Verdict.PASS), white(2, Verdict.FAIL)], State.VIOLATED),
        ([white(1, Verdict.PASS), white(2, Verdict.INCONCLUSIVE)], State.INCONCLUSIVE),
        ([white(1, Verdict.PASS), white(2, status="failed")], State.INCONCLUSIVE),
        ([white(1, Verdict.PASS), white(2, status="not run")], State.INCONCLUSIVE),
        ([white(1, status="not run")], State.NOT_RUN),
        ([white(1, status="failed")], State.INCONCLUSIVE),
        ([], State.NOT_RUN),
    ],
)
def test_a_cell_is_as_good_as_its_worst_trial(trials, state):
    assert cells(*trials)[HERE].state is state


def test_all_of_the_taxonomy_is_there_and_untested_threats_are_not_run():
    found = cells(white(1, Verdict.PASS))
    for threat in taxonomy().values():
        for stage in Stage:
            cell = found[threat.id, stage]
            if (threat.id, stage) != HERE:
                assert cell.state is (State.NOT_RUN if stage in threat.stages else None)


def test_noise_is_no_test_of_a_black_box_attacker():
    black = ("evasion-black-box", Stage.INFERENCE)
    noise = trial(1, {"name": "uniform-noise"}, evidence=DONE)
    assert cells(noise)[black].state is State.NOT_RUN
    assert cells(replace(noise, verdict=Verdict.PASS))[black].state is State.NOT_RUN
    assert cells(replace(noise, verdict=Verdict.FAIL))[black].state is State.VIOLATED


def test_a_threat_that_the_taxonomy_does_not_know_gets_a_row():
    strange = replace(white(1), threat="<b>new</b>")
    assert cells(strange)["<b>new</b>", Stage.INFERENCE].state is State.MEASURED


def test_untested_lists_exactly_the_cells_that_were_not_run():
    rows = matrix(facts_of(replace(demo_record(), trials=(white(1),), findings=())))
    listed = untested(rows)
    assert "Evasion, white box" not in listed[Stage.INFERENCE]
    assert "Evasion, black box" in listed[Stage.INFERENCE]
    assert sum(map(len, listed.values())) == sum(
        cell.state is State.NOT_RUN for row in rows for cell in row.cells
    )
