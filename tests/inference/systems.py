"""Small systems under attack whose answers are known, and data for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from casemate.access import GradientAccess
from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.target import FunctionTarget, TorchTarget

SCALE = 8.0


class Linear(nn.Module):
    """scores = scale * (W (x - center)), of inputs of any shape."""

    def __init__(self, weight, center=0.5, scale=SCALE):
        super().__init__()
        self.weight = nn.Parameter(weight.float().clone())
        self.center, self.scale = center, scale

    def forward(self, x):
        return self.scale * (x.flatten(1) - self.center) @ self.weight.T


class Wrapped(nn.Module):
    """What `change` makes of a model's scores and input."""

    def __init__(self, model, change):
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x):
        return self.change(self.model(x), x)


class Counting(nn.Module):
    """Counts calls, samples, and samples whose gradient came back."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.calls = self.forward_samples = self.backward_samples = 0

    def forward(self, x):
        self.calls += 1
        self.forward_samples += len(x)
        if x.requires_grad:
            x.register_hook(self._back)
        return self.model(x)

    def _back(self, gradient):
        self.backward_samples += len(gradient)


def weights(classes, size, seed=0):
    """Return (classes, size) random rows, none of which has an entry near zero."""
    rng = np.random.default_rng(seed)
    w = rng.uniform(0.2, 1.0, (classes, size)) * rng.choice([-1, 1], (classes, size))
    return torch.from_numpy(w / np.sqrt(size))


def data_of(inputs, labels, classes, *, low=0.0, high=1.0, step=None, name="made"):
    inputs = torch.as_tensor(inputs)
    if inputs.dtype != torch.uint8:
        inputs = inputs.float()
    return Dataset.from_arrays(
        name=name,
        inputs=inputs.numpy(),
        labels=torch.as_tensor(labels).long().numpy(),
        classes=tuple(f"class {i}" for i in range(classes)),
        domain=Domain(shape=tuple(inputs.shape[1:]), low=low, high=high, step=step),
    )


def target_of(module, data, *, outputs="logits", preprocessing=None):
    return TorchTarget(
        module,
        domain=data.domain,
        classes=data.classes,
        digest=f"test {type(module).__name__}",
        outputs=outputs,
        preprocessing=preprocessing,
    )


def function_of(function, data, *, outputs="probabilities"):
    return FunctionTarget(
        function, domain=data.domain, classes=data.classes, digest="test", outputs=outputs
    )


def linear_case(classes=3, n=12, shape=(2, 4, 4), *, seed=0, spread=0.15, scale=SCALE):
    """Return a linear model's module and samples around mid-gray that it reads correctly."""
    size = int(np.prod(shape))
    module = Linear(weights(classes, size, seed), scale=scale)
    rng = np.random.default_rng(seed + 1)
    x = torch.from_numpy(rng.uniform(0.5 - spread, 0.5 + spread, (n, *shape))).float()
    with torch.no_grad():
        labels = module(x).argmax(1)
    return module, data_of(x, labels, classes)


def scores_of(module, x):
    with torch.no_grad():
        return module(x)


def no_gradients(monkeypatch):
    """Make every use of a gradient an error."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("a gradient was asked for")

    monkeypatch.setattr(GradientAccess, "gradient", refuse)
    monkeypatch.setattr(torch.autograd, "grad", refuse)
