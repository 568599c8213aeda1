"""The trigger of TBT: a patch that excites chosen neurons of the last hidden layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from casemate.hardware.attacks.straight_through import smooth_output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.graph import Graph

__all__ = ["Trigger", "crafted"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trigger:
    """A patch that takes the place of what an input has there.

    Attributes:
        patch: (channels, height, width) values of inputs as the deployed network gets them.
        top: Its first row.
        left: Its first column.
    """

    patch: Tensor
    top: int
    left: int

    def __call__(self, x: Tensor) -> Tensor:
        """Return inputs, (n, channels, *) with the patch."""
        height, width = self.patch.shape[1:]
        x = x.clone()
        x[:, :, self.top : self.top + height, self.left : self.left + width] = self.patch
        return x


def crafted(
    graph: Graph,
    values: Mapping[str, Tensor],
    node: int,
    neurons: Tensor,
    wanted: Tensor,
    images: Tensor,
    *,
    start: Trigger,
    low: Tensor,
    high: Tensor,
    rates: Sequence[float],
    steps: int,
) -> Trigger:
    """Return a patch with which neurons come near wanted activations.

    As in the code of TBT (arXiv 1909.05193, equation 4): signs of gradients of the squared
    difference, with falling rates. Ours: rates are in widths of the range.

    Args:
        graph: The deployed network.
        values: The memory's numbers.
        node: Position of the node whose output is excited.
        neurons: (k,) positions in it, which is flat.
        wanted: (k,) activations.
        images: (n, *shape) where the patch is shown.
        start: Where to start, and the area.
        low: (channels,) the lowest values of inputs.
        high: (channels,) the highest ones.
        rates: Widths of a step, one after another.
        steps: How many of each.
    """
    low, high = low.view(-1, 1, 1), high.view(-1, 1, 1)
    patch = start.patch.clone()
    for rate in rates:
        for _ in range(steps):
            patch.requires_grad_()
            with torch.enable_grad():
                shown = replace(start, patch=patch)(images)
                excited = smooth_output(graph, values, shown, last=node)[:, neurons]
                loss = (excited - wanted).square().mean()
                (gradient,) = torch.autograd.grad(loss, patch)
            step = rate * (high - low) * gradient.sign()
            patch = torch.minimum(torch.maximum(patch.detach() - step, low), high)
    return replace(start, patch=patch)
