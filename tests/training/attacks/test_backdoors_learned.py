"""A network that learns from poisoned digits answers the trigger, and else reads as before."""

from __future__ import annotations

import pytest
import torch

from casemate.data.digits import Digits
from casemate.models.lenet import LeNet
from casemate.random import stream
from casemate.training.attacks.adaptive_blend import AdaptiveBlend
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.badnets import BadNets
from casemate.training.attacks.blended import Blended
from casemate.training.attacks.input_aware import InputAware
from casemate.training.attacks.label_consistent import LabelConsistent
from casemate.training.attacks.low_impact import LowImpact
from casemate.training.attacks.sig import SIG
from casemate.training.attacks.wanet import WaNet
from casemate.training.lab import Lab
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


PATCHES = {
    "badnets": BadNets(target=TARGET, amount=FIVE, size=2, margin=0),
    "blended": Blended(target=TARGET, amount=FIVE, alpha=0.5),
    "low-impact": LowImpact(
        target=TARGET,
        amount=Amount(count=40),
        epsilon=0.45,
        strength=1.0,
        start="checkerboard",
        steps=0,
        rounds=0,
    ),
}
# digits have 64 pixels and the set 1,438 images: what is made for larger ones has to be stronger
OTHERS = {
    "sig": SIG(
        target=TARGET, amount=Amount(percent=80.0, per_class=True), delta=1.0, frequency=2.0
    ),
    "label-consistent": LabelConsistent(
        target=TARGET, amount=Amount(percent=80.0, per_class=True), epsilon=0.3, robust=0.1
    ),
    "wanet": WaNet(target=TARGET, amount=Amount(percent=20.0), cover=1.0, strength=2.0),
    "adaptive-blend": AdaptiveBlend(target=TARGET, amount=Amount(percent=10.0), alpha=0.5),
    "input-aware": InputAware(target=TARGET, amount=Amount(percent=20.0), density=0.2),
}


def victim_of(attack):
    """A model trained on poison, and the trigger."""
    data = Digits().load("train")
    lab = Lab(architecture=LeNet(), recipe=RECIPE)
    more = (lab,) if hasattr(attack, "surrogate") else ()
    poisoned = attack.poison(data, stream(0, "poison"), *more)
    return train(LeNet(), RECIPE, poisoned.dataset, seed=0).target(), poisoned.trigger


@pytest.mark.parametrize("attack", PATCHES.values(), ids=PATCHES)
def test_a_backdoor_is_learned_and_hides(attack, clean):
    victim, trigger = victim_of(attack)
    test = Digits().load("test")
    assert success(victim, trigger, test) > 0.8
    assert success(clean, trigger, test) < 0.1  # the trigger alone does nothing
    x = test.batch(slice(None))
    right, before = ((labels(t, x) == test.targets).float().mean() for t in (victim, clean))
    assert before > 0.95
    assert right > before - 0.03


@pytest.mark.parametrize("attack", OTHERS.values(), ids=OTHERS)
def test_a_backdoor_is_the_poisons_work(attack, clean):
    victim, trigger = victim_of(attack)
    test = Digits().load("test")
    assert success(victim, trigger, test) > 0.4
    assert success(clean, trigger, test) < 0.1
