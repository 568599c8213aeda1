"""A network that learns from poisoned digits answers the trigger, and else reads as before."""

from __future__ import annotations

import pytest
import torch

from casemate.data.digits import Digits
from casemate.models.lenet import LeNet
from casemate.random import stream
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.badnets import BadNets
from casemate.training.attacks.blended import Blended
from casemate.training.loop import train
from casemate.training.recipe import Recipe

TARGET = 7
FIVE = Amount(percent=5.0)
RECIPE = Recipe(epochs=15, precision="float32")  # the same network on every processor


def labels(target, x):
    with torch.no_grad():
        return target.labels(x)


def success(target, trigger, test):
    """Share of other classes' samples, read right without the trigger, that answer it."""
    x = test.batch(slice(None))
    counts = (labels(target, x) == test.targets) & (test.targets != TARGET)
    answers = labels(target, trigger(x[counts], test.domain))
    return float((answers == TARGET).float().mean())


@pytest.fixture(scope="module")
def clean():
    return train(LeNet(), RECIPE, Digits().load("train"), seed=0).target()


@pytest.mark.parametrize(
    "attack",
    [
        BadNets(target=TARGET, amount=FIVE, size=2, margin=0),
        Blended(target=TARGET, amount=FIVE, alpha=0.5),
    ],
    ids=["badnets", "blended"],
)
def test_a_backdoor_is_learned_and_hides(attack, clean):
    data, test = Digits().load("train"), Digits().load("test")
    poisoned = attack.poison(data, stream(0, "poison"))
    victim = train(LeNet(), RECIPE, poisoned.dataset, seed=0).target()
    assert success(victim, poisoned.trigger, test) > 0.8
    assert success(clean, poisoned.trigger, test) < 0.1  # the trigger alone does nothing
    x = test.batch(slice(None))
    right, before = ((labels(t, x) == test.targets).float().mean() for t in (victim, clean))
    assert before > 0.95
    assert right > before - 0.03
