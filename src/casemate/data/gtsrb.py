"""GTSRB: German traffic signs in 43 classes, photographed from a car (Stallkamp et al., 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image

from casemate.data.archive import Archive
from casemate.data.cache import Allocate, Decoded, checksum, remembered
from casemate.data.dataset import check_split
from casemate.data.domain import Domain
from casemate.data.fetch import locate
from casemate.data.gtsrb_classes import GTSRB_CLASSES
from casemate.data.gtsrb_tables import Sign, test_signs, training_signs
from casemate.data.ppm import NotAPixmapError, read_ppm
from casemate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.data.dataset import Dataset, Split

__all__ = ["GTSRB"]

_TRAINING = "GTSRB_Final_Training_Images.zip"
_TEST = "GTSRB_Final_Test_Images.zip"
_TEST_LABELS = "GTSRB_Final_Test_GT.zip"

_LARGEST = 1024  # pixels along a side: the largest photograph has 266


@dataclass(frozen=True, kw_only=True)
class GTSRB:
    """The official split: 39,209 training images of 1,307 tracks and 12,630 test images.

    Inputs are (3, size, size) uint8 in [0, 1] with step 1/255. Photographs of other sizes and
    shapes are resized to the square (bilinear, antialiased). A track is one physical sign,
    photographed about 30 times while driving past; training sets carry it as `groups`.

    The archives are those of `$CASEMATE_DATA/gtsrb/`, else downloaded; they are read in place.

    Attributes:
        size: Pixels along each side, 1 to 1024.
        crop: Whether to cut out the region of interest, the sign without the border of about
            10 % around it, before resizing. Where an image is not of the size that its table
            states, the region is scaled with it and rounded to whole pixels.

    Source: Stallkamp, Schlipsing, Salmen, Igel, "The German Traffic Sign Recognition Benchmark: a
    multi-class classification competition", IJCNN 2011. Free for research.
    """

    size: int = 32
    crop: bool = False

    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 1 <= self.size <= _LARGEST:
            raise UsageError(f"gtsrb: size must be 1 to {_LARGEST} pixels, got {self.size}")

    def load(self, split: Split) -> Dataset:
        """Return one split.

        Raises:
            UsageError: If an archive is not to be had, is damaged, or does not fit its tables.
        """
        check_split(split)
        names = (_TRAINING,) if split == "train" else (_TEST, _TEST_LABELS)
        paths = [locate("gtsrb", name) for name in names]

        def decode(allocate: Allocate) -> Decoded:
            with Archive(paths[0]) as images:
                if split == "train":
                    return self._decode(images, training_signs(images), allocate)
                with Archive(paths[1]) as labels:
                    signs = test_signs(images, labels)
                return self._decode(images, signs, allocate)

        return remembered(
            f"gtsrb/{split}",
            made_from=("gtsrb", self.revision, split, self, [checksum(p) for p in paths]),
            decode=decode,
        )

    def _decode(self, images: Archive, signs: Sequence[Sign], allocate: Allocate) -> Decoded:
        inputs = allocate((len(signs), 3, self.size, self.size), np.uint8)
        for slot, sign in zip(inputs, signs, strict=True):
            try:
                pixels = read_ppm(images.read(sign.member))
            except NotAPixmapError as error:
                raise UsageError(
                    f"{images.path}: the member {sign.member!r} is no image: {error}; "
                    "fetch the archive again"
                ) from error
            slot[:] = self._fitted(pixels, sign).transpose(2, 0, 1)
        tracks = [sign.track for sign in signs]
        return Decoded(
            inputs=inputs,
            labels=np.array([sign.label for sign in signs], np.int64),
            classes=GTSRB_CLASSES,
            domain=Domain(shape=(3, self.size, self.size), step=1 / 255),
            groups=None if None in tracks else np.array(tracks, np.int64),
        )

    def _fitted(self, pixels: np.ndarray, sign: Sign) -> np.ndarray:
        """Return (size, size, 3) uint8 of one photograph."""
        if self.crop:
            pixels = _region(pixels, sign)
        if pixels.shape[:2] == (self.size, self.size):
            return pixels
        # cut out first: Pillow's own `box` lets the filter reach into what is around it
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR))


def _region(pixels: np.ndarray, sign: Sign) -> np.ndarray:
    """Return the sign without its border."""
    left, top, right, bottom = sign.region
    height, width = pixels.shape[:2]
    return pixels[
        _scaled(top, bottom, sign.height, height), _scaled(left, right, sign.width, width)
    ]


def _scaled(start: int, stop: int, stated: int, found: int) -> slice:
    """Return start..stop of `stated` pixels in `found` pixels: whole ones, at least one."""
    first = min(round(start * found / stated), found - 1)
    return slice(first, max(first + 1, round(stop * found / stated)))
