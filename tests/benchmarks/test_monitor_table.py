from __future__ import annotations

from benchmarks.monitor_table import table


def trial(number, attack, poisoned):
    return {
        "number": number,
        "spent": {} if poisoned is None else {"poisoned samples": poisoned},
        "settings": {"training": {"attack": attack and {"name": attack}, "defense": None}},
    }


def more(value, low, high, *, detected):
    return {"difference": {"value": value, "low": low, "high": high}, "detected": detected}


def test_what_monitors_see_beyond_a_clean_model():
    both = ("detection by accuracy", "detection by accuracy with triggers")
    cells = [
        (more(0.0, -0.01, 0.01, detected=False), None),
        (more(0.3, 0.2, 0.4, detected=True), more(0.5, None, None, detected=None)),
    ]
    report = {
        "trials": [trial(1, None, None), trial(2, "badnets", 600)],
        "monitoring": [
            {
                "trials": [i + 1],
                "beyond_another_clean_model": dict(zip(both, found, strict=True)),
            }
            for i, found in enumerate(cells)
        ],
    }
    assert table(report).splitlines() == [
        "| attack | poisoned | accuracy | accuracy with triggers |",
        "| --- | --- | --- | --- |",
        "| none |  | 0.0 [-1.0, 1.0] |  |",
        "| badnets | 600 | 30.0 [20.0, 40.0] * | 50.0 |",
    ]


def test_without_monitors_there_is_nothing_to_print():
    assert table({"trials": [], "monitoring": []}).splitlines() == ["|  |", "|  |"]
