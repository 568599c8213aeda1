"""An `.npz` file of images or features with labels: the user's own data."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from casemate.data.archive import TOTAL_LIMIT, Archive
from casemate.data.cache import Allocate, Decoded, checksum, remembered
from casemate.data.class_names import check_class_names, plain_text
from casemate.data.dataset import check_split
from casemate.data.domain import Domain
from casemate.data.npy import Column, read_header
from casemate.data.npz_layout import Layout, model_order
from casemate.data.splits import check_fraction, holdout
from casemate.data.values import Bounds, copy_checked, input_type
from casemate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from casemate.data.dataset import Dataset, Split

__all__ = ["Npz"]

_INPUTS = ("x", "images", "features")
_LABELS = ("y", "labels")
_CLASSES = ("classes", "class_names")

Part = Literal["train", "test", "all"]


@dataclass(frozen=True, kw_only=True)
class Npz:
    """Arrays saved with `numpy.savez` or `numpy.savez_compressed`; no pickle is ever read.

    The file holds `x_train`, `y_train`, `x_test` and `y_test`, or inputs (`x`, `images` or
    `features`) with labels (`y` or `labels`), of which a stratified share is held out; perhaps
    also class names (`classes` or `class_names`). Inputs are (n, features), (n, height, width) or
    images with channels first or last; labels are n whole numbers from 0 on. uint8 spans the
    bounds; float16, float32 and float64 are kept as float32 and must keep to the bounds.

    Attributes:
        path: The file.
        layout: Order of the axes of images with channels, "NCHW" or "NHWC"; None finds out by the
            axis that is 1 or 3 long and refuses what could be either.
        low: Smallest value that an input can hold; give both bounds or none, which means [0, 1].
        high: Largest value.
        classes: Class names by label; None takes the file's, or numbers.
        test_fraction: Share of each class to hold out, in (0, 1).
        split_seed: Chooses which ones.
    """

    path: str | Path
    layout: Layout | None = None
    low: float | None = None
    high: float | None = None
    classes: tuple[str, ...] | None = None
    test_fraction: float = 0.2
    split_seed: int = 0

    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_fraction(self.test_fraction, "npz: test_fraction")
        if self.layout not in (None, "NCHW", "NHWC"):
            raise UsageError(f'npz: layout must be "NCHW" or "NHWC", got {self.layout!r}')
        if (self.low is None) != (self.high is None):
            raise UsageError("npz: give both low and high, or neither")
        if self.low is not None and self.high is not None:
            Domain(shape=(1,), low=self.low, high=self.high)  # refuses bounds that are none
            if max(abs(self.low), abs(self.high)) > float(np.finfo(np.float32).max):
                raise UsageError(
                    f"npz: low and high must fit into float32, got [{self.low}, {self.high}]"
                )

    def load(self, split: Split) -> Dataset:
        """Return one split.

        Raises:
            UsageError: If the file is missing, damaged, or its arrays are not as described.
        """
        check_split(split)
        with self._opened() as archive:
            parts = _parts(archive)
        if "all" not in parts:
            return self._part(split, split)
        rest, held = holdout(self._part(split, "all"), self.test_fraction, self.split_seed)
        return rest if split == "train" else held

    @contextmanager
    def _opened(self) -> Iterator[Archive]:
        path = Path(self.path).expanduser()
        remedy = "write it again with numpy.savez"
        with Archive(path, member_limit=TOTAL_LIMIT, remedy=remedy) as archive:
            yield archive

    def _part(self, split: Split, part: Part) -> Dataset:
        path = Path(self.path).expanduser()

        def decode(allocate: Allocate) -> Decoded:
            with self._opened() as archive:
                return self._decode(archive, part, allocate)

        names = None if self.classes is None else list(self.classes)
        return remembered(
            f"{plain_text(path.stem)}/{split}",
            made_from=(
                "npz",
                self.revision,
                part,
                self.layout,
                self.low,
                self.high,
                names,
                checksum(path),
            ),
            decode=decode,
        )

    def _decode(self, archive: Archive, part: Part, allocate: Allocate) -> Decoded:
        parts = _parts(archive)
        inputs_key, labels_key = parts[part]
        column = read_header(archive, inputs_key)
        kind = input_type(column)
        labels = {key: _labels(read_header(archive, key)) for _, key in parts.values()}
        classes = self._classes(archive, labels)
        if column.shape[:1] != labels[labels_key].shape:
            raise UsageError(
                f"{archive.path}: {labels_key} has {len(labels[labels_key])} labels but "
                f"{inputs_key} has the shape {column.shape}; give one label for each sample"
            )
        shape, order = model_order(column.shape, self.layout, column.where)
        inputs = allocate(shape, kind)
        bounds = Bounds()
        if self.low is not None and self.high is not None:
            bounds = Bounds(low=self.low, high=self.high, declared=True)
        copy_checked(column, inputs.transpose(order).reshape(column.shape), bounds)
        step = (bounds.high - bounds.low) / 255 if kind is np.uint8 else None
        return Decoded(
            inputs=inputs,
            labels=labels[labels_key],
            classes=classes,
            domain=Domain(shape=shape[1:], low=bounds.low, high=bounds.high, step=step),
        )

    def _classes(self, archive: Archive, labels: dict[str, np.ndarray]) -> tuple[str, ...]:
        """Return the class names, and check that every label has one."""
        highest = max(int(values.max()) for values in labels.values())
        key = next((k for k in _CLASSES if f"{k}.npy" in archive.names), None)
        where = str(archive.path)
        if self.classes is not None:
            classes, where = tuple(self.classes), f"{where}: classes="
        elif key is not None:
            classes, where = _names(read_header(archive, key)), f"{where}: {key}"
        else:
            classes = tuple(str(label) for label in range(highest + 1))
        check_class_names(classes, where)
        for labels_key, values in labels.items():
            if int(values.max()) >= len(classes):
                raise UsageError(
                    f"{archive.path}: {labels_key} holds the label {int(values.max())} but there "
                    f"are {len(classes)} class names; name every class or mend the labels"
                )
        return classes


def _parts(archive: Archive) -> dict[Part, tuple[str, str]]:
    """Return the keys of inputs and labels by part of the file."""
    keys = {name.removesuffix(".npy") for name in archive.names}
    divided = ("x_train", "y_train", "x_test", "y_test")
    inputs = [k for k in _INPUTS if k in keys]
    labels = [k for k in _LABELS if k in keys]
    if keys.intersection(divided) and not inputs and not labels:
        missing = [k for k in divided if k not in keys]
        if missing:
            raise UsageError(f"{archive.path} has no array {missing[0]}; add it")
        return {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
    if len(inputs) == 1 and len(labels) == 1 and not keys.intersection(divided):
        return {"all": (inputs[0], labels[0])}
    raise UsageError(
        f"{archive.path} holds the arrays {sorted(keys)}; it should hold x_train, y_train, x_test "
        f"and y_test, or one of {', '.join(_INPUTS)} with one of {', '.join(_LABELS)}"
    )


def _labels(column: Column) -> np.ndarray:
    if column.dtype.kind not in "iu" or len(column.shape) != 1 or not column.shape[0]:
        raise UsageError(
            f"{column.where} is an array of {column.dtype} with the shape {column.shape}; labels "
            "are one whole number for each sample, at least one"
        )
    labels = column.read()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= 1 << 31:
        raise UsageError(
            f"{column.where} holds labels from {low} to {high}; number the classes from 0 on"
        )
    return labels.astype(np.int64)


def _names(column: Column) -> tuple[str, ...]:
    if column.dtype.kind != "U" or len(column.shape) != 1:
        raise UsageError(
            f"{column.where} is an array of {column.dtype} with the shape {column.shape}; class "
            "names are a list of text"
        )
    return tuple(str(name) for name in column.read())
