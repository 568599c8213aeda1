"""L-BFGS on a box for many problems at once, one evaluation at a time.

The two-metric projection of Bertsekas ("Projected Newton methods for optimization problems with
simple constraints", SIAM J. Control and Optimization 20, 1982; with L-BFGS in place of Newton as
in Kim, Sra and Dhillon, "Tackling box-constrained optimization via a new projected quasi-Newton
approach", SIAM J. Scientific Computing 32, 2010): variables that sit at a bound with the gradient
pushing outward are held, the L-BFGS step is taken in the free ones, and every trial point of the
Armijo search is projected onto the box. All problems advance together; the caller evaluates
`trial` and says value and gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from casemate.inference.norms import flat

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.inference.jobs import State

__all__ = ["MAX_TRIALS", "advance", "restart", "start"]

MAX_TRIALS = 12
"""Trial points of one line search before the minimization is called done."""

_ARMIJO = 1e-4
_SHRINK = (0.1, 0.5)  # of the step length after a trial that failed
_CURVATURE = 1e-10


def start(origin: Tensor, memory: int) -> State:
    """Return the state of minimizations from `origin`, (b, *shape)."""
    b, size = len(origin), flat(origin).shape[1]
    wide = origin.new_zeros((b, memory, size))
    one = origin.new_zeros(b)
    return {
        "trial": origin.clone(),
        "point": flat(origin).clone(),
        "value": torch.full_like(one, float("inf")),
        "gradient": origin.new_zeros((b, size)),
        "direction": origin.new_zeros((b, size)),
        "length": torch.ones_like(one),
        "steps": wide,
        "changes": wide.clone(),
        "kept": torch.zeros(b, dtype=torch.int64, device=origin.device),
        # -1 until the start itself has been evaluated
        "iteration": torch.full((b,), -1, dtype=torch.int64, device=origin.device),
        "tried": torch.zeros(b, dtype=torch.int64, device=origin.device),
    }


def restart(state: State, which: Tensor, origin: Tensor) -> None:
    """Put the minimizations of `which`, (b,) bool, back to their origin."""
    fresh = start(origin[which], state["steps"].shape[1])
    for name, values in fresh.items():
        state[name][which] = values


def advance(
    state: State,
    value: Tensor,
    gradient: Tensor,
    *,
    low: float,
    high: float,
    iterations: int,
    tolerance: float,
) -> Tensor:
    """Take the value and gradient at `trial`; set the next trial, or end.

    Args:
        state: As made by `start`; changed in place.
        value: (b,) objective at the trial points.
        gradient: (b, size) its gradient.
        low: Lower bound of every variable.
        high: Upper bound.
        iterations: Most iterations of one minimization.
        tolerance: Relative decrease of an iteration below which it ends.

    Returns:
        (b,) bool, the minimizations that have ended; `point` holds their result.
    """
    trial = flat(state["trial"])
    first = state["iteration"] < 0
    # Armijo's rule along the projection arc, with the step that was really made
    promised = (state["gradient"] * (trial - state["point"])).sum(1).clamp_max_(0.0)
    rise = value - state["value"]
    accepted = first | ((rise <= _ARMIJO * promised) & value.isfinite())
    size = state["value"].abs().maximum(value.abs())
    ended = torch.where(first, ~value.isfinite(), accepted & (-rise <= tolerance * size))

    _remember(state, accepted & ~first, trial, gradient)
    state["point"] = torch.where(accepted[:, None], trial, state["point"])
    state["gradient"] = torch.where(accepted[:, None], gradient, state["gradient"])
    state["value"] = torch.where(accepted, value, state["value"])
    state["iteration"] += accepted.long()
    state["tried"] = torch.where(accepted, 0, state["tried"] + 1)
    # the minimum of the parabola through both values and the slope
    shrink = (-promised / (2 * (rise - promised))).nan_to_num(_SHRINK[0]).clamp_(*_SHRINK)
    state["length"] = torch.where(accepted, 1.0, state["length"] * shrink)

    if accepted.any():
        fresh = _direction(state, low, high)
        state["direction"] = torch.where(accepted[:, None], fresh, state["direction"])
    step = state["length"][:, None] * state["direction"]
    following = (state["point"] + step).clamp_(low, high)
    stuck = (following == state["point"]).all(1)
    state["trial"] = following.view_as(state["trial"])
    return ended | stuck | (state["iteration"] >= iterations) | (state["tried"] >= MAX_TRIALS)


def _remember(state: State, which: Tensor, trial: Tensor, gradient: Tensor) -> None:
    """Put the newest step and gradient difference first, where the curvature is positive."""
    step = trial - state["point"]
    change = gradient - state["gradient"]
    curved = (step * change).sum(1) > _CURVATURE * (step * step).sum(1)
    which = (which & curved).nonzero().squeeze(1)
    if len(which) == 0:
        return
    for name, newest in (("steps", step), ("changes", change)):
        kept = state[name][which]
        state[name][which] = torch.cat([newest[which, None], kept[:, :-1]], dim=1)
    state["kept"][which] = (state["kept"][which] + 1).clamp_max_(state["steps"].shape[1])


def _direction(state: State, low: float, high: float) -> Tensor:
    """Return minus the L-BFGS inverse Hessian times the gradient, in the free variables.

    Nocedal and Wright, "Numerical Optimization", algorithm 7.4, with every pair restricted to the
    free variables. Until there is a pair the inverse Hessian is 1/2, that of |r|^2, and no step
    longer than the box is wide.
    """
    point, gradient = state["point"], state["gradient"]
    held = ((point <= low) & (gradient > 0)) | ((point >= high) & (gradient < 0))
    free = (~held).to(gradient.dtype)
    q = gradient * free
    widest = q.abs().amax(1).clamp_min(torch.finfo(q.dtype).tiny)
    plain = ((high - low) / widest).clamp_max(0.5)
    pairs = int(state["kept"].max())
    if pairs == 0:
        return -plain[:, None] * q
    steps = state["steps"][:, :pairs] * free[:, None]
    changes = state["changes"][:, :pairs]
    curvature = torch.einsum("bms,bms->bm", steps, changes)
    order = torch.arange(pairs, device=q.device)
    length = torch.einsum("bms,bms->bm", steps, steps)
    valid = (order < state["kept"][:, None]) & (curvature > _CURVATURE * length)
    rho = torch.where(valid, 1 / curvature, 0.0)
    alphas = []
    for i in range(pairs):  # newest first
        alpha = rho[:, i] * (steps[:, i] * q).sum(1)
        q = q - alpha[:, None] * changes[:, i] * free
        alphas.append(alpha)
    newest = valid.to(q.dtype).argmax(1)
    rows = torch.arange(len(q), device=q.device)
    change = changes[rows, newest] * free
    scale = curvature[rows, newest] / (change * change).sum(1).clamp_min(1e-30)
    r = torch.where(valid.any(1), scale, plain)[:, None] * q
    for i in reversed(range(pairs)):
        beta = rho[:, i] * (changes[:, i] * free * r).sum(1)
        r = r + (alphas[i] - beta)[:, None] * steps[:, i]
    return -r * free
