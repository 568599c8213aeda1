"""On a linear classifier the best attack is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from systems import SCALE, data_of, linear_case, scores_of, target_of

from casemate.inference.attacks.bim import BIM
from casemate.inference.attacks.fgsm import FGSM
from casemate.inference.attacks.lbfgs import LBFGS
from casemate.inference.attacks.pgd import PGD
from casemate.inference.engine import craft

EPSILON = {"linf": 0.1, "l2": 0.3}


def attacks(norm, epsilon):
    rest = {"norm": norm, "epsilon": epsilon}
    step = epsilon if norm == "l2" else None
    return {
        "fgsm": FGSM(**rest),
        "bim": BIM(**rest, steps=20, step_size=epsilon / 8),
        "pgd": PGD(**rest, steps=40, step_size=step),
        "pgd-restarts": PGD(**rest, steps=40, step_size=step, restarts=3),
        "pgd-margin": PGD(**rest, steps=40, step_size=step, loss="margin"),
        "pgd-clean-start": PGD(**rest, steps=40, random_start=False),
    }


NAMES = list(attacks("linf", 0.1))


def differences(module, data):
    """Return (n, classes, size) w_j - w_y and (n, classes) z_j - z_y."""
    w = module.scale * module.weight.detach()
    z = scores_of(module, data.batch(slice(None)))
    y = data.targets
    return w[None] - w[y][:, None], z - z.gather(1, y[:, None])


def others(values, labels):
    """Hide each true label's own column."""
    return values.scatter(1, labels[:, None], float("-inf"))


