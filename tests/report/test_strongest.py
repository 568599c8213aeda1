from __future__ import annotations

from dataclasses import replace

from report_demo import demo_record, evidence, trial

from casemate.report import html
from casemate.report import json as as_json
from casemate.report.facts import facts_of
from casemate.report.strongest import strongest


def numbers(*trials):
    record = replace(demo_record(), trials=trials, findings=())
    return [e.facts.number for e in strongest(facts_of(record), {})]


def bim(number, strength, *, goal=(None, None)):
    found = evidence(strength, epsilon=8 / 255, n=60, goal=goal[1])
    return trial(number, {"name": "bim", "epsilon": 8 / 255}, goal=goal, evidence=found)


def test_one_trial_a_goal_the_one_that_got_furthest():
    assert numbers(bim(1, 0.2), bim(2, 0.9), bim(3, 0.5)) == [2]
    stop, entry = (4, 2), (5, 2)
    trials = (bim(1, 0.2, goal=stop), bim(2, 0.3, goal=entry), bim(3, 0.9, goal=stop))
    assert numbers(*trials) == [3, 2]


def test_models_are_kept_apart():
    other = bim(2, 0.9)
    other = replace(other, settings={**other.settings, "model_digest": "other"})
    assert numbers(bim(1, 0.2), other) == [1, 2]


def test_an_attack_without_a_budget_counts_only_where_there_is_no_other():
    far = trial(1, {"name": "lbfgs"}, evidence=evidence(1.0, norm="l2"))
    assert numbers(far, bim(2, 0.2)) == [2]
    assert numbers(far) == [1]


def test_controls_and_trials_without_a_rate_do_not_count():
    noise = trial(1, {"name": "uniform-noise"}, evidence=evidence(0.9, n=50))
    missing = trial(2, {"name": "bim", "epsilon": 0.1}, status="not run")
    assert numbers(noise, missing) == []


def test_a_report_without_findings_shows_them_in_full():
    record = replace(demo_record(), trials=(bim(1, 0.2), bim(2, 0.9)), findings=(), verdict=None)
    text = html.page(record)
    assert 'id="strongest-2"' in text
    assert 'id="strongest-1"' not in text
    assert "the difference between the two amplified" in text
    assert as_json.document(record)["strongest"] == [2]


def test_a_report_with_findings_does_not():
    assert 'id="strongest"' not in html.page(demo_record())
    assert as_json.document(demo_record())["strongest"] == []
