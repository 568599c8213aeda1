"""How large the change of a layer's output can be, from the sizes of its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from casemate.hardware.graph import Change

__all__ = ["weighted"]


def weighted(
    norms: Tensor,
    of_bias: float,
    bias: str | None,
    cases: Sequence[Sequence[Change]],
    step: Callable[[Change], float],
    channel: Callable[[Change], int] = lambda change: change.index[1],
) -> Tensor:
    """Return the sum over each case's changes of their size times a norm, (cases, images).

    Args:
        norms: (inputs, images) of what a weight is multiplied with.
        of_bias: The same for a bias.
        bias: Name of the biases.
        cases: Changes of weights and biases.
        step: What one step of a changed word is worth.
        channel: The input that a changed weight is multiplied with.
    """
    device = norms.device
    total = torch.zeros((len(cases), norms.shape[1]), dtype=norms.dtype, device=device)
    for k in range(max(map(len, cases))):  # the first change of each case, the second, ...
        mine = [c for c, changes in enumerate(cases) if len(changes) > k]
        changes = [cases[c][k] for c in mine]
        kept = torch.tensor([c.tensor == bias for c in changes], device=device)
        which = [0 if c.tensor == bias else channel(c) for c in changes]
        by = torch.tensor([abs(c.by * step(c)) for c in changes], dtype=torch.float64)
        seen = norms[torch.tensor(which, device=device)]
        seen[kept] = of_bias
        total[torch.tensor(mine, device=device)] += seen * by.to(seen)[:, None]
    return total
