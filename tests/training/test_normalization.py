from __future__ import annotations

import numpy as np
import pytest
import torch

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.training.normalization import normalization


def dataset(inputs, **domain):
    return Dataset(
        name="stub/train",
        inputs=inputs,
        labels=torch.zeros(len(inputs), dtype=torch.int64),
        classes=("a", "b"),
        domain=Domain(shape=tuple(inputs.shape[1:]), **domain),
        digest="0",
    )


def test_it_is_the_mean_and_deviation_of_each_channel():
    raw = torch.randint(0, 256, (5000, 3, 2, 3), dtype=torch.uint8)
    made = normalization(dataset(raw, low=-1.0, high=3.0))
    values = raw.numpy() / 255.0 * 4 - 1
    np.testing.assert_allclose(made.mean, values.mean(axis=(0, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(made.std, values.std(axis=(0, 2, 3)), atol=1e-6)


def test_features_far_from_zero_keep_their_deviation():
    """The textbook formula E[x^2] - E[x]^2 loses all digits here."""
    x = 1000 + torch.randn(4000, 2, generator=torch.Generator().manual_seed(0)) * 0.01
    made = normalization(dataset(x, low=0.0, high=2000.0))
    np.testing.assert_allclose(made.std, x.double().numpy().std(axis=0), rtol=1e-6)


def test_a_constant_feature_is_centered_only():
    x = torch.rand(10, 2)
    x[:, 1] = 0.25
    made = normalization(dataset(x))
    assert made.mean[1] == 0.25
    assert made.std[1] == 1.0


def test_a_view_counts_its_own_samples():
    x = torch.rand(10, 2)
    view = dataset(x).select(torch.tensor([1, 4]), how="two")
    np.testing.assert_allclose(normalization(view).mean, x[[1, 4]].mean(0), rtol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value):
    x = torch.rand(10, 2)
    x[3, 1] = value
    with pytest.raises(UsageError, match="stub/train: inputs hold NaN or infinite values"):
        normalization(dataset(x))
