from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_demo import CLASSES, demo_record, trial

from casemate.evidence import Evidence, Verdict
from casemate.report.facts import State, facts_of, share_key, varying


def only(record_trial, **models):
    record = replace(demo_record(), trials=(record_trial,), findings=())
    if models:
        record = replace(record, models=(models,))
    return facts_of(record)[0]


@pytest.mark.parametrize(
    ("status", "verdict", "state"),
    [
        ("finished", Verdict.FAIL, State.VIOLATED),
        ("finished", Verdict.PASS, State.PASSED),
        ("finished", Verdict.INCONCLUSIVE, State.INCONCLUSIVE),
        ("finished", None, State.MEASURED),
        ("failed", Verdict.INCONCLUSIVE, State.FAILED),
        ("not run", None, State.NOT_RUN),
        ("not run", Verdict.INCONCLUSIVE, State.NOT_RUN),
    ],
)
def test_states(status, verdict, state):
    found = only(trial(1, {"name": "pgd"}, status=status, verdict=verdict))
    assert found.state is state


def test_an_attack_is_described_in_words():
    found = only(
        trial(
            1,
            {"name": "bim", "epsilon": 8 / 255, "norm": "linf", "steps": 10, "step_size": None},
            goal=(4, 2),
            defense={"name": "median", "size": 3},
            attacker="before",
        )
    )
    assert found.budget == "8/255 L∞"
    assert found.details == "steps 10"
    assert found.scenario == "stop → speed limit 60 km/h"
    assert found.against == "median size 3; attacker before it, unaware of it"


def test_epsilon_may_be_a_fraction_and_classes_labels():
    attack = {"name": "somebody-elses", "eps": "8/255", "norm": "Linf"}
    found = only(trial(1, attack, goal=(None, None)))
    assert found.epsilon == pytest.approx(8 / 255)
    settings = {**trial(1, attack).settings, "goal": {"from": 4, "to": 2}}
    found = only(replace(trial(1, attack), settings=settings))
    assert found.scenario == f"{CLASSES[4]} → {CLASSES[2]}"


def test_defaults_of_the_attack_fill_in_what_the_settings_leave_out():
    found = only(trial(1, {"name": "fgsm"}))
    assert (found.norm, found.epsilon) == ("linf", pytest.approx(8 / 255))


@pytest.mark.parametrize(("l2", "norm"), [(0.4, "l2"), (2.0, "linf")])
def test_an_unnamed_norm_is_read_off_the_distances(l2, norm):
    samples = {"linf": np.full(3, 0.1), "l2": np.full(3, l2)}
    evidence = Evidence(measurements=(), samples=samples)
    found = only(trial(1, {"name": "somebody-elses", "epsilon": 0.5}, evidence=evidence))
    assert found.norm == norm


def test_the_model_of_a_trial_names_its_classes():
    record = demo_record()
    other = {"digest": "other", "name": "other", "classes": ["cat", "dog"]}
    strange = trial(1, {"name": "pgd"})
    strange = replace(strange, settings={**strange.settings, "model_digest": "other"})
    found = facts_of(replace(record, models=(*record.models, other), trials=(strange,)))[0]
    assert found.class_name(1) == "dog"
    assert found.class_name(7) == "class 7"


def test_keys_are_shared_by_trials_that_differ_in_the_named_setting_only():
    a, b = trial(1, {"name": "pgd", "epsilon": 0.1}), trial(2, {"name": "pgd", "epsilon": 0.2})
    assert share_key(only(a), "attack") == share_key(only(b), "attack")
    assert share_key(only(a)) != share_key(only(b))


def test_only_settings_that_differ_and_stand_nowhere_else_are_told():
    a, b = trial(1, {"name": "pgd"}), trial(2, {"name": "fgsm"})
    b = replace(b, settings={**b.settings, "seed": 3, "samples": 9})
    record = replace(demo_record(), trials=(a, b), findings=())
    assert varying(facts_of(record)) == {1: "seed 0", 2: "seed 3"}


def test_a_nested_setting_is_told_by_as_much_of_its_name_as_it_takes():
    def of(number, rate, layers, depth):
        t = trial(number, {"name": "pgd"})
        model = {"recipe": {"rate": rate}, "net": {"layers": layers}, "head": {"layers": depth}}
        return replace(t, settings={**t.settings, "model": model})

    record = replace(demo_record(), trials=(of(1, 0.1, 3, 1), of(2, 0.2, 4, 2)), findings=())
    assert varying(facts_of(record)) == {
        1: "rate 0.1, net layers 3, head layers 1",
        2: "rate 0.2, net layers 4, head layers 2",
    }
