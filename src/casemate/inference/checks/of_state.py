"""Checks of mode and determinism: the same input must get the same answer."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch

from casemate.inference.checks.probe import scores_of
from casemate.inference.checks.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from casemate.inference.checks.probe import Probe

__all__ = ["batch_dependence", "nondeterminism", "training_mode"]

_EPSILONS = 16
"""Rounding that another batch size or order of sums may cause, in units of the type's epsilon."""
_LEAST = 1e-4
"""Difference, relative to the largest score, that decides nothing in any type."""
_TF32 = 2.0**-10
"""Epsilon of the format that GPUs may compute float32 products in."""
_LONE = 8
"""Samples that are looked at alone; the others are in their batches."""


def training_mode(modules: Sequence[nn.Module]) -> list[Problem]:
    """Modules must be in evaluation mode; to be asked before the guard puts them there."""
    inside = {id(m): m for root in modules for m in root.modules()}.values()
    training = [type(m).__name__ for m in inside if m.training]
    if not training:
        return []
    counts = ", ".join(f"{count} {name}" for name, count in Counter(training).most_common(4))
    return [
        Problem(
            id="training-mode",
            severity="warning",
            message=f"{len(training)} of {len(inside)} modules are in training mode ({counts}); "
            "figures here are for evaluation mode",
            remedy="call model.eval() before measuring its accuracy",
        )
    ]


def nondeterminism(probe: Probe) -> list[Problem]:
    """A second pass over the same batch must give the same scores."""
    again = scores_of(probe.target, probe.x)
    differing = _differing(probe.scores, again, _tolerance(probe))
    if not bool(differing.any()):
        return []
    flipped = int((again.argmax(1) != probe.predicted).sum())
    return [
        Problem(
            id="random-outputs",
            severity="error",
            message="two passes in evaluation mode gave other scores for "
            f"{int(differing.sum())} of {len(again)} samples and other labels for {flipped}",
            remedy="look for dropout or noise that stays on in evaluation mode; if it is a "
            "defense, attack and judge the average of many passes",
        )
    ]


def batch_dependence(probe: Probe) -> list[Problem]:
    """A sample's scores must not depend on what else is in its batch.

    A model that is random is not looked at: its scores differ anyway.
    """
    few = probe.x[:_LONE]
    tolerance = _tolerance(probe)
    first, second = (scores_of(probe.target, few) for _ in range(2))
    if len(probe.x) <= 1 or bool(_differing(first, second, tolerance).any()):
        return []
    alone = scores_of(probe.target, few, batch=1)
    differing = _differing(alone, probe.scores[: len(few)], tolerance)
    if not bool(differing.any()):
        return []
    return [
        Problem(
            id="batch-dependence",
            severity="error",
            message=f"{int(differing.sum())} of {len(few)} samples got other scores alone than "
            "among other samples",
            remedy="look for batch statistics that are used in evaluation mode, such as BatchNorm "
            "without running statistics, or for values normalized over the batch",
        )
    ]


def _tolerance(probe: Probe) -> float:
    epsilon = torch.finfo(getattr(probe.target, "dtype", torch.float32)).eps
    fast = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    if fast and probe.target.device.type == "cuda":
        epsilon = max(epsilon, _TF32)
    finite = probe.scores[probe.scores.isfinite()]
    largest = float(finite.abs().max()) if len(finite) else 1.0
    return max(_EPSILONS * epsilon, _LEAST) * largest


def _differing(a: Tensor, b: Tensor, tolerance: float) -> Tensor:
    """Return (n,) bool, whether any score differs; NaN equals NaN here, another check's matter."""
    same = ((a - b).abs() <= tolerance) | (a == b) | (a.isnan() & b.isnan())
    return ~same.all(1)
