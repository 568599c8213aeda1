from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.inference.norms import distance, project, round_to_step, within

NORMS = st.sampled_from(["linf", "l2"])
BOUNDS = st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-2.5, 4.0)])


@st.composite
def cases(draw, on_grid=None):
    """Return points, origins in the domain, a norm, an epsilon and the domain."""
    low, high = draw(BOUNDS)
    step = (high - low) / draw(st.sampled_from([1, 3, 16, 255, 65535]))
    domain = Domain(shape=(3, 2, 2), low=low, high=high, step=step)
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    origin = rng.uniform(low, high, (4, 3, 2, 2))
    origin[rng.random(origin.shape) < 0.2] = low
    if on_grid:
        origin = np.clip(low + np.round((origin - low) / step) * step, low, high)
    norm = draw(NORMS)
    # down to less than a step
    epsilon = draw(st.sampled_from([0.0, 0.3 * step, 1.0 * step, 2.6 * step, 0.1 * domain.width]))
    x = origin + rng.normal(0, draw(st.sampled_from([1e-3, 0.1, 2.0])) * domain.width, origin.shape)
    return torch.from_numpy(x).float(), torch.from_numpy(origin).float(), norm, epsilon, domain


def test_distances_are_those_of_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 3, 4, 2)).astype(np.float32)
    for norm, order in (("linf", np.inf), ("l2", 2)):
        got = distance(torch.from_numpy(a), torch.from_numpy(b), norm)
        np.testing.assert_allclose(
            got, np.linalg.norm((a - b).reshape(5, -1), order, axis=1), rtol=1e-6
        )


@given(cases())
def test_projection_is_feasible_and_idempotent(case):
    x, origin, norm, epsilon, domain = case
    once = project(x.clone(), origin, norm, epsilon, domain)
    assert within(once, origin, norm, epsilon, domain).all()
    twice = project(once.clone(), origin, norm, epsilon, domain)
    torch.testing.assert_close(twice, once, rtol=0, atol=1e-6 * domain.width)


@given(cases())
def test_projection_leaves_what_is_feasible(case):
    x, origin, norm, epsilon, domain = case
    x = x.clamp(domain.low, domain.high)
    x = origin + (x - origin) * 0.999 * (epsilon / distance(x, origin, norm)).clamp_max(1).view(
        -1, 1, 1, 1
    )
    got = project(x.clone(), origin, norm, epsilon, domain)
    torch.testing.assert_close(got, x, rtol=0, atol=1e-6 * domain.width)


@given(st.integers(0, 10**6), st.floats(0.01, 0.6))
def test_linf_projection_is_the_nearest_point(seed, epsilon):
    """Brute force over a fine grid of the feasible square."""
    rng = np.random.default_rng(seed)
    domain = Domain(shape=(2,))
    origin = torch.from_numpy(rng.uniform(0, 1, (1, 2))).float()
    x = torch.from_numpy(rng.uniform(-1, 2, (1, 2))).float()
    got = project(x.clone(), origin, "linf", epsilon, domain)
    axes = [
        torch.linspace(max(0, float(o) - epsilon), min(1, float(o) + epsilon), 41)
        for o in origin[0]
    ]
    grid = torch.cartesian_prod(*axes)
    best = (grid - x).norm(dim=1).min()
    assert float((got - x).norm()) <= float(best) + 1e-5
    assert within(got, origin, "linf", epsilon, domain).all()


