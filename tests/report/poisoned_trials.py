"""Trials that end with a trained model, for the tests of what a report makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from report_demo import demo_record, trial

from casemate.evidence import Evidence, HealthFlag, Severity
from casemate.report.facts import facts_of
from casemate.report.poisonings import poisonings
from casemate.stats import difference, mean, rate


def poisoned(number, attack, *, seed=0, hits=90, right=950, defense=None, share=(600, 60_000)):
    """Return a trial with `hits` of 100 successes and `right` of 1,000 samples read right."""
    made = trial(number, {"name": "none"})
    spent = {"poisoned samples": share[0], "training samples": share[1]} if share else {}
    drop = 960 - right
    settings = {
        **made.settings,
        "attack": None,
        "goal": {"from": None, "to": None},
        "training": {"attack": attack, "defense": defense, "clean": 0},
        "seed": seed,
        "model_digest": f"model {seed}",
    }
    for key in ("attacker", "early_stop"):
        settings.pop(key)
    return replace(
        made,
        settings=settings,
        threat="backdoor-data" if attack else "",
        control=attack is None,
        evidence=Evidence(
            measurements=(
                *([rate("attack success rate", hits, 100)] if attack else []),
                rate("clean accuracy", right, 1000),
                difference("clean accuracy drop", max(0, drop), max(0, -drop), 1000),
            ),
            spent=spent,
            samples={
                "success": np.arange(100) < hits,
                "eligible": np.ones(100, dtype=bool),
                "reference_success": np.zeros(100, dtype=bool),
                "goal": np.zeros(100, dtype=np.int64),
                "clean_label": np.ones(100, dtype=np.int64),
            },
        ),
    )


def badnets(percent=1.0, **more):
    amount = {"count": None, "percent": percent, "per_class": False}
    return {"name": "badnets", "target": 0, "amount": amount, "size": 3, **more}


def count(name, n, **more):
    """Return a targeted attack with that many poisoned samples."""
    amount = {"count": n, "percent": None, "per_class": False}
    return {"name": name, "target": 0, "amount": amount, **more}


def reading(made, *right, n=100):
    """Return the trial with the accuracy of each class: how many of `n` are read right.

    Of a class with None there are no samples.
    """
    found = tuple(
        rate(f"clean accuracy of class {c}", k or 0, 0 if k is None else n)
        for c, k in enumerate(right)
    )
    return replace(made, evidence=replace(made.evidence, by_class=found))


def measuring(made, *, null=None, linf=None, ssim=None, spent=None, **rates):
    """Return the trial with more evidence: shares of 100 by name, distances over 100 samples.

    Args:
        made: The trial.
        null: Of 100 samples how many a clean model gives the attacker's label.
        linf: Mean distance of inputs with the trigger.
        ssim: Their mean similarity.
        spent: What else was spent.
        rates: Of 100, by the name with underscores.
    """
    found = [rate(name.replace("_", " "), k, 100) for name, k in rates.items()]
    if null is not None:
        found.append(rate("attack success rate without the attack", null, 100))
    if linf is not None:
        found.append(mean("distance linf", [linf] * 100, "domain units"))
    if ssim is not None:
        found.append(mean("ssim", [ssim] * 100, "index"))
    evidence = made.evidence
    samples = dict(evidence.samples)
    # the same samples, as far as there are as many
    if null is not None:
        samples["reference_success"] = np.arange(100) < null
    if "target_answered_without_the_trigger" in rates:
        already = np.arange(100) < rates["target_answered_without_the_trigger"]
        samples["clean_label"] = np.where(already, samples["goal"], 1)
    return replace(
        made,
        evidence=replace(
            evidence,
            measurements=(*evidence.measurements, *found),
            spent={**evidence.spent, **(spent or {})},
            samples=samples,
        ),
    )


def collapsing(made, already):
    """Return the trial with a victim that answers the target to some of 100 without the trigger."""
    flag = HealthFlag(
        id="collapsed-victim",
        severity=Severity.WARNING,
        message=f"the model answers the target to {already} of 100 samples without the trigger",
    )
    found = measuring(made, target_answered_without_the_trigger=already)
    return replace(found, evidence=replace(found.evidence, flags=(flag,)))


def flips(percent):
    amount = {"count": None, "percent": percent, "per_class": False}
    return {"name": "label-flips", "kind": "uniform", "amount": amount}


def noise(percent, intensity):
    amount = {"count": None, "percent": percent, "per_class": False}
    return {"name": "input-noise", "kind": "gaussian", "intensity": intensity, "amount": amount}


def record(*trials):
    return replace(demo_record(), trials=trials, findings=())


def rows(*trials):
    return poisonings(facts_of(record(*trials)))


def study():
    """Return a campaign with attacks of all kinds, three seeds each, and defenses against some."""
    trials = []

    def add(attack, hits, right, n, *, linf=None, ssim=None, relabeled=0, defense=None, **rates):
        for seed in range(3):
            share = None if attack is None else (n, 60_000)
            made = poisoned(
                len(trials) + 1,
                attack,
                seed=seed,
                hits=hits + seed,
                right=right + seed,
                defense=defense,
                share=share,
            )
            null = None if linf is None else 3 + seed
            spent = {"relabeled samples": relabeled}
            if defense is not None:
                spent |= {"defender's models": 2, "defender's training samples": 120_000}
            made = measuring(made, null=null, linf=linf, ssim=ssim, spent=spent, **rates)
            trials.append(reading(made, *(right // 10 - 5 * c for c in range(8))))

    add(None, 0, 960, 0)
    for n, hits in ((10, 2), (60, 35), (180, 80), (600, 97)):
        add(count("badnets", n), hits, 957, n, linf=1.0, ssim=0.97)
    for n, hits in ((60, 12), (600, 85)):
        add(count("blended", n, alpha=0.2), hits, 955, n, linf=0.2, ssim=0.8)
    for n, hits in ((10, 70), (60, 95)):
        mine = count("low-impact", n, epsilon=0.45, architecture="victim")
        add(mine, hits, 958, n, linf=0.45, ssim=0.6)
    other = count("low-impact", 60, epsilon=0.45, architecture="mlp")
    add(other, 77, 958, 60, linf=0.45, ssim=0.61)
    add(count("label-flips", 2000, kind="class", source=3), 45, 940, 2000, relabeled=2000)
    add(count("gradient-matching", 500, source=3), 66, 956, 500)
    add(flips(40.0), 50, 900, 24_000, relabeled=20_000)
    for defense, left in (({"name": "spectral-signatures"}, 40), ({"name": "fine-tuning"}, 5)):
        found = {"precision_of_removal": 30, "recall_of_removal": 90} if left == 40 else {}
        add(None, 0, 945, 0, defense=defense, **found)
        mine = count("badnets", 600)
        add(mine, left, 940, 600, linf=1.0, ssim=0.97, defense=defense, **found)
    trials[-1] = replace(trials[-1], status="failed", evidence=None, error="there is no such layer")
    return record(*trials)
