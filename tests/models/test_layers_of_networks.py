from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models.architecture import initialize, skeleton
from casemate.models.layers import features, has_hidden_layer, head, layers
from casemate.models.lenet import LeNet
from casemate.models.mlp import MLP
from casemate.models.resnet import ResNet
from casemate.models.vgg import VGG
from casemate.random import stream
from casemate.target import Preprocessing, TorchTarget

DOMAIN = Domain(shape=(3, 32, 32))


def target(module, domain=DOMAIN, **options):
    return TorchTarget(module, domain=domain, classes=("a", "b", "c"), digest="d", **options)


def data(n=10):
    inputs = np.random.default_rng(0).random((n, *DOMAIN.shape)).astype(np.float32)
    return Dataset.from_arrays(
        name="made",
        inputs=inputs,
        labels=np.arange(n) % 3,
        classes=("a", "b", "c"),
        domain=DOMAIN,
    )


@pytest.mark.parametrize(
    "architecture", [LeNet(), VGG(), ResNet(), MLP()], ids=lambda a: type(a).__name__
)
def test_the_scores_are_the_last_layers_output_of_the_features(architecture):
    module = initialize(architecture, DOMAIN, 3, stream(0, "test"))
    model = target(module, preprocessing=Preprocessing(mean=(0.4,), std=(0.3,)))
    module.train()
    name, found = features(model, data(), batch_size=3)
    last = head(model)
    assert module.training
    assert (last.name, last.shape) == (name, (3,))
    with torch.no_grad():
        scores = last.module(found)
        torch.testing.assert_close(scores, model_scores(model), rtol=1e-4, atol=1e-4)


def model_scores(model):
    model.module.eval()
    return model.scores(data().batch(slice(None)))


def test_layers_come_in_the_order_in_which_they_run():
    class Crooked(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(4, 3)
            self.first = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.last(self.first(x).mean((2, 3)))

    found = layers(target(Crooked()))
    assert [layer.name for layer in found] == ["first", "last"]
    assert [layer.is_convolution for layer in found] == [True, False]
    assert found[0].shape == (4, 30, 30)


@pytest.mark.parametrize(
    ("architecture", "hidden"),
    [(LeNet(), True), (VGG(), True), (ResNet(), True), (MLP(), True), (MLP(hidden=()), False)],
    ids=str,
)
def test_a_skeleton_tells_whether_there_is_a_hidden_layer(architecture, hidden):
    module = initialize(architecture, DOMAIN, 3, stream(0, "test"))
    assert has_hidden_layer(skeleton(architecture, DOMAIN, 3)) is hidden
    assert (len(layers(target(module))) > 1) is hidden


def test_hooks_are_taken_away_also_after_an_error():
    class Broken(nn.Linear):
        def forward(self, x):
            super().forward(x.flatten(1))
            raise RuntimeError("broken")

    module = Broken(DOMAIN.size, 3)
    with pytest.raises(RuntimeError, match="broken"):
        layers(target(module))
    assert not module._forward_hooks


def test_a_network_without_layers_is_refused():
    means = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # one score a channel
    with pytest.raises(UsageError, match="has no linear or convolutional layer"):
        head(target(means))


def test_no_samples_have_no_features():
    empty = data().select(torch.empty(0, dtype=torch.int64), how="none")
    module = initialize(LeNet(), DOMAIN, 3, stream(0, "test"))
    assert features(target(module), empty)[1].numel() == 0
