from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from casemate.data.digits import Digits
from casemate.errors import UsageError


def test_the_two_splits_are_scikit_learns_digits():
    train, test = Digits().load("train"), Digits().load("test")
    bunch = load_digits()
    assert len(train) + len(test) == len(bunch.target) == 1797
    assert not set(train.rows.tolist()) & set(test.rows.tolist())
    for data in (train, test):
        images = data.batch(slice(0, len(data)))[:, 0].numpy() * 16
        assert np.array_equal(images, bunch.images[data.rows.numpy()])
        assert np.array_equal(data.targets.numpy(), bunch.target[data.rows.numpy()])


def test_the_test_split_is_a_fifth_of_each_class():
    test = Digits().load("test")
    share = np.bincount(load_digits().target) * 0.2
    assert np.abs(np.bincount(test.targets.numpy()) - share).max() < 1


def test_values_are_multiples_of_the_step_and_span_the_domain():
    data = Digits().load("train")
    assert (data.domain.shape, data.domain.step) == ((1, 8, 8), 1 / 16)
    assert (float(data.inputs.min()), float(data.inputs.max())) == (0.0, 1.0)
    assert torch.equal(data.inputs * 16, (data.inputs * 16).round())


def test_the_seed_moves_samples_between_the_splits():
    first = Digits(split_seed=0).load("test").rows.tolist()
    assert first == Digits(split_seed=0).load("test").rows.tolist()
    assert first != Digits(split_seed=1).load("test").rows.tolist()


def test_a_fraction_that_is_none_is_refused():
    with pytest.raises(
        UsageError, match=r"digits: test_fraction must be between 0 and 1, got 1\.0"
    ):
        Digits(test_fraction=1.0)
