"""Turning a user's values into inputs: 8-bit as they are, floats checked against their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from casemate.errors import UsageError

if TYPE_CHECKING:
    from casemate.data.npy import Column

__all__ = ["Bounds", "copy_checked", "input_type"]

_FLOAT_BYTES = frozenset({2, 4, 8})


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Smallest and largest value that an input can hold.

    Attributes:
        low: Smallest value.
        high: Largest value.
        declared: Whether the user said so; else it is the customary [0, 1].
    """

    low: float = 0.0
    high: float = 1.0
    declared: bool = False


def input_type(column: Column) -> type[np.uint8 | np.float32]:
    """Return the type in which an array's values are kept.

    Raises:
        UsageError: If they are neither bytes nor floats.
    """
    if column.dtype == np.uint8:
        return np.uint8
    if column.dtype.kind == "f" and column.dtype.itemsize in _FLOAT_BYTES:
        return np.float32
    raise UsageError(
        f"{column.where} is of type {column.dtype}; save it as uint8 (0 to 255), or as float32 "
        "with its bounds in low= and high="
    )


def copy_checked(column: Column, target: np.ndarray, bounds: Bounds) -> None:
    """Copy an array into `target` and refuse what is not a number or out of bounds.

    Args:
        column: Where to read; its first axis counts samples.
        target: Array or view of its shape, of `input_type(column)`.
        bounds: What floats must keep to; bytes span it.

    Raises:
        UsageError: If a value is NaN, infinite or out of bounds, or the file is damaged.
    """
    done = 0
    for window, block in column.blocks(target):
        if block.dtype.itemsize == 2:  # noqa: PLR2004 - bytes of a float16, which bounds can overflow
            block = block.astype(np.float32)  # noqa: PLW2901 - the same values
        if block.dtype.kind == "f":
            # written so that NaN fails it too
            inside = (block >= bounds.low) & (block <= bounds.high)
            if not inside.all():
                place = np.argwhere(~inside)[0]
                sample = int(place[-1]) if column.reversed_axes else done + int(place[0])
                raise UsageError(_complaint(column, float(block[tuple(place)]), sample, bounds))
        window[...] = block
        done += len(block)


def _complaint(column: Column, value: float, sample: int, bounds: Bounds) -> str:
    if not np.isfinite(value):
        return f"{column.where}: sample {sample} holds {value}; replace it by a number"
    remedy = "mend it or the bounds" if bounds.declared else "declare the bounds in low= and high="
    return (
        f"{column.where}: sample {sample} holds {value:.6g}, outside [{bounds.low:g}, "
        f"{bounds.high:g}]; {remedy}"
    )
