from __future__ import annotations

from dataclasses import replace

from report_demo import EXHAUSTED, UNFINISHED, demo_record, evidence, trial

from casemate.campaign.facts import NOT_LEARNED
from casemate.evidence import HealthFlag, Severity
from casemate.hardware.chosen import NO_GOAL, SEARCH_STUCK
from casemate.inference import exposure_flags
from casemate.inference.health import SENTENCES
from casemate.report.checks import CHECKS, flagged, silent
from casemate.report.facts import facts_of


def raised(*flags):
    trials = [
        trial(i, {"name": "pgd"}, evidence=evidence(0.5, n=20, flags=f))
        for i, f in enumerate(flags, 1)
    ]
    return flagged(facts_of(replace(demo_record(), trials=tuple(trials), findings=())))


def test_every_check_that_is_made_is_explained():
    assert set(CHECKS) == {*SENTENCES, *exposure_flags.FLAGS, NOT_LEARNED, NO_GOAL, SEARCH_STUCK}


def test_failures_come_before_warnings_and_every_trial_is_named():
    found = raised((EXHAUSTED,), (UNFINISHED, EXHAUSTED), ())
    assert [(k.id, k.severity, [f.number for f, _, _ in k.trials]) for k in found] == [
        ("unfinished", Severity.FAILURE, [2]),
        ("budget-exhausted", Severity.WARNING, [1, 2]),
    ]
    assert {c.id for c in silent(found)} == set(CHECKS) - {"unfinished", "budget-exhausted"}


def test_one_failure_makes_the_kind_a_failure():
    mild = replace(UNFINISHED, severity=Severity.WARNING)
    (kind,) = raised((mild,), (UNFINISHED,))
    assert kind.severity is Severity.FAILURE
    assert [s for _, s, _ in kind.trials] == [Severity.FAILURE, Severity.WARNING]


def test_a_flag_of_a_plugin_is_shown_though_nothing_is_known_of_it():
    (kind,) = raised((HealthFlag(id="own", severity=Severity.WARNING, message="hm"),))
    assert (kind.id, kind.check) == ("own", None)
    assert len(silent((kind,))) == len(CHECKS)
