from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from report_demo import demo_record, evidence, trial

from casemate.evidence import MEASURES
from casemate.report import html, json
from casemate.report.facts import facts_of
from casemate.report.monitoring import MONITORS, USES, monitoring
from casemate.report.poisonings import poisonings
from casemate.stats import mean, newcombe, rate

BADNETS = {"name": "badnets", "amount": {"percent": 1}, "target": 2}


def poisoning(number, attack=None, *, seed=0, alarms=None, **kwargs):
    """Return a trial that ends with the trained model; `alarms` of 1,000 windows by measure."""
    made = trial(number, {"name": "none"}, **kwargs)
    found = evidence(0.9, goal=2, seed=number)
    measured = tuple(rate(name, k, 1000) for name, k in (alarms or {}).items())
    settings = {
        **made.settings,
        "attack": None,
        "training": {"attack": BADNETS if attack is None else attack, "defense": None},
        "seed": seed,
    }
    return replace(
        made,
        settings=settings,
        threat="data-poisoning-backdoor",
        evidence=replace(found, measurements=found.measurements + measured),
    )


def record(*trials):
    return replace(demo_record(), trials=trials, findings=())


def of(*trials):
    return monitoring(poisonings(facts_of(record(*trials))))


def test_every_measure_of_monitors_has_its_cell():
    names = {words.format(m) for words in USES.values() for m in MONITORS}
    kinds = ("false alarms by", "detection by", "alarms by")
    assert names == {m for m in MEASURES if m.startswith(kinds)}
    assert len(names) == 15


def test_a_cell_is_the_mean_over_seeds_and_keeps_to_shares():
    name = "detection by confidence"
    (row,) = of(
        poisoning(1, seed=0, alarms={name: 10}), poisoning(2, seed=1, alarms={name: 40})
    ).rows
    accuracy, cell, classes = row.cells["Normal use"]
    assert (accuracy, classes) == (None, None)
    assert (cell.value, cell.n, cell.method) == (0.025, 2, "t")
    assert cell.low == 0  # Student's interval reaches far below
    assert row.cells["With triggers"] == row.cells["False alarms"] == (None, None, None)


def test_one_seed_keeps_its_own_interval():
    name = "false alarms by classes"
    (row,) = of(poisoning(1, alarms={name: 10})).rows
    assert row.cells["False alarms"][2] == rate(name, 10, 1000)


OVER = "alarms by confidence over another clean model"
SEES = "detection by confidence"


def test_what_counts_is_how_much_more_the_victim_raises_than_its_control():
    seeds = ((300, 100), (320, 110), (330, 140))
    trials = [poisoning(i + 1, seed=i, alarms={SEES: k, OVER: c}) for i, (k, c) in enumerate(seeds)]
    (row,) = of(*trials).rows
    none, more, _ = row.excess["Normal use"]
    assert none is None
    wanted = mean("", [0.2, 0.21, 0.19], "1")  # paired: the seeds themselves differ by more
    assert (more.difference.value, more.difference.n) == (pytest.approx(0.2), 3)
    # windows leave open more than these seeds
    over_windows = [newcombe(rate("", k, 1000), rate("", c, 1000)) for k, c in seeds]
    assert more.difference.low == pytest.approx(np.mean([low for low, _ in over_windows]))
    assert more.difference.low < wanted.low
    assert more.detected
    assert row.excess["With triggers"] == (None, None, None)


@pytest.mark.parametrize(
    ("alarms", "detected"),
    [
        (((160, 150), (150, 160)), False),
        (((900, 100), (160, 150)), False),  # once is not always
        (((10, 300), (12, 310)), False),  # fewer alarms than a clean model raises
        (((10, 10), (10, 10)), False),
        (((900, 150), (910, 160)), True),
        (((1, 0), (1, 0)), False),  # seeds agree, but one window is no proof
    ],
)
def test_an_attack_is_detected_only_if_seeds_agree_that_there_is_more(alarms, detected):
    trials = [
        poisoning(i + 1, seed=i, alarms={SEES: k, OVER: c}) for i, (k, c) in enumerate(alarms)
    ]
    (row,) = of(*trials).rows
    assert row.excess["Normal use"][1].detected is detected
    assert ('<span class="tag">detected</span>' in section(html.page(record(*trials)))) is detected


def test_the_interval_of_a_difference_keeps_to_what_one_can_be():
    trials = [
        poisoning(i + 1, seed=i, alarms={SEES: k, OVER: c})
        for i, (k, c) in enumerate(((1000, 0), (0, 900)))
    ]
    (row,) = of(*trials).rows
    difference = row.excess["Normal use"][1].difference
    assert (difference.low, difference.high) == (-1, 1)


def test_one_seed_shows_the_difference_and_no_verdict():
    made = record(poisoning(1, alarms={SEES: 900, OVER: 160, f"{OVER} with triggers": 170}))
    (row,) = monitoring(poisonings(facts_of(made))).rows
    more = row.excess["Normal use"][1]
    assert (more.difference.value, more.difference.low) == (pytest.approx(0.74), None)
    assert more.detected is None
    text = section(html.page(made))
    assert "+74.0, one seed" in text
    assert "with triggers 17.0 %" in text
    assert '<span class="tag">detected' not in text


