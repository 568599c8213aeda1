"""Gradients of images stay channels last, as the images are."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["gradients_channels_last"]


@contextmanager
def gradients_channels_last(module: nn.Module) -> Iterator[None]:
    """Lay gradients that come back through `nn.Flatten` out as what went in.

    Flattening hands back a gradient with channels first. The layers before it would then walk two
    layouts at once, which makes the backward pass of an activation several times slower. A
    network that flattens by a function instead loses that speed and nothing else; the numbers are
    the same either way.

    Args:
        module: Whose flattening layers are minded; as it was on leaving.
    """
    hooks = [
        m.register_forward_pre_hook(_before) for m in module.modules() if isinstance(m, nn.Flatten)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
    x = inputs[0]
    if x.requires_grad and x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):  # noqa: PLR2004 - an image batch
        x.register_hook(_lay_out)


def _lay_out(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)
