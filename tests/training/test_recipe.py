from __future__ import annotations

import math

import pytest
import yaml

from casemate.errors import UsageError
from casemate.identity import key
from casemate.training.adversarial import Adversarial
from casemate.training.augmentation import Augmentation
from casemate.training.recipe import Recipe


def test_yaml_makes_the_same_recipe_as_python():
    text = """
    optimizer: adamw
    learning_rate: 0.003
    schedule: cosine
    epochs: 3
    augmentation: {shift: 2, rotation: 5}
    adversarial: {epsilon: 0.03, step_size: 0.01, steps: 4}
    precision: bfloat16
    """
    recipe = Recipe(
        optimizer="adamw",
        learning_rate=0.003,
        schedule="cosine",
        epochs=3,
        augmentation=Augmentation(shift=2, rotation=5.0),
        adversarial=Adversarial(epsilon=0.03, step_size=0.01, steps=4),
        precision="bfloat16",
    )
    assert Recipe.of(yaml.safe_load(text)) == recipe
    # a number written without its point is the same recipe, down to the key
    assert key(Recipe(learning_rate=1)) == key(Recipe(learning_rate=1.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, r'recipe has no setting "epoch"\. Did you mean "epochs"\?'),
        ({"augmentation": {"shft": 1}}, r'recipe\.augmentation has no setting "shft"\. Did you'),
        ({"adversarial": {"eps": 1}}, r'recipe\.adversarial has no setting "eps"'),
        ({"adversarial": {"epsilon": 0.1}}, r"recipe\.adversarial is incomplete: .*step_size"),
        ({"adversarial": 3}, r"recipe\.adversarial must be a mapping of settings, got 3"),
        ({"augmentation": None}, r"recipe\.augmentation must be a mapping"),
        ([], "recipe must be a mapping"),
        ({"optimizer": "sdg"}, r'recipe\.optimizer cannot be "sdg"\. Did you mean "sgd"\?'),
        ({"schedule": ["cosine"]}, r"recipe\.schedule cannot be"),
        ({"precision": "float16"}, r'recipe\.precision cannot be "float16"'),
        ({"learning_rate": 0}, r"recipe\.learning_rate must be a number above 0, got 0"),
        ({"learning_rate": math.inf}, r"recipe\.learning_rate must be a number"),
        ({"learning_rate": "fast"}, r"recipe\.learning_rate must be a number above 0, got 'fast'"),
        ({"momentum": 1}, r"recipe\.momentum must be a number of at least 0 and at most 0.9999"),
        ({"weight_decay": -1e-4}, r"recipe\.weight_decay must be a number of at least 0"),
        ({"label_smoothing": 1}, r"recipe\.label_smoothing must be"),
        ({"epochs": 0}, r"recipe\.epochs must be a whole number from 1"),
        ({"epochs": 2.0}, r"recipe\.epochs must be a whole number"),
        ({"batch_size": 1}, r"recipe\.batch_size must be a whole number from 2"),
        ({"channels_last": "yes"}, r"recipe\.channels_last must be true or false, got 'yes'"),
        (
            {"adversarial": {"epsilon": 0, "step_size": 1, "steps": 1}},
            r"epsilon must be .* above 0",
        ),
        ({"adversarial": {"epsilon": 1, "step_size": 1, "steps": 0}}, r"steps must be a whole"),
    ],
)
def test_what_makes_no_sense_ends_in_one_sentence(settings, message):
    with pytest.raises(UsageError, match=message) as caught:
        Recipe.of(settings)
    assert "\n" not in str(caught.value)


def test_the_constant_schedule_is_constant():
    recipe = Recipe(schedule="constant", learning_rate=0.2)
    assert {recipe.rate(step, 10) for step in range(10)} == {0.2}


def test_the_cosine_falls_from_the_top_through_half_in_the_middle():
    recipe = Recipe(schedule="cosine", learning_rate=0.2)
    rates = [recipe.rate(step, 10) for step in range(10)]
    assert rates[0] == 0.2
    assert rates[5] == pytest.approx(0.1)
    assert rates == sorted(rates, reverse=True)
    assert rates[9] > 0


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8, 100])
def test_one_cycle_climbs_for_a_quarter_and_falls(steps):
    recipe = Recipe(schedule="one-cycle", learning_rate=0.2)
    rates = [recipe.rate(step, steps) for step in range(steps)]
    top = rates.index(max(rates))
    assert all(0 < r <= 0.2 for r in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert abs(top - steps / 4) <= 1
    if steps == 100:
        assert max(rates) > 0.19
        assert rates[-1] < 0.01