def test_a_seed_without_a_control_has_no_part_in_the_difference():
    trials = [
        poisoning(1, seed=0, alarms={SEES: 900, OVER: 100}),
        poisoning(2, seed=1, alarms={SEES: 100}),
    ]
    (row,) = of(*trials).rows
    assert row.cells["Normal use"][1].value == 0.5
    assert row.excess["Normal use"][1].difference.value == pytest.approx(0.8)


def test_attacks_are_rows_and_where_nobody_watched_there_is_no_matrix():
    found = of(
        poisoning(1, alarms={"detection by accuracy": 5}), poisoning(2, {"name": "label-flip"})
    )
    assert [w.row.first.attack for w in found.rows] == ["badnets", "label-flip"]
    assert of(poisoning(1)) is None
    assert of() is None
    empty = poisoning(1)
    unmeasured = rate("detection by accuracy", 0, 0)
    empty = replace(empty, evidence=replace(empty.evidence, measurements=(unmeasured,)))
    assert of(empty) is None


def section(page):
    found = re.search(r'<section id="monitoring".*?</section>', page, re.DOTALL)
    return found and found[0].replace("\u00a0", " ")


def test_the_page_shows_the_matrix_and_says_what_was_not_measured(read):
    name = "detection by accuracy with triggers"
    page = html.page(record(poisoning(1, alarms={name: 800})))
    text = section(page)
    assert read(page).errors == []
    assert text.count("<td") == 1 + 12
    assert text.count("not measured") == 11
    assert '<td class="num heat h8">80.0 %' in text
    assert "[77.4, 82.4]" in text
    assert 'href="#monitoring"' in page
    order = [m for m in re.findall(r'<section id="(\w+)"', page) if m in ("poisonings", "trials")]
    assert order == ["poisonings", "trials"]
    assert page.index('id="poisonings"') < page.index('id="monitoring"') < page.index('id="trials"')


def test_a_monitor_of_single_inputs_sets_rows_apart():
    name = "detection by accuracy"
    one, other = poisoning(1, alarms={name: 5}), poisoning(2, alarms={name: 5})
    settings = {**other.settings, "monitor": {"name": "strip", "overlays": 10}}
    made = record(one, replace(other, settings=settings))
    assert [f.monitor for f in facts_of(made)] == [None, "strip overlays 10"]
    text = section(html.page(made))
    assert text.count("<tr>") == 2 + 2
    assert text.count("watched by <bdi>strip overlays 10</bdi>") == 1


def test_without_the_matrix_there_is_no_section():
    page = html.page(demo_record())
    assert section(page) is None
    assert 'href="#monitoring"' not in page


def test_a_trial_that_did_not_finish_says_so():
    failed = replace(poisoning(2, {"name": "sig"}), status="failed", evidence=None, error="no")
    text = section(html.page(record(poisoning(1, alarms={"detection by classes": 1}), failed)))
    assert text.count(">failed</td>") == 12


def test_many_cells_are_judged_together():
    def some(number, *counts):
        attack = {**BADNETS, "target": number}
        return [
            poisoning(10 * number + i, attack, seed=i, alarms={SEES: k, OVER: c})
            for i, (k, c) in enumerate(counts)
        ]

    close = ((180, 150), (186, 150), (183, 150))  # by itself 3 in 1,000 over seeds, 4 in 100
    (alone,) = of(*some(1, *close)).rows
    assert alone.excess["Normal use"][1].detected
    nothing = [some(n, (150, 151), (152, 150), (149, 152)) for n in range(2, 9)]
    first, *others = of(*some(1, *close), *(t for trials in nothing for t in trials)).rows
    assert first.excess["Normal use"][1].difference == alone.excess["Normal use"][1].difference
    assert not first.excess["Normal use"][1].detected
    assert not any(row.excess["Normal use"][1].detected for row in others)


@pytest.mark.parametrize("watched", [True, False])
def test_the_document_has_it_too(watched):
    name = "detection by accuracy"
    entries = json.document(record(poisoning(4, alarms={name: 30} if watched else {})))[
        "monitoring"
    ]
    if not watched:
        assert entries == []
        return
    (entry,) = entries
    assert entry["trials"] == [4]
    assert len(entry["alarms"]) == 15
    assert entry["alarms"][name]["value"] == 0.03
    assert entry["alarms"]["detection by classes"] is None
    assert len(entry["beyond_another_clean_model"]) == 6
    assert set(entry["beyond_another_clean_model"].values()) == {None}


def test_the_document_says_what_is_beyond_another_clean_model():
    seeds = ((900, 150), (910, 160))
    trials = [poisoning(i + 1, seed=i, alarms={SEES: k, OVER: c}) for i, (k, c) in enumerate(seeds)]
    (entry,) = json.document(record(*trials))["monitoring"]
    found = entry["beyond_another_clean_model"][SEES]
    assert found["detected"] is True
    assert found["difference"]["value"] == pytest.approx(0.75)
    assert found["difference"]["n"] == 2
