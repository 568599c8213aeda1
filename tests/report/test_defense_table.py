from __future__ import annotations

from dataclasses import replace

import pytest
from poisoned_trials import badnets, collapsing, flips, measuring, poisoned, record, rows

from casemate.evidence import FALSE_FLAG, FLAGGED, NAMED, HealthFlag, Severity, Verdict
from casemate.report import html, json
from casemate.report.defense_table import NOT_ASKED, defense_tables
from casemate.report.facts import facts_of
from casemate.report.standing import defenses
from casemate.stats import Measurement, mean, rate

TUNING, SIGNS = {"name": "fine-tuning", "epochs": 2}, {"name": "spectral-signatures"}
FLAG = HealthFlag(id="weak-reference", severity=Severity.FAILURE, message="weak")


def costly(made, seconds, models, samples):
    spent = {"defender's models": models, "defender's training samples": samples}
    time = Measurement(
        name="seconds of the defense", value=seconds, n=1, low=None, high=None, unit="s", method="t"
    )
    evidence = made.evidence
    return replace(
        made,
        evidence=replace(
            evidence,
            measurements=(*evidence.measurements, time),
            spent={**evidence.spent, **spent},
        ),
    )


def one(*trials):
    (found,) = defense_tables(rows(*trials))
    return found


def failed(made, **fields):
    return replace(made, **{"status": "failed", "evidence": None, "error": "broken", **fields})


def test_rows_are_attacks_and_columns_defenses_and_no_cell_is_blank():
    found = one(
        measuring(poisoned(1, badnets(), hits=97), null=4),
        measuring(poisoned(2, badnets(), hits=12, right=940, defense=TUNING), null=4),
        poisoned(3, flips(40.0), right=900),
        measuring(
            poisoned(4, flips(40.0), right=930, defense=SIGNS),
            precision_of_removal=50,
            recall_of_removal=80,
        ),
        poisoned(5, None, share=None),
        poisoned(6, None, right=945, defense=TUNING, share=None),
    )
    assert [c.words for c in found.columns] == [
        "none",
        "fine-tuning epochs 2",
        "spectral-signatures",
    ]
    assert [c.name for c in found.columns] == ["none", "fine-tuning", "spectral-signatures"]
    assert [r.first.attack for r in found.rows] == ["no attack", "badnets", "label-flips"]
    null, backdoor, labels = found.rows
    assert [c.success and c.success.value for c in backdoor.cells] == [0.97, 0.12, None]
    assert [c.accuracy and c.accuracy.value for c in backdoor.cells] == [0.95, 0.94, None]
    assert backdoor.clean_model.value == 0.04
    assert backdoor.cells[2].notes == (NOT_ASKED,)
    # who wants any error has no success beside the accuracy
    assert [c.success for c in labels.cells] == [None] * 3
    assert [(w, m.value) for w, m in labels.cells[2].small] == [("precision", 0.5), ("recall", 0.8)]
    assert labels.clean_model is None
    assert [c.accuracy and c.accuracy.value for c in null.cells] == [0.95, 0.945, None]
    assert all(c.notes or c.accuracy for r in found.rows for c in r.cells)


def judging(made, *found):
    evidence = made.evidence
    return replace(made, evidence=replace(evidence, measurements=(*evidence.measurements, *found)))


