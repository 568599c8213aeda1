"""The judge of all contenders: what fools the model is decided here and by nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Judgement", "judge"]

_SLACK = 1e-6  # float32 rounds values in [0, 1] by less


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What became of the images.

    Attributes:
        n: Images that the model reads right when nobody attacks them; only these count.
        fooled: How many of them are read wrong when attacked.
        outside: How many of all images left [0, 1] or the ball, or are not finite; no such image
            counts as fooled.
    """

    n: int
    fooled: int
    outside: int

    @property
    def success(self) -> float:
        """Share of the images that fool the model, in percent."""
        return 100 * self.fooled / self.n if self.n else 0.0


def judge(
    module: nn.Module, clean: Tensor, attacked: Tensor, labels: Tensor, epsilon: float
) -> Judgement:
    """Judge attacked images by the module itself.

    Args:
        module: In evaluation mode; (n, *shape) images in [0, 1] to (n, classes) logits.
        clean: (n, *shape).
        attacked: (n, *shape).
        labels: (n,) true labels.
        epsilon: Largest difference allowed in any value.

    Raises:
        ValueError: If the shapes differ.
    """
    if attacked.shape != clean.shape or len(labels) != len(clean):
        raise ValueError(f"{tuple(attacked.shape)} attacked images for {tuple(clean.shape)} clean")
    off = (attacked - clean).flatten(1).abs().amax(1)
    low, high = attacked.flatten(1).amin(1), attacked.flatten(1).amax(1)
    # so written that NaN is outside
    inside = (off <= epsilon + _SLACK) & (low >= -_SLACK) & (high <= 1 + _SLACK)
    right = _read(module, clean) == labels
    fooled = right & inside & (_read(module, attacked) != labels)
    return Judgement(n=int(right.sum()), fooled=int(fooled.sum()), outside=int((~inside).sum()))


def _read(module: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([module(part).argmax(1) for part in torch.split(images, 256)])
