from __future__ import annotations

import pytest

from casemate.campaign.store import Store
from casemate.errors import UsageError


def test_a_new_campaign_is_new_and_a_finished_one_cached(audit):
    plan, _ = audit.plan()
    assert [p.reason for p in plan.trials] == ["new"] * 3
    assert [p.n for p in plan.trials] == [40, 40, 40]
    audit.run()
    with Store.reader(audit.store) as store:
        plan, _ = audit.plan(store)
    assert [p.reason for p in plan.trials] == ["cached"] * 3
    assert all(p.cached for p in plan.trials)


def test_it_says_what_changed(audit):
    audit.run()
    audit.rewrite("1/4]", "1/5]")
    audit.rewrite("steps: 5", "steps: 6, norm: l2")
    with Store.reader(audit.store) as store:
        plan, _ = audit.plan(store)
    assert [p.reason for p in plan.trials] == [
        "cached",
        "changed: attack.epsilon 0.25 → 0.2",
        "changed: attack.norm linf → l2, attack.steps 5 → 6",
    ]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda a: a.retrain(), "the model itself"),
        (lambda a: a.rewrite("path: data.npz", "path: data.npz, test_fraction: 0.3"), None),
        (lambda a: a.rewrite("name: audit\n", "name: audit\nseed: 4\n"), "seed 0 → 4"),
        (lambda a: a.rewrite("samples: 40", "samples: 30"), "samples 40 → 30"),
    ],
    ids=["weights", "a parameter without consequence", "seed", "samples"],
)  # fmt: skip
def test_a_key_follows_what_decides_the_evidence_and_nothing_else(audit, change, what):
    audit.run()
    change(audit)
    with Store.reader(audit.store) as store:
        plan, _ = audit.plan(store)
    expected = "cached" if what is None else f"changed: {what}"
    assert plan.trials[0].reason == expected


def test_names_numbers_order_and_folders_do_not_change_a_key(audit, tmp_path_factory):
    first, _ = audit.plan()
    audit.rewrite("name: audit", "name: other\ndescription: x")
    audit.rewrite("from: low, to: high", "to: 1, from: LOW")
    moved = tmp_path_factory.mktemp("elsewhere")
    for file in ("audited.py", "data.npz", "audit.yaml"):
        (moved / file).write_bytes((audit.folder / file).read_bytes())
    audit.folder, audit.path = moved, moved / "audit.yaml"
    second, _ = audit.plan()
    assert [p.key for p in first.trials] == [p.key for p in second.trials]


def test_costs_bound_what_is_spent(audit):
    record = audit.run()
    plan, _ = audit.plan()
    for planned, trial in zip(plan.trials, record.trials, strict=True):
        spent = trial.evidence.spent
        assert 0 < spent["attack backward"] <= planned.cost.backward
        assert spent["attack forward"] <= planned.cost.forward


def test_an_estimate_is_made_for_what_runs(audit):
    plan, _ = audit.plan(estimate=True)
    assert 0 < plan.seconds < 60
    assert all(p.seconds > 0 for p in plan.trials)
    audit.run(only="2")
    with Store.reader(audit.store) as store:
        plan, _ = audit.plan(store, estimate=True)
    assert [p.seconds is None for p in plan.trials] == [False, True, False]
    assert plan.seconds == pytest.approx(plan.trials[0].seconds + plan.trials[2].seconds)


def test_training_is_part_of_the_estimate_until_it_is_done(audit):
    audit.rewrite('{factory: "audited:make"}', "{architecture: mlp, recipe: {epochs: 2}}")
    plan, _ = audit.plan(estimate=True)
    assert plan.training > 0
    audit.run(only="1")
    with Store.reader(audit.store) as store:
        plan, _ = audit.plan(store, estimate=True)
    assert plan.training == 0


def test_a_trial_is_named_by_number_or_key(audit):
    plan, _ = audit.plan()
    key = plan.trials[1].key
    assert [p.trial.number for p in plan.only("2").trials] == [2]
    assert [p.key for p in plan.only(key[:8].upper()).trials] == [key]
    with pytest.raises(UsageError, match=r'no trial has the number or key "9".*casemate plan'):
        plan.only("9")
    with pytest.raises(UsageError, match="give more of it"):
        plan.only("")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("1/10, 1/4", "-1/10, 1/4", "line 9, trials[0].attack: epsilon is -0.1"),
        ("1/10, 1/4", "1/10, 1.5", "trials[0].attack: epsilon is 1.5"),
        ("from: low", "from: lox", 'Did you mean "low"?'),
        ("from: low", "from: high", "from and to are the same class"),
        ("to: high", "to: 7", "goal.to: is 7, but the classes of"),
        ("data.npz", "none.npz", "none.npz"),
        ("audited:make", "audited:mak", "audited"),
        ("attack.epsilon: 0.1", "attack: lbfgs", "the rule checks nothing"),
        ('factory: "audited:make"', 'function: "audited:decide", outputs: labels', "gradients"),
        ('{factory: "audited:make"}', "{architecture: lenet}", "lenet takes images"),
        ("samples: 40", "samples: 40, round: true", "round asks for values on the domain's grid"),
        ("samples: 40", "samples: 40, defense: {name: median}", "a median filter needs images"),
        ("samples: 40", "samples: 40, defense: {name: radius-average}", "an averaging filter"),
    ],
)  # fmt: skip
def test_what_does_not_fit_data_or_model_is_found_before_anything_runs(audit, old, new, expected):
    audit.rewrite(old, new)
    with pytest.raises(UsageError) as caught:
        audit.plan()
    assert expected in str(caught.value)
    assert str(audit.path) in str(caught.value)


def test_an_attack_is_not_used_for_what_it_does_not_declare(audit, monkeypatch):
    from dataclasses import replace

    from casemate.inference.attacks.pgd import PGD
    from casemate.threats import Goal

    untargeted = replace(PGD.threat, goals=(Goal.INTEGRITY_UNTARGETED,))
    monkeypatch.setattr(PGD, "threat", untargeted)
    with pytest.raises(UsageError, match="pgd is for integrity, untargeted, not for integrity, t"):
        audit.plan()


def test_problems_of_all_kinds_come_together(audit):
    audit.rewrite("1/10, 1/4", "1/10, 9")
    audit.rewrite("from: low", "from: lox")
    audit.rewrite("policy:", "extra: 1\npolicy:")
    with pytest.raises(UsageError) as caught:
        audit.plan()
    # the frame comes first: without it the rest cannot be told
    assert 'no key "extra"' in str(caught.value)
    audit.rewrite("extra: 1\n", "")
    audit.rewrite("steps: 5", "step: 5")
    audit.rewrite("audited:make", "audited:mak")
    with pytest.raises(UsageError) as caught:
        audit.plan()
    lines = str(caught.value).splitlines()
    assert len(lines) == 2 + 1
