"""Does the model expect its inputs in another range than it gets them?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from casemate.inference.checks.probe import scores_of
from casemate.inference.checks.problem import Problem, percent
from casemate.stats import mcnemar, wilson

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.inference.checks.probe import Probe
    from casemate.target import Preprocessing

__all__ = ["Scaling", "input_range", "usual_scalings"]

_GOOD = 0.9
"""Accuracy from which on nothing else is tried."""
_GAIN = 0.1
"""Least gain in accuracy that makes another range worth reporting."""
_SURE = 1e-5
"""Greatest p value of that gain; about ten ranges are tried."""
_RGB = 3


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """A range in which networks expect inputs: (unit - mean) / std with unit in [0, 1].

    Attributes:
        name: What people call it.
        mean: One a channel, or one for all.
        std: Likewise; negative means that a Preprocessing cannot express it.
        flip: Whether the channels come last first.
    """

    name: str
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    flip: bool = False


def usual_scalings(channels: int, unit: Tensor) -> list[Scaling]:
    """Return the ranges to try for inputs with that many channels.

    Args:
        channels: Size of axis 1.
        unit: (n, *shape) inputs scaled to [0, 1], for their own mean and standard deviation.
    """
    axes = [0, *range(2, unit.ndim)]
    std, mean = torch.std_mean(unit, dim=axes)
    std = torch.where(std > 0, std, torch.ones_like(std))
    scalings = [
        Scaling(name="from 0 to 1"),
        Scaling(name="from 0 to 255", std=(1 / 255,)),
        Scaling(name="from -1 to 1", mean=(0.5,), std=(0.5,)),
        Scaling(name="inverted, from 1 to 0", mean=(1.0,), std=(-1.0,)),
        Scaling(
            name="standardized by their own mean and deviation",
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
        ),
    ]
    if channels == 1:
        scalings.append(
            Scaling(name="normalized as is usual for MNIST", mean=(0.1307,), std=(0.3081,))
        )
    if channels == _RGB and unit.ndim > _RGB:
        scalings += [
            Scaling(
                name="normalized as is usual for ImageNet",
                mean=(0.485, 0.456, 0.406),
                std=(0.229, 0.224, 0.225),
            ),
            Scaling(
                name="normalized as is usual for CIFAR-10",
                mean=(0.4914, 0.4822, 0.4465),
                std=(0.2470, 0.2435, 0.2616),
            ),
            Scaling(name="from 0 to 1 with channels in the order blue, green, red", flip=True),
            Scaling(
                name="from 0 to 255 with channels in the order blue, green, red",
                std=(1 / 255,),
                flip=True,
            ),
        ]
    return scalings


def input_range(probe: Probe) -> list[Problem]:
    """No usual range of inputs may make the model much better than the declared preprocessing."""
    target, domain = probe.target, probe.target.domain
    right = probe.right
    if target.front or float(right.float().mean()) >= _GOOD:  # a filter would see the new range
        return []
    unit = (probe.x - domain.low) / domain.width
    best: tuple[Scaling, Tensor] | None = None
    for scaling in usual_scalings(unit.shape[1], unit):
        seen = _spread(unit.flip(1) if scaling.flip else unit, scaling.mean, scaling.std)
        scores = scores_of(target, _undone(seen, target.preprocessing))
        now = (scores.argmax(1) == probe.y) & scores.isfinite().all(1)
        if best is None or int(now.sum()) > int(best[1].sum()):
            best = (scaling, now)
    if best is None:
        return []
    scaling, now = best
    n = len(right)
    p = mcnemar(int((now & ~right).sum()), int((right & ~now).sum()))
    if (int(now.sum()) - int(right.sum())) / n < _GAIN or p > _SURE:
        return []
    low, high = wilson(int(now.sum()), n)
    return [
        Problem(
            id="input-range",
            severity="error",
            message=f"the model seems to expect inputs {scaling.name}: "
            f"{percent(float(now.float().mean()))} of {n} samples are right then (95 % interval "
            f"{percent(low)} to {percent(high)}), but {percent(float(right.float().mean()))} as "
            "declared",
            remedy=_remedy(scaling, domain.low, domain.width),
        )
    ]


def _spread(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return (x - mean) / std along axis 1."""
    view = (1, -1) + (1,) * (x.ndim - 2)
    return (x - x.new_tensor(mean).view(view)) / x.new_tensor(std).view(view)


def _undone(seen: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return inputs that the target's preprocessing turns into `seen` (apart from resizing)."""
    view = (1, -1) + (1,) * (seen.ndim - 2)
    if preprocessing.std:
        seen = seen * seen.new_tensor(preprocessing.std).view(view)
    if preprocessing.mean:
        seen = seen + seen.new_tensor(preprocessing.mean).view(view)
    return seen


def _remedy(scaling: Scaling, low: float, width: float) -> str:
    if min(scaling.std) < 0:
        return "invert the data (high - value), or give the model data as it was trained on"
    mean = ", ".join(f"{low + width * m:.6g}" for m in scaling.mean)
    std = ", ".join(f"{width * s:.6g}" for s in scaling.std)
    setting = f"set preprocessing: {{mean: [{mean}], std: [{std}]}}"
    return f"reverse the channels in the model, and {setting}" if scaling.flip else setting
