from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.campaign.document import Document, Problems
from casemate.campaign.facts import NOT_LEARNED
from casemate.campaign.note_figures import note_figures
from casemate.campaign.policy import exit_code, judge, more_samples, overall
from casemate.campaign.record import TrialRecord
from casemate.campaign.rules import matched, read_rules
from casemate.errors import ExitCode, UsageError
from casemate.evidence import FALSE_FLAG, Evidence, HealthFlag, Severity, Verdict
from casemate.stats import Measurement, rate, wilson

FAILED = HealthFlag(id="zero-gradients", severity=Severity.FAILURE, message="m")
UNLEARNED = HealthFlag(id=NOT_LEARNED, severity=Severity.WARNING, message="m")
WARNED = HealthFlag(id="slow", severity=Severity.WARNING, message="m")


def rules(*sections):
    problems = Problems(Document(file="c.yaml", data={}, lines={}, origins={}))
    found = read_rules(sections, problems)
    problems.check()
    return found


def evidence(successes, n, *flags):
    return Evidence(measurements=(rate("attack success rate", successes, n),), flags=flags)


AT_MOST = rules({"measure": "attack success rate", "at_most": 0.5})[0]
AT_LEAST = rules({"measure": "attack success rate", "at_least": 0.5})[0]


@pytest.mark.parametrize(
    ("rule", "given", "verdict"),
    [
        (AT_MOST, evidence(51, 100), Verdict.FAIL),
        # success is its own proof, whatever the flags say and however wide the interval
        (AT_MOST, evidence(51, 100, FAILED), Verdict.FAIL),
        (AT_MOST, evidence(1, 1), Verdict.FAIL),
        (AT_MOST, evidence(50, 100), Verdict.INCONCLUSIVE),
        (AT_MOST, evidence(45, 100), Verdict.INCONCLUSIVE),
        (AT_MOST, evidence(30, 100), Verdict.PASS),
        (AT_MOST, evidence(30, 100, WARNED), Verdict.PASS),
        # poison that was not learned proves nothing of who withstands it
        (AT_MOST, evidence(0, 100, UNLEARNED), Verdict.INCONCLUSIVE),
        (AT_MOST, evidence(51, 100, UNLEARNED), Verdict.FAIL),
        (AT_LEAST, evidence(80, 100, UNLEARNED), Verdict.PASS),
        (AT_MOST, evidence(0, 100, FAILED), Verdict.INCONCLUSIVE),
        (AT_MOST, evidence(0, 0), Verdict.INCONCLUSIVE),
        (AT_MOST, evidence(0, 1), Verdict.INCONCLUSIVE),
        (AT_MOST, None, Verdict.INCONCLUSIVE),
        (AT_LEAST, evidence(49, 100), Verdict.FAIL),
        (AT_LEAST, evidence(49, 100, FAILED), Verdict.INCONCLUSIVE),
        (AT_LEAST, evidence(50, 100), Verdict.INCONCLUSIVE),
        (AT_LEAST, evidence(70, 100), Verdict.PASS),
        (AT_LEAST, evidence(70, 100, FAILED), Verdict.INCONCLUSIVE),
    ],
)
def test_verdicts(rule, given, verdict):
    judgement = judge(rule, given)
    assert judgement.verdict is verdict
    assert (judgement.excess > 0) == (verdict is Verdict.FAIL)


def test_the_limit_itself_is_allowed():
    exact = Measurement(name="attack success rate", value=0.5, n=9, low=0.5, high=0.5)
    assert judge(AT_MOST, Evidence(measurements=(exact,))).verdict is Verdict.PASS
    assert judge(AT_LEAST, Evidence(measurements=(exact,))).verdict is Verdict.PASS


def test_no_interval_is_no_pass():
    single = Measurement(
        name="attack success rate", value=0.1, n=1, low=None, high=None, unit="px", method="t"
    )
    assert judge(AT_MOST, Evidence(measurements=(single,))).verdict is Verdict.INCONCLUSIVE


def test_a_bound_that_was_computed_can_be_kept():
    rule = rules({"measure": "epsilon", "at_most": 4})[0]
    for epsilon, verdict in ((3.5, Verdict.PASS), (4.5, Verdict.FAIL)):
        (found,) = note_figures({"epsilon": epsilon, "delta": 1e-5}, None)
        assert judge(rule, Evidence(measurements=(found,))).verdict is verdict


