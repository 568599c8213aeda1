"""A network's layers by hooks: which there are, in the order they run, and what flows into them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from casemate.errors import UsageError
from casemate.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from casemate.data.dataset import Dataset
    from casemate.target import TorchTarget

__all__ = ["Layer", "features", "has_hidden_layer", "head", "layers", "listening"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One module with weights of its own, as it ran.

    Attributes:
        name: Dotted name in the network.
        module: The module.
        shape: Of its output for one sample.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...]

    @property
    def is_convolution(self) -> bool:
        """Whether its output is (channels, height, width)."""
        return isinstance(self.module, nn.Conv2d)


def layers(target: TorchTarget) -> tuple[Layer, ...]:
    """Return the linear and convolutional layers in the order in which they run first.

    Any architecture will do: they are found by running it once on a blank input.

    Raises:
        UsageError: If the network has none.
    """
    found: dict[str, Layer] = {}
    wanted = {n: m for n, m in target.module.named_modules() if isinstance(m, _KINDS)}

    def seen(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, out: Tensor) -> None:
            found.setdefault(name, Layer(name=name, module=module, shape=tuple(out.shape[1:])))

        return hook

    handles = [m.register_forward_hook(seen(n)) for n, m in wanted.items()]
    blank = torch.full((1, *target.domain.shape), target.domain.low, device=target.device)
    try:
        with guarded(target.modules, [target.device]), torch.no_grad():
            target.scores(blank)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise UsageError(
            f"{type(target.module).__name__} has no linear or convolutional layer to look into; "
            "choose a defense that needs none"
        )
    return tuple(found.values())


def has_hidden_layer(network: nn.Module) -> bool:
    """Return whether there is a linear or convolutional layer before the one of the scores.

    Layers are counted without running them, which would take weights: a `skeleton` will do.
    """
    return sum(isinstance(m, _KINDS) for m in network.modules()) > 1


def head(target: TorchTarget) -> Layer:
    """Return the last layer, whose output is the scores; its input is the features.

    Raises:
        UsageError: If the network has no layers.
    """
    return layers(target)[-1]


@contextmanager
def listening(module: nn.Module, told: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
    """Call `told` with a module's input and output each time it runs."""

    def hook(_: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
        told(inputs[0], out)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def features(target: TorchTarget, data: Dataset, *, batch_size: int = 512) -> tuple[str, Tensor]:
    """Return what flows into the last layer, for each sample.

    Args:
        target: Evaluated in evaluation mode and left as it was.
        data: In the target's domain.
        batch_size: Samples a call.

    Returns:
        The last layer's name and (n, d) float32 on the CPU.

    Raises:
        UsageError: If the network has no layers.
    """
    last = head(target)
    found: list[Tensor] = []
    with (
        guarded(target.modules, [target.device]),
        torch.no_grad(),
        listening(last.module, lambda into, _: found.append(into.flatten(1).float().cpu())),
    ):
        for begin in range(0, len(data), batch_size):
            target.scores(data.batch(slice(begin, begin + batch_size), device=target.device))
    return last.name, torch.cat(found) if found else torch.zeros((0, 0))


_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
