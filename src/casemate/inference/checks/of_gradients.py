"""Checks of the gradients that white-box attacks follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from casemate.inference.checks.layers import where_cut, where_zero
from casemate.inference.checks.probe import calling
from casemate.inference.checks.problem import Problem, percent

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.inference.checks.probe import Probe

__all__ = ["gradients"]

_SAMPLES = 32
_MOST = 0.5
_FEW = 0.05


def gradients(probe: Probe) -> list[Problem]:
    """The margin and the cross-entropy must have gradients that are finite and not zero."""
    target = probe.target
    if not target.differentiable:
        return []
    x = probe.x[:_SAMPLES].detach().clone().requires_grad_(True)
    with torch.enable_grad():
        with calling(target, x):
            scores = target.scores(x)
        margin, loss = _margin(scores), _loss(scores, target.outputs)
    if not margin.requires_grad:
        return [_absent(probe, x)]
    try:
        found: list[Tensor | None] = [
            torch.autograd.grad(value.sum(), x, retain_graph=True, allow_unused=True)[0]
            for value in (margin, loss)
        ]
    except Exception as error:  # noqa: BLE001 - a backward pass of the user's may raise anything
        return [_failed(error)]
    of_margin, of_loss = found
    if of_margin is None or of_loss is None:
        return [_absent(probe, x)]
    return _judged(probe, x, of_margin, of_loss)


def _judged(probe: Probe, x: Tensor, of_margin: Tensor, of_loss: Tensor) -> list[Problem]:
    n = len(x)
    bad = ~(of_margin.isfinite() & of_loss.isfinite()).flatten(1).all(1)
    zero, flat = (~g.flatten(1).any(1) for g in (of_margin, of_loss))
    problems = []
    if bool(bad.any()):
        problems.append(
            Problem(
                id="gradients-not-finite",
                severity="error",
                message=f"gradients are NaN or infinite for {int(bad.sum())} of {n} samples",
                remedy="look for roots, logarithms and divisions at zero in the model",
            )
        )
    share = float(zero.float().mean())
    if share > _FEW:
        place = where_zero(probe.target, x, _margin) if share > _MOST else None
        problems.append(
            Problem(
                id="gradients-zero",
                severity="error" if share > _MOST else "warning",
                message=f"the gradient of the margin is exactly zero for {int(zero.sum())} of {n} "
                f"samples{f': it dies {place}' if place else ''}",
                remedy="look for rounding, thresholds or saturation, or attack by scores or "
                "labels; gradient attacks cannot judge this model",
            )
        )
    saturated = flat & ~zero
    share = float(saturated.float().mean())
    if share > _FEW:
        problems.append(
            Problem(
                id="gradients-saturated",
                severity="warning",
                message=f"the gradient of the cross-entropy is exactly zero for "
                f"{int(saturated.sum())} of {n} samples ({percent(share)}), because the model is "
                "too sure for float32, though that of the margin is not",
                remedy="use an attack whose loss is the margin",
            )
        )
    return problems


def _absent(probe: Probe, x: Tensor) -> Problem:
    place = where_cut(probe.target, x)
    return Problem(
        id="gradients-absent",
        severity="error",
        message="the outputs do not depend on the inputs for torch"
        f"{f': the gradient is cut {place}' if place else ''}",
        remedy="remove detach, no_grad, NumPy and whole-number steps from the model; attacks "
        "that need no gradients are not part of this version",
    )


def _failed(error: Exception) -> Problem:
    return Problem(
        id="gradients-raise",
        severity="error",
        message="differentiating the model raised "
        f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
        remedy="remove in-place changes and operations without a backward pass from the model",
    )


def _margin(scores: Tensor) -> Tensor:
    """Return the highest score less the second highest."""
    top = scores.topk(2, dim=1).values if scores.shape[1] > 1 else scores
    return top[:, 0] - top[:, 1] if scores.shape[1] > 1 else top[:, 0]


def _loss(scores: Tensor, outputs: str) -> Tensor:
    """Return the cross-entropy of the predicted label, as attacks compute it."""
    logs = scores.log_softmax(1) if outputs == "logits" else scores.clamp_min(1e-30).log()
    return -logs.gather(1, scores.argmax(1, keepdim=True)).squeeze(1)
