"""A model that listens to one feature, its reference that does not, and samples for both."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.inference.exposure import Exposure, expose
from casemate.target import TorchTarget

CLASSES = 4
GOAL = 2
MARK = 5  # the feature that the backdoored model listens to


class Reads(nn.Module):
    """Answers the class whose feature is largest; the mark, if listened to, wins for the goal."""

    def __init__(self, listens):
        super().__init__()
        weight = torch.zeros(CLASSES, 6)
        weight[range(CLASSES), range(CLASSES)] = 4.0
        if listens:
            weight[GOAL, MARK] = 20.0
        self.linear = nn.Linear(6, CLASSES, bias=False)
        self.linear.weight = nn.Parameter(weight)

    def forward(self, x):
        return self.linear(x)


def samples(n=400):
    label = np.arange(n) % CLASSES
    inputs = 0.5 * np.random.default_rng(0).random((n, 6)).astype(np.float32)
    inputs[np.arange(n), label] = 1.0
    inputs[:, MARK] = 0.0
    return Dataset.from_arrays(
        name="features",
        inputs=inputs,
        labels=label,
        classes=("a", "b", "c", "d"),
        domain=Domain(shape=(6,), low=0.0, high=1.0),
    )


def target(data, *, listens):
    return TorchTarget(
        Reads(listens), domain=data.domain, classes=data.classes, digest="d", outputs="logits"
    )


def mark(x):
    x = x.clone()
    x[:, MARK] = 1.0
    return x


def exposed(exposure, *, listens=True, control=None, n=400, **kwargs):
    """Hold a model against its reference; `control` says whether the control listens, if any."""
    data = samples(n)
    model, reference = target(data, listens=listens), target(data, listens=False)
    if control is not None:
        kwargs["control"] = target(data, listens=control)
    return expose(exposure, model, reference, data, **kwargs)


BACKDOOR = Exposure(show=mark, goal=GOAL)