def test_what_a_defense_says_of_a_backdoor_is_a_share_of_the_seeds():
    cleanse, private = {"name": "neural-cleanse"}, {"name": "private-training"}
    bound = Measurement(
        name="epsilon", value=2.5, n=1, low=2.5, high=2.5, unit="nats", method="exact"
    )
    trials = [
        judging(
            poisoned(1 + s, badnets(), seed=s, defense=cleanse),
            rate(FLAGGED, 1, 1),
            rate(NAMED, int(s == 0), 1),
        )
        for s in range(3)
    ]
    trials += [
        judging(
            poisoned(4 + s, None, seed=s, defense=cleanse, share=None),
            rate(FALSE_FLAG, int(s == 0), 1),
        )
        for s in range(3)
    ]
    trials += [
        judging(poisoned(7 + s, badnets(), seed=s, defense=private), bound) for s in range(3)
    ]
    null, backdoor = one(*trials).rows
    assert dict(null.cells[1].small) == {"flagged falsely": rate(FALSE_FLAG, 1, 3)}
    assert dict(backdoor.cells[1].small) == {
        "backdoor flagged": rate(FLAGGED, 3, 3),
        "target named": rate(NAMED, 1, 3),
    }
    assert [(w, m.value) for w, m in backdoor.cells[2].small] == [("epsilon", 2.5)]
    made = record(*trials)
    page = html.page(made).replace("\u00a0", " ")
    assert 'backdoor flagged 100.0 % <span class="between">[43.9, 100.0]</span>' in page
    assert 'flagged falsely 33.3 % <span class="between">[6.1, 79.2]</span>' in page
    cells = json.document(made)["training_defenses"][0]["rows"][1]["cells"]
    assert {m["name"]: (m["value"], m["n"]) for m in cells[1]["measurements"]}[FLAGGED] == (1, 3)


def test_namesakes_are_told_apart_by_what_differs():
    losses = [{"name": "robust-loss", "loss": loss, "q": 0.7} for loss in ("a", "b")]
    found = one(*(poisoned(i, badnets(), defense=d) for i, d in enumerate((*losses, TUNING), 1)))
    assert [c.name for c in found.columns] == [
        "none",
        "robust-loss (loss a)",
        "robust-loss (loss b)",
        "fine-tuning",
    ]
    assert found.columns[1].words == "robust-loss loss a, q 0.7"


def test_a_campaign_without_null_rows_is_told_so():
    found = one(poisoned(1, badnets(), defense=TUNING))
    assert [c.name for c in found.columns] == ["none", "fine-tuning"]
    null, row = found.rows
    assert null.first is None
    assert [c.notes for c in null.cells] == [(NOT_ASKED,)] * 2
    assert row.cells[0].notes == (NOT_ASKED,)


def test_seeds_are_one_cell_with_an_interval_cut_to_shares():
    found = one(
        *(poisoned(1 + s, badnets(), seed=s, hits=h, defense=TUNING) for s, h in enumerate((1, 9)))
    )
    cell = found.rows[1].cells[1]
    assert (cell.success.value, cell.success.n, cell.success.low) == (pytest.approx(0.05), 2, 0)
    assert cell.success.high == mean("x", [0.01, 0.09], "1").high
    assert len(cell.row.trials) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "failed", "evidence": None, "error": "broken"}, "failed (broken)"),
        ({"status": "not run", "evidence": None}, "not run"),
        (
            {"verdict": Verdict.INCONCLUSIVE, "reasons": ("cannot be told",)},
            "inconclusive (cannot be told)",
        ),
    ],
)
def test_a_cell_says_what_became_of_its_trials(change, words):
    bad = replace(poisoned(2, badnets(), defense=TUNING), **change)
    good = poisoned(3, badnets(), defense=TUNING, seed=1)
    assert one(poisoned(1, badnets()), bad).rows[1].cells[1].notes == (words,)
    both = one(bad, good).rows[1].cells[1]
    assert both.notes == (f"1 of 2 seeds: {words}",)
    assert both.success is not None


def test_a_cell_whose_flags_make_it_worthless_says_so():
    made = poisoned(1, badnets(), hits=0, defense=TUNING)
    weak = replace(made, evidence=replace(made.evidence, flags=(FLAG,)))
    words = "low success proves nothing (weak-reference)"
    assert one(weak).rows[1].cells[1].notes == (words,)
    judged = replace(weak, verdict=Verdict.INCONCLUSIVE, reasons=("long",))
    assert one(judged).rows[1].cells[1].notes == ("inconclusive (weak-reference)",)


def test_what_was_not_measured_is_called_so():
    made = poisoned(1, badnets(), defense=TUNING)
    bare = replace(made, evidence=replace(made.evidence, measurements=()))
    assert one(bare).rows[1].cells[1].notes == ("success not measured",)


