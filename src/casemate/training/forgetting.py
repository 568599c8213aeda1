"""Which samples a training learns, forgets, and learns again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Forgetting"]


class Forgetting:
    """Counts the forgetting events of each sample while a model is trained.

    Toneva, Sordoni, Tachet des Combes, Trischler, Bengio, Gordon, "An empirical study of example
    forgetting during deep neural network learning", ICLR 2019, algorithm 1 (arXiv 1812.05159): a
    sample is forgotten when the model is wrong on it in a step after it was right when it last
    saw it. It is given to `train` as `seen`.

    Args:
        samples: In the training set.
    """

    def __init__(self, samples: int) -> None:
        self._right = torch.zeros(samples, dtype=torch.bool)
        self._learned = torch.zeros(samples, dtype=torch.bool)
        self._events = torch.zeros(samples, dtype=torch.int64)
        self._shown = torch.zeros(samples, dtype=torch.int64)

    def __call__(self, positions: Tensor, right: Tensor) -> None:
        """Note a step.

        Args:
            positions: (b,) int64 of the samples in it, each once.
            right: (b,) bool whether the model was right on them before it learned from the step.
        """
        right = right.cpu()
        self._events[positions] += (self._right[positions] & ~right).long()
        self._right[positions] = right
        self._learned[positions] |= right
        self._shown[positions] += 1

    @property
    def events(self) -> Tensor:
        """(n,) int64: how often each sample was forgotten.

        One that was shown and never learned counts more than any that was: the paper takes
        infinitely many events for it.
        """
        most = int(self._shown.max()) if len(self._shown) else 0
        never = (self._shown > 0) & ~self._learned
        return torch.where(never, torch.tensor(most), self._events)
