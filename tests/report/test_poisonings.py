from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from poisoned_trials import badnets, flips, noise, poisoned, record, rows
from report_demo import evidence, trial

from casemate.evidence import FLAGGED
from casemate.report import html
from casemate.report.comparisons import comparisons
from casemate.report.curves import charts
from casemate.report.facts import facts_of, varying
from casemate.report.matrix import matrix
from casemate.report.poisonings import over_seeds
from casemate.stats import mean, rate, wilson
from casemate.threats import Stage


def test_the_seeds_of_a_setting_are_one_row_with_students_interval():
    found = rows(
        poisoned(1, badnets(), seed=0, hits=90),
        poisoned(2, flips(20.0)),
        poisoned(3, badnets(), seed=1, hits=96),
        poisoned(4, badnets(), seed=2, hits=93),
    )
    assert [[f.number for f in row.trials] for row in found] == [[1, 3, 4], [2]]
    success = found[0].figures["attack success rate"]
    wanted = mean("attack success rate", [0.9, 0.96, 0.93], "1")
    assert wanted.high > 1
    assert success == replace(wanted, high=1.0)
    assert found[0].seeds == 3
    assert found[0].poisoned == 600
    alone = found[1].figures["clean accuracy"]
    assert (alone.n, alone.method) == (1000, "wilson")


def test_yes_and_no_are_counted_over_the_seeds():
    flags = (1, 1, 0)
    found = rows(
        *(
            replace(made, evidence=replace(made.evidence, measurements=(rate(FLAGGED, f, 1),)))
            for f, made in ((f, poisoned(i, badnets(), seed=i)) for i, f in enumerate(flags, 1))
        )
    )
    assert found[0].figures[FLAGGED] == rate(FLAGGED, 2, 3)
    # three that agree are not sure: Student's t would have no width
    same = over_seeds([rate(FLAGGED, 1, 1)] * 3)
    assert (same.value, same.n, same.low) == (1.0, 3, wilson(3, 3)[0])
    assert over_seeds([rate(FLAGGED, 1, 1), None]) == rate(FLAGGED, 1, 1)


@pytest.mark.parametrize(
    ("name", "unit", "values", "ends"),
    [
        ("clean accuracy", "1", [0.9, 1.0], (0.3147, 1)),
        ("clean accuracy drop", "1", [0.9, -0.5], (-1, 1)),
        ("worst class accuracy drop of another clean model", "1", [0.9, -0.5], (-1, 1)),
        ("success that the poison adds", "1", [0.9, -0.5], (-1, 1)),
        ("confidence in true class, clean", "probability", [0.1, 0.0], (0, 0.6853)),
        ("ssim", "index", [0.9, 0.98], (0.4318, 1)),
        ("distance linf", "domain units", [0.1, 3.0], (0, 19.9740)),
        ("seconds of the defense", "s", [0.1, 3.0], (-16.8740, 19.9740)),
    ],
)
def test_intervals_over_seeds_keep_to_what_is_possible(name, unit, values, ends):
    raw = [replace(mean(name, [v], unit), n=100) for v in values]
    found = over_seeds(raw)
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-3)
    assert found.value == pytest.approx(sum(values) / 2)
    # of one seed too
    alone = replace(raw[0], low=-40.0, high=40.0)
    kept = over_seeds([alone])
    assert kept.low >= (-40 if unit == "s" else -1)
    assert kept.high <= (40 if unit in ("s", "domain units") else 1)


def test_another_parameter_or_defense_is_another_row():
    found = rows(
        poisoned(1, badnets()),
        poisoned(2, badnets(2.0)),
        poisoned(3, badnets(size=4)),
        poisoned(4, badnets(), defense={"name": "fine-tuning", "epochs": 2}),
        poisoned(5, None, share=None),
    )
    assert [len(row.trials) for row in found] == [1] * 5
    assert found[3].first.defense == "fine-tuning epochs 2"
    nobody = found[4]
    assert nobody.first.attack == "no attack"
    assert nobody.first.threat.control
    assert "attack success rate" not in nobody.figures
    assert nobody.poisoned is None