def test_what_a_trial_says_once_is_no_matter_of_samples():
    rule = rules({"measure": FALSE_FLAG, "at_most": 0.5})[0]
    judged = judge(rule, Evidence(measurements=(rate(FALSE_FLAG, 0, 1),)))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "more samples" not in judged.reason
    assert "over the seeds" in judged.reason


def test_sentences_tell_value_interval_n_limit_and_what_to_do():
    failed = judge(AT_MOST, evidence(60, 100)).reason
    assert "60.0 % [50.2, 69.1] (n = 100)" in failed
    assert "at most 50 %" in failed
    assert "zero-gradients" in judge(AT_MOST, evidence(0, 100, FAILED)).reason
    open_ = judge(AT_MOST, evidence(45, 100)).reason
    more = more_samples(rate("attack success rate", 45, 100), 0.5, upper=True)
    assert f"about {more} more samples" in open_
    assert "no number of samples" in judge(AT_MOST, evidence(50, 100)).reason


def test_a_measure_that_is_not_there_is_inconclusive():
    rule = rules({"measure": "clean top-5 accuracy", "at_least": 0.5})[0]
    judgement = judge(rule, evidence(0, 100))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert 'did not measure "clean top-5 accuracy"' in judgement.reason


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"measure": "atack success rate", "at_most": 0.3}, 'Did you mean "attack success rate"'),
        ({"measure": "attack success rate", "at_most": 30}, "write 0.3 for 30 %"),
        ({"measure": "clean accuracy", "at_least": -0.1}, "lies between 0 and 1"),
    ],
)
def test_a_rule_that_could_never_mean_what_it_says_is_refused(section, sentence):
    with pytest.raises(UsageError, match=re.escape(sentence)):
        rules(section)


def test_a_clean_measure_does_not_suffer_from_the_attack():
    rule = rules({"measure": "clean accuracy", "at_least": 0.5})[0]
    clean = (rate("clean accuracy", 99, 100),)
    assert judge(rule, Evidence(measurements=clean, flags=(FAILED,))).verdict is Verdict.PASS
    random = HealthFlag(id="random-outputs", severity=Severity.FAILURE, message="m")
    judged = judge(rule, Evidence(measurements=clean, flags=(random,)))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "random-outputs" in judged.reason


def test_too_little_success_of_a_broken_attack_proves_nothing():
    assert judge(AT_LEAST, evidence(10, 100)).verdict is Verdict.FAIL
    broken = judge(AT_LEAST, evidence(10, 100, FAILED))
    assert broken.verdict is Verdict.INCONCLUSIVE
    assert "zero-gradients" in broken.reason


def test_a_distance_may_have_any_limit():
    assert rules({"measure": "distance l2", "at_least": 3})[0].limit == 3


@given(st.integers(0, 60), st.integers(1, 60), st.floats(0.01, 0.99))
def test_so_many_more_samples_settle_it_and_one_fewer_does_not(successes, n, limit):
    successes = min(successes, n)
    value = successes / n
    _, high = wilson(successes, n)
    if not (value < limit - 1e-3 and high > limit):
        return
    more = more_samples(rate("attack success rate", successes, n), limit, upper=True)
    assert more is not None

    def end(count):
        return wilson(round(value * count), count)[1]

    assert end(n + more) <= limit
    assert end(n + more - 1) > limit


def test_more_samples_for_a_mean_follow_the_square_root():
    mean = Measurement(name="d", value=1.0, n=10, low=0.0, high=2.0, unit="px", method="t")
    # the half-width 1 has to halve, which takes four times the samples
    assert more_samples(mean, 1.5, upper=True) == 30
    assert more_samples(mean, 1.0, upper=True) is None
    endless = Measurement(name="d", value=1.0, n=10, low=0.0, high=math.inf, unit="px", method="t")
    assert more_samples(endless, 1.5, upper=True) is None


SETTINGS = {
    "attack": {"name": "pgd", "epsilon": 8 / 255, "norm": "linf"},
    "model": {"architecture": "vgg", "recipe": {"epochs": 3}},
    "data": {"source": "gtsrb"},
    "defense": None,
    "goal": {"from": "Stop", "to": None},
    "samples": 100,
    "round": True,
}


