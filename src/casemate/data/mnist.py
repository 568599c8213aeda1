"""MNIST: 70,000 handwritten digits, 28x28 gray (LeCun, Cortes, Burges, 1998)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from casemate.data.cache import Allocate, Decoded, checksum, remembered
from casemate.data.dataset import check_split
from casemate.data.domain import Domain
from casemate.data.fetch import locate
from casemate.data.idx import read_idx
from casemate.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from casemate.data.dataset import Dataset, Split

__all__ = ["MNIST"]

_FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}

# SHA-256 of the uncompressed files: the same however they are wrapped. Their MD5 are the published
# 6bbc9ace898e44ae57da46a324031adb, a25bea736e30d166cdddb491f175f624,
# 2646ac647ad5339dbf082846283269ea and 27ae3e4e09519cfbb04c329615203637.
CONTENT: dict[str, str] = {
    "train-images-idx3-ubyte.gz": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train-labels-idx1-ubyte.gz": (
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}

_PIXELS = (28, 28)


@dataclass(frozen=True, kw_only=True)
class MNIST:
    """The official split: 60,000 training and 10,000 test images of ten digits.

    Inputs are (1, 28, 28) uint8 in [0, 1] with step 1/255. The files are those of
    `$CASEMATE_DATA/mnist/`, else downloaded; their uncompressed content must be the original one.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 1998. License: CC BY-SA 3.0.
    """

    revision: ClassVar[int] = 1

    def load(self, split: Split) -> Dataset:
        """Return one split.

        Raises:
            UsageError: If a file is not to be had, is damaged, or is not MNIST.
        """
        check_split(split)
        images, labels = (locate("mnist", name) for name in _FILES[split])

        def decode(allocate: Allocate) -> Decoded:
            return _decode(images, labels, allocate)

        return remembered(
            f"mnist/{split}",
            made_from=("mnist", self.revision, checksum(images), checksum(labels)),
            decode=decode,
        )


def _decode(images: Path, labels: Path, allocate: Allocate) -> Decoded:
    inputs, inputs_content = read_idx(
        images, 3, lambda shape: allocate((shape[0], 1, *shape[1:]), np.uint8)
    )
    digits, labels_content = read_idx(labels, 1, lambda shape: np.empty(shape, np.uint8))
    if inputs.shape[2:] != _PIXELS:
        raise UsageError(f"{images} holds images of {inputs.shape[2:]}, not {_PIXELS} pixels")
    if len(inputs) != len(digits):
        raise UsageError(
            f"{labels} has {len(digits)} labels but {images.name} has {len(inputs)} images; "
            "fetch both again"
        )
    for path, content in ((images, inputs_content), (labels, labels_content)):
        if content != CONTENT[path.name]:
            raise UsageError(
                f"{path} is not MNIST: the SHA-256 of its uncompressed content is {content}, "
                f"not {CONTENT[path.name]}; fetch it again"
            )
    return Decoded(
        inputs=inputs,
        labels=digits.astype(np.int64),
        classes=tuple("0123456789"),
        domain=Domain(shape=(1, *_PIXELS), step=1 / 255),
    )
