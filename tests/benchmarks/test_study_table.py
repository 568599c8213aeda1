from __future__ import annotations

from benchmarks.study_table import pooled, table

ADAM = {"optimizer": "adam", "learning_rate": 0.002, "epochs": 4}
SGD = {"optimizer": "sgd", "learning_rate": 0.1, "epochs": 4}


def model(digest, recipe):
    accuracy = {"value": 0.9, "n": 100, "low": 0.8, "high": 0.95}
    return {"digest": digest, "name": "vgg", "recipe": recipe, "accuracy": accuracy}


def trial(value, n, *, digest="m", attack="bim", defense=None, attacker=None, **parameters):
    return {
        "measurements": [{"name": "attack success rate", "value": value, "n": n}],
        "settings": {
            "model_digest": digest,
            "attack": {"name": attack, **parameters},
            "defense": defense,
            "attacker": attacker,
        },
    }


FILTER = {"name": "median", "window": 3}


def test_scenarios_are_pooled_by_their_counts():
    trials = [trial(0.5, 10, epsilon=8 / 255), trial(1.0, 30, epsilon=8 / 255), trial(None, 0)]
    assert pooled(trials) == {
        ("m", "bim 8/255", "none"): {"-": (35, 40)},
        ("m", "bim", "none"): {"-": (0, 0)},
    }


def test_positions_are_columns_and_what_says_nothing_is_left_out():
    trials = [
        trial(1.0, 4),
        trial(0.0, 4, defense=FILTER, attacker="before"),
        trial(0.5, 4, defense=FILTER, attacker="aware"),
    ]
    lines = table({"models": [model("m", SGD)], "trials": trials}).splitlines()
    assert lines[0] == "| attack | filter | no filter | before it, unaware | before it, aware |"
    assert lines[2].startswith("| bim | none | 100 % [51, 100] |")
    assert lines[3] == "| bim | median 3 |  | 0 % [0, 49] | 50 % [15, 85] |"


def test_models_are_told_apart_by_what_differs():
    report = {
        "models": [model("a", ADAM), model("b", SGD)],
        "trials": [trial(1.0, 4, digest="a"), trial(0.5, 4, digest="b", epsilon=8 / 255, steps=40)],
    }
    lines = table(report).splitlines()
    assert lines[0] == "| model | attack | no filter |"
    assert lines[2].startswith("| adam learning rate 0.002; accuracy 90.0 % [82.6, 94.5] | bim |")
    assert lines[3].startswith("| sgd learning rate 0.1; accuracy")
    assert "| bim 8/255, steps 40 |" in lines[3]
