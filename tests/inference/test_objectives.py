from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.inference.objectives import (
    as_logits,
    attack_cross_entropy,
    event_log_probability,
    margin,
)

NONE = torch.tensor(-1)


@st.composite
def scored(draw, largest=20.0):
    b, classes = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    scores = (torch.rand((b, classes), generator=generator, dtype=torch.float64) - 0.5) * largest
    label = torch.randint(classes, (b,), generator=generator)
    goal = torch.randint(-1, classes, (b,), generator=generator)
    return scores, label, goal


@given(scored())
def test_cross_entropy_is_torchs(case):
    scores, label, goal = case
    true = F.cross_entropy(scores, label, reduction="none")
    wanted = F.cross_entropy(scores, goal.clamp_min(0), reduction="none")
    got = attack_cross_entropy(scores, label, goal)
    torch.testing.assert_close(got, torch.where(goal >= 0, -wanted, true), rtol=1e-7, atol=1e-8)


@given(scored())
def test_event_is_the_log_of_the_probability(case):
    scores, label, goal = case
    p = scores.softmax(1)
    rows = torch.arange(len(p))
    wrong = p.scatter(1, label[:, None], 0.0).sum(1)
    wanted = torch.where(goal >= 0, p[rows, goal.clamp_min(0)], wrong)
    torch.testing.assert_close(
        event_log_probability(scores, label, goal), wanted.log(), rtol=1e-6, atol=1e-8
    )


@given(scored())
def test_margin_is_below_zero_exactly_where_the_attacker_wins(case):
    scores, label, goal = case
    got = margin(scores, label, goal)
    for z, y, g, m in zip(scores, label.tolist(), goal.tolist(), got.tolist(), strict=True):
        key = y if g < 0 else g
        best = max(float(v) for j, v in enumerate(z) if j != key)
        expected = float(z[key]) - best if g < 0 else best - float(z[key])
        assert m == pytest.approx(expected)
        won = int(z.argmax()) != y if g < 0 else int(z.argmax()) == g
        assert won == (m < 0)


@pytest.mark.parametrize("objective", [attack_cross_entropy, event_log_probability])
@pytest.mark.parametrize("goal", [-1, 2])
@pytest.mark.parametrize("lead", [1.0, 10.0, 20.0, 40.0, 80.0])
def test_the_gradients_direction_survives_confidence(objective, goal, lead):
    """Where float32 says p = 1, the direction is that of exact arithmetic all the same."""
    logits = torch.tensor([[lead, 0.0, -1.0, 0.3]])
    gradients = []
    for dtype in (torch.float32, torch.float64):
        z = logits.to(dtype).requires_grad_(True)
        value = objective(z, torch.tensor([0]), torch.tensor([goal]))
        (g,) = torch.autograd.grad(value.sum(), z)
        gradients.append(g.double() / g.double().norm())
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_probabilities_become_logits_with_the_same_softmax():
    logits = torch.tensor([[3.0, -2.0, 0.5], [80.0, 0.0, 0.0]])
    p = logits.softmax(1)
    again = as_logits(p, "probabilities")
    assert again.isfinite().all()  # also where a probability has underflown to 0
    torch.testing.assert_close(again.softmax(1), p)
    assert as_logits(logits, "logits") is logits
    assert as_logits(logits, "labels") is logits
