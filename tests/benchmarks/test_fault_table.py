from __future__ import annotations

from benchmarks.fault_table import tables


def figure(name, value, low=None, high=None, unit="1"):
    return {
        "name": name,
        "value": value,
        "n": 100,
        "low": low,
        "high": high,
        "unit": unit,
        "method": "t",
    }


def report(*rows, source="mnist"):
    trials, made = [], []
    for number, (gate, figures, flips) in enumerate(rows, 1):
        settings = {"data": {"source": source}, "hardware": {"format": {"name": "int8"}, **gate}}
        trials.append({"number": number, "settings": settings})
        made.append({"trials": [number], "seeds": 5, "figures": figures, "flips_until_goal": flips})
    return {"trials": trials, "deployed_models": made}


def test_flips_until_the_goal_have_their_median_and_each_seed():
    figures = [figure("bits flipped", 24.0, 20.0, 28.0, "bits"), figure("clean accuracy", 0.98)]
    found = tables(report(({"attack": {"name": "bfa"}}, figures, [19, 24, 30, None, 22])))
    title, _, head, _, row = found.splitlines()
    assert title == "**Flips until the goal, mnist**"
    assert head == "| attack | format | clean accuracy | median | by seed | bits flipped |"
    assert row == "| bfa | int8 | 98.00 | 24 | 19 24 30 - 22 | 24.0 [20.0, 28.0] |"


def test_the_attacker_who_knows_stands_beside_the_one_who_does_not():
    def row(attacker, under):
        gate = {"attack": {"name": "bfa"}, "defense": {"name": "secded"}, "attacker": attacker}
        return gate, [figure("accuracy under attack", under), figure("bits flipped", 5)], [None]

    found = tables(report(row("unaware", 0.98), row("aware", 0.11))).splitlines()
    assert found[2].count("unaware: ") == found[2].count("| aware: ") > 0
    assert found[4].startswith("| secded | int8 | bfa | 98.0 |")
    assert "| 11.0 |" in found[4]


def test_rates_of_errors_are_columns_and_small_figures_keep_their_digits():
    def error(rate, under):
        gate = {"attack": {"name": "bit-errors", "rate": rate}}
        flipped = figure("bits flipped", 9, unit="bits")
        accuracies = [figure("clean accuracy", 0.98), figure("accuracy under attack", under)]
        return gate, [*accuracies, flipped], []

    average = (
        {"attack": {"name": "random-faults"}},
        [figure("mean corruption", 0.0000123, 0.00001, 0.000015)],
        [],
    )
    found = tables(report(error(1e-3, 0.5), error(1e-5, 0.97), average)).splitlines()
    assert "| random-faults | int8 | 0.00123 [0.001, 0.0015] | 5 |" in found
    assert "| format | none wrong | 1e-05 | 0.001 |" in found
    assert "| int8 | 98.00 | 97.00 | 50.00 |" in found
    assert not any("Flips until the goal" in line for line in found)


def test_namesakes_are_told_apart_by_lists_and_switches():
    def upsets(where, permanent):
        attack = {"name": "random-upsets", "where": where, "permanent": permanent}
        return {"attack": attack}, [figure("mean corruption", 0.5)], []

    found = tables(report(upsets(["input", "sum"], False), upsets(["sum"], True))).splitlines()
    assert any(line.startswith("| random-upsets, where input or sum | int8 |") for line in found)
    assert any(line.startswith("| random-upsets, where sum, permanent | int8 |") for line in found)
