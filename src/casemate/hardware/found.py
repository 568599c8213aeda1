"""Predictions that were found to change, in the order in which they were found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Found"]

_FIRST = 1 << 12  # entries


class Found:
    """A growing table of cases, images, labels, and whether a score is no finite number.

    One table and not a list of small arrays: these would lie between the large ones of later work
    and keep the memory allocator from giving their place back, some tens of MiB for each.
    """

    def __init__(self) -> None:
        self._table = np.empty((4, _FIRST), dtype=np.int64)
        self._count = 0

    def add(self, case: Tensor, image: Tensor, label: Tensor, broken: Tensor) -> None:
        """Note rows, (k,) each."""
        end = self._count + len(case)
        if end > self._table.shape[1]:
            larger = np.empty((4, max(end, 2 * self._table.shape[1])), dtype=np.int64)
            larger[:, : self._count] = self._table[:, : self._count]
            self._table = larger
        for row, column in zip(self._table, (case, image, label, broken), strict=True):
            row[self._count : end] = column.cpu().numpy()
        self._count = end

    def take(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return all rows, (n,) each, the last bool, and begin anew."""
        case, image, label, broken = self._table[:, : self._count].copy()
        self._count = 0
        return case, image, label, broken.astype(bool)
