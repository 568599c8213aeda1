"""What the engine counts, drops and cancels, and where a budget ends it."""

from __future__ import annotations

import pytest
import torch
from steppers import curved_case, verified_by_hand
from systems import (
    Counting,
    linear_case,
    target_of,
)

from casemate.access import Budget
from casemate.errors import UsageError
from casemate.inference.attacks.bim import BIM
from casemate.inference.attacks.fgsm import FGSM
from casemate.inference.attacks.lbfgs import LBFGS
from casemate.inference.attacks.noise import UniformNoise
from casemate.inference.attacks.pgd import PGD
from casemate.inference.engine import craft


def test_fgsm_costs_two_looks_and_one_gradient():
    module, data = linear_case(3, n=10)
    counting = Counting(module)
    found = craft(FGSM(epsilon=1e-4), target_of(counting, data), data, batch_size=4)
    assert not found.success.any()
    assert found.spent["attack forward"] == 20
    assert found.spent["attack backward"] == 10 == counting.backward_samples
    assert found.spent["verifier forward"] == 10
    assert counting.forward_samples == 30
    assert found.spent["attack calls"] + 3 == counting.calls


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize(
    "attack",
    [
        PGD(epsilon=0.05, steps=4, restarts=3),
        LBFGS(searches=3, iterations=5),
        UniformNoise(epsilon=0.2, draws=3),
        BIM(epsilon=0.05),
    ],
    ids=lambda a: type(a).__name__,
)
def test_the_books_agree_with_the_model(attack, early_stop, rounded):
    module, data = curved_case(eight_bits=True)
    counting = Counting(module)
    found = craft(
        attack,
        target_of(counting, data),
        data,
        batch_size=5,
        early_stop=early_stop,
        round_points=rounded,
    )
    spent = found.spent
    assert spent["attack forward"] + spent["verifier forward"] == counting.forward_samples
    assert spent["attack backward"] == counting.backward_samples
    assert spent["verifier forward"] == len(data)
    assert spent["attack calls"] + 3 == counting.calls
    if not early_stop and not attack.minimizes and not rounded:
        jobs = len(data) * attack.restarts
        assert spent["attack forward"] == jobs * attack.asks
        assert spent["attack backward"] == jobs * attack.gradient_asks


def test_a_fooled_sample_is_dropped_and_its_later_restarts_cancelled():
    module, data = linear_case(2, n=6)
    target = target_of(Counting(module), data)
    attack = PGD(epsilon=0.5, steps=20, restarts=5, random_start=True)
    found = craft(attack, target, data, batch_size=6)
    assert found.success.all()
    jobs = 6 * 5
    assert found.spent["attack forward"] < 6 * 5  # a few steps of the first restart
    assert target.module.forward_samples < 12 * 5
    full = craft(attack, target, data, batch_size=6, early_stop=False)
    assert full.spent["attack forward"] == jobs * attack.asks


def test_restarts_in_flight_are_cancelled():
    """All restarts at once: when the first succeeds, the others end with it."""
    module, data = linear_case(2, n=6)
    attack = PGD(epsilon=0.5, steps=200, step_size=0.05, restarts=5)
    found = craft(attack, target_of(module, data), data, batch_size=30)
    assert found.success.all()
    assert found.spent["attack forward"] < 30 * 30


def test_restarts_find_what_one_start_does_not():
    module, data = curved_case(n=60)
    target = target_of(module, data)
    counts = [
        int(craft(UniformNoise(epsilon=0.25, draws=d), target, data).success.sum())
        for d in (1, 4, 16)
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    bests = [
        craft(PGD(epsilon=0.03, steps=3, restarts=r), target, data, early_stop=False).margin
        for r in (1, 2, 6)
    ]
    assert (bests[1] <= bests[0] + 1e-6).all()
    assert (bests[2] <= bests[1] + 1e-6).all()
    assert (bests[2] < bests[0] - 1e-4).any()


@pytest.mark.parametrize("limit", [0, 7, 24, 40])
@pytest.mark.parametrize("attack", [PGD(epsilon=0.05, steps=9), UniformNoise(epsilon=0.2, draws=9)])
def test_a_budget_ends_the_run_and_keeps_what_was_found(attack, limit):
    module, data = curved_case(n=12)
    counting = Counting(module)
    budget = Budget(forward=limit)
    found = craft(attack, target_of(counting, data), data, batch_size=6, budget=budget)
    assert found.exhausted
    assert found.spent["attack forward"] <= limit
    assert counting.forward_samples == found.spent["attack forward"] + len(data)
    assert torch.equal(found.success, verified_by_hand(module, found, data))
    assert not found.unfinished.any()
    never = found.margin.isinf()
    assert torch.equal(found.adversarial[never], data.batch(slice(None))[never])
    if limit == 0:
        assert never.all()
    if limit == 40:
        assert found.noted.any()


def test_a_backward_budget_counts_gradients():
    module, data = linear_case(2, n=8)
    budget = Budget(backward=20)
    attack = PGD(epsilon=1e-4, steps=9)
    found = craft(attack, target_of(module, data), data, batch_size=4, budget=budget)
    assert found.exhausted
    assert found.spent["attack backward"] == 20
    enough = Budget(forward=80, backward=72)
    assert not craft(attack, target_of(module, data), data, budget=enough).exhausted


def test_a_budget_that_ends_while_rounding():
    """The look at the rounded point is the attacker's as well."""
    module, data = curved_case(n=6, eight_bits=True)
    for limit in range(0, 30, 3):
        found = craft(
            UniformNoise(epsilon=0.4, draws=4),
            target_of(module, data),
            data,
            early_stop=False,
            round_points=True,
            batch_size=3,
            budget=Budget(forward=limit),
        )
        assert found.exhausted
        assert found.spent["attack forward"] <= limit


@pytest.mark.parametrize("batch", [1, 3, 50])
@pytest.mark.parametrize("queries", [1, 4, 10, 11, 17, 10_000])
def test_a_samples_queries_are_bounded_whatever_the_batch(queries, batch):
    module, data = curved_case(n=12)
    attack = PGD(epsilon=0.02, steps=9, restarts=3)
    counting = Counting(module)
    options = {"early_stop": False, "queries": queries}
    found = craft(attack, target_of(counting, data), data, batch_size=batch, **options)
    each = min(queries, 30)
    assert found.spent["attack forward"] == 12 * each
    assert counting.forward_samples == 12 * each + len(data)
    assert found.exhausted == (queries < 30)
    other = craft(attack, target_of(module, data), data, batch_size=7, **options)
    torch.testing.assert_close(found.adversarial, other.adversarial, rtol=0, atol=2e-5)


def test_as_many_queries_as_one_restart_needs_is_one_restart():
    module, data = curved_case(n=12)
    target = target_of(module, data)
    bounded = craft(PGD(epsilon=0.1, steps=9, restarts=3), target, data, queries=10)
    single = craft(PGD(epsilon=0.1, steps=9, restarts=1), target, data)
    assert torch.equal(bounded.adversarial, single.adversarial)


def test_no_queries_at_all_are_refused():
    module, data = curved_case()
    with pytest.raises(UsageError, match="queries is 0"):
        craft(PGD(), target_of(module, data), data, queries=0)
