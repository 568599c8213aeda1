from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.inference.defenses.median import Median


@pytest.mark.parametrize("window", [3, 5, 7])
@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (1, 1, 4, 6), (1, 2, 32, 32)])
def test_it_is_scipys_with_reflected_borders(window, shape):
    x = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    expected = median_filter(x, size=(1, 1, window, window), mode="mirror")
    np.testing.assert_array_equal(Median(window=window)(torch.from_numpy(x)).numpy(), expected)


def test_constant_images_stay_as_they_are():
    x = torch.full((2, 3, 8, 8), 0.3)
    assert torch.equal(Median()(x), x)


def test_a_lone_pixel_goes_and_an_edge_stays():
    x = torch.zeros(1, 1, 9, 9)
    x[..., 5:] = 1.0
    edge = x.clone()
    x[0, 0, 4, 1] = 1.0
    assert torch.equal(Median()(x), edge)


def test_the_gradient_goes_to_the_pixel_that_was_picked():
    x = torch.rand((1, 1, 6, 6), generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    y = Median()(x)
    (g,) = torch.autograd.grad(y[0, 0, 2, 3], x)
    assert float(g.sum()) == 1
    assert x.detach()[g == 1].tolist() == [y[0, 0, 2, 3].item()]


def test_the_input_is_left_alone():
    x = torch.rand(2, 1, 8, 8)
    before = x.clone()
    Median()(x).mul_(0)
    assert torch.equal(x, before)


@pytest.mark.parametrize("window", [1, 2, 4, 17, -3])
def test_windows_are_odd_and_bounded(window):
    with pytest.raises(UsageError, match=f"window is {window}, but it must be odd"):
        Median(window=window)


@pytest.mark.parametrize("shape", [(1, 1, 2, 9), (1, 1, 9, 2)])
def test_an_image_smaller_than_the_window_is_refused(shape):
    Median(window=3).check(Domain(shape=shape[1:]))
    assert Median(window=3)(torch.rand(shape)).shape == shape
    with pytest.raises(UsageError, match="larger than 2 pixels, but they are"):
        Median(window=5).check(Domain(shape=shape[1:]))


def test_features_are_refused():
    with pytest.raises(UsageError, match="inputs are features"):
        Median().check(Domain(shape=(8,)))
