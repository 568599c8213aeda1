"""What a report makes of trials that end with a deployed model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from report_demo import demo_record, trial

from casemate.campaign.record import Finding
from casemate.evidence import Evidence
from casemate.report import html
from casemate.report import json as report_json
from casemate.report.facts import facts_of, varying
from casemate.report.flipped import flipped
from casemate.report.plots import draw
from casemate.report.struck import struck
from casemate.report.struck_curves import struck_charts
from casemate.report.vulnerability import Cell, maps
from casemate.stats import Measurement, mean, rate

BFA = {"name": "bfa", "objective": "cross-entropy", "budget": 10}


def bits(name, value):
    n = 0 if value is None else 1
    return Measurement(name=name, value=value, n=n, low=None, high=None, unit="bits", method="t")


def made(
    number,
    attack=None,
    *,
    seed=0,
    form="int8",
    defense=None,
    attacker=None,
    right=990,
    under=None,
    until=...,
    tables=None,
    more=(),
):
    """Return a trial on a deployed model that reads `right` of 1,000, and `under` when struck."""
    blank = trial(number, {"name": "none"})
    settings = {
        **blank.settings,
        "attack": None,
        "goal": {"from": None, "to": None},
        "hardware": {
            "format": {"name": form, "scheme": "symmetric", "granularity": "channel"},
            "attack": attack,
            "defense": defense,
            "attacker": attacker,
            "rowhammer": None,
        },
        "seed": seed,
        "model_digest": f"model {seed}",
    }
    for key in ("attacker", "early_stop"):
        settings.pop(key)
    found = [rate("clean accuracy", right, 1000)]
    if under is not None:
        found.append(rate("accuracy under attack", under, 1000))
        found.append(rate("attack success rate", right - under, right))
    if until is not ...:
        found += [bits("bits flipped", 10.0), bits("bits flipped until the goal", until)]
    return replace(
        blank,
        settings=settings,
        threat="hardware-faults" if attack else "",
        control=attack is None,
        evidence=Evidence(measurements=(*found, *more), tables=tables or {}),
    )


def flips(*pairs):
    """Return the table of flips with (bits flipped, accuracy) after each."""
    n = len(pairs)
    return {
        "flips": {
            "tensor": ["fc.weight"] * n,
            "index": [[0, 1]] * n,
            "bit": [7] * n,
            "bits flipped": [x for x, _ in pairs],
            "accuracy": [y for _, y in pairs],
        }
    }


def record(*trials):
    return replace(demo_record(), trials=trials, findings=(), spec={"name": "chip"})


def rows(*trials):
    return struck(facts_of(record(*trials)))


def test_seeds_of_a_setting_are_one_row_and_flips_have_a_median():
    (row,) = rows(
        made(1, BFA, seed=0, under=100, until=20.0),
        made(2, BFA, seed=1, under=110, until=30.0),
        made(3, BFA, seed=2, under=400, until=None),
    )
    assert row.seeds == 3
    assert row.flips == "30 (20 to 30; 2 of 3 seeds)"
    assert row.figures["accuracy under attack"].value == pytest.approx(0.61 / 3)
    assert row.figures["accuracy under attack"].n == 3
    (single,) = rows(made(1, BFA, under=100, until=None))
    assert single.flips == "not reached"
    (most,) = rows(*(made(i, BFA, seed=i, under=100, until=None if i else 5.0) for i in range(3)))
    assert most.flips == "median not reached (1 of 3 seeds)"


def test_formats_defenses_and_attackers_are_rows_of_their_own():
    found = rows(
        made(1, BFA, under=100),
        made(2, BFA, form="int4", under=100),
        made(3, BFA, under=100, defense={"name": "secded"}, attacker="aware"),
        made(4, BFA, under=900, defense={"name": "secded"}, attacker="unaware"),
    )
    assert [r.format for r in found] == ["int8", "int4", "int8", "int8"]
    assert [r.first.attacker for r in found] == [
        None,
        None,
        "attacker aware of it",
        "attacker unaware of it",
    ]
    assert [r.first.budget for r in found] == ["at most 10 flips"] * 4
    assert found[0].first.aim == "availability"


def test_bit_errors_make_a_curve_a_format_from_the_clean_accuracy_on():
    def errors(number, r, form, value, seed):
        made_of = {"name": "bit-errors", "rate": r, "draws": 4}
        under = mean("accuracy under attack", [value - 0.01, value + 0.01], "1")
        return made(number, made_of, seed=seed, form=form, more=(under,))

    trials = [
        errors(10 * i + 2 * j + s, r, form, value - s * 0.02, s)
        for i, form in enumerate(("float32", "int8"))
        for j, (r, value) in enumerate([(1e-3, 0.5 + 0.3 * i), (1e-4, 0.9)])
        for s in (0, 1)
    ]
    (chart,) = struck_charts(rows(*trials))
    assert (chart.over, chart.title) == ("rate", "Accuracy under bit errors")
    assert [s.label for s in chart.series] == ["float32", "int8"]
    for series, worst in zip(chart.series, (0.49, 0.79), strict=True):
        assert [p.x for p in series.points] == [0.0, 1e-4, 1e-3]
        assert [p.value for p in series.points] == pytest.approx([0.99, 0.89, worst])
        assert all(0 <= p.low <= p.value <= p.high <= 1 for p in series.points)
    assert "bit error rate" in draw(chart)


def test_flips_make_steps_over_the_seeds_that_stay_where_a_search_ended():
    trials = [
        made(1, BFA, seed=0, under=100, tables=flips((1, 0.9), (2, 0.5))),
        made(2, BFA, seed=1, under=100, tables=flips((1, 0.7), (2, 0.6), (3, 0.1))),
        made(3, {"name": "random-flips", "budget": 10}, under=990, tables=flips((1, 0.99))),
    ]
    (chart,) = struck_charts(rows(*trials))
    assert chart.title == "Accuracy under flipped bits: int8"
    bfa, control = chart.series
    assert all(p.low < p.value < p.high for p in control.points)  # as wide as the samples leave
    assert [(p.x, pytest.approx(p.value)) for p in bfa.points] == [
        (0.0, 0.99),
        (1.0, 0.8),
        (2.0, 0.55),
        (3.0, 0.3),
    ]
    assert (bfa.control, control.control) == (False, True)
    assert len(struck_charts(rows(*trials, replace(trials[0], number=4)))) == 1


def test_a_bit_that_is_flipped_back_does_not_turn_the_curve_back():
    (chart,) = struck_charts(
        rows(made(1, BFA, under=1, tables=flips((1, 0.9), (2, 0.8), (1, 0.7), (2, 0.6))))
    )
    assert [(p.x, p.value) for p in chart.series[0].points] == [(0, 0.99), (1, 0.9), (2, 0.6)]


def test_attacks_that_lead_to_a_class_have_a_curve_of_that_too():
    def led(*runs):
        table = flips(*((x, accuracy) for x, accuracy, _ in runs))
        table["flips"]["success"] = [success for *_, success in runs]
        return table

    attack = {"name": "t-bfa", "target": 3}
    trials = [
        made(1, attack, seed=0, under=500, tables=led((1, 0.9, 0.2), (2, 0.5, 0.6))),
        made(2, attack, seed=1, under=500, tables=led((2, 0.7, 0.4), (3, 0.6, 1.0))),
        made(3, BFA, under=100, tables=flips((1, 0.9), (2, 0.5))),
    ]
    accuracy, success = struck_charts(rows(*trials))
    assert accuracy.title == "Accuracy under flipped bits: int8"
    assert [s.label for s in accuracy.series] == ["t-bfa", "bfa"]
    assert success.title == "Attack success rate under flipped bits: int8"
    (series,) = success.series
    # what it is before the first flip nobody recorded, so it begins where both seeds have one
    assert [(p.x, pytest.approx(p.value)) for p in series.points] == [(2.0, 0.5), (3.0, 0.8)]
    assert all(0 <= p.low <= p.value <= p.high <= 1 for p in series.points)


def test_success_of_no_input_is_no_point():
    table = flips((1, 0.9), (2, 0.5))
    table["flips"]["success"] = [None, None]
    charts = struck_charts(rows(made(1, {"name": "t-bfa", "target": 3}, under=500, tables=table)))
    assert [c.title for c in charts] == ["Accuracy under flipped bits: int8"]


def vulnerable(*values):
    return {
        "vulnerability": {
            "tensor": ["<fc>", "<fc>", "fc.bias"],
            "layer": ["fc", "fc", "fc"],
            "role": ["weight", "weight", "bias"],
            "bit": [0, 1, 0],
            "population": [10, 10, 4],
            "tried": [5, 5, 4],
            "corruption": list(values),
        }
    }


def test_a_map_has_a_line_a_tensor_and_the_mean_of_the_seeds():
    faults = {"name": "random-faults", "estimator": "stratified", "budget": 8000}
    trials = [
        made(1, faults, seed=0, tables=vulnerable(0.0, 0.2, 1e-4)),
        made(2, faults, seed=1, tables=vulnerable(0.0, 0.4, 3e-4)),
    ]
    (found,) = maps(rows(*trials))
    assert found.bits == (1, 0)
    assert [line.tensor for line in found.lines] == ["<fc>", "fc.bias"]
    first, second = found.lines
    assert [c.value for c in first.cells] == pytest.approx([0.3, 0.0])
    assert [c.words for c in first.cells] == ["30", ""]
    assert second.cells[0] is None
    assert second.cells[1].words == "·"
    assert second.cells[1].tried == 8
    page = html.page(record(*trials))
    assert "&lt;fc&gt;" in page
    assert "<fc>" not in page
    assert "Where one fault hurts" in page


def test_shades_go_by_the_logarithm():
    shades = [
        Cell(bit=0, value=v, tried=1, population=1).shade for v in (0, 1e-9, 1e-4, 1e-2, 0.1, 1)
    ]
    assert shades == [0, 1, 2, 6, 8, 10]


def test_the_document_for_machines_has_all_of_it():
    trials = [
        made(1, BFA, seed=s, under=100, until=u, tables=flips((1, 0.5)))
        for s, u in ((0, 3.0), (1, None))
    ]
    trials[1] = replace(trials[1], number=2)
    found = report_json.document(record(*trials))
    (row,) = found["deployed_models"]
    assert row["flips_until_goal"] == [3.0, None]
    assert row["seeds"] == 2
    assert found["trials"][0]["tables"]["flips"]["accuracy"] == [0.5]
    json.dumps(found, allow_nan=False)


def test_a_rate_that_one_decimal_hides_is_written_in_full():
    rare = mean("mean corruption", [3e-6, 4e-6], "1")
    faults = {"name": "random-faults", "estimator": "stratified", "budget": 8000}
    page = html.page(record(made(1, faults, more=(rare,))))
    assert "0.00035\N{NO-BREAK SPACE}%" in page


def test_a_finding_names_the_bits_that_were_flipped():
    table = flips(*((k + 1, 0.9 - k / 100) for k in range(45)))
    table["flips"]["tensor"] = ["<fc>.weight"] * 45
    found = made(1, BFA, under=500, tables=table)
    finding = Finding(trial=1, title="bfa", message="too much", rule={"measure": "x"})
    page = html.page(replace(record(found), findings=(finding,)))
    assert "Bits that trial 1 flips" in page
    assert "The first 40 of 45; the JSON document has all." in page
    row = '<th scope="row"><bdi>&lt;fc&gt;.weight</bdi></th><td>0, 1</td><td class="num">7</td>'
    assert page.count(row) == 40
    assert page.count(f'{row}<td class="num">90.0\u00a0%</td>') == 1
    one = flipped(facts_of(record(found))[0])[-1]
    assert (one.bits, one.place, one.accuracy, one.success) == (45, "0, 1", 0.46, None)
    assert flipped(facts_of(record(made(2)))[0]) == ()


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, ""), (0.0049, "·"), (0.005, "1"), (0.025, "3"), (1.0, "100")]
)
def test_a_cell_is_rounded_up_from_the_half(value, words):
    assert Cell(bit=0, value=value, tried=1, population=1).words == words


def test_how_integers_are_cut_is_not_said_of_floating_point():
    trials = [made(1, BFA, form="float32", under=500), made(2, BFA, under=500)]
    told = varying(facts_of(record(*trials)))
    assert "granularity" not in told[1]
    assert told[1] == "name float32"
    assert "granularity channel" in told[2]
