"""A defense for features, of which there is no built-in one: it shifts what comes in a little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.domain import Domain


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Adds a little to each feature.

    Attributes:
        by: How much.
    """

    by: float = 0.001

    revision: ClassVar[int] = 1

    def check(self, domain: Domain) -> None:
        """Any input will do."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the shifted inputs."""
        return x + self.by
