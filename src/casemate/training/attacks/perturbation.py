"""One pattern that is added to every input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.domain import Domain

__all__ = ["Perturbation"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Perturbation:
    """One pattern added to every input, clipped to the domain.

    Attributes:
        target: Label that the attacker wants.
        pattern: (1, *shape) float32 in the domain's units.
        strength: What it is multiplied with.
    """

    target: int
    pattern: Tensor
    strength: float = 1.0

    def __call__(self, x: Tensor, domain: Domain) -> Tensor:
        """Return the inputs with the pattern."""
        return (x + self.strength * self.pattern.to(x)).clamp_(domain.low, domain.high)
