from __future__ import annotations

from dataclasses import replace

import pytest
from poisoned_trials import badnets, collapsing, poisoned
from report_demo import demo_record, evidence, trial

from casemate.evidence import Verdict
from casemate.report import html, summary
from casemate.report.facts import State, facts_of
from casemate.report.matrix import matrix


def of(record):
    facts = facts_of(record)
    rows = matrix(facts)
    summed = summary.summary(record, facts, rows)
    return summed, dict(summary.paste(record, summed, facts, rows))


def test_the_worst_measured_rate_is_no_control():
    noise = trial(1, {"name": "uniform-noise"}, evidence=evidence(1.0, n=50))
    weak = trial(2, {"name": "fgsm", "epsilon": 8 / 255}, evidence=evidence(0.3, n=50))
    strong = trial(3, {"name": "pgd", "epsilon": 8 / 255}, evidence=evidence(0.6, n=50))
    summed, lines = of(replace(demo_record(), trials=(noise, weak, strong), findings=()))
    assert (summed.worst.number, summed.control.number) == (3, 1)
    measured = strong.evidence["attack success rate"]
    assert f"{100 * measured.value:.1f}" in lines["Worst case"]
    assert f"[{100 * measured.low:.1f}, {100 * measured.high:.1f}]" in lines["Worst case"]
    assert f"n = {measured.n}" in lines["Worst case"]


def test_a_collapsed_victim_is_no_worst_case_while_there_is_another():
    broken = collapsing(poisoned(1, badnets(), hits=100), 99)
    watched = replace(broken, number=2, settings={**broken.settings, "monitor": {"name": "strip"}})
    sound = poisoned(3, badnets(2.0), hits=60)
    record = replace(demo_record(), trials=(broken, watched, sound), findings=())
    summed, lines = of(record)
    assert (summed.worst.number, summed.collapsed) == (3, 1)
    assert lines["Worst case"].endswith(
        "; not counted is 1 victim that answers the target without the trigger as well "
        "(see Health)."
    )
    summed, lines = of(replace(record, trials=(broken,)))
    assert summed.worst.number == 1
    assert "collapsed victim: the model answers the target to 99 of 100" in lines["Worst case"]
    text = html.page(replace(record, trials=(broken,)))
    assert "its victim collapsed" in text
    assert "<strong>Collapsed victim.</strong>" in text  # among the strongest attacks


def test_the_summary_says_what_was_not_tested():
    _, lines = of(demo_record())
    assert "Evasion, black box" in lines["Not tested"]
    assert "Evasion, white box" not in lines["Not tested"]
    assert "hardware stage" in lines["Not tested"]


def test_counts_add_up():
    record = demo_record()
    summed, lines = of(record)
    assert sum(summed.states.values()) == len(record.trials)
    assert summed.states[State.VIOLATED] == len({f.trial for f in record.findings})
    assert summed.tested == 1
    assert "1 trial with a failure flag" in lines["Health"]


@pytest.mark.parametrize(
    ("verdict", "code", "headline", "meaning"),
    [
        (Verdict.FAIL, 1, "Policy violated", "the policy is violated"),
        (Verdict.PASS, 0, "Policy met", "the policy is met"),
        (Verdict.PASS, 3, "Policy met", "failed, did not run or was inconclusive"),
        (Verdict.INCONCLUSIVE, 3, "Inconclusive", "inconclusive"),
        (None, 0, "Measured, not judged", "no policy"),
        (None, 137, "Measured, not judged", "ended from outside"),
    ],
)
def test_verdicts_and_exit_codes_in_words(verdict, code, headline, meaning):
    record = replace(demo_record(), verdict=verdict, exit_code=code)
    summed, lines = of(record)
    assert summed.headline == headline
    assert meaning in summary.exit_meaning(record)
    assert f"exit code {code}" in lines["Result"]


def test_nothing_measured_is_said():
    _, lines = of(replace(demo_record(), trials=(), findings=()))
    assert lines["Worst case"] == "no rate within a budget was measured."
    assert "Smallest perturbation" not in lines


def test_an_attack_that_goes_as_far_as_it_must_is_no_worst_case():
    far = trial(1, {"name": "lbfgs"}, evidence=evidence(1.0, norm="l2", seed=1))
    near = trial(2, {"name": "lbfgs"}, evidence=evidence(0.9, norm="l2", seed=2))
    bounded = trial(3, {"name": "pgd", "epsilon": 8 / 255}, evidence=evidence(0.2, n=50))
    trials = (far, near, bounded)
    summed, lines = of(replace(demo_record(), trials=trials, findings=()))
    assert summed.worst.number == 3
    least = min(trials[:2], key=lambda t: t.evidence["distance l2"].value)
    assert summed.smallest.number == least.number
    assert f"(trial {least.number})" in lines["Smallest perturbation"]
    assert "L2" in lines["Smallest perturbation"]
    summed, lines = of(replace(demo_record(), trials=(far,), findings=()))
    assert summed.worst is None
    assert "trial 1" in lines["Smallest perturbation"]
