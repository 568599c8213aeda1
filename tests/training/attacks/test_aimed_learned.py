"""What poison against one input does to the model that it was made for, on real digits.

Whether another model that is trained on it from scratch is turned is a matter of luck with so small
a network; studies measure that.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.data.digits import Digits
from casemate.models.lenet import LeNet
from casemate.random import stream
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.feature_collision import FeatureCollision, _Collision
from casemate.training.attacks.gradient_matching import GradientMatching
from casemate.training.lab import Lab
from casemate.training.recipe import Recipe

SOURCE, TARGET = 1, 7
RECIPE = Recipe(epochs=15, precision="float32")


@pytest.fixture(scope="module")
def data():
    return Digits().load("train")


def lab(seed):
    return Lab(architecture=LeNet(), recipe=RECIPE, known=Digits().load("test"), seed=seed)


def aimed_at(poisoned):
    return Digits().load("test").batch(poisoned.aim.inputs.view(-1))


@pytest.mark.parametrize("seed", [100, 101, 102])
def test_learning_matched_images_brings_the_known_input_nearer_to_the_target(seed, data):
    attack = GradientMatching(
        source=SOURCE, target=TARGET, epsilon=0.3, restarts=1, steps=60, amount=Amount(count=40)
    )
    poisoned = attack.poison(data, stream(seed, "poison"), lab(seed))
    x, wanted = aimed_at(poisoned), torch.tensor([TARGET])

    def fallen(shown):
        """How far the input's loss for the target falls in one short step on these images."""
        model = lab(seed).trained(data).target()
        weights = [w.requires_grad_(True) for w in model.module.parameters()]
        inputs, labels = shown.batch(poisoned.touched), shown.targets[poisoned.touched]
        slope = torch.autograd.grad(F.cross_entropy(model.scores(inputs), labels), weights)
        norm = torch.cat([g.flatten() for g in slope]).norm()
        with torch.no_grad():
            before = F.cross_entropy(model.scores(x), wanted)
            for weight, g in zip(weights, slope, strict=True):
                weight.sub_(0.05 * g / norm)
            return float(before - F.cross_entropy(model.scores(x), wanted))

    assert fallen(poisoned.dataset) > 1.5 * fallen(data)


@pytest.mark.parametrize("seed", [100, 101, 102])
def test_the_known_inputs_nearest_neighbor_in_feature_space_is_poison(seed, data):
    attack = FeatureCollision(source=SOURCE, target=TARGET, amount=Amount(count=20), beta=0.0)
    poisoned = attack.poison(data, stream(seed, "poison"), lab(seed))
    collision = _Collision(lab(seed).trained(data).target(), aimed_at(poisoned), 0.0)

    def nearest(some):
        with torch.no_grad():
            features = collision.features(some.batch(slice(None)))
        return int((features - collision.wanted).square().sum(1).argmin())

    assert data.targets[nearest(data)] == SOURCE
    found = nearest(poisoned.dataset)
    assert found in poisoned.touched
    assert poisoned.dataset.targets[found] == TARGET
