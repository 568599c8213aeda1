"""Access: what each level gives, what it counts, and what it never gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from casemate.access import Budget, Counter, GradientAccess, LabelAccess, ScoreAccess, open_access
from casemate.data.domain import Domain
from casemate.errors import AccessDeniedError, BudgetExceededError
from casemate.target import FunctionTarget, TorchTarget
from casemate.threats import Access

D, K = 4, 3


class Counted(nn.Module):
    """A small network that counts its calls."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, K))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.net(x)


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Counted().eval()


@pytest.fixture
def target(module):
    return TorchTarget(module, domain=Domain(shape=(D,)), classes=("a", "b", "c"), digest="d")


def black_box(outputs):
    def predict(x):
        return np.zeros(len(x), np.int64) if outputs == "labels" else np.full((len(x), K), 1 / K)

    return FunctionTarget(
        predict, domain=Domain(shape=(D,)), classes=("a", "b", "c"), digest="d", outputs=outputs
    )


def first(scores):
    return scores[:, 0]


def test_labels_only(target):
    x = torch.rand(5, D)
    answer = LabelAccess(target).labels(x)
    assert torch.equal(answer.labels, target.module(x).argmax(1))
    assert (answer.scores, answer.loss, answer.gradient) == (None, None, None)
    assert not hasattr(LabelAccess, "scores")


def test_score_access_has_no_way_to_gradients(target):
    access = ScoreAccess(target)
    public = {n for n in dir(access) if not n.startswith("_")}
    assert public == {"labels", "scores", "level", "used"}
    x = torch.rand(5, D, requires_grad=True)
    with torch.enable_grad():
        answer = access.scores(x)
        labels = access.labels(x)
    assert torch.equal(answer.scores, target.module(x))
    assert not answer.scores.requires_grad
    assert answer.scores.grad_fn is None
    assert (answer.loss, answer.gradient, labels.scores) == (None, None, None)
    assert x.grad is None


def test_the_gradient_is_the_objectives(target):
    x = torch.rand(6, D)
    access = GradientAccess(target)
    answer = access.gradient(x, first)
    jacobian = torch.func.vmap(torch.func.jacrev(target.module.net))(x)
    np.testing.assert_allclose(answer.gradient, jacobian[:, 0].detach(), atol=1e-6)
    np.testing.assert_allclose(answer.loss, target.module(x)[:, 0].detach())
    np.testing.assert_allclose(answer.scores, target.module(x).detach())
    assert torch.equal(answer.labels, answer.scores.argmax(1))
    assert not any(t.requires_grad for t in (answer.loss, answer.scores, answer.gradient))


@given(st.integers(0, 5), st.integers(0, 2**31))
def test_a_gradient_does_not_depend_on_batch_mates(position, seed):
    torch.manual_seed(0)
    target = TorchTarget(
        Counted().eval(), domain=Domain(shape=(D,)), classes=("a", "b", "c"), digest="d"
    )
    x = torch.rand(6, D, generator=torch.Generator().manual_seed(seed))
    access = GradientAccess(target)
    together = access.gradient(x, lambda s: s.logsumexp(1)).gradient[position]
    alone = access.gradient(x[position : position + 1], lambda s: s.logsumexp(1)).gradient[0]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)
    assert float(alone.abs().sum()) > 0


def test_no_parameter_gradient_appears_and_points_stay(target):
    kept = torch.ones(K)
    target.module.net[2].bias.grad = kept
    x = torch.rand(6, D)
    before = x.clone()
    GradientAccess(target).gradient(x, first)
    assert target.module.net[2].bias.grad is kept
    assert torch.equal(kept, torch.ones(K))
    assert all(p.grad is None for n, p in target.module.named_parameters() if n != "net.2.bias")
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert x.grad is None


def test_gradients_also_come_inside_no_grad(target):
    x = torch.rand(2, D)
    with torch.no_grad():
        inside = GradientAccess(target).gradient(x, first).gradient
    assert torch.equal(inside, GradientAccess(target).gradient(x, first).gradient)
    assert float(inside.abs().sum()) > 0


@pytest.mark.parametrize("cut", ["detached", "constant"])
def test_outputs_that_do_not_depend_on_the_inputs_have_zero_gradients(cut):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(K))

        def forward(self, x):
            return x.detach()[:, :K] if cut == "detached" else self.bias.expand(len(x), K)

    target = TorchTarget(Net(), domain=Domain(shape=(D,)), classes=("a", "b", "c"), digest="d")
    answer = GradientAccess(target).gradient(torch.rand(2, D), first)
    assert torch.equal(answer.gradient, torch.zeros(2, D))


@given(st.lists(st.tuples(st.sampled_from(["labels", "scores", "gradient"]), st.integers(1, 5))))
def test_counts_are_exact(steps):
    torch.manual_seed(0)
    target = TorchTarget(Counted(), domain=Domain(shape=(D,)), classes=("a", "b", "c"), digest="d")
    access = GradientAccess(target)
    for kind, n in steps:
        x = torch.rand(n, D)
        access.gradient(x, first) if kind == "gradient" else getattr(access, kind)(x)
    assert access.used == Counter(
        calls=len(steps),
        forward=sum(n for _, n in steps),
        backward=sum(n for kind, n in steps if kind == "gradient"),
    )
    assert target.module.calls == len(steps)


def test_the_budget_stops_before_anything_is_computed(target):
    access = GradientAccess(target, Budget(forward=5, backward=3))
    access.gradient(torch.rand(3, D), first)
    with pytest.raises(BudgetExceededError, match=r"1 more backward samples .* 3 .3 used"):
        access.gradient(torch.rand(1, D), first)
    with pytest.raises(BudgetExceededError, match=r"3 more forward samples .* 5 .3 used"):
        access.scores(torch.rand(3, D))
    assert target.module.calls == 1
    assert access.used == Counter(calls=1, forward=3, backward=3)
    access.labels(torch.rand(2, D))  # exactly what is left
    with pytest.raises(BudgetExceededError):
        access.labels(torch.rand(1, D))
    assert access.used == Counter(calls=2, forward=5, backward=3)


def test_a_budget_of_zero_gives_nothing(target):
    with pytest.raises(BudgetExceededError):
        LabelAccess(target, Budget(forward=0)).labels(torch.rand(1, D))
    assert target.module.calls == 0


def test_what_a_target_cannot_give_is_denied():
    with pytest.raises(AccessDeniedError, match="needs scores but the model gives labels only"):
        ScoreAccess(black_box("labels"))
    for outputs in ("labels", "probabilities"):
        with pytest.raises(AccessDeniedError, match="black box"):
            GradientAccess(black_box(outputs))
    assert ScoreAccess(black_box("probabilities")).scores(torch.rand(2, D)).scores.shape == (2, K)
    assert LabelAccess(black_box("labels")).labels(torch.rand(2, D)).labels.tolist() == [0, 0]


def test_no_access_opens_nothing(target):
    with pytest.raises(AccessDeniedError, match="declares access"):
        open_access(Access.NONE, target)


@pytest.mark.parametrize(
    ("level", "kind"),
    [
        (Access.GRADIENTS, GradientAccess),
        (Access.SCORES, ScoreAccess),
        (Access.LABELS, LabelAccess),
    ],
)
def test_a_level_opens_exactly_its_kind(target, level, kind):
    budget = Budget(forward=1)
    access = open_access(level, target, budget)
    assert type(access) is kind
    with pytest.raises(BudgetExceededError):
        access.labels(torch.rand(2, D))
