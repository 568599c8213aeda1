"""A folder of images by class folder: the user's own data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image

from casemate.data.cache import Allocate, Decoded, remembered
from casemate.data.class_folders import ClassFolders, list_class_folders, split_folders
from casemate.data.class_names import plain_text
from casemate.data.dataset import check_split
from casemate.data.domain import Domain
from casemate.data.images import Channels, open_image
from casemate.data.splits import check_fraction, holdout
from casemate.errors import UsageError

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset, Split

__all__ = ["Folder"]

_LARGEST = 4096  # pixels along a side


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Images in one folder for each class, `PATH/CLASS/IMAGE`, or divided into train and test.

    With `PATH/train/CLASS/IMAGE` and `PATH/test/CLASS/IMAGE` the split is that one, and the classes
    are those of `train`; otherwise a stratified share is held out. Inputs are (channels, height,
    width) uint8 in [0, 1] with step 1/255. Labels count class names in their order.

    Attributes:
        path: The folder.
        size: Pixels to resize to, (height, width) or one number for both (bilinear, antialiased);
            None where all images have one size.
        channels: 1 for gray, 3 for color; None where all images are the one or the other.
        test_fraction: Share of each class to hold out, in (0, 1).
        split_seed: Chooses which ones.
    """

    path: str | Path
    size: int | tuple[int, int] | None = None
    channels: Channels | None = None
    test_fraction: float = 0.2
    split_seed: int = 0

    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_fraction(self.test_fraction, "folder: test_fraction")
        if self.channels not in (None, 1, 3):
            raise UsageError(f"folder: channels must be 1 or 3, got {self.channels}")
        size = self._size
        if size is not None and not (
            len(size) == 2 and all(1 <= n <= _LARGEST for n in size)  # noqa: PLR2004 - height, width
        ):
            raise UsageError(f"folder: size must be 1 to {_LARGEST} pixels, got {self.size}")

    def load(self, split: Split) -> Dataset:
        """Return one split.

        Raises:
            UsageError: If the folder is not laid out so, or a file is no image or does not fit.
        """
        check_split(split)
        root = Path(self.path).expanduser()
        name = f"{plain_text(root.resolve().name)}/{split}"
        halves = split_folders(root)
        if halves is None:
            whole = self._decoded(name, list_class_folders(root))
            rest, held = holdout(whole, self.test_fraction, self.split_seed)
            return rest if split == "train" else held
        training = list_class_folders(halves["train"])
        if split == "train":
            return self._decoded(name, training)
        test = list_class_folders(halves["test"], classes=training.classes)
        return self._decoded(name, test)

    @property
    def _size(self) -> tuple[int, ...] | None:
        if self.size is None:
            return None
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)

    def _decoded(self, name: str, listing: ClassFolders) -> Dataset:
        def decode(allocate: Allocate) -> Decoded:
            return self._decode(listing, allocate)

        return remembered(
            name,
            made_from=(
                "folder",
                self.revision,
                self._size,
                self.channels,
                listing.classes,
                listing.state,
            ),
            decode=decode,
        )

    def _decode(self, listing: ClassFolders, allocate: Allocate) -> Decoded:
        first = self._opened(listing.files[0])
        channels = len(first.getbands())
        shape = (channels, first.height, first.width)
        inputs = allocate((len(listing.files), *shape), np.uint8)
        for slot, path in zip(inputs, listing.files, strict=True):
            image = self._opened(path)
            if len(image.getbands()) != channels:
                raise UsageError(
                    f"{str(path)!r} has {len(image.getbands())} channels but "
                    f"{str(listing.files[0])!r} has {channels}; give channels=1 or channels=3"
                )
            if image.size != first.size:
                raise UsageError(
                    f"{str(path)!r} has {image.width} x {image.height} pixels but "
                    f"{str(listing.files[0])!r} has {first.width} x {first.height}; give size="
                )
            pixels = np.asarray(image)
            slot[:] = pixels if channels == 1 else pixels.transpose(2, 0, 1)
        return Decoded(
            inputs=inputs,
            labels=np.array(listing.labels, np.int64),
            classes=listing.classes,
            domain=Domain(shape=shape, step=1 / 255),
        )

    def _opened(self, path: Path) -> Image.Image:
        image = open_image(path, self.channels)
        size = self._size
        if size is None or image.size == (size[1], size[0]):
            return image
        return image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
