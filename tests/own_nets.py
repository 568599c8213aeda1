"""Networks of a user's own, in a file beside the campaign: factories that work and that do not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SOURCE", "forget", "write_nets"]

SOURCE = """
import os
import random

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, shape, classes, width=4):
        super().__init__()
        channels, height, _ = shape
        side = height // 2
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.hidden = nn.Linear(width * side * side, 24)
        self.head = nn.Linear(24, classes)
        self.rate = torch.linspace(0, 0.1, 2)[1].item()  # fails where tensors have no values

    def forward(self, x):
        x = nn.functional.max_pool2d(self.norm(self.conv(x)).relu(), 2)
        return self.head(self.hidden(x.flatten(1)).relu())


def make(shape, classes, width=4):
    return Net(shape, classes, width)


def mlp(shape, classes, hidden=16):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(shape[0], hidden), nn.ReLU(), nn.Linear(hidden, classes)
    )


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(10))


def frozen(train=True):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 10))
    module[1].requires_grad_(train)
    return module


READY = lazy()
SHARED = nn.Linear(64, 10)


def same():
    return READY


def sharing():
    return nn.Sequential(nn.Flatten(), SHARED)


def unsteady():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.constant_(module[1].bias, int.from_bytes(os.urandom(2), "big"))
    return module


def narrow():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))


def wrong_shape():
    return nn.Sequential(nn.Flatten(), nn.Linear(63, 10))


def softmax():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))


def empty():
    return nn.Flatten()


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        out = self.head(x.flatten(1))
        return (out, out) if self.training else out


class Detached(Pair):
    def forward(self, x):
        return self.head(x.flatten(1)).detach()


class Labels(Pair):
    def forward(self, x):
        return self.head(x.flatten(1)).argmax(1)


def fails():
    raise ValueError("no such\\nluck")


NUMBER = 3
"""


def write_nets(folder: Path, name: str = "own_net") -> Path:
    """Write the factories into a folder as a module of that name; return the file."""
    path = folder / f"{name}.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def forget(name: str = "own_net") -> None:
    """Let the module be imported anew, as in another process."""
    sys.modules.pop(name, None)
