"""For the tests of a trial: a model on which averages matter, and what to watch."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from casemate.inference import examples
from casemate.inference.defenses.averages import NeighborhoodAverage

AVERAGE = NeighborhoodAverage(neighbors=8)


class Edges(nn.Module):
    """Sees pixels, of which the first of three classes likes fine texture: averages matter."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn((64, 3), generator=generator))

    def forward(self, x):
        return (x.flatten(1) - 0.5) @ self.weight


def spy(monkeypatch):
    """Return the list of (target, data) that are crafted on."""
    seen = []
    real = examples.craft

    def watched(attack, target, data, **options):
        seen.append((target, data))
        return real(attack, target, data, **options)

    monkeypatch.setattr(examples, "craft", watched)
    return seen


def same_evidence(one, other):
    assert one.measurements == other.measurements
    assert one.flags == other.flags
    assert one.spent == other.spent
    for name in ("samples", "examples"):
        first, second = getattr(one, name), getattr(other, name)
        assert first.keys() == second.keys()
        for column in first:
            np.testing.assert_array_equal(first[column], second[column], err_msg=column)
