from __future__ import annotations

from statistics import fmean, stdev

from scipy.stats import t as student

from benchmarks.training_table import table


def measured(name, value, unit="1", n=100):
    low, high = (value - 0.05, value + 0.05)
    return {
        "name": name,
        "value": value,
        "n": n,
        "low": low,
        "high": high,
        "unit": unit,
        "method": "wilson",
    }


def trial(seed, success, *, attack="badnets", defense=None, status="finished"):
    return {
        "number": seed + 1,
        "status": status,
        "spent": {"poisoned samples": 600},
        "settings": {
            "seed": seed,
            "training": {
                "attack": attack
                and {"name": attack, "target": 0, "alpha": 0.2, "amount": {"percent": 1}},
                "defense": defense and {"name": defense},
                "clean": 0,
            },
        },
        "measurements": [
            measured("clean accuracy", 0.99),
            measured("attack success rate", success),
            measured("distance linf", 0.5, unit="domain units"),
        ],
    }


def test_seeds_of_a_setting_are_one_row_with_their_mean_and_students_interval():
    values = [0.6, 0.62, 0.67]
    added = {**measured("success that the poison adds", 0.4), "low": 0.3, "high": 0.5}
    report = {
        "trials": [trial(i, v) for i, v in enumerate(values)],
        "sensitivity": [{"settings": [{"trials": [1, 2, 3], "added": added}]}],
    }
    half = student.ppf(0.975, 2) * stdev(values) / 3**0.5
    mean = fmean(values)
    head, _, row = table(report).splitlines()
    assert head == (
        "| attack | poisoned | clean accuracy | success | success by seed | added by the poison | "
        "L-inf | seeds |"
    )
    assert "| 60.0 62.0 67.0 | 40.0 [30.0, 50.0] |" in row
    assert f"| {100 * mean:.1f} [{100 * (mean - half):.1f}, {100 * (mean + half):.1f}] |" in row
    assert row.startswith("| badnets | 600 |")
    assert row.endswith("| 3 |")


def test_one_seed_has_its_own_interval_and_defenses_rows_of_their_own():
    report = {
        "trials": [
            trial(0, 0.9),
            trial(0, 0.1, defense="fine-tuning"),
            trial(0, 0.5, status="failed"),
        ]
    }
    head, _, *rows = table(report).splitlines()
    assert "defense" in head
    assert [r.split(" | ")[1] for r in rows] == ["none", "fine-tuning"]
    assert "90.0 [85.0, 95.0]" in rows[0]
    assert "0.500 [0.450, 0.550]" in rows[0]


def test_parameters_are_named_where_they_tell_rows_apart_and_rates_stay_rates():
    other = trial(0, 0.99)
    other["settings"]["training"]["attack"]["alpha"] = 0.5
    report = {"trials": [trial(0, 0.4), trial(1, 0.99), other]}
    _, _, first, second = table(report).splitlines()
    assert first.startswith("| badnets, alpha 0.2 | 600 |")
    assert second.startswith("| badnets, alpha 0.5 | 600 |")
    assert "[0.0, 100.0]" in first