def test_attacks_at_inference_have_no_row():
    attacked = trial(1, {"name": "pgd", "epsilon": 0.1}, evidence=evidence(0.5, epsilon=0.1))
    chain = replace(
        poisoned(2, badnets()),
        settings={**attacked.settings, "training": {"attack": badnets(), "defense": None}},
        evidence=attacked.evidence,
    )
    assert rows(attacked, chain) == ()
    (first, second) = facts_of(record(attacked, chain))
    assert (first.attack, second.attack) == ("pgd", "badnets, then pgd")


def test_a_row_says_how_much_is_poisoned_and_what_is_wanted():
    amount = {"count": 60, "percent": None, "per_class": False}
    each = {"count": None, "percent": 30.0, "per_class": True}
    found = facts_of(
        record(
            poisoned(1, badnets(0.1)),
            poisoned(2, {"name": "badnets", "target": 2, "amount": amount}),
            poisoned(3, noise(10.0, 0.5)),
            poisoned(4, {"name": "label-flips", "source": 1, "target": "stop", "amount": each}),
        )
    )
    assert [f.budget for f in found] == [
        "0.1 %",
        "60 samples",
        "10 %, intensity 0.5",
        "30 % of each class touched",
    ]
    assert [f.scenario for f in found][1:] == [
        "any class → speed limit 60 km/h",
        "any wrong class",
        "speed limit 30 km/h → stop",
    ]
    assert found[2].aim == "availability"
    assert found[0].details == "size 3"
    assert charts(found) == {}


def test_the_size_of_a_trigger_is_one_of_its_parameters():
    (found,) = facts_of(record(poisoned(1, badnets(epsilon=0.45))))
    assert (found.details, found.budget) == ("size 3, epsilon 0.45", "1 %")


def test_the_matrix_fills_the_training_stage():
    table = {r.id: r for r in matrix(facts_of(record(poisoned(1, badnets()), poisoned(2, None))))}
    cells = {c.stage: c for c in table["backdoor-data"].cells}
    assert cells[Stage.TRAINING].trials == (1,)
    assert "" not in table


def test_a_defense_at_training_is_compared_with_the_row_without_it():
    without, defended = poisoned(1, badnets()), poisoned(2, badnets(), defense={"name": "x"})
    other = poisoned(3, badnets(), seed=1, defense={"name": "x"})
    (found,) = comparisons(facts_of(record(without, defended, other)))
    assert (found.without.number, found.defended.number) == (1, 2)


def test_only_what_no_column_shows_tells_trials_apart():
    found = varying(facts_of(record(poisoned(1, badnets()), poisoned(2, flips(10.0), seed=3))))
    assert found == {1: "seed 0", 2: "seed 3"}


def test_the_page_has_the_rows_and_escapes_them():
    bad = badnets() | {"name": "<b>bad</b>"}
    text = html.page(record(poisoned(1, bad), poisoned(2, None, share=None)))
    assert 'id="poisonings"' in text
    assert "&lt;b&gt;bad&lt;/b&gt;" in text
    assert "<b>bad</b>" not in text
    assert "no attack" in text


def test_a_drop_stands_above_that_of_another_clean_model():
    name = "clean accuracy drop of another clean model"
    trials = []
    for seed, lost in enumerate((-2, 4)):
        made = poisoned(seed + 1, badnets(), seed=seed)
        drop = mean(name, [float(np.sign(lost))] * abs(lost) + [0.0] * (1000 - abs(lost)), "1")
        measured = (*made.evidence.measurements, drop)
        trials.append(replace(made, evidence=replace(made.evidence, measurements=measured)))
    (row,) = rows(*trials)
    assert row.figures[name].value == pytest.approx(0.001)
    assert row.figures[name].low < 0  # a drop is no share
    assert "another clean model 0.1\u00a0%" in html.page(record(*trials))
    assert "another clean model 0.1" not in html.page(record(poisoned(1, badnets())))


def test_a_trial_that_did_not_run_leaves_no_blank():
    missing = replace(poisoned(1, badnets()), status="failed", evidence=None, error="broken")
    text = html.page(record(missing))
    assert 'class="none" colspan="5"' in text
    (row,) = rows(missing)
    assert row.seeds == 0
    assert row.figures == {}


@pytest.mark.parametrize("percent", [0.1, 33.333333])
def test_shares_are_written_short(percent):
    (found,) = facts_of(record(poisoned(1, badnets(percent))))
    assert found.budget == f"{percent:.4g} %"
