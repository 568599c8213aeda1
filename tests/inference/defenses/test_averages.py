from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import convolve

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.inference.defenses.averages import (
    NeighborhoodAverage,
    RadiusAverage,
    neighborhood_mask,
    radius_mask,
)

FILTERS = [NeighborhoodAverage(neighbors=n) for n in (1, 4, 8, 16, 32, 64)] + [
    RadiusAverage(radius=r) for r in (1, 2, 3, 5)
]
IDS = [str(f) for f in FILTERS]


@given(st.integers(1, 300))
def test_neighbors_are_the_nearest_pixels(neighbors):
    """Every pixel of a large square, by distance: the first rings whole, the last one shared."""
    reach = 15
    far = {
        (i, j): i * i + j * j
        for i in range(-reach, reach + 1)
        for j in range(-reach, reach + 1)
        if (i, j) != (0, 0)
    }
    ordered = sorted(far.values())
    last = ordered[neighbors - 1]  # the square of the distance of the farthest one wanted
    nearer = sum(d < last for d in ordered)
    share = (neighbors - nearer) / sum(d == last for d in ordered)
    mask = neighborhood_mask(neighbors)
    center = len(mask) // 2
    assert mask.shape == (2 * center + 1, 2 * center + 1)
    for (i, j), d in far.items():
        expected = 1.0 if d < last else share if d == last else 0.0
        inside = max(abs(i), abs(j)) <= center
        got = float(mask[center + i, center + j]) if inside else 0.0
        assert got == pytest.approx(expected, abs=1e-6), (i, j)
    assert float(mask[center, center]) == 1
    assert float(mask.double().sum()) == pytest.approx(neighbors + 1, rel=1e-6)
    assert mask[0].any()  # no rim of zeros


def test_four_is_the_cross_and_eight_the_square():
    assert neighborhood_mask(4).tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    assert neighborhood_mask(8).tolist() == [[1, 1, 1]] * 3
    assert float(neighborhood_mask(1)[0, 1]) == 0.25


@pytest.mark.parametrize("neighbors", [16, 32, 64, 1024])
def test_masks_are_symmetric(neighbors):
    mask = neighborhood_mask(neighbors)
    assert torch.equal(mask, mask.flip(0))
    assert torch.equal(mask, mask.T)
    assert float(mask.double().sum()) == pytest.approx(neighbors + 1)


@pytest.mark.parametrize("radius", range(1, 17))
def test_a_disk_holds_what_is_near_enough(radius):
    mask = radius_mask(radius)
    for i in range(-radius, radius + 1):
        for j in range(-radius, radius + 1):
            assert bool(mask[i + radius, j + radius]) == (math.hypot(i, j) <= radius)
    assert mask.shape == (2 * radius + 1, 2 * radius + 1)


@pytest.mark.parametrize("defense", FILTERS, ids=IDS)
def test_averages_by_brute_force(defense):
    """Over the pixels that exist, channel by channel."""
    mask = (
        neighborhood_mask(defense.neighbors)
        if isinstance(defense, NeighborhoodAverage)
        else radius_mask(defense.radius)
    ).numpy()
    x = np.random.default_rng(0).uniform(size=(2, 3, 9, 7))
    total = np.stack([[convolve(c, mask, mode="constant", cval=0.0) for c in image] for image in x])
    inside = convolve(np.ones((9, 7)), mask, mode="constant", cval=0.0)
    got = defense(torch.from_numpy(x).float())
    np.testing.assert_allclose(got.numpy(), total / inside, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 5), (1, 3, 2, 2), (3, 1, 32, 32)])
@pytest.mark.parametrize("defense", FILTERS, ids=IDS)
def test_constant_images_stay_as_they_are(defense, shape):
    for level in (0.0, 0.3, 1.0):
        x = torch.full(shape, level)
        torch.testing.assert_close(defense(x), x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("defense", FILTERS, ids=IDS)
def test_images_stay_between_their_extremes_and_get_smoother(defense):
    x = torch.rand((4, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    before = x.clone()
    y = defense(x)
    assert torch.equal(x, before)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert y.min() >= x.min() - 1e-6
    assert y.max() <= x.max() + 1e-6
    assert y.std() < x.std()


@pytest.mark.parametrize("defense", FILTERS, ids=IDS)
def test_gradients_flow_through(defense):
    """Linear, so the gradient of a weighted sum is the same at every point."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.rand((1, 2, 7, 7), generator=generator, dtype=torch.float64)
    gradients = []
    for _ in range(2):
        x = torch.rand((1, 2, 7, 7), generator=generator, dtype=torch.float64).requires_grad_(True)
        (g,) = torch.autograd.grad((defense(x) * weight).sum(), x)
        gradients.append(g)
        assert (g > 0).all()
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(defense, x)


def test_more_neighbors_smooth_more():
    x = torch.rand((2, 1, 32, 32), generator=torch.Generator().manual_seed(3))
    spread = [float(NeighborhoodAverage(neighbors=n)(x).std()) for n in (4, 8, 16, 32, 64)]
    assert spread == sorted(spread, reverse=True)
    spread = [float(RadiusAverage(radius=r)(x).std()) for r in range(1, 6)]
    assert spread == sorted(spread, reverse=True)


def test_channels_last_memory_changes_nothing():
    x = torch.rand(2, 3, 8, 8)
    y = x.contiguous(memory_format=torch.channels_last)
    for defense in FILTERS:
        torch.testing.assert_close(defense(x), defense(y))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NeighborhoodAverage(neighbors=0), "neighbors is 0, but it must lie between"),
        (lambda: NeighborhoodAverage(neighbors=1025), "neighbors is 1025"),
        (lambda: RadiusAverage(radius=0), "radius is 0"),
        (lambda: RadiusAverage(radius=17), "radius is 17"),
        (lambda: RadiusAverage().check(Domain(shape=(8,))), "inputs are features"),
        (lambda: NeighborhoodAverage().check(Domain(shape=(8,))), "inputs are features"),
    ],
)
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()