def test_a_monitor_and_a_filter_are_columns_as_well():
    plain = poisoned(1, badnets())
    strip = {"name": "strip", "overlays": 100}
    watched = measuring(
        replace(plain, number=2, settings={**plain.settings, "monitor": strip}),
        monitor_detection=90,
        monitor_false_alarms=1,
    )
    median = {"name": "median", "size": 3}
    filtered = replace(plain, number=3, settings={**plain.settings, "defense": median})
    found = one(plain, watched, filtered)
    assert [c.name for c in found.columns] == ["none", "watched by strip", "median"]
    assert [c.words for c in found.columns][1:] == [
        "watched by strip overlays 100",
        "median size 3",
    ]
    assert len(found.rows) == 2
    assert [(w, m.value) for w, m in found.rows[1].cells[1].small] == [
        ("detected", 0.9),
        ("false alarms", 0.01),
    ]
    assert found.costs == ()


def test_attacks_without_any_defense_make_no_table():
    assert defense_tables(rows(poisoned(1, badnets()), poisoned(2, None, share=None))) == ()


def test_held_out_samples_make_another_system():
    one_half = poisoned(1, badnets(), defense=TUNING)
    gate = {**one_half.settings["training"], "clean": 500}
    other = replace(one_half, number=2, settings={**one_half.settings, "training": gate})
    found = defense_tables(rows(one_half, other))
    assert [t.system for t in found] == ["clean 0", "clean 500"]
    assert [t.costs[0].clean for t in found] == [0, 500]


def test_costs_are_medians_over_all_trials_with_the_defense():
    found = one(
        *(
            costly(poisoned(1 + s, badnets(), seed=s, defense=TUNING), seconds, models, 60_000)
            for s, (seconds, models) in enumerate(((1.0, 2), (9.0, 2), (5.0, 8)))
        ),
        costly(poisoned(4, None, right=940, defense=TUNING, share=None), 100.0, 2, 60_000),
        failed(poisoned(5, flips(40.0), defense=TUNING)),
        poisoned(6, badnets(), defense=SIGNS),
    )
    tuning, signs = found.costs
    assert (tuning.defense, tuning.trials, tuning.measured) == ("fine-tuning epochs 2", 5, 4)
    assert (tuning.seconds.value, tuning.models.value, tuning.samples.value) == (7.0, 2.0, 60_000)
    assert tuning.drop.value == pytest.approx(0.02)
    assert (signs.seconds.value, signs.models.value, signs.drop) == (None, None, None)


def test_clean_samples_count_for_those_who_need_them():
    def held(number, defense):
        made = poisoned(number, badnets(), defense=defense)
        gate = {**made.settings["training"], "clean": 500}
        return replace(made, settings={**made.settings, "training": gate})

    gone = {"name": "no-longer-installed"}
    made = record(held(1, TUNING), held(2, SIGNS), held(3, gone))
    (found,) = json.document(made)["training_defenses"]
    assert [(c["clean"], c["needs_clean"]) for c in found["costs"]] == [
        (500, True),
        (500, False),
        (500, None),
    ]
    text = html.page(made)
    costs = text[text.index('id="costs-1"') : text.index('id="trials"')]
    assert costs.count('<td class="num">500</td>') == 2
    assert costs.count('<td class="num">none needed</td>') == 1


def test_the_page_has_table_and_costs_and_escapes_them():
    bad = {"name": "<b>x</b>"}
    made = record(
        measuring(poisoned(1, badnets(), hits=97), null=4),
        costly(poisoned(2, badnets(), defense=TUNING), 75.0, 3, 60_000),
        failed(poisoned(3, badnets(), defense=bad), error="<b>no</b>"),
    )
    text = html.page(made)
    section = text[text.index('id="training-defenses"') : text.index('id="trials"')]
    assert "<b>" not in section
    assert "failed (&lt;b&gt;no&lt;/b&gt;)" in section
    assert section.count(NOT_ASKED) >= 3
    assert "1\u00a0min 15\u00a0s" in section


