"""Predictions under faults are those of a full pass, whatever the network and the fault."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from casemate.errors import UsageError
from casemate.hardware.cases import flips
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import deploy
from casemate.hardware.propagate import Propagator

sys.path.insert(0, str(Path(__file__).parent))
from networks import Gate, network

FORMATS = (
    NumberFormat(name="float32"),
    NumberFormat(name="float16"),
    NumberFormat(name="bfloat16"),
    NumberFormat(name="int8"),
    NumberFormat(name="int8", scheme="affine", granularity="tensor"),
    NumberFormat(name="int4", granularity="tensor"),
    NumberFormat(name="int8", activations="float32"),
    NumberFormat(name="int4", scheme="affine", activations="float32"),
)
IMAGES = 12
FAULTS = 24


def changed_values(propagator, cases):
    """Return the memory's numbers with the words of a single case, without `propagate`."""
    raw = {r.name: r.word.raw(r.words).clone() for r in propagator.memory.regions}
    for r, w, changed in zip(cases.region, cases.word, cases.raw, strict=True):
        raw[propagator.memory.regions[r].name][w] = int(changed)
    return {r.name: r.word.of_raw(raw[r.name]).view(r.shape) for r in propagator.memory.regions}


def labels(propagator, effects, case):
    out = propagator.labels.copy()
    mine = effects.case == case
    out[effects.image[mine]] = effects.label[mine]
    return out


def check(propagator, case, number, count):
    """Compare every case with a full pass; return how many predictions changed."""
    memory, graph = propagator.memory, propagator.graph
    effects = propagator.effects(flips(memory, case, number, count))
    for c in range(count):
        values = changed_values(
            propagator, flips(memory, case[case == c] * 0, number[case == c], 1)
        )
        with torch.no_grad():
            scores = graph.forward(values, propagator.cache.x)
        named = [str(memory.fault(int(n))) for n in number[case == c]]
        np.testing.assert_array_equal(
            labels(propagator, effects, c), scores.argmax(1).numpy(), err_msg=str(named)
        )
        broken = np.flatnonzero(~torch.isfinite(scores).all(1).numpy())
        np.testing.assert_array_equal(
            np.sort(effects.broken_image[effects.broken_case == c]), broken, err_msg=str(named)
        )
    return effects.changed.sum()


@pytest.mark.parametrize("form", FORMATS, ids=str)
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9))
def test_single_flips_give_the_predictions_of_a_full_pass(form, seed):
    module, shape = network(seed)
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(IMAGES, *shape)).astype(np.float32))
    made = deploy(module, shape, form, calibration=x)
    propagator = Propagator(made.graph, made.memory, x)
    # every tensor has its share: drawn over bits alone, small ones would never be hit
    spans = [made.memory.span(r.name) for r in made.memory.regions]
    number = np.array([rng.integers(*spans[i]) for i in rng.integers(0, len(spans), FAULTS)])
    check(propagator, np.arange(FAULTS), number, FAULTS)


@pytest.mark.parametrize("form", FORMATS[:4], ids=str)
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9))
def test_so_do_many_flips_at_once(form, seed):
    module, shape = network(seed)
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(IMAGES, *shape)).astype(np.float32))
    made = deploy(module, shape, form, calibration=x)
    propagator = Propagator(made.graph, made.memory, x)
    case = np.repeat(np.arange(8), 5)
    check(propagator, case, rng.integers(0, made.memory.bits, len(case)), 8)


def test_flips_that_matter_are_found():
    module, shape = network(5)
    x = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    made = deploy(module, shape)
    propagator = Propagator(made.graph, made.memory, x)
    bits = np.arange(30, made.memory.bits, 32)[:200]  # the highest bit of the exponent
    assert check(propagator, np.arange(len(bits)), bits, len(bits)) > IMAGES


def test_a_case_without_changes_changes_nothing():
    module, shape = network(5)
    x = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    made = deploy(module, shape)
    propagator = Propagator(made.graph, made.memory, x)
    # the second case flips a bit and back again
    effects = propagator.effects(flips(made.memory, np.array([1, 1]), np.array([7, 7]), 3))
    assert effects.changed.tolist() == [0, 0, 0]
    assert effects.broken.tolist() == [0, 0, 0]


