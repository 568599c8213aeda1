"""What cases of faults do to predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace

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

    def without_numbers(self) -> Effects:
        """Return the effects with the label -1 where a score is no finite number.

        Such predictions are changed ones, whatever label their scores would give.
        """
        broken = self.broken_case * self.images + self.broken_image
        kept = ~np.isin(self.case * self.images + self.image, broken)
        return replace(
            self,
            case=np.concatenate([self.case[kept], self.broken_case]),
            image=np.concatenate([self.image[kept], self.broken_image]),
            label=np.concatenate([self.label[kept], np.full(len(self.broken_case), -1)]),
        )

    def shifted(self, by: int) -> Effects:
        """Return the same effects on images that are counted from `by` on."""
        return replace(self, image=self.image + by, broken_image=self.broken_image + by)

    def beside(self, other: Effects) -> Effects:
        """Return the effects of the same cases on the images of both."""
        return Effects(
            count=self.count,
            images=self.images + other.images,
            case=np.concatenate([self.case, other.case]),
            image=np.concatenate([self.image, other.image]),
            label=np.concatenate([self.label, other.label]),
            broken_case=np.concatenate([self.broken_case, other.broken_case]),
            broken_image=np.concatenate([self.broken_image, other.broken_image]),
        )
