"""What rounding may do to predictions: how far scores may be off, and which are in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from casemate.hardware.cache import margins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from casemate.hardware.cache import Cache
    from casemate.hardware.graph import Graph

__all__ = ["LARGEST", "NEAR", "Rounding"]

LARGEST = 3.4028234663852886e38
"""The largest float32."""

_EPS = 2.0**-24  # half a unit in the last place of a float32 in [1, 2), relative
_SAFETY = 64.0
"""How many times its estimate a rounding error may be before a prediction is in doubt."""
_CARE = 16.0
"""The same for a change, by how far it may reach: that assumes the worst of all signs already."""
_UNKNOWN = 2.0**12
"""By how much, without a bound, a change may have been larger on its way than the scores."""
_PROBED = 64  # images on which the error without faults is measured

NEAR = _SAFETY * _EPS
"""How near to the largest number, relative, rounding may decide what is infinite."""


@dataclass(frozen=True)
class Rounding:
    """How far the scores of a network may be off for rounding alone.

    Attributes:
        error: Without faults, absolute.
        exact: Whether nothing is rounded in an order that matters: sums of integers.
    """

    error: float
    exact: bool = False

    @classmethod
    def of(
        cls, graph: Graph, values: Mapping[str, Tensor], cache: Cache, elements: int
    ) -> Rounding:
        """Measure it against the same network in twice the precision.

        Args:
            graph: The network.
            values: The memory's numbers.
            cache: Holds the images.
            elements: Of the largest output of those that run at once.
        """
        if graph.exact:
            return cls(0.0, exact=True)
        parts = torch.split(cache.x[:_PROBED], graph.batch(elements // 2))
        least = _SAFETY * _EPS * float(cache.scores.abs().max())
        try:
            double = {n: v.double() for n, v in values.items()}
            exact = torch.cat([graph.forward(double, part.double()) for part in parts])
        except (RuntimeError, TypeError):  # a module of the user's that takes float32 only
            return cls(16 * least)
        off = float((exact - cache.scores[: len(exact)]).abs().max())
        return cls(max(_SAFETY * off, least))

    def within(self, reach: Tensor, margin: Tensor) -> Tensor:
        """Return which changes surely leave the best score the best, (rows,); false for NaN.

        Args:
            reach: (rows,) the most by which two scores may move apart.
            margin: (rows,) between the two best scores without faults.
        """
        return reach * (1 + _SAFETY * _EPS) + 2 * self.error < margin

    def doubtful(self, scores: Tensor, reach: Tensor) -> Tensor:
        """Return which rows' predictions may differ from those of a full pass, (rows,).

        Args:
            scores: (rows, classes) as they were followed.
            reach: (rows,) of each row's first change; infinite where it is not known.
        """
        finite = torch.isfinite(scores).all(1)
        if self.exact:
            return ~finite
        size = scores.abs().amax(1).double()  # multiples of which may be larger than any float32
        bounded = torch.where(torch.isfinite(reach), reach, size * _UNKNOWN)
        error = self.error + _EPS * torch.maximum(_CARE * bounded, _SAFETY * size)
        return ~finite | ~(margins(scores) > error)

    def close(self, scores: Tensor) -> Tensor:
        """Return which rows' two best scores are so close that a sum's order decides, (rows,)."""
        margin = margins(scores).nan_to_num(torch.inf, torch.inf)
        return margin <= _SAFETY * _EPS * scores.abs().amax(1).clamp_max(LARGEST)
