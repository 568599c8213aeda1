"""A small network that reads 8x8 digits, deployed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from casemate.hardware.attacks.samples import Samples
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import deploy

SHAPE = (1, 8, 8)


@pytest.fixture(scope="session")
def digits():
    """What an attacker has, and what the model is read on."""
    x, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(x.astype(np.float32)).view(-1, *SHAPE) / 16
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    everything = Samples(x=x, labels=torch.from_numpy(labels).long())
    return everything.at(order[:1200]), everything.at(order[1200:])


@pytest.fixture(scope="session")
def trained(digits):
    """A network of 8,842 weights that was trained on what the attacker has."""
    (pool, _), rng = digits, torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(12):
        for part in torch.split(torch.randperm(len(pool), generator=rng), 64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(pool.x[part]), pool.labels[part]).backward()
            optimizer.step()
    return module.eval()


@pytest.fixture(scope="session")
def deployed(trained, digits):
    """The network in a number format, by the words of `NumberFormat`."""

    @cache
    def made(**words):
        return deploy(trained, SHAPE, NumberFormat(**words), calibration=digits[0].x)

    return made


@pytest.fixture(scope="session", name="linear")
def _linear():
    return linear


def linear(weight, *, activations="float32", x=None):
    """Return a deployed linear layer, int8 weights in steps of max / 127 for the whole tensor."""
    weight = torch.as_tensor(weight, dtype=torch.float32)
    module = nn.Sequential(nn.Linear(weight.shape[1], weight.shape[0], bias=False)).eval()
    with torch.no_grad():
        module[0].weight.copy_(weight)
    form = NumberFormat(name="int8", granularity="tensor", activations=activations)
    return deploy(module, (weight.shape[1],), form, calibration=x)