def margins(module, points, labels):
    z = scores_of(module, points)
    return z.gather(1, labels[:, None]).squeeze(1) - others(z, labels).amax(1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", NAMES)
def test_two_classes(name, norm):
    module, data = linear_case(2, n=9)
    delta, gap = differences(module, data)
    dual = {"linf": 1, "l2": 2}[norm]
    gain = EPSILON[norm] * torch.linalg.vector_norm(delta, dual, dim=2)
    best = others(gap + gain, data.targets).amax(1)
    found = craft(
        attacks(norm, EPSILON[norm])[name], target_of(module, data), data, early_stop=False
    )
    got = -margins(module, found.adversarial, data.targets)
    torch.testing.assert_close(got, best, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.margin, -best, rtol=1e-4, atol=1e-4)
    assert (found.success == (best > 0)).all()
    assert found.success.any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", NAMES)
def test_many_classes(name, norm):
    """Where the runner-up stays the best class to go to, its hyperplane decides."""
    module, data = linear_case(5, n=3000)
    delta, gap = differences(module, data)
    dual = {"linf": 1, "l2": 2}[norm]
    epsilon = EPSILON[norm] / 8
    reached = others(gap + epsilon * torch.linalg.vector_norm(delta, dual, dim=2), data.targets)
    gap = others(gap, data.targets)
    top = gap.topk(2, dim=1).values
    clear = (gap.argmax(1) == reached.argmax(1)) & (top[:, 0] - top[:, 1] > 0.4)
    clear &= (reached.topk(2, dim=1).values @ torch.tensor([1.0, -1.0])) > 0.4
    clear &= gap.amax(1) > -2  # exp(40 * -2) is still a float32
    some = data.select(clear.nonzero().squeeze(1)[:12], how="clear")
    assert len(some) == 12
    # a steep model, so that the cross-entropy's gradient is the runner-up's alone
    module.scale = 40 * SCALE
    found = craft(attacks(norm, epsilon)[name], target_of(module, some), some, early_stop=False)
    module.scale = SCALE
    got = -margins(module, found.adversarial, some.targets)
    torch.testing.assert_close(got, reached[some.rows].amax(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_box_that_binds(name):
    """L-infinity: every value goes as far as epsilon and the box let it."""
    module, _ = linear_case(2)
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.choice([0.0, 0.02, 0.5, 0.97, 1.0], (10, 2, 4, 4))).float()
    data = data_of(x, scores_of(module, x).argmax(1), 2)
    delta, _ = differences(module, data)
    away = delta[torch.arange(10), 1 - data.targets].view_as(x)
    best = (x + 0.1 * away.sign()).clamp(0, 1)
    found = craft(attacks("linf", 0.1)[name], target_of(module, data), data, early_stop=False)
    torch.testing.assert_close(found.adversarial, best, rtol=0, atol=1e-6)
    assert (found.adversarial - x).abs().amin() < 0.05  # the box did bind


def test_a_goal_is_reached_as_well_as_a_linear_program_can():
    """Targeted: the least maximum of the other classes' leads over the goal."""
    module, data = linear_case(4, n=8, shape=(6,))
    goals = (data.targets + 1) % 4
    w, x = SCALE * module.weight.detach().double().numpy(), data.batch(slice(None)).double().numpy()
    best = []
    for point, goal in zip(x, goals.tolist(), strict=True):
        rest = [j for j in range(4) if j != goal]
        lead = w[rest] - w[goal]
        # minimize t subject to lead_j (x - 1/2 + r) <= t, |r| <= epsilon
        result = linprog(
            np.r_[np.zeros(6), 1.0],
            A_ub=np.c_[lead, -np.ones(3)],
            b_ub=-lead @ (point - 0.5),
            bounds=[(-0.1, 0.1)] * 6 + [(None, None)],
        )
        best.append(result.fun)
    attack = PGD(epsilon=0.1, steps=400, step_size=0.001, loss="margin")
    found = craft(attack, target_of(module, data), data, goals=goals, early_stop=False)
    clean = torch.from_numpy(x).float()
    begin = _goal_margins(module, clean, goals).numpy()
    end = _goal_margins(module, found.adversarial, goals).numpy()
    assert (end >= np.array(best) - 1e-5).all()
    # steps along signs zigzag where two other classes are level, but most of the way is made
    share = (begin - end) / (begin - np.array(best))
    assert (share > 0.8).all(), share
    assert np.median(share) > 0.97


def _goal_margins(module, points, goals):
    z = scores_of(module, points)
    return others(z, goals).amax(1) - z.gather(1, goals[:, None]).squeeze(1)


def nearest(module, data, goal=None):
    """Return the distance to the nearest hyperplane, or to the goal's."""
    delta, gap = differences(module, data)
    far = (-gap / torch.linalg.vector_norm(delta, dim=2).clamp_min(1e-12)).scatter(
        1, data.targets[:, None], float("inf")
    )
    return far.amin(1) if goal is None else far[torch.arange(len(data)), goal]


THOROUGH = LBFGS(searches=16, tolerance=1e-6)


@pytest.mark.parametrize("classes", [2, 6])
@pytest.mark.parametrize("scale", [300.0, 3000.0])
@pytest.mark.parametrize("attack", [LBFGS(), THOROUGH], ids=["default", "thorough"])
def test_lbfgs_finds_the_nearest_hyperplane(attack, classes, scale):
    module, data = linear_case(classes, n=40, scale=scale)
    # all wrong classes are aimed at together: the likeliest has to be the nearest, too, and not
    # within a hair, where others are as near
    _, gap = differences(module, data)
    likeliest = others(gap, data.targets).argmax(1)
    apart = nearest(module, data, likeliest) == nearest(module, data)
    apart &= nearest(module, data) > 0.02
    data = data.select(apart.nonzero().squeeze(1)[:10], how="apart")
    far = nearest(module, data)
    assert len(far) == 10
    found = craft(attack, target_of(module, data), data)
    length = (found.adversarial - data.batch(slice(None))).flatten(1).norm(dim=1)
    assert found.success.all()
    worst = 1.01 if attack is THOROUGH else 1.1
    assert ((length / far) < worst).all(), length / far
    assert ((length / far) > 1 - 1e-4).all()


def test_lbfgs_finds_the_nearest_point_of_a_goal():
    module, data = linear_case(4, n=400, scale=60.0)
    goal = (data.targets + 1) % 4
    # where the foot on the goal's hyperplane beats all other classes, it is the nearest point
    delta, gap = differences(module, data)
    rows = torch.arange(len(data))
    normal = delta[rows, goal]
    foot = (
        data.batch(slice(None)).flatten(1)
        - normal * (gap[rows, goal] / (normal * normal).sum(1))[:, None]
    )
    z = scores_of(module, foot)
    rest = z.scatter(1, goal[:, None], -9e9).scatter(1, data.targets[:, None], -9e9).amax(1)
    clear = (z[rows, goal] > rest + 5).nonzero().squeeze(1)[:10]
    assert len(clear) == 10
    some = data.select(clear, how="clear")
    found = craft(THOROUGH, target_of(module, some), some, goals=goal[clear])
    length = (found.adversarial - some.batch(slice(None))).flatten(1).norm(dim=1)
    assert found.success.all()
    ratio = length / nearest(module, some, goal[clear])
    assert (ratio < 1.01).all(), ratio
    assert (ratio > 1 - 1e-4).all()


def test_lbfgs_in_a_box_that_binds():
    """The nearest point is clip(x + t w) with the least t that reaches the hyperplane."""
    module, _ = linear_case(2, shape=(12,), scale=60.0)
    rng = np.random.default_rng(5)
    x = torch.from_numpy(rng.choice([0.0, 0.03, 0.2, 0.5, 0.98], (10, 12))).float()
    data = data_of(x, scores_of(module, x).argmax(1), 2)
    delta, gap = differences(module, data)
    away = delta[torch.arange(10), 1 - data.targets].double()
    need = -gap[torch.arange(10), 1 - data.targets].double()
    low, high = torch.zeros(10, 1).double(), torch.full((10, 1), 1e3).double()
    for _ in range(200):
        t = (low + high) / 2
        r = (x + t * away).clamp(0, 1) - x
        enough = ((r * away).sum(1) >= need)[:, None]
        low, high = torch.where(enough, low, t), torch.where(enough, t, high)
    far = ((x + high * away).clamp(0, 1) - x).norm(dim=1).float()
    free = need.float() / away.float().norm(dim=1)
    assert (far > 1.05 * free).sum() >= 5  # the box does bind
    found = craft(THOROUGH, target_of(module, data), data)
    ratio = (found.adversarial - x).norm(dim=1) / far
    assert found.success.all()
    assert (ratio < 1.01).all(), ratio
    assert (ratio > 1 - 1e-4).all()
