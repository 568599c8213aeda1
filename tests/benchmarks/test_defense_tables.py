from __future__ import annotations

from statistics import fmean, stdev

from scipy.stats import t as student

from benchmarks.defense_tables import tables


def measured(name, value):
    ends = {"low": value - 0.05, "high": value + 0.05}
    return {"name": name, "value": value, "n": 100, "unit": "1", "method": "wilson", **ends}


def trial(success, *, attack="badnets", defense=None, monitor=None, seed=0, status="finished"):
    gate = {"attack": attack and {"name": attack}, "defense": defense and {"name": defense}}
    found = [measured("clean accuracy", 0.9)]
    if attack is not None:
        found.append(measured("attack success rate", success))
        found.append(measured("attack success rate without the attack", 0.15))
    if monitor is not None:
        found.append(measured("monitor detection", 0.25))
        found.append(measured("monitor detection without the attack", 0.1))
        found.append(measured("monitor false alarms", 0.05))
    return {
        "status": status,
        "settings": {
            "seed": seed,
            "training": gate,
            **({} if monitor is None else {"monitor": {"name": monitor}}),
        },
        "measurements": found if status == "finished" else [],
    }


def test_each_phase_has_a_table_with_the_undefended_model_beside_its_defenses():
    report = {
        "trials": [
            trial(0.0, attack=None),
            trial(0.0, attack=None, defense="fine-tuning"),
            trial(0.8),
            trial(0.1, defense="fine-tuning"),
            trial(0.7, defense="spectral-signatures"),
            trial(0.8, monitor="strip"),
        ]
    }
    before, after, running = tables(report).split("\n\n**")
    assert before.splitlines() == [
        "**Before training**",
        "",
        "| attack | clean model | none | spectral-signatures |",
        "| --- | --- | --- | --- |",
        "| none (clean accuracy) |  | 90.0 [85.0, 95.0] | not asked |",
        "| badnets | 15.0 [10.0, 20.0] | 80.0 [75.0, 85.0] | 70.0 [65.0, 75.0] |",
    ]
    assert after.splitlines()[2:] == [
        "| attack | clean model | none | fine-tuning |",
        "| --- | --- | --- | --- |",
        "| none (clean accuracy) |  | 90.0 [85.0, 95.0] | 90.0 [85.0, 95.0] |",
        "| badnets | 15.0 [10.0, 20.0] | 80.0 [75.0, 85.0] | 10.0 [5.0, 15.0] |",
    ]
    assert running.splitlines()[2:] == [
        "| attack | strip | strip, clean model | strip, false alarms |",
        "| --- | --- | --- | --- |",
        "| badnets | 25.0 [20.0, 30.0] | 10.0 [5.0, 15.0] | 5.0 [0.0, 10.0] |",
    ]


def test_seeds_are_one_cell_and_a_failed_trial_is_told():
    values = [0.2, 0.3, 0.5]
    trials = [trial(v, defense="i-bau", seed=i) for i, v in enumerate(values)]
    half = student.ppf(0.975, 2) * stdev(values) / 3**0.5
    mean = fmean(values)
    wanted = f"{100 * mean:.1f} [{max(0, 100 * (mean - half)):.1f}, {100 * (mean + half):.1f}]"
    assert tables({"trials": trials}).splitlines()[-1] == f"| badnets |  | not asked | {wanted} |"
    trials.append(trial(0.9, defense="i-bau", seed=3, status="failed"))
    assert f"{wanted} (1 of 4 failed) |" in tables({"trials": trials})
    assert "| (1 of 1 failed) |" in tables({"trials": trials[-1:]})
