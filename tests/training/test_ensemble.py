from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.errors import CasemateError, UsageError
from casemate.models.mlp import MLP
from casemate.training.crew import cores
from casemate.training.ensemble import Job, train_many
from casemate.training.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.05, precision="float32")


def data(n=64):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    inputs = rng.random((n, 5)).astype(np.float32)
    inputs[:, 0] = labels
    return Dataset.from_arrays(
        name="made", inputs=inputs, labels=labels, classes=("a", "b"), domain=Domain(shape=(5,))
    )


def jobs(count, shared=None):
    shared = shared or data()
    flipped = shared.replaced(torch.arange(4), labels=torch.ones(4, dtype=torch.int64), how="x")
    return [
        Job(
            architecture=MLP(hidden=(8,)),
            recipe=RECIPE,
            data=flipped if i % 2 else shared,
            seed=i // 2,
        )
        for i in range(count)
    ]


@dataclass(frozen=True, kw_only=True)
class Fatal:
    """An architecture whose process does not survive it."""

    revision: ClassVar[int] = 1
    how: str = "killed"

    def build(self, domain, classes):
        if self.how == "killed" and torch.get_default_device().type != "meta":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "raises":
            raise RuntimeError("no such luck")
        return nn.Linear(domain.size, classes)


def test_many_equal_one_after_another():
    wanted = train_many(jobs(5), workers=1)
    threads = torch.get_num_threads()
    done, shares = [], []
    found = train_many(
        jobs(5), workers=2, done=lambda i, m: done.append((i, m.digest)), progress=shares.append
    )
    assert torch.get_num_threads() == threads
    assert [m.digest for m in found] == [m.digest for m in wanted]
    assert sorted(done) == [(i, m.digest) for i, m in enumerate(found)]
    assert shares[-1] == pytest.approx(1)
    assert shares == sorted(shares)
    for one, other in zip(found, wanted, strict=True):
        for name, weight in one.weights.items():
            torch.testing.assert_close(weight, other.weights[name], rtol=1e-4, atol=1e-5)


def test_the_same_again_is_the_same_bit_for_bit():
    first, second = (train_many(jobs(3), workers=2) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(w, other.weights[n]) for n, w in one.weights.items())


def test_what_is_left_of_the_data_is_as_it_was():
    shared = data()
    before, labels = shared.inputs.clone(), shared.labels.clone()
    train_many(jobs(4, shared), workers=2)
    assert torch.equal(shared.inputs, before)
    assert torch.equal(shared.labels, labels)


def test_an_error_is_told_after_what_was_done():
    bad = replace(jobs(1)[0], recipe=replace(RECIPE, learning_rate=1e30))
    done = []
    with pytest.raises(UsageError, match="training diverged"):
        train_many([*jobs(2), bad], workers=2, done=lambda i, _: done.append(i))
    with pytest.raises(UsageError, match="training diverged"):
        train_many([*jobs(2), bad], workers=1, done=lambda i, _: done.append(i))
    assert done[-2:] == [0, 1]


def test_a_worker_that_dies_is_named():
    fatal = replace(jobs(1)[0], architecture=Fatal())
    with pytest.raises(CasemateError, match=r"training Fatal on made died .*; use fewer workers"):
        train_many([jobs(1)[0], fatal], workers=2)


def test_what_a_third_party_raises_is_a_sentence():
    broken = replace(jobs(1)[0], architecture=Fatal(how="raises"))
    with pytest.raises(
        CasemateError, match="training Fatal on made failed: RuntimeError: no such luck"
    ):
        train_many([jobs(1)[0], broken], workers=2)


def test_no_jobs_no_models_and_no_workers_are_refused():
    assert train_many([]) == []
    with pytest.raises(UsageError, match="workers is 0"):
        train_many(jobs(1), workers=0)
    assert cores() >= 1