@pytest.mark.parametrize(
    ("where", "speaks"),
    [
        ({}, True),
        ({"attack": "pgd"}, True),
        ({"attack": "PGD"}, True),
        ({"attack": "bim"}, False),
        ({"attack": ["bim", "pgd"]}, True),
        ({"attack": {"name": "pgd", "norm": "l2"}}, False),
        ({"attack.epsilon": "8/255"}, True),
        ({"attack.epsilon": ["4/255", "8/255"]}, True),
        ({"attack.epsilon": "4/255"}, False),
        ({"attack.steps": 3}, False),
        ({"model": "vgg", "data": "gtsrb"}, True),
        ({"model.recipe.epochs": 3}, True),
        ({"defense": None}, True),
        ({"defense": "median"}, False),
        ({"attack": None}, False),
        ({"goal.from": "stop"}, True),
        ({"round": True}, True),
        ({"round": 1}, True),
        ({"samples": 99}, False),
    ],
)
def test_where(where, speaks):
    rule = rules({"measure": "attack success rate", "at_most": "1/10", "where": where})[0]
    assert rule.limit == 0.1
    assert rule.matches(SETTINGS) is speaks


def test_a_rule_that_checks_nothing_is_a_problem():
    problems = Problems(Document(file="c.yaml", data={}, lines={}, origins={}))
    found = read_rules(
        [{"measure": "attack success rate", "at_most": 1, "where": {"attack": "bim"}}], problems
    )
    assert matched(found, [SETTINGS], problems) == {0: []}
    assert "the rule checks nothing" in problems[0]


POISONED = {
    **SETTINGS,
    "attack": None,
    "training": {
        "attack": {"name": "badnets", "amount": {"count": 10, "percent": None}},
        "defense": {"name": "fine-pruning"},
        "clean": 40,
    },
}
GATE = "is what stands at inference, and this stands at training; write"


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ({"attack": "badnets"}, f"attack {GATE} training.attack"),
        (
            {"model": "vgg", "attack.amount.count": 10},
            f"attack.amount.count {GATE} training.attack.amount.count",
        ),
        ({"defense": ["fine-tuning", "fine-pruning"]}, f"defense {GATE} training.defense"),
        ({"attack": "wanet"}, "attack is pgd, never wanet; mend or remove it"),
        (
            {"training.attack": "wanet"},
            "training.attack is badnets, never wanet; mend or remove it",
        ),
        ({"goal.to": "yield"}, 'no trial has a "goal.to"; mend or remove it'),
        (
            {"attack": "pgd", "training.attack": "badnets"},
            "no single trial has all of them; mend or remove it",
        ),
    ],
)
def test_it_says_which_setting_no_trial_has_and_where_it_stands(where, reason):
    problems = Problems(Document(file="c.yaml", data={}, lines={}, origins={}))
    found = read_rules([{"measure": "attack success rate", "at_most": 1, "where": where}], problems)
    matched(found, [SETTINGS, POISONED], problems)
    place = "c.yaml, line 1, policy[0].where"
    assert problems == [
        f"{place}: no trial has these settings, so the rule checks nothing: {reason}"
    ]


def trial(status):
    return TrialRecord(key="k", number=1, settings={}, threat="t", status=status)


@pytest.mark.parametrize(
    ("verdicts", "statuses", "code"),
    [
        ([], ["finished"], ExitCode.MET),
        ([None], ["failed"], ExitCode.INCOMPLETE),
        ([None], ["not run"], ExitCode.INCOMPLETE),
        ([Verdict.PASS, None], ["finished"], ExitCode.MET),
        ([Verdict.PASS], ["finished", "failed"], ExitCode.INCOMPLETE),
        ([Verdict.PASS, Verdict.INCONCLUSIVE], ["finished"], ExitCode.INCOMPLETE),
        ([Verdict.INCONCLUSIVE, Verdict.FAIL, Verdict.PASS], ["failed"], ExitCode.VIOLATED),
    ],
)
def test_exit_codes(verdicts, statuses, code):
    assert exit_code(overall(verdicts), [trial(s) for s in statuses]) is code