class Mixed(nn.Module):
    """A layer over as many tokens as it has outputs, beside what it takes."""

    def __init__(self):
        super().__init__()
        self.mix, self.out = nn.Linear(6, 6), nn.Linear(36, 4)

    def forward(self, x):
        return self.out((x + torch.relu(self.mix(x))).flatten(1))


TOKENS = {
    "as many tokens as outputs": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)),
        (4, 6),
    ),
    "beside its input": (Mixed, (6, 6)),
    "normalized tokens": (
        lambda: nn.Sequential(
            nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)
        ),
        (4, 6),
    ),
    "rows of maps": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 12, 3), nn.Linear(6, 4), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)
        ),
        (1, 8, 8),
    ),
}


@pytest.mark.parametrize("name", ["float32", "int8"])
@pytest.mark.parametrize("case", TOKENS)
def test_layers_over_tokens_and_rows(case, name):
    torch.manual_seed(0)
    build, shape = TOKENS[case]
    x = torch.randn(IMAGES, *shape)
    made = deploy(build().eval(), shape, NumberFormat(name=name), calibration=x)
    propagator = Propagator(made.graph, made.memory, x)
    rng = np.random.default_rng(0)
    spans = [made.memory.span(r.name) for r in made.memory.regions if r.role == "weight"]
    number = np.concatenate([rng.integers(*span, 120) for span in spans])
    assert check(propagator, np.arange(len(number)), number, len(number)) > 0


def test_a_sum_that_overflows_is_seen_behind_a_column_of_zeros():
    weights = ([[1.0, 0.0], [0.0, 0.9]], [[1.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [-1.0, 0.0]])
    layers = [nn.Linear(2, 2, bias=False) for _ in weights]
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight.data = torch.tensor(weight)
    module = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).eval()
    made = deploy(module, (2,))
    propagator = Propagator(made.graph, made.memory, torch.tensor([[0.5, 0.9], [1.0, 0.8]]))
    number = np.array([made.memory.span("0.weight")[0] + 3 * 32 + 30])
    check(propagator, np.array([0]), number, 1)
    assert propagator.effects(flips(made.memory, np.array([0]), number, 1)).broken.tolist() == [2]


@pytest.mark.parametrize("old", [1e9, 3e38])
def test_a_huge_weight_that_shrinks_leaves_no_rounding_behind(old):
    """The others' part of its channel is lost beside it, or infinite, where it is taken away."""
    torch.manual_seed(0)
    net = nn.Sequential(Gate(3), nn.Flatten(), nn.Linear(3 * 25, 4)).eval()
    with torch.no_grad():
        net[0].gate.weight[1, 0] = old
    x = torch.randn(IMAGES, 3, 5, 5)
    made = deploy(net, (3, 5, 5))
    propagator = Propagator(made.graph, made.memory, x)
    assert propagator.sweep.matters.bounds[0] is None
    first = made.memory.span("0.gate.weight")[0] + 3 * 32
    numbers = first + np.arange(23, 32)  # exponent and sign
    check(propagator, np.arange(9), numbers, 9)


def test_networks_too_deep_for_bounds_are_followed_without():
    torch.manual_seed(0)
    block = [m for _ in range(90) for m in (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))]
    module = nn.Sequential(*block, nn.Flatten(), nn.Linear(8 * 16, 3)).train()
    for _ in range(30):
        module(torch.randn(64, 8, 4, 4))
    x = torch.randn(IMAGES, 8, 4, 4)
    made = deploy(module.eval(), (8, 4, 4))
    propagator = Propagator(made.graph, made.memory, x)
    assert propagator.sweep.matters.bounds[0] is None
    number = np.random.default_rng(0).integers(0, made.memory.bits, 12)
    check(propagator, np.arange(12), number, 12)


def test_inputs_of_another_shape_are_refused():
    deployed = deploy(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2))
    with pytest.raises(
        UsageError, match=r"shape \(4,\), but the model was deployed for \(1, 2, 2\)"
    ):
        Propagator(deployed.graph, deployed.memory, torch.zeros(3, 4))
