from __future__ import annotations

from dataclasses import replace

import pytest
from poisoned_trials import badnets, collapsing, poisoned, record
from report_demo import demo_record

from casemate.campaign.record import Finding
from casemate.cli.results import show_record
from casemate.evidence import Verdict
from casemate.report import html, json
from casemate.report.facts import SUCCESS, facts_of
from casemate.report.findings import grouped

RULE = {"measure": SUCCESS, "at_most": 0.2}


def broken(*trials, rule=RULE):
    """Return a campaign in which each trial breaks the rule, in this order."""
    made = record(*sorted(trials, key=lambda t: t.number))
    findings = tuple(
        Finding(trial=t.number, title=f"title {t.number}", message="message", rule=rule)
        for t in trials
    )
    return replace(made, findings=findings, verdict=Verdict.FAIL)


def groups(made):
    return [
        (g.facts.number, [f.number for f in g.trials], g.broken, g.seeds)
        for g in grouped(made, facts_of(made))
    ]


def watched(made, number, name="strip"):
    return replace(made, number=number, settings={**made.settings, "monitor": {"name": name}})


def seeds(*numbers, **more):
    return [poisoned(n, badnets(**more), seed=s) for s, n in enumerate(numbers)]


def test_the_seeds_of_a_setting_are_one_finding_with_the_worst_first():
    first, second, third = seeds(1, 2, 3)
    made = broken(third, first, poisoned(9, badnets(2.0)))
    made = replace(made, trials=(*made.trials, second))
    assert groups(made) == [(3, [1, 3], 2, 3), (9, [9], 1, 1)]


def test_the_end_of_a_run_counts_findings_as_the_report_does(capsys):
    first, second, third = seeds(1, 2, 3)
    made = broken(third, first, poisoned(9, badnets(2.0)))
    show_record(replace(made, trials=(*made.trials, second)), report=None, json=None)
    said = [line for line in capsys.readouterr().out.splitlines() if "finding" in line]
    assert said == [
        "finding in trial 3, with 2 of 3 seeds: message",
        "finding in trial 9: message",
    ]


def test_a_monitor_makes_no_second_finding_of_the_same_victim():
    first, second = seeds(1, 2)
    made = broken(first, watched(first, 3), second, watched(second, 4, "mahalanobis"))
    assert groups(made) == [(1, [1, 2, 3, 4], 2, 2)]


def test_a_rule_on_monitors_keeps_them_apart():
    (first,) = seeds(1)
    rule = {"measure": "monitor detection", "at_least": 0.9}
    made = broken(watched(first, 2), watched(first, 3, "mahalanobis"), rule=rule)
    assert groups(made) == [(2, [2], 1, 1), (3, [3], 1, 1)]


def test_another_rule_is_another_finding():
    (first,) = seeds(1)
    made = broken(first)
    other = replace(made.findings[0], rule={"measure": "clean accuracy", "at_least": 0.99})
    assert len(groups(replace(made, findings=(*made.findings, other)))) == 2


def test_success_of_collapsed_victims_comes_last_and_says_so():
    first, second = seeds(1, 2)
    sound = poisoned(3, badnets(2.0), hits=60)
    made = broken(collapsing(first, 90), collapsing(second, 90), sound)
    assert groups(made) == [(3, [3], 1, 1), (1, [1, 2], 2, 2)]
    text = html.page(made)
    assert text.count('<span class="tag">collapsed victim</span>') == 1
    assert "<strong>Collapsed victim.</strong>" in text
    # of a setting the victim that did not is shown
    assert groups(broken(collapsing(first, 90), second)) == [(2, [1, 2], 2, 2)]
    # a model that lost its accuracy did lose it
    rule = {"measure": "clean accuracy", "at_least": 0.99}
    made = broken(collapsing(first, 90), sound, rule=rule)
    assert [g[0] for g in groups(made)] == [1, 3]


def test_trials_of_an_attack_at_inference_are_kept_apart_but_for_the_seed():
    made = demo_record()
    assert len(groups(made)) == len(made.findings)


def test_page_and_document_count_settings():
    made = broken(*seeds(1, 2, 3), poisoned(4, badnets(2.0)))
    text = html.page(made)
    assert "The policy is broken by 2 findings in 4 trials." in text
    assert '<dt>Findings</dt><dd><span class="big">2</span>' in text
    assert "broken with 3 of 3 seeds" in text
    document = json.document(made)
    assert [f["trial"] for f in document["findings"]] == [1, 2, 3, 4]
    assert document["findings_over_seeds"][0] == {
        "rank": 1,
        "title": "title 1",
        "rule": RULE,
        "worst_trial": 1,
        "trials": [1, 2, 3],
        "broken": 3,
        "seeds": 3,
    }


@pytest.mark.parametrize("count", [2, 14])
def test_the_page_names_the_other_trials(count):
    text = html.page(broken(*seeds(*range(1, count + 1))))
    assert ("this one breaks" in text) == (count == 2)
    assert (", …" in text[text.index('id="finding-1"') : text.index('id="trials"')]) == (count > 11)