def test_l2_projection_onto_the_ball_is_radial():
    domain = Domain(shape=(3,), low=-9, high=9)
    origin = torch.tensor([[1.0, 2.0, 3.0]])
    x = origin + torch.tensor([[3.0, 0.0, 4.0]])
    got = project(x, origin, "l2", 2.0, domain)
    torch.testing.assert_close(got, origin + torch.tensor([[1.2, 0.0, 1.6]]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_within_tells_apart(norm):
    domain = Domain(shape=(2,))
    origin = torch.full((6, 2), 0.5)
    x = origin.clone()
    x[1, 0] += 0.1
    x[2, 0] += 0.1001
    x[3, 0] = 1.0001
    x[4, 0] = float("nan")
    x[5, 1] -= 0.0999
    assert within(x, origin, norm, 0.1, domain).tolist() == [True, True, False, False, False, True]
    assert within(x, origin, norm, None, domain).tolist() == [True] * 3 + [False] * 2 + [True]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_tiny_epsilon_in_a_wide_domain_is_kept(norm):
    """Near 255 float32 moves in steps of 1.5e-5; a projection must still count as within."""
    domain = Domain(shape=(50,), high=255.0)
    origin = torch.linspace(200, 254.9, 50)[None]
    x = project(origin + 1, origin, norm, 1e-5, domain)
    assert within(x, origin, norm, 1e-5, domain).all()
    assert not within(origin + 0.01, origin, norm, 1e-5, domain).any()


def steps_of(x, domain):
    return (x.double() - domain.low) / domain.step


@given(cases(on_grid=True))
def test_rounding_is_on_the_grid_within_epsilon_and_idempotent(case):
    x, origin, norm, epsilon, domain = case
    x = project(x, origin, norm, epsilon, domain)
    got = round_to_step(x.clone(), origin, norm, epsilon, domain)
    steps = steps_of(got, domain)
    assert ((steps - steps.round()).abs() < 0.02).all()
    assert within(got, origin, norm, epsilon, domain).all()
    again = round_to_step(got.clone(), origin, norm, epsilon, domain)
    # an origin may lie a last bit beside the grid's own value
    torch.testing.assert_close(again, got, rtol=0, atol=1e-6 * domain.width)


@given(cases(on_grid=False))
def test_rounding_near_origins_off_the_grid(case):
    """Each value is on the grid, or, where no grid value fits, the origin's own."""
    x, origin, norm, epsilon, domain = case
    x = project(x, origin, norm, epsilon, domain)
    got = round_to_step(x.clone(), origin, norm, epsilon, domain)
    assert within(got, origin, norm, epsilon, domain).all()
    steps = steps_of(got, domain)
    on_grid = (steps - steps.round()).abs() < 0.02
    assert (on_grid | (got == origin)).all()
    if norm == "linf":
        # the origin is kept only where no grid value is within epsilon
        low, high = (steps_of(origin.double() + s * epsilon, domain) for s in (-1, 1))
        fits = (low + 0.02).ceil() <= (high - 0.02).floor()
        assert (on_grid | ~fits).all()


@given(st.integers(0, 10**6), st.sampled_from([0.04, 0.11, 0.3, 0.8]))
def test_linf_rounding_is_the_nearest_grid_value_within_epsilon(seed, epsilon):
    rng = np.random.default_rng(seed)
    domain = Domain(shape=(20,), step=0.1)
    origin = torch.from_numpy(rng.uniform(0, 1, (3, 20))).float()
    x = project(origin + torch.from_numpy(rng.normal(0, 0.5, (3, 20))).float(), origin, "linf",
                epsilon, domain)  # fmt: skip
    got = round_to_step(x, origin, "linf", epsilon, domain)
    levels = torch.arange(11) / 10
    beyond = (levels - origin[..., None]).abs() - epsilon
    allowed = beyond <= 0
    far = (levels - x[..., None]).abs().masked_fill(~allowed, float("inf"))
    best = torch.where(allowed.any(-1), levels[far.argmin(-1)], origin)
    clear = far.topk(2, largest=False).values
    tie = (clear[..., 1] - clear[..., 0]) < 1e-4
    tie |= (beyond.abs() < 1e-5).any(-1)  # on the rim of the ball float32 may decide either way
    torch.testing.assert_close(got[~tie], best[~tie])


def test_l2_rounding_takes_the_nearest_where_the_ball_allows_it():
    domain = Domain(shape=(4,), step=0.1)
    origin = torch.full((1, 4), 0.5)
    x = origin + torch.tensor([[0.16, -0.16, 0.0, 0.04]])
    near = round_to_step(x.clone(), origin, "l2", 0.3, domain)
    torch.testing.assert_close(near, origin + torch.tensor([[0.2, -0.2, 0.0, 0.0]]))
    # rounded up it would be 0.28 away: inward instead
    inward = round_to_step(x.clone(), origin, "l2", 0.24, domain)
    torch.testing.assert_close(inward, origin + torch.tensor([[0.1, -0.1, 0.0, 0.0]]))


def test_a_step_that_does_not_divide_the_width():
    domain = Domain(shape=(1,), step=0.3)
    x = torch.tensor([[0.97], [0.8], [0.1]])
    got = round_to_step(x, x, "linf", None, domain)
    torch.testing.assert_close(got, torch.tensor([[0.9], [0.9], [0.0]]))


def test_no_step_no_rounding():
    x = torch.rand(2, 3)
    assert round_to_step(x, x, "linf", 0.1, Domain(shape=(3,))) is x


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rounded_values_are_those_of_an_8_bit_file_to_the_last_bit(low, high, norm):
    """What is judged is what a model gets that reads the saved image."""
    domain = Domain(shape=(256,), low=low, high=high, step=(high - low) / 255)
    levels = np.arange(256, dtype=np.uint8)[None]
    file = Dataset.from_arrays(
        name="file", inputs=levels, labels=np.zeros(1, np.int64), classes=("a", "b"), domain=domain
    ).batch(slice(None))
    noisy = (file + torch.linspace(-0.4, 0.4, 256) * domain.step).clamp(low, high)
    for epsilon in (None, 8 / 255 * domain.width * (1 if norm == "linf" else 16)):
        assert torch.equal(round_to_step(noisy.clone(), file, norm, epsilon, domain), file)


@given(st.integers(0, 10**6), NORMS, st.sampled_from([0.004, 0.01, 0.03]))
def test_rounding_8_bit_data_twice_is_rounding_it_once(seed, norm, epsilon):
    rng = np.random.default_rng(seed)
    domain = Domain(shape=(3, 4, 4), step=1 / 255)
    origin = torch.from_numpy(rng.integers(0, 256, (5, 3, 4, 4))).float().div(255)
    x = origin + torch.from_numpy(rng.normal(0, 0.01, origin.shape)).float()
    x = project(x, origin, norm, epsilon, domain)
    once = round_to_step(x, origin, norm, epsilon, domain)
    assert torch.equal((once * 255).round().div(255), once)
    assert torch.equal(round_to_step(once.clone(), origin, norm, epsilon, domain), once)


def test_rounding_keeps_every_corner_of_a_ball():
    """On the grid already, at exactly epsilon: nothing may move, whatever the last bits say."""
    domain = Domain(shape=(4,), step=1 / 255)
    origin = torch.tensor(list(itertools.product([0, 8, 100, 247], repeat=4))).float() / 255
    signs = torch.tensor(list(itertools.product([-1, 1], repeat=4)))[torch.arange(256) % 16]
    x = (origin + signs * 8 / 255).clamp(0, 1)
    got = round_to_step(x.clone(), origin, "linf", 8 / 255, domain)
    torch.testing.assert_close(got, x, rtol=0, atol=1e-6)
