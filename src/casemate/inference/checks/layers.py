"""At which layer of a torch module does the gradient end?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.target import Target

__all__ = ["where_cut", "where_zero"]


@dataclass(frozen=True)
class _Call:
    """One call of a layer: its name, whether its input and output are in the graph, its output."""

    name: str
    enters: bool
    output: Tensor


def where_cut(target: Target, x: Tensor) -> str | None:
    """Return in which layer, or before which, the graph from the inputs ends.

    Args:
        target: A model whose output is not in the graph.
        x: (n, *shape) inputs.

    Returns:
        Such as 'in layer "quantize" (Round)'; None if the model has no layers to tell apart.
    """
    calls, _ = _traced(target, x)
    for call in calls:
        if not call.enters:
            return f"before layer {call.name}"
        if not call.output.requires_grad:
            return f"in layer {call.name}"
    return f"after layer {calls[-1].name}" if calls else None


def where_zero(target: Target, x: Tensor, objective: Callable[[Tensor], Tensor]) -> str | None:
    """Return at which layer, on the way back, the gradient becomes zero for most samples.

    Args:
        target: A model whose input gradient is zero for most samples.
        x: (n, *shape) inputs.
        objective: (n, classes) scores to (n,) values.

    Returns:
        Such as 'in layer "fc2" (Sigmoid)'; None if the model has no layers to tell apart.
    """
    calls, scores = _traced(target, x)
    calls = [c for c in calls if c.output.requires_grad]
    if not calls:
        return None
    with torch.enable_grad():
        found = torch.autograd.grad(
            objective(scores).sum(), [c.output for c in calls], allow_unused=True
        )
    alive = [g is not None and _most(g.flatten(1).any(1)) for g in list[Tensor | None](found)]
    if not any(alive):
        return f"after layer {calls[-1].name}"
    # The gradient lives at this layer's output, but reaches no layer before it.
    return f"in or right before layer {calls[alive.index(True)].name}"


def _most(chosen: Tensor) -> bool:
    return 2 * int(chosen.sum()) >= len(chosen)


def _traced(target: Target, x: Tensor) -> tuple[list[_Call], Tensor]:
    """Run the model and note every call of a layer without children, in order."""
    calls: list[_Call] = []

    def noting(name: str) -> Callable[..., Tensor | None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor | None:
            if not isinstance(output, Tensor) or output.shape[:1] != x.shape[:1]:
                return None
            enters = any(isinstance(i, Tensor) and i.requires_grad for i in inputs)
            label = f'"{name}" ({type(module).__name__})' if name else f"{type(module).__name__}"
            calls.append(_Call(label, enters, output))
            return output.clone()  # an in-place layer behind must not change what was noted

        return hook

    leaves = [
        (name, module)
        for root in target.modules
        for name, module in root.named_modules()
        if not any(True for _ in module.children())
    ]
    handles = [module.register_forward_hook(noting(name)) for name, module in leaves]
    try:
        with torch.enable_grad():
            scores = target.scores(x)
    finally:
        for handle in handles:
            handle.remove()
    return calls, scores
