"""The engine's first promise: the same result in any batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from steppers import curved_case, same
from systems import (
    target_of,
)

from casemate.inference.attacks.bim import BIM
from casemate.inference.attacks.fgsm import FGSM
from casemate.inference.attacks.lbfgs import LBFGS
from casemate.inference.attacks.noise import GaussianNoise, UniformNoise
from casemate.inference.attacks.pgd import PGD
from casemate.inference.engine import craft


@settings(max_examples=25)
@given(
    batch=st.sampled_from([1, 2, 3, 5, 10, 11, 12, 22, 64]),
    attack=st.sampled_from(
        [
            FGSM(epsilon=0.1),
            BIM(epsilon=0.1),
            PGD(epsilon=0.12, steps=6, restarts=1),
            PGD(epsilon=0.12, steps=6, restarts=4),
            PGD(epsilon=0.25, steps=5, restarts=3, norm="l2"),
            PGD(epsilon=0.12, steps=6, restarts=3, loss="margin"),
            UniformNoise(epsilon=0.3, draws=5),
            GaussianNoise(epsilon=0.5, norm="l2", draws=4),
            LBFGS(searches=2, iterations=4),
        ]
    ),
    targeted=st.booleans(),
    early_stop=st.booleans(),
    rounded=st.booleans(),
)
def test_the_batch_size_does_not_change_the_result(batch, attack, targeted, early_stop, rounded):
    module, data = curved_case(eight_bits=True)
    goals = (data.targets + 1) % 3 if targeted else None
    options = {"goals": goals, "seed": 3, "early_stop": early_stop, "round_points": rounded}
    whole = craft(attack, target_of(module, data), data, batch_size=11, **options)
    parts = craft(attack, target_of(module, data), data, batch_size=batch, **options)
    if isinstance(attack, LBFGS):  # minimizers near a kink amplify the last bits
        assert torch.equal(whole.success, parts.success)
    else:
        same(whole, parts)


@pytest.mark.parametrize("batch", [1, 3, 4, 22, 50])
def test_draws_are_bitwise_the_same_in_every_batch(recorder, batch):
    module, data = curved_case()
    target = target_of(module, data)
    craft(recorder, target, data, batch_size=22, early_stop=False)
    whole = dict(recorder.seen)
    recorder.seen.clear()
    craft(recorder, target, data, batch_size=batch, early_stop=False)
    assert whole.keys() == recorder.seen.keys()
    assert len(whole) == 11 * 2 * 3
    assert all(torch.equal(whole[k], recorder.seen[k]) for k in whole)
    craft(recorder, target, data, seed=1, early_stop=False)
    assert not any(torch.equal(whole[k], recorder.seen[k]) for k in whole)


def test_a_sample_keeps_its_draws_in_every_view(recorder):
    """Random numbers go with the sample, not with its place in the selection."""
    module, data = curved_case()
    target = target_of(module, data)
    craft(recorder, target, data, early_stop=False)
    whole = dict(recorder.seen)
    recorder.seen.clear()
    rows = torch.tensor([7, 2, 9])
    craft(recorder, target, data.select(rows, how="some"), early_stop=False)
    for position, row in enumerate(rows.tolist()):
        assert torch.equal(recorder.seen[position, 1, 2], whole[row, 1, 2])