def test_a_cell_says_what_the_paper_of_the_attack_claims_to_evade():
    warp = {"name": "wanet", "target": 0, "amount": {"percent": 10}}
    made = record(
        poisoned(1, warp, defense={"name": "neural-cleanse"}),
        poisoned(2, warp, defense={"name": "fine-tuning"}),
        poisoned(3, badnets(), defense={"name": "neural-cleanse"}),
    )
    (found,) = json.document(made)["training_defenses"]
    cells = {row["attack"]: row["cells"] for row in found["rows"]}
    assert [c["claimed_to_evade"] for c in cells["wanet"]] == [[], ["neural-cleanse"], []]
    assert [c["claimed_to_evade"] for c in cells["badnets"]] == [[], [], []]
    assert html.page(made).count("claimed to evade neural-cleanse") == 1


def test_the_document_has_the_table():
    made = record(
        measuring(poisoned(1, badnets(), hits=97), null=4),
        costly(poisoned(2, badnets(), hits=9, defense=TUNING), 75.0, 3, 60_000),
    )
    (found,) = json.document(made)["training_defenses"]
    assert found["defenses"] == ["none", "fine-tuning epochs 2"]
    null, row = found["rows"]
    assert [c["notes"] for c in null["cells"]] == [[NOT_ASKED]] * 2
    assert row["clean_model"]["value"] == 0.04
    assert [c["trials"] for c in row["cells"]] == [[1], [2]]
    assert [m["value"] for m in row["cells"][1]["measurements"]] == [0.09, 0.95]
    assert found["costs"][0]["seconds"]["value"] == 75.0


def test_the_drop_that_a_defense_costs_keeps_to_what_is_possible():
    nobody = [
        poisoned(i, None, seed=i, right=right, share=None, defense=TUNING)
        for i, right in enumerate((960, 0), 1)
    ]
    (cost,) = one(*nobody).costs
    assert cost.drop.value == pytest.approx(0.48)
    assert (cost.drop.low, cost.drop.high) == (-1, 1)
    assert "[-100.0, 100.0]" in html.page(record(*nobody))


def test_a_cell_says_whose_victim_collapsed():
    made = [poisoned(1 + s, badnets(), seed=s, hits=99, defense=TUNING) for s in (0, 1)]
    (row,) = one(made[0], collapsing(made[1], 99)).rows[1:]
    assert row.cells[1].notes == ("1 of 2 seeds: victim collapsed, no backdoor",)


PRUNING = {
    "name": "fine-pruning",
    "epochs": 100,
    "batch_size": 256,
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "tolerance": 0.1,
    "step": 0.01,
    "validation": 0.2,
}


def test_a_defense_is_named_by_what_sets_it_apart_and_its_parameters_are_shown_whole():
    alone = [poisoned(1, badnets()), poisoned(2, badnets(), defense=PRUNING)]
    assert defenses(facts_of(record(*alone))) == {2: "fine-pruning"}
    other = poisoned(3, badnets(), defense={**PRUNING, "epochs": 5})
    front = replace(
        alone[0], number=4, settings={**alone[0].settings, "defense": {"name": "median", "size": 3}}
    )
    assert defenses(facts_of(record(*alone, other, front))) == {
        2: "fine-pruning (epochs 100)",
        3: "fine-pruning (epochs 5)",
        4: "median",
    }
    text = html.page(record(*alone))
    words = (
        "fine-pruning epochs 100, batch size 256, learning rate 0.01, momentum 0.9, "
        "weight decay 0.0005, tolerance 0.1, step 0.01, validation 0.2"
    )
    assert f'<p class="small">Defense: <bdi>{words}</bdi></p>' in text
    assert "characters)" not in text


def test_sentences_are_shown_whole_and_errors_of_others_are_cut():
    reason = "the value keeps to at most 20 %, but the interval does not; " * 4
    unsettled = replace(
        poisoned(1, badnets(), defense=TUNING),
        verdict=Verdict.INCONCLUSIVE,
        reasons=(reason.strip(),),
    )
    broken = failed(poisoned(2, badnets(), defense=SIGNS), error="e" * 400)
    text = html.page(record(unsettled, broken))
    section = text[text.index('id="training-defenses"') : text.index('id="trials"')]
    assert f"inconclusive ({reason.strip()})" in section
    assert "(400 characters)" in section
