from __future__ import annotations

import pytest
import torch
from sanitizing import SETS, lab
from torch import nn

from casemate.errors import ParameterError
from casemate.random import stream
from casemate.training.defenses.weight_clipping import WeightClipping
from casemate.training.loop import train


@pytest.mark.parametrize("limit", [0.02, 0.2])
def test_no_weight_is_beyond_the_limit_and_some_are_at_it(limit):
    data, place = SETS["gray bytes"], lab()
    found = WeightClipping(limit=limit).train(data, stream(1, "test"), place).model
    largest = max(float(w.abs().max()) for n, w in found.weights.items() if "weight" in n)
    assert largest == pytest.approx(limit)
    plain = train(place.architecture, place.recipe, data, seed=place.seed)
    assert max(float(w.abs().max()) for w in plain.weights.values()) > limit
    assert found.digest != plain.digest


def test_batch_normalization_is_left():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.fill_(5.0)
    WeightClipping(limit=0.5).clip(module)
    values = {n: t.unique().item() for n, t in module.named_parameters()}
    assert values == {
        "0.weight": 0.5,
        "0.bias": 0.5,
        "1.weight": 5.0,
        "1.bias": 5.0,
        "3.weight": 0.5,
        "3.bias": 0.5,
    }


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ParameterError, match="limit"):
        WeightClipping(limit=limit)
