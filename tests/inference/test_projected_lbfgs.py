"""Held against SciPy's L-BFGS-B."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from casemate.inference import projected_lbfgs as solver

BATCH = 8


def solve(function, x0, low, high, *, tolerance=1e-15, iterations=1000, memory=8):
    """Return the points and values where each problem ended, and evaluations used."""
    state = solver.start(x0, memory)
    done = torch.zeros(len(x0), dtype=torch.bool)
    point, value = torch.full_like(x0, np.nan), torch.full((len(x0),), np.inf, dtype=x0.dtype)
    for used in range(1, 50_000):
        assert (state["trial"] >= low).all()
        assert (state["trial"] <= high).all()
        f, g = function(state["trial"])
        ended = solver.advance(
            state, f, g.flatten(1), low=low, high=high, iterations=iterations, tolerance=tolerance
        )
        new = ended & ~done
        point[new], value[new] = state["point"][new].view_as(point[new]), state["value"][new]
        done |= ended
        if done.all():
            return point, value, used
    raise AssertionError("did not end")


def quadratics(size, condition, seed, *, reach):
    """Return f and its gradient for 8 convex quadratics with minima in [-reach, 1 + reach]."""
    rng = np.random.default_rng(seed)
    matrices, minima = [], rng.uniform(-reach, 1 + reach, (BATCH, size))
    for _ in range(BATCH):
        q, _ = np.linalg.qr(rng.normal(size=(size, size)))
        matrices.append(q @ np.diag(np.exp(rng.uniform(0, np.log(condition), size))) @ q.T)
    a, m = torch.from_numpy(np.array(matrices)), torch.from_numpy(minima)

    def function(x, rows=slice(None)):
        gradient = torch.einsum("bij,bj->bi", a[rows], x - m[rows])
        return (gradient * (x - m[rows])).sum(1) / 2, gradient

    return function


def rosenbrock(x, rows=slice(None)):
    del rows
    x = x.detach().requires_grad_(True)
    value = (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


def scipys(function, x0, low, high):
    out = []
    for i, start in enumerate(x0):

        def one(z, i=i):
            f, g = function(torch.from_numpy(z)[None], slice(i, i + 1))
            return f.item(), g[0].numpy()

        options = {"maxiter": 5000, "maxfun": 50_000, "ftol": 1e-15, "gtol": 1e-11}
        bounds = [(low, high)] * x0.shape[1]
        result = minimize(
            one, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        out.append((result.fun, result.nfev))
    return np.array(out).T


@pytest.mark.parametrize("start", ["corner", "middle", "random"])
@pytest.mark.parametrize(("size", "condition"), [(5, 10), (20, 1e3), (20, 1e5), (60, 1e4)])
def test_convex_quadratics_with_active_bounds(size, condition, start):
    function = quadratics(size, condition, 7 * size, reach=0.7)
    rng = np.random.default_rng(1)
    x0 = {
        "corner": rng.integers(0, 2, (BATCH, size)).astype(float),
        "middle": np.full((BATCH, size), 0.5),
        "random": rng.uniform(0, 1, (BATCH, size)),
    }[start]
    x0 = torch.from_numpy(x0)
    point, value, used = solve(function, x0, 0.0, 1.0)
    reference, evaluations = scipys(function, x0, 0.0, 1.0)
    np.testing.assert_allclose(value.numpy(), reference, rtol=1e-8, atol=1e-10)
    at_bound = (point == 0) | (point == 1)
    assert 0.2 < at_bound.double().mean() < 0.95
    assert used < 4 * evaluations.max() + 40


def test_rosenbrock_in_a_box_that_cuts_its_valley():
    rng = np.random.default_rng(2)
    x0 = torch.from_numpy(rng.uniform(-1, 0.6, (BATCH, 4)))
    _, value, _ = solve(rosenbrock, x0, -2.0, 0.6)
    np.testing.assert_allclose(value.numpy(), scipys(rosenbrock, x0, -2.0, 0.6)[0], rtol=1e-7)


def test_rosenbrock_in_the_open():
    rng = np.random.default_rng(2)
    x0 = torch.from_numpy(rng.uniform(-2, 2, (BATCH, 2)))
    point, value, _ = solve(rosenbrock, x0, -5.0, 5.0)
    torch.testing.assert_close(point, torch.ones_like(point), rtol=0, atol=1e-5)
    assert (value < 1e-10).all()


def test_rows_do_not_see_each_other():
    function = quadratics(10, 1e3, 5, reach=0.5)
    x0 = torch.from_numpy(np.random.default_rng(3).uniform(0, 1, (BATCH, 10)))
    together, _, _ = solve(function, x0, 0.0, 1.0, iterations=12)
    for i in range(BATCH):
        row = slice(i, i + 1)
        alone, _, _ = solve(lambda x, r=row: function(x, r), x0[row], 0.0, 1.0, iterations=12)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-7)


def test_images_keep_their_shape():
    x0 = torch.rand(3, 2, 4, 4, dtype=torch.float64)
    goal = torch.full_like(x0, 0.25)
    point, _, _ = solve(lambda x: ((x - goal).square().flatten(1).sum(1), 2 * (x - goal)), x0, 0, 1)
    torch.testing.assert_close(point, goal)


def test_iterations_are_bounded():
    function = quadratics(20, 1e4, 1, reach=0.2)
    x0 = torch.full((BATCH, 20), 0.5, dtype=torch.float64)
    values = [solve(function, x0, 0.0, 1.0, iterations=k)[1] for k in (1, 3, 30)]
    assert (values[0] > values[1]).all()
    assert (values[1] > values[2]).all()
    used = solve(function, x0, 0.0, 1.0, iterations=3)[2]
    assert used <= 1 + 3 * solver.MAX_TRIALS


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_values_that_are_not_finite_end_it_or_are_avoided(broken):
    def at_once(x):
        return torch.full((len(x),), broken, dtype=x.dtype), torch.ones_like(x)

    def beyond(x):  # a wall that the first steps jump over
        f, g = (x + 1).square().sum(1), 2 * (x + 1)
        return torch.where(x[:, 0] < 0.3, broken, f), g

    x0 = torch.full((2, 3), 0.9, dtype=torch.float64)
    assert solve(at_once, x0, 0.0, 1.0)[2] <= 2
    point, value, _ = solve(beyond, x0, 0.0, 1.0)
    assert value.isfinite().all()
    assert (point[:, 0] >= 0.3).all()
    assert (value < beyond(x0)[0]).all()


def test_it_ends_at_once_where_the_gradient_is_zero():
    x0 = torch.full((2, 3), 0.5)
    point, _, used = solve(lambda x: (torch.ones(len(x)), torch.zeros_like(x)), x0, 0.0, 1.0)
    assert used == 1
    assert torch.equal(point, x0)


def test_restart_forgets_only_the_rows_it_is_told():
    function = quadratics(6, 100, 9, reach=0.5)
    x0 = torch.full((BATCH, 6), 0.5, dtype=torch.float64)
    state = solver.start(x0, 4)
    for _ in range(4):
        f, g = function(state["trial"])
        solver.advance(state, f, g, low=0.0, high=1.0, iterations=99, tolerance=0.0)
    before = {k: v.clone() for k, v in state.items()}
    which = torch.arange(BATCH) % 2 == 0
    solver.restart(state, which, x0)
    fresh = solver.start(x0, 4)
    for name, values in state.items():
        assert torch.equal(values[which], fresh[name][which]), name
        assert torch.equal(values[~which], before[name][~which]), name
    assert not torch.equal(before["point"], fresh["point"])
