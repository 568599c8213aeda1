"""What cases of faults do to predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Effects"]


@dataclass(frozen=True)
class Effects:
    """The predictions that cases change.

    Attributes:
        count: How many cases there were.
        images: How many images each was tried on.
        case: (m,) int64, the case of each changed prediction; in no order.
        image: (m,) int64, its image.
        label: (m,) int64, the new prediction.
        broken_case: (k,) int64, cases of predictions with a score that is no finite number, whether
            or not the predicted label changed.
        broken_image: (k,) int64.
    """

    count: int
    images: int
    case: np.ndarray
    image: np.ndarray
    label: np.ndarray
    broken_case: np.ndarray
    broken_image: np.ndarray

    @property
    def changed(self) -> np.ndarray:
        """(count,) int64, how many images' predictions each case changes."""
        return np.bincount(self.case, minlength=self.count)

    @property
    def broken(self) -> np.ndarray:
        """(count,) int64, how many images get scores that are no finite numbers."""
        return np.bincount(self.broken_case, minlength=self.count)

    def gained(self, before: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return (count,) int64, how many more images than before are predicted right.

        Args:
            before: (images,) predictions without faults.
            truth: (images,) labels.
        """
        right = (self.label == truth[self.image]).astype(np.int64)
        was = (before[self.image] == truth[self.image]).astype(np.int64)
        gained = np.bincount(self.case, weights=right - was, minlength=self.count)
        return gained.astype(np.int64)
