"""What attacks within an epsilon ball share: their threat model, checks and step direction."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from casemate.errors import UsageError
from casemate.inference.norms import per_job, values
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.domain import Domain
    from casemate.inference.jobs import Norm

__all__ = [
    "WHITE_BOX_EVASION",
    "ascent_direction",
    "check_choice",
    "check_count",
    "check_epsilon",
    "check_positive",
]

WHITE_BOX_EVASION = ThreatModel(
    threat="evasion-white-box",
    stage=Stage.INFERENCE,
    goals=(Goal.INTEGRITY_UNTARGETED, Goal.INTEGRITY_TARGETED),
    access=Access.GRADIENTS,
    knowledge=Knowledge.WHITE_BOX,
    budget="perturbation of at most epsilon in the norm, in the domain's units",
)

_TINY = 1e-12


def check_epsilon(epsilon: float, norm: Norm, domain: Domain) -> None:
    """Raise `UsageError` unless 0 <= epsilon <= the domain's extent in the norm."""
    check_choice("norm", norm, ("linf", "l2"))
    largest = domain.width if norm == "linf" else domain.width * math.sqrt(domain.size)
    # a whole number of gray levels, as papers write it, where the domain is [0, 1]
    levels = norm == "linf" and domain.width == 1 and epsilon in range(2, 256)
    if not (math.isfinite(epsilon) and 0 <= epsilon <= largest * (1 + 1e-9)):
        raise UsageError(
            f"epsilon is {epsilon:g}, but in a domain from {domain.low:g} to {domain.high:g} "
            f"it must lie between 0 and {largest:g} in the {norm} norm"
            + (f"; for {epsilon:g} gray levels write {epsilon:g}/255" if levels else "")
        )


def check_count(name: str, value: int) -> None:
    """Raise `UsageError` unless the value is at least 1."""
    if value < 1:
        raise UsageError(f"{name} is {value}, but it must be at least 1")


def check_positive(name: str, value: float) -> None:
    """Raise `UsageError` unless the value is finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} is {value:g}, but it must be above 0")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `UsageError` unless the value is one of the choices."""
    if value not in choices:
        raise UsageError(f'{name} is "{value}", but it must be one of {", ".join(choices)}')


def ascent_direction(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the steepest unit step under the norm, as a new tensor.

    L-infinity: the sign. L2: the gradient over its length; where that is zero, no step.
    """
    # never in place: autograd may hand out memory that many entries, or the model, share
    if norm == "linf":
        return gradient.sign()
    # scale by the largest entry first: squares of tiny gradients underflow in float32
    smallest = torch.finfo(gradient.dtype).tiny
    scaled = gradient / per_job(values(gradient).abs().amax(1).clamp_min_(smallest), gradient)
    return scaled.div_(per_job(values(scaled).norm(dim=1).clamp_min_(_TINY), scaled))
