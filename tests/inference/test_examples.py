"""Attacked samples that trials share: what is kept, and under which name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from systems import Wrapped, linear_case, target_of
from trials import AVERAGE, same_evidence, spy

from casemate.inference.attacks.bim import BIM
from casemate.inference.attacks.pgd import PGD
from casemate.inference.defenses.averages import NeighborhoodAverage
from casemate.inference.evaluate import Attacker, Setting, evaluate


class Cache(dict):
    """Keeps arrays as a store would: written and read back."""

    def get(self, name, default=None):
        found = super().get(name, default)
        return None if found is None else {k: v.copy() for k, v in found.items()}

    def put(self, name, arrays):
        assert name not in self
        self[name] = {k: np.array(v) for k, v in arrays.items()}


@pytest.mark.parametrize("goal", [None, 1])
def test_a_cached_trial_is_identical_and_crafts_nothing(textured, goal, monkeypatch):
    module, data = textured
    target = target_of(module, data)
    setting = Setting(
        attack=PGD(epsilon=0.05, steps=4), goal=goal, defense=AVERAGE, attacker=Attacker.BEFORE
    )
    cache = Cache()
    first = evaluate(setting, target, data, cache=cache)
    assert len(cache) == 1
    seen = spy(monkeypatch)
    again = evaluate(setting, target, data, cache=cache)
    assert not seen
    same_evidence(first, again)
    same_evidence(first, evaluate(setting, target, data))


@pytest.mark.parametrize("attacker", [Attacker.AFTER, Attacker.AWARE])
@pytest.mark.parametrize("defense", [None, AVERAGE])
def test_what_no_other_trial_can_share_is_not_kept(textured, attacker, defense):
    module, data = textured
    cache = Cache()
    setting = Setting(attack=BIM(epsilon=0.05), defense=defense, attacker=attacker)
    evaluate(setting, target_of(module, data), data, cache=cache)
    assert not cache


def test_what_decides_the_examples_is_in_their_name(textured):
    module, data = textured
    target = target_of(module, data)
    base = Setting(attack=BIM(epsilon=0.05), defense=AVERAGE, attacker=Attacker.BEFORE)
    others = [
        replace(base, attack=BIM(epsilon=0.04)),
        replace(base, attack=PGD(epsilon=0.05)),
        replace(base, goal=1),
        replace(base, seed=1),
        replace(base, early_stop=False),
    ]
    cache = Cache()
    for count, setting in enumerate([base, *others], 1):
        evaluate(setting, target, data, cache=cache)
        assert len(cache) == count, setting
    evaluate(base, target, data.select(torch.arange(10), how="ten"), cache=cache)
    assert len(cache) == len(others) + 2
    # without knowledge of it, a filter does not decide the examples
    evaluate(replace(base, defense=NeighborhoodAverage(neighbors=4)), target, data, cache=cache)
    assert len(cache) == len(others) + 2
    # and the batch size decides nothing
    evaluate(base, target, data, cache=cache, batch_size=7)
    assert len(cache) == len(others) + 2


def test_examples_belong_to_one_model(textured):
    """Another model that reads the same samples correctly."""
    module, data = textured
    cache = Cache()
    setting = Setting(attack=BIM(epsilon=0.1), defense=AVERAGE, attacker=Attacker.BEFORE)
    first = evaluate(setting, target_of(module, data), data, cache=cache)
    other = target_of(Wrapped(module, lambda z, _x: z * 2), data)
    assert other.digest != target_of(module, data).digest
    second = evaluate(setting, other, data, cache=cache)
    assert first.samples["eligible"].tolist() == second.samples["eligible"].tolist()
    assert len(cache) == 2


def test_a_defense_of_another_revision_is_another_system():
    module, data = linear_case(3, n=5)
    target = target_of(module, data)
    newer = type("NeighborhoodAverage", (NeighborhoodAverage,), {"revision": 2})(neighbors=8)
    assert target.behind(AVERAGE).digest != target.behind(newer).digest
    again = NeighborhoodAverage(neighbors=8)
    assert target.behind(AVERAGE).digest == target.behind(again).digest


def test_evidence_does_not_depend_on_the_batch():
    module, data = linear_case(3, n=23)
    target = target_of(module, data)
    setting = Setting(attack=PGD(epsilon=0.05, steps=5, restarts=2))
    whole = evaluate(setting, target, data, batch_size=100)
    parts = evaluate(setting, target, data, batch_size=4)
    assert whole["attack success rate"] == parts["attack success rate"]
    np.testing.assert_array_equal(whole.samples["success"], parts.samples["success"])
    for name, column in whole.samples.items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose(column, parts.samples[name], atol=1e-4, err_msg=name)
