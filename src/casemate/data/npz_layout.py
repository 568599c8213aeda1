"""Which axis of an array of images holds the channels."""

from __future__ import annotations

from typing import Literal

from casemate.errors import UsageError

__all__ = ["Layout", "model_order"]

Layout = Literal["NCHW", "NHWC"]

_CHANNELS = frozenset({1, 3})
_FEATURES, _GRAY_IMAGES, _IMAGES = 2, 3, 4  # numbers of axes, that of the samples among them


def model_order(
    shape: tuple[int, ...], layout: Layout | None, where: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape with channels first, and how to see it in the file's order.

    Args:
        shape: Shape in the file: (n, features), (n, height, width), or four axes.
        layout: What the user says of four axes, or None to find out.
        where: File and array, for messages.

    Returns:
        (n, features) or (n, channels, height, width), and the permutation of its axes that the
        file has (a gray image's single channel is then dropped by reshaping).

    Raises:
        UsageError: If the number of axes is another, one is empty, or channels could be either.
    """
    if not _FEATURES <= len(shape) <= _IMAGES or 0 in shape:
        raise UsageError(
            f"{where} has the shape {shape}; it should be (samples, features), (samples, height, "
            "width) or images with channels first or last, none of them 0"
        )
    if len(shape) == _FEATURES:
        return shape, (0, 1)
    if len(shape) == _GRAY_IMAGES:
        return (shape[0], 1, *shape[1:]), (0, 1, 2, 3)
    if (layout or _found(shape, where)) == "NCHW":
        return shape, (0, 1, 2, 3)
    samples, height, width, channels = shape
    return (samples, channels, height, width), (0, 2, 3, 1)


def _found(shape: tuple[int, ...], where: str) -> Layout:
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first == last:
        raise UsageError(
            f"{where} has the shape {shape}, in which channels could be "
            f'{"first or last" if first else "neither first nor last"}; say layout="NCHW" or "NHWC"'
        )
    return "NCHW" if first else "NHWC"
