"""Arrays inside an `.npz` file, read piece by piece and never as pickles.

An `.npz` file is a zip archive of `.npy` files (NumPy enhancement proposal 1): a header with shape,
type and order, then the values. What the header claims is held against the size of the member
before anything is allocated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from tokenize import TokenError
from typing import IO, TYPE_CHECKING

import numpy as np

from casemate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from casemate.data.archive import Archive

__all__ = ["Column", "read_header"]

_BLOCK = 1 << 24  # bytes read at a time
# what NumPy's parser of headers, Python literals, raises for what is none
_GARBLED = (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError)
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One array of an `.npz` file, not yet read.

    Attributes:
        archive: The file.
        key: Name of the array.
        shape: Its shape.
        dtype: Type of its values.
        reversed_axes: Whether the values are stored in Fortran order, first axis fastest.
    """

    archive: Archive
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype
    reversed_axes: bool

    @property
    def where(self) -> str:
        """File and array, for messages."""
        return f"{self.archive.path}: {self.key}"

    def read(self) -> np.ndarray:
        """Return the whole array; for small ones such as labels."""
        array = np.empty(self.shape, self.dtype)
        for target, block in self.blocks(array):
            target[...] = block
        return array

    def blocks(self, target: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield windows of `target` and the values that belong there, in the file's order.

        Args:
            target: Any array or view of this array's shape, of any type.

        Yields:
            A window of `target` (with its axes reversed where the file's are) and an array of its
            shape and this array's type.
        """
        window = target.T if self.reversed_axes else target
        row_shape = window.shape[1:]
        row = max(1, math.prod(row_shape)) * self.dtype.itemsize
        step = max(1, _BLOCK // row)
        with self.archive.open(f"{self.key}.npy") as file:
            _read_header(file)
            for start in range(0, len(window), step):
                part = window[start : start + step]
                data = file.read(len(part) * row)
                yield part, np.frombuffer(data, self.dtype).reshape(part.shape)


def read_header(archive: Archive, key: str) -> Column:
    """Return the array `key` of an `.npz` file without its values.

    Raises:
        UsageError: If it is missing, no array of plain values, or not of the size it claims.
    """
    member = f"{key}.npy"
    with archive.open(member) as file:
        try:
            shape, fortran, dtype = _read_header(file)
        except _GARBLED as error:
            raise UsageError(
                f"{archive.path}: {key} is no array ({error}); "
                "write the file again with numpy.savez"
            ) from error
        if dtype.hasobject:
            raise UsageError(
                f"{archive.path}: {key} holds Python objects, which only a pickle could restore, "
                "and pickles are refused; save plain numbers or fixed-width text"
            )
        held = archive.size(member) - file.tell()
    if math.prod(shape) * dtype.itemsize != held:
        raise UsageError(
            f"{archive.path}: {key} claims the shape {shape} of {dtype} but holds {held} bytes; "
            "write the file again with numpy.savez"
        )
    return Column(archive=archive, key=key, shape=shape, dtype=dtype, reversed_axes=fortran)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in _READERS:
        raise ValueError(f"version {version} of the npy format is not read")
    shape, fortran, dtype = _READERS[version](file)
    return shape, fortran and len(shape) > 1, dtype
