"""The IDX format of MNIST: a header of sizes, then bytes (LeCun, Cortes, Burges).

A file starts with two zero bytes, the type of its values (8: unsigned byte), the number of axes,
and the size of each axis as 32-bit big-endian; the values follow, last axis fastest.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from casemate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np

__all__ = ["read_idx"]

_UNSIGNED_BYTE = 8
_CHUNK = 1 << 20
LIMIT = 1 << 31
"""Most bytes that a file may unpack to (2 GiB)."""


def read_idx(
    path: Path, axes: int, allocate: Callable[[tuple[int, ...]], np.ndarray]
) -> tuple[np.ndarray, str]:
    """Read a gzip-compressed IDX file of unsigned bytes straight into an array.

    Args:
        path: The file.
        axes: How many axes it must have.
        allocate: Given the shape, returns the C-contiguous uint8 array to fill.

    Returns:
        That array, and the SHA-256 of the uncompressed file.

    Raises:
        UsageError: If the file is missing, truncated, no gzip or no such IDX file, or too large.
    """
    with _opened(path) as file:
        header = file.read(4 + 4 * axes)
        if len(header) < 4 + 4 * axes:
            raise EOFError("its header is cut off")
        zero, kind, found = struct.unpack(">HBB", header[:4])
        if zero != 0 or kind != _UNSIGNED_BYTE or found != axes:
            raise UsageError(
                f"{path} is no IDX file of unsigned bytes with {axes} axes (it starts with "
                f"{header[:4].hex(' ')}); fetch it again"
            )
        shape = struct.unpack(f">{axes}I", header[4:])
        size = math.prod(shape)
        if not 0 < size <= LIMIT:
            raise UsageError(
                f"{path} claims to hold {' x '.join(map(str, shape))} values; at most {LIMIT} and "
                "at least one are taken; fetch it again"
            )
        array = allocate(shape)
        digest = hashlib.sha256(header)
        flat = array.reshape(-1).data
        for start in range(0, size, _CHUNK):
            piece = flat[start : start + _CHUNK]
            _fill(file, piece)
            digest.update(piece)
        if file.read(1):
            raise UsageError(f"{path} holds more than the {size} values it claims; fetch it again")
    return array, digest.hexdigest()


def _fill(file: gzip.GzipFile, piece: memoryview) -> None:
    while len(piece):
        count = file.readinto(piece)
        if not count:
            raise EOFError("it ends before its last value")
        piece = piece[count:]


@contextmanager
def _opened(path: Path) -> Iterator[gzip.GzipFile]:
    try:
        with gzip.open(path, "rb") as file:
            yield file
    except UsageError:
        raise
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; mend the path") from error
    except (OSError, EOFError, zlib.error) as error:  # BadGzipFile is an OSError
        raise UsageError(f"{path} is damaged or truncated ({error}); fetch it again") from error
