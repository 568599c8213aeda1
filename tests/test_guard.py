"""The guard leaves a model bit for bit as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from casemate.guard import guarded


def leaf(kind):
    return {
        "linear": lambda: nn.Linear(3, 3),
        "batchnorm": lambda: nn.BatchNorm1d(3),
        "dropout": lambda: nn.Dropout(0.5),
        "noise": Noise,
        "counter": Counting,
        "stubborn": Stubborn,
    }[kind]()


class Noise(nn.Module):
    """A randomized defense: draws in evaluation mode, from every global generator."""

    def forward(self, x):
        return x + torch.randn_like(x) + np.random.randn() + random.random()  # noqa: NPY002 - the global state is the point


class Counting(nn.Module):
    """Changes buffers at each call, in place, by replacing one, and behind torch's back."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.full((3,), -0.0))
        self.register_buffer("wide", torch.ones(1).expand(4))
        self.register_buffer("hidden", torch.ones(2))
        self.register_buffer("nothing", None)

    def forward(self, x):
        self.calls += 1
        self.last = x.detach()[0] * 0  # equal to -0.0, but other bits
        self.wide = torch.zeros(4)
        self.hidden.data.mul_(3)
        return x


class Stubborn(nn.Module):
    """Dropout that stays on in evaluation mode, on purpose."""

    def train(self, mode=True):  # noqa: FBT002 - torch's signature
        return super().train(True)

    def forward(self, x):
        return nn.functional.dropout(x, training=self.training)


KINDS = ["linear", "batchnorm", "dropout", "noise", "counter", "stubborn"]
trees = st.recursive(
    st.sampled_from(KINDS), lambda t: st.lists(t, min_size=1, max_size=3), max_leaves=8
)


def build(tree):
    return leaf(tree) if isinstance(tree, str) else nn.Sequential(*map(build, tree))


def bits(tensor):
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def state(root):
    """Everything that must be the same afterwards, with identities where they count."""
    numpy_state = np.random.get_state()  # noqa: NPY002 - as above
    return (
        [(n, m.training) for n, m in root.named_modules()],
        [(n, id(p), bits(p), p.requires_grad, id(p.grad)) for n, p in root.named_parameters()],
        [bits(p.grad) for p in root.parameters() if p.grad is not None],
        [(n, id(b), tuple(b.shape), bits(b)) for n, b in root.named_buffers()],
        bits(torch.get_rng_state()),
        (numpy_state[1].tobytes(), *numpy_state[2:]),
        random.getstate(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
    )


def scramble(root, seed):
    """Give modules, parameters and gradients mixed states, as an owner may have left them."""
    draw = random.Random(seed)
    for module in root.modules():
        module.training = draw.random() < 0.5
    for parameter in root.parameters():
        parameter.requires_grad_(draw.random() < 0.5)
        if draw.random() < 0.5:
            parameter.grad = torch.randn_like(parameter)


@given(trees, st.integers(0, 2**32), st.booleans(), st.booleans())
def test_everything_is_as_it_was(tree, seed, fails, wanted):
    root = build(tree)
    scramble(root, seed)
    x = torch.rand(4, 3)
    before = state(root)
    with torch.set_grad_enabled(wanted):
        try:
            with guarded([root, root]), torch.enable_grad():
                assert not any(p.requires_grad or p.grad is not None for p in root.parameters())
                assert not any(m.training for m in root.modules() if type(m) is not Stubborn)
                points = x.clone().requires_grad_(True)
                root(points).sum().backward()
                root.double().float()
                assert points.grad is not None
                if fails:
                    {}["stop"]
        except KeyError:
            assert fails
        assert torch.is_grad_enabled() is wanted
    assert state(root) == before


def test_the_check_sees_what_an_unguarded_call_changes():
    """The comparison above is not blind."""
    root = build(["linear", "batchnorm", "noise", "counter"])
    root.train()
    before = state(root)
    root(torch.rand(4, 3)).sum().backward()
    after = state(root)
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert changed == [1, 2, 3, 4, 5, 6]


def test_a_frozen_layer_in_a_training_model_stays_frozen():
    root = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout())
    root.train()
    root[0].eval()
    with guarded([root]):
        pass
    assert (root.training, root[0].training, root[1].training) == (True, False, True)


def test_a_randomized_defense_stays_random():
    root = nn.Sequential(Stubborn(), Noise())
    x = torch.ones(4, 3)
    with guarded([root]):
        assert root[0].training
        assert not torch.equal(root(x), root(x))


def test_dropout_and_batchnorm_are_in_evaluation_mode():
    root = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()).train()
    x = torch.rand(4, 3)
    with guarded([root]):
        assert torch.equal(root(x), x / np.sqrt(1 + 1e-5).astype(np.float32))
    assert int(root[0].num_batches_tracked) == 0


class Merging(nn.Module):
    """Merges an update into its weight in evaluation mode and takes it out again, like LoRA."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(50))
        self.update = nn.Parameter(torch.rand(50) * 1e5)
        self.merged = False

    def train(self, mode=True):  # noqa: FBT002 - torch's signature
        super().train(mode)
        if self.merged == mode:
            self.weight.data.add_(self.update, alpha=-1 if mode else 1)
            self.merged = not mode
        return self

    def forward(self, x):
        return x * self.weight


@pytest.mark.parametrize("training", [True, False])
def test_a_mode_switch_that_rewrites_weights_is_undone_exactly(training):
    root = nn.Sequential(Merging())
    root.train(training)
    before, merged = bits(root[0].weight), root[0].merged
    rounded = root[0].weight.detach() + root[0].update.detach() - root[0].update.detach()
    assert bits(rounded) != before  # adding and subtracting alone would not do
    with guarded([root]):
        assert root[0].merged
    assert bits(root[0].weight) == before
    assert root[0].merged is merged


def test_a_graph_built_before_can_still_be_differentiated():
    root = nn.BatchNorm1d(3).eval()
    x = torch.rand(4, 3)
    loss = root(x).sum()
    with guarded([root]):
        root(x)
    loss.backward()
    assert root.weight.grad is not None


def test_a_guard_within_a_guard():
    root = nn.Linear(2, 2).train()
    with guarded([root]):
        with guarded([root]):
            assert not root.weight.requires_grad
        assert not root.weight.requires_grad
        assert not root.training
    assert root.weight.requires_grad
    assert root.training


def test_a_failure_on_entering_is_undone_too():
    class Broken(nn.Module):
        def train(self, mode=True):  # noqa: FBT002 - torch's signature
            if not mode:
                raise RuntimeError("no")
            return super().train(mode)

    root = nn.Sequential(nn.Linear(2, 2), Broken()).train()
    with pytest.raises(RuntimeError, match="no"), guarded([root]):
        pass
    assert root.training
    assert root[0].training
    assert root[0].weight.requires_grad


def test_random_states_are_restored_without_modules():
    before = torch.get_rng_state().clone()
    with guarded([]):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_random_state_of_the_modules_device_is_restored():
    root = nn.Linear(2, 2).cuda()
    before = torch.cuda.get_rng_state()
    with guarded([root]):
        torch.rand(3, device="cuda")
    assert torch.equal(torch.cuda.get_rng_state(), before)
