"""scikit-learn's digits: 1,797 handwritten digits of 8x8 pixels that come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from casemate.data.dataset import Dataset, check_split
from casemate.data.domain import Domain
from casemate.data.splits import check_fraction, holdout

if TYPE_CHECKING:
    from casemate.data.dataset import Split

__all__ = ["Digits"]

_LEVELS = 16  # each pixel counts the dark ones of 4x4, 0 to 16


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Gray images of ten digits, (1, 8, 8) float32 in [0, 1] with step 1/16; no download.

    Attributes:
        test_fraction: Share of each class that makes the test split, in (0, 1).
        split_seed: Chooses which ones.

    Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI 1998 (its test
    set of 13 writers), as `sklearn.datasets.load_digits`.
    """

    test_fraction: float = 0.2
    split_seed: int = 0

    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_fraction(self.test_fraction, "digits: test_fraction")

    def load(self, split: Split) -> Dataset:
        """Return one split.

        Raises:
            UsageError: If there is no such split.
        """
        check_split(split)
        from sklearn.datasets import load_digits  # noqa: PLC0415 - takes seconds to import

        bunch = load_digits()
        whole = Dataset.from_arrays(
            name=f"digits/{split}",
            inputs=(bunch.images[:, np.newaxis] / _LEVELS).astype(np.float32),
            labels=bunch.target.astype(np.int64),
            classes=tuple("0123456789"),
            domain=Domain(shape=(1, 8, 8), step=1 / _LEVELS),
        )
        train, test = holdout(whole, self.test_fraction, self.split_seed)
        return train if split == "train" else test
