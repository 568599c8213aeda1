"""A small network that is trained once for all tests of the inference gate."""

from __future__ import annotations

import copy

import pytest
import torch
from steppers import Recorder
from systems import data_of, scores_of
from torch import nn
from trials import Edges

from casemate.data.digits import Digits
from casemate.models.load import target_from


@pytest.fixture(scope="session")
def digits():
    """Test split of the digits."""
    return Digits().load("test")


@pytest.fixture(scope="session")
def _trained():
    train = Digits().load("train")
    x, y = train.batch(slice(None)), train.targets
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential()
        net.add_module("conv", nn.Conv2d(1, 16, 3, padding=1))
        net.add_module("norm", nn.BatchNorm2d(16))
        net.add_module("relu", nn.ReLU(inplace=True))
        net.add_module("pool", nn.MaxPool2d(2))
        net.add_module("flatten", nn.Flatten())
        net.add_module("drop", nn.Dropout(0.2))
        net.add_module("out", nn.Linear(256, 10))
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(8):
            for rows in torch.randperm(len(y)).split(128):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
    for parameter in net.parameters():
        parameter.grad = None
    return net.eval()


@pytest.fixture
def trained(_trained):
    """A network of conv, norm, relu, pool, flatten, drop and out that reads digits; a copy."""
    return copy.deepcopy(_trained)


@pytest.fixture
def healthy(trained, digits):
    """That network as a target."""
    return target_from(trained, domain=digits.domain, classes=digits.classes)


@pytest.fixture
def recorder():
    """An attack that keeps what it was given, and has nothing yet."""
    Recorder.seen.clear()
    Recorder.answers.clear()
    return Recorder()


@pytest.fixture
def textured():
    """A model that likes fine texture, and smooth images that it reads correctly."""
    module = Edges()
    generator = torch.Generator().manual_seed(2)
    smooth = torch.rand((60, 1, 4, 4), generator=generator)
    x = nn.functional.interpolate(smooth, (8, 8), mode="bilinear", align_corners=False)
    return module, data_of(x, scores_of(module, x).argmax(1), 3)
