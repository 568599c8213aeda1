"""The basic iterative method (Kurakin et al., arXiv 1607.02533)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from casemate.errors import UsageError
from casemate.inference.attacks.gradient_steps import GradientSteps

if TYPE_CHECKING:
    from casemate.data.domain import Domain

__all__ = ["BIM"]

_GRAY = 1 / 255
_L2_STEPS = 40


@dataclass(frozen=True, kw_only=True)
class BIM(GradientSteps):
    """Small gradient steps from the clean input, without random start.

    Kurakin, Goodfellow and Bengio, "Adversarial examples in the physical world", ICLR workshop
    2017 (arXiv 1607.02533, section 2.2). With a goal it is their iterative target class method, for
    the goal given rather than the least likely class.

    Attributes:
        epsilon: Radius of the ball, in the domain's units.
        norm: "linf" or "l2".
        loss: "cross-entropy" or "margin".
        steps: Gradient steps, at least 1; None is the paper's min(epsilon + 4, 1.25 epsilon),
            rounded up, with epsilon in gray levels of 1/255 (for L2, where the paper says nothing,
            40: ours).
        step_size: In the domain's units; None is the paper's one gray level, 1/255 (for L2
            2.5 epsilon / steps, as in `PGD`).
    """

    steps: int | None = None
    step_size: float | None = None

    revision: ClassVar[int] = 1

    @property
    def schedule(self) -> tuple[int, float]:
        """The number of steps and their size."""
        steps = self._paper_steps if self.steps is None else self.steps
        if self.step_size is not None:
            return steps, self.step_size
        return steps, _GRAY if self.norm == "linf" else 2.5 * self.epsilon / max(1, steps)

    @property
    def _paper_steps(self) -> int:
        if self.norm == "l2":
            return _L2_STEPS
        levels = self.epsilon / _GRAY
        # the small slack keeps 8/255 at 10 steps whatever the last bit of the quotient
        return max(1, math.ceil(min(levels + 4, 1.25 * levels) - 1e-6))

    def check(self, domain: Domain) -> None:
        """Raise `UsageError` if a parameter is out of range or does not fit the domain."""
        super().check(domain)
        missing = [name for name in ("steps", "step_size") if getattr(self, name) is None]
        if self.norm == "linf" and missing and domain.width != 1:
            raise UsageError(
                f"bim without {' and '.join(missing)} counts in gray levels of 1/255, but the "
                f"domain is {domain.width:g} wide; give both steps and step_size"
            )
