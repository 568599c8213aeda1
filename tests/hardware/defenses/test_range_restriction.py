from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from casemate.errors import ParameterError, UsageError
from casemate.hardware.cases import flips
from casemate.hardware.defenses.range_restriction import Ranger
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import deploy
from casemate.hardware.ops.restriction import Restrict
from casemate.hardware.propagate import Propagator


@pytest.fixture
def made():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 8),
        nn.Tanh(),
        nn.Linear(8, 3),
    ).eval()
    x = torch.randn(60, 1, 6, 6)
    return deploy(module, (1, 6, 6)), x


def test_restrictions_stand_where_the_paper_puts_them(made):
    implementation, x = made
    protected = Ranger().protected(implementation, x)
    nodes = protected.graph.nodes
    names = [n.name for n in nodes if isinstance(n.op, Restrict)]
    assert names == ["1.restricted", "2.restricted", "3.restricted", "5.restricted"]
    first, second, third, fourth = (n.op for n in nodes if isinstance(n.op, Restrict))
    assert first == second == third
    seen = {}
    implementation.graph.trace(implementation.memory.values, x, lambda i, o: seen.update({i: o}))
    assert (first.low, first.high) == (float(seen[1].min()), float(seen[1].max()))
    assert fourth.high == float(seen[5].max())
    assert Ranger().storage(protected) == 64 * 4
    assert Ranger().comparisons(protected) == 2 * (4 * 16 + 16 + 16 + 8)


def test_clean_inputs_within_the_range_are_read_as_before(made):
    implementation, x = made
    protected = Ranger().protected(implementation, x)
    assert torch.equal(protected.scores(x), implementation.scores(x))


@pytest.mark.parametrize("outside", ["end", "zero"])
def test_large_faults_do_less_and_are_followed_exactly(made, outside):
    implementation, x = made
    protected = Ranger(outside=outside).protected(implementation, x)
    memory = implementation.memory
    first, last = memory.span("0.weight")
    bits = np.arange(first + 30, last, 32)  # the highest bit of the exponent
    n = len(bits)
    cases = flips(memory, np.arange(n), bits, n)
    bare = Propagator(implementation.graph, memory, x).effects(cases)
    propagator = Propagator(protected.graph, memory, x)
    behind = propagator.effects(cases)
    assert behind.changed.sum() < bare.changed.sum()
    for c, number in enumerate(bits.tolist()):
        fault = memory.fault(number)
        raw = memory[fault.tensor].word.raw(memory[fault.tensor].words).view(4, 1, 3, 3).clone()
        raw[fault.index] ^= 1 << fault.bit
        values = {**memory.values, fault.tensor: memory[fault.tensor].word.of_raw(raw)}
        labels = propagator.labels.copy()
        labels[behind.image[behind.case == c]] = behind.label[behind.case == c]
        with torch.no_grad():
            expected = protected.graph.forward(values, x).argmax(1).numpy()
        np.testing.assert_array_equal(labels, expected)


def test_what_is_outside_goes_to_the_end_or_to_zero():
    x = torch.tensor([[-3.0, -1.0, 0.5, 2.0, 9.0, torch.inf, -torch.inf, torch.nan]])
    ends = Restrict(low=-1.0, high=2.0).dense({}, x)
    assert ends.tolist() == [[-1.0, -1.0, 0.5, 2.0, 2.0, 2.0, -1.0, 0.0]]
    zero = Restrict(low=-1.0, high=2.0, outside="zero").dense({}, x)
    assert zero.tolist() == [[0.0, -1.0, 0.5, 2.0, 0.0, 0.0, 0.0, 0.0]]
    assert x[0, 4] == 9


def test_the_last_layer_is_out_of_reach(made):
    """What an attacker who knows the defense strikes."""
    implementation, x = made
    protected = Ranger().protected(implementation, x)
    memory = implementation.memory
    first, last = memory.span("6.weight")
    bits = np.arange(first + 30, last, 32)
    cases = flips(memory, np.arange(len(bits)), bits, len(bits))
    bare, behind = (
        Propagator(made.graph, memory, x).effects(cases).changed
        for made in (implementation, protected)
    )
    assert behind.tolist() == bare.tolist()
    assert bare.sum() > 0


def test_what_it_cannot_protect_is_one_sentence(made):
    implementation, x = made
    with pytest.raises(UsageError, match="ranger needs clean inputs to find ranges on"):
        Ranger().protected(implementation, x[:0])
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval()
    with pytest.raises(UsageError, match="ranger found no activation function to restrict"):
        Ranger().protected(deploy(module, (1, 6, 6)), x)
    integers = deploy(module, (1, 6, 6), NumberFormat(name="int8"), calibration=x)
    with pytest.raises(UsageError, match="ranger restricts activations in floating point"):
        Ranger().protected(integers, x)
    with pytest.raises(ParameterError, match=r"^ranger\.outside is \"off\""):
        Ranger(outside="off")
