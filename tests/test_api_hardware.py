"""Attacks on a deployed model from Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import casemate as cm
from casemate.errors import UsageError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def splits():
    return tuple(cm.load_data("digits", split=split) for split in ("train", "test"))


@pytest.fixture(scope="module")
def model(splits):
    recipe = cm.Recipe(epochs=4, precision="float32")
    return cm.train(cm.MLP(), recipe, splits[0], seed=0).target()


def test_attacks_are_run_on_the_same_deployed_model(model, splits, tmp_path):
    train, test = splits
    attacks = [None, cm.BFA(budget=3), cm.RandomFlips(budget=3), cm.BitErrors(rate=1e-3, draws=3)]
    result = cm.attack_hardware(
        model, test, attacks, format="int8", defense=cm.SECDED(), others=train
    )
    clean = {result[i, "clean accuracy"] for i in range(4)}
    assert len(clean) == 1
    assert result["random-flips", "accuracy under attack"].value > 0.9
    assert result["bfa", "bits flipped"].value > 3  # check bits with each
    text = str(result)
    assert "accuracy before deployment" in text
    assert "bit-errors: accuracy under attack" in text
    page = result.report(tmp_path / "chip.html").read_text(encoding="utf-8")
    assert "Deployed models" in page


def test_without_others_the_rest_of_the_samples_is_the_attackers(model, splits):
    result = cm.attack_hardware(model, splits[1], cm.RandomFlips(budget=2), samples=100)
    assert result["accuracy under attack"].n == 100
    with pytest.raises(UsageError, match="set samples to at most 179"):
        cm.attack_hardware(model, splits[1], cm.RandomFlips(budget=2), samples=1000)
    half = cm.attack_hardware(model, splits[1], cm.RandomFlips(budget=2))
    assert half["accuracy under attack"].n == 179


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attacks": []}, "there is no attack"),
        ({"attacks": cm.BFA}, "is no attack on a deployed model"),
        ({"attacks": cm.PGD()}, "is no attack on a deployed model"),
        ({"defense": cm.SECDED}, "is no defense of a deployed model"),
        ({"defense": cm.Median()}, "is no defense of a deployed model"),
        ({"format": "int7"}, "int7"),
        ({"model": "model"}, "load_model"),
        ({"data": "digits"}, "load_data"),
        ({"format": "int8", "defense": cm.Ranger()}, "ranger restricts activations"),
        ({"attacks": cm.BFA(layers=("x",))}, 'has no layer "x"'),
        ({"attacker": "unawre"}, "must be one of aware, unaware"),
        ({"rowhammer": "A_2"}, "MemoryModule"),
        ({"others": "train"}, "another split"),
        ({"format": None}, "format is None, but must be a NumberFormat, or its name"),
        ({"format": {"name": "int8"}}, "must be a NumberFormat, or its name"),
        ({"samples": "10"}, "samples must be a whole number"),
        ({"samples": 10.5}, "samples must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"calibration": "5"}, "calibration must be a whole number, got '5'"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(model, splits, change, words):
    call = {"model": model, "data": splits[1], "attacks": cm.BFA(), "others": splits[0]}
    with pytest.raises(UsageError, match=words):
        cm.attack_hardware(**(call | change))


def test_the_attacker_gets_no_sample_that_is_measured(model, splits):
    with pytest.raises(UsageError, match="give another split, or leave others out"):
        cm.attack_hardware(model, splits[1], cm.BFA(), others=splits[1])


def test_a_model_behind_a_defense_is_not_deployed_without_it(model, splits):
    with pytest.raises(UsageError, match="a defense stands in front"):
        cm.attack_hardware(model.behind(cm.Median()), splits[1], cm.BFA(), others=splits[0])


def test_the_modules_example_runs():
    text = (ROOT / "src" / "casemate" / "api_hardware.py").read_text(encoding="utf-8")
    code = re.search(r'"""[^\n]*\n\n(.*?)"""', text, re.DOTALL)[1].strip()
    page = (ROOT / "docs" / "hardware-attacks.md").read_text(encoding="utf-8")
    assert re.search(r"```python\n(.*?)```", page, re.DOTALL)[1].strip() == code
    quick = code.replace("epochs=5", "epochs=1")
    exec(compile(quick, "api_hardware", "exec"), {})  # noqa: S102 - our own
