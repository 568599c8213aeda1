from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.hardware.cases import flips
from casemate.hardware.implementation import deploy
from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.ops.elementwise import Elementwise
from casemate.hardware.ops.joining import Add
from casemate.hardware.ops.opaque import Opaque
from casemate.hardware.ops.pooling import MapMean, Pool2d
from casemate.hardware.ops.shaping import Reshape
from casemate.hardware.propagate import Propagator
from casemate.hardware.tracing import tensors_of, traced
from casemate.models.lenet import LeNet
from casemate.models.mlp import MLP
from casemate.models.resnet import ResNet
from casemate.models.vgg import VGG

sys.path.insert(0, str(Path(__file__).parent))
from networks import network


class Attention(nn.Module):
    """Operations without a shortcut: tokens, attention, a parameter that is added."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(4, 8))
        self.norm = nn.LayerNorm(8)
        self.inner = nn.Linear(8, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.norm(x.flatten(2).transpose(1, 2) + self.place)
        weights = (tokens @ tokens.transpose(1, 2)).softmax(-1)
        return self.out((weights @ self.inner(tokens)).mean(1))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else -self.fc(x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.fc(self.relu(self.fc(x)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.two = nn.Linear(4, 4)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(self.one(x).relu())


class Methods(nn.Module):
    def forward(self, x):
        y = F.max_pool2d(F.relu(x), 2)
        y = y + torch.tanh(y)
        z = F.avg_pool2d(y, 2, stride=1).mean((2, 3))
        return F.dropout(z.view(z.size(0), -1), training=self.training)


class Transformer(nn.Module):
    """Attention as torch has it, which returns the weights as well, and is called by keyword."""

    def __init__(self):
        super().__init__()
        self.patch, self.norm = nn.Conv2d(1, 4, 2, 2), nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        y, _ = self.attention(y, y, y, need_weights=False)
        return self.head((x + y).mean(1))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**9))
def test_the_graph_computes_what_the_module_does(seed):
    module, shape = network(seed)
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(seed))
    kept = x.clone()
    graph = traced(module, shape)
    assert not graph.notes
    with torch.no_grad():
        assert torch.equal(graph.forward(tensors_of(module), x), module(x))
    assert torch.equal(x, kept)
    assert tuple(module(x).shape[1:]) == graph.nodes[-1].shape


@pytest.mark.parametrize("architecture", [LeNet(), VGG(), ResNet(blocks=1), MLP(dropout=0.2)])
def test_our_own_architectures_have_no_opaque_operation(architecture):
    domain = Domain(shape=(3, 32, 32))
    module = architecture.build(domain, 7).eval()
    graph = traced(module, domain.shape)
    assert not any(isinstance(node.op, Opaque) for node in graph.nodes)
    x = torch.rand(2, *domain.shape)
    with torch.no_grad():
        assert torch.equal(graph.forward(tensors_of(module), x), module(x))


def test_functions_and_methods_are_known_as_modules_are():
    graph = traced(Methods().eval(), (2, 8, 8))
    kinds = [type(node.op) for node in graph.nodes]
    assert kinds == [Elementwise, Pool2d, Elementwise, Add, Pool2d, MapMean, Reshape, Elementwise]
    assert graph.nodes[-1].op == Elementwise("identity")


def test_a_function_that_drops_in_evaluation_mode_is_not_taken_for_nothing():
    class Dropping(nn.Module):
        def forward(self, x):
            return F.dropout(x.flatten(1), 0.5)

    told = "Dropping gives other scores each time it is asked, so that no fault can be told"
    with pytest.raises(UsageError, match=told):
        traced(Dropping().eval(), (2, 2, 2))


def every_bit(module, shape, x):
    """Compare the effects of spread flips with full passes; return how many change something."""
    made = deploy(module, shape)
    propagator = Propagator(made.graph, made.memory, x)
    numbers = np.arange(0, made.memory.bits, 7)
    effects = propagator.effects(flips(made.memory, np.arange(len(numbers)), numbers, len(numbers)))
    for c, number in enumerate(numbers):
        fault = made.memory.fault(int(number))
        region = made.memory[fault.tensor]
        raw = region.word.raw(region.words).view(region.shape).clone()
        raw[fault.index] ^= 1 << fault.bit
        values = {**made.memory.values, fault.tensor: region.word.of_raw(raw)}
        with torch.no_grad():
            expected = made.graph.forward(values, x).argmax(1).numpy()
        labels = propagator.labels.copy()
        mine = effects.case == c
        labels[effects.image[mine]] = effects.label[mine]
        np.testing.assert_array_equal(labels, expected, err_msg=str(fault))
    return made, int((effects.changed > 0).sum())


def test_operations_without_a_shortcut_are_followed_too():
    torch.manual_seed(0)
    made, changed = every_bit(Attention().eval(), (8, 2, 2), torch.randn(6, 8, 2, 2))
    assert any(isinstance(node.op, Opaque) for node in made.graph.nodes)
    assert {"place", "norm.weight", "inner.weight"} <= set(made.memory.names)
    opaque = [n.name for n in made.graph.nodes if isinstance(n.op, Opaque)]
    (note,) = made.notes
    assert note.startswith(", ".join(opaque[:5]))
    assert note.endswith(
        "run on whole inputs behind a fault, and changes in front of them are followed however "
        "small they are, which is slow; the figures are the same"
    )
    assert changed


def test_a_module_that_returns_several_tensors_is_one_operation_among_others():
    torch.manual_seed(0)
    x = torch.randn(6, 1, 4, 4)
    network = Transformer().eval()
    made, changed = every_bit(network, (1, 4, 4), x)
    assert "attention" in [n.name for n in made.graph.nodes]
    assert made.memory["attention.in_proj_weight"].layer == "attention"
    assert changed
    whole = deploy(network, (1, 4, 4), "int8", calibration=x)
    assert whole.memory["head.weight"].word.name == "int8"
    assert whole.memory["attention.in_proj_weight"].word.name == "float32"
    with torch.no_grad():
        exact = network(x)
    assert float((whole.scores(x) - exact).abs().max()) < 0.05 * float(exact.abs().max())


def test_a_module_that_cannot_be_traced_is_one_operation_and_says_so():
    torch.manual_seed(0)
    made, changed = every_bit(Branching().eval(), (4,), torch.randn(6, 4))
    assert len(made.graph.nodes) == 1
    (note,) = made.notes
    assert note.startswith("Branching cannot be traced (")
    assert note.endswith(
        "), so each fault takes whole passes through the model, which is slow; its figures are "
        "the same"
    )
    assert changed


@pytest.mark.parametrize("module", [Twice(), Tied()])
def test_a_tensor_that_two_operations_read_is_one_in_memory(module):
    torch.manual_seed(0)
    made, changed = every_bit(module.eval(), (4,), torch.randn(6, 4))
    names = [r.name for r in made.memory.regions]
    assert names.count(next(n for n in names if n.endswith("weight"))) == 1
    assert len(made.graph.readers[names[0]]) == 2
    assert changed


def test_what_is_no_classifier_is_one_sentence():
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    class Whole(nn.Module):
        def forward(self, x):
            return x.sum((0, 1), keepdim=True).view(1, 1)

    with pytest.raises(UsageError, match="Two takes more than one input, and a model under test"):
        traced(Two(), (4,))
    with pytest.raises(UsageError, match="the model returned tuple and not a tensor; wrap it"):
        traced(Pair(), (4,))
    with pytest.raises(UsageError, match=r"the model returned \(1, 1\) for 3 inputs"):
        traced(Whole(), (4,))


def test_a_shape_that_the_model_does_not_take_is_one_sentence():
    told = r"Linear takes no batch of inputs of shape \(5,\) \(mat1 and mat2 .*\); give the shape"
    with pytest.raises(UsageError, match=told):
        traced(nn.Linear(4, 2), (5,))


class InPlace(nn.Module):
    """Its sum reads what an operation in place has changed."""

    def __init__(self):
        super().__init__()
        self.one, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        y = self.one(x)
        F.relu(y, inplace=True)
        return self.out(y)


def hooked():
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    module[0].register_forward_hook(lambda m, given, out: out * 3)
    return module


@pytest.mark.parametrize("build", [InPlace, hooked])
def test_a_network_that_is_not_what_its_parts_do_is_one_operation(build):
    torch.manual_seed(0)
    module = build().eval()
    graph = traced(module, (4,))
    assert "not what its parts do" in graph.notes[0]
    x = torch.randn(8, 4)
    values = {n: t.detach() for n, t in tensors_of(module).items()}
    with torch.no_grad():
        assert torch.equal(graph.forward(values, x), module(x))


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_computed_weights_are_deployed_as_they_are_computed(norm):
    torch.manual_seed(0)
    module = nn.Sequential(norm(nn.Conv2d(1, 4, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    x = torch.randn(8, 1, 6, 6)
    with torch.no_grad():
        expected = module.eval()(x)
    made = deploy(module, (1, 6, 6))
    assert made.notes == ()
    assert "0.weight" in made.memory.names
    assert torch.allclose(made.scores(x), expected, atol=1e-6)
    assert hasattr(module[0], "parametrizations")  # the user's stays as it is


class Recurrent(nn.Module):
    """Returns a tensor and a state, of which the state is not taken."""

    def __init__(self, kind):
        super().__init__()
        self.rows, self.head = kind(3, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        out, state = self.rows(x)
        del state
        return self.head(out[:, -1])


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_what_nobody_takes_is_not_in_the_way(kind):
    torch.manual_seed(0)
    graph = traced(Recurrent(kind).eval(), (4, 3))
    assert [n.name for n in graph.nodes] == ["rows", "getitem_2", "head"]


def test_a_model_that_returns_one_number_is_one_sentence():
    class Sum(nn.Module):
        def forward(self, x):
            return x.sum()

    with pytest.raises(UsageError, match=r"the model returned \(\) for 3 inputs; a classifier"):
        traced(Sum(), (4,))


@pytest.mark.parametrize("kernel", [3, (1, 5)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_may_be_a_word(kernel, padding):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, kernel, padding=padding, dilation=2), nn.Flatten())
    graph = traced(module.eval(), (2, 9, 9))
    assert isinstance(graph.nodes[0].op, Conv2d)
    x = torch.randn(4, 2, 9, 9)
    with torch.no_grad():
        assert torch.equal(graph.forward(tensors_of(module), x), module(x))


def test_padding_of_unequal_sides_is_left_to_torch():
    graph = traced(nn.Conv2d(1, 2, 2, padding="same").eval(), (1, 4, 4))
    assert isinstance(graph.nodes[0].op, Opaque)
