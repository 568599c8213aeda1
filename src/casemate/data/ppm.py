"""Binary portable pixmaps (P6), as arrays; those of 8 bits share the file's bytes."""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image

__all__ = ["NotAPixmapError", "read_ppm"]

SIDE_LIMIT = 1 << 13
"""Most pixels along one side."""

# "P6", width, height and maximum, apart by white space or comments, then one white space
# (netpbm's specification of the format, ppm(5))
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(rb"P6" + 3 * (_GAP + rb"(\d{1,9})") + rb"\s")
_HEADER_LIMIT = 4096  # bytes searched for a header, comments included
_EIGHT_BITS, _SIXTEEN_BITS = 255, 65535


class NotAPixmapError(ValueError):
    """The bytes are no binary pixmap; the message says why."""


def read_ppm(data: bytes) -> np.ndarray:
    """Return the pixels of a binary pixmap.

    Args:
        data: The whole file.

    Returns:
        (height, width, 3) uint8. With a maximum of 255 a read-only window on `data`, else scaled
        so that the maximum becomes 255.

    Raises:
        NotAPixmapError: If `data` is something else, cut off, or too large.
    """
    match = _HEADER.match(data[:_HEADER_LIMIT])
    if match is None:
        raise NotAPixmapError("it does not start like a binary ppm")
    width, height, maximum = (int(group) for group in match.groups())
    if not 0 < maximum <= _SIXTEEN_BITS:
        raise NotAPixmapError(f"it claims values up to {maximum}")
    if not (0 < width <= SIDE_LIMIT and 0 < height <= SIDE_LIMIT):
        raise NotAPixmapError(f"it claims {width} x {height} pixels")
    count = 3 * width * height
    if len(data) < match.end() + count * (1 if maximum <= _EIGHT_BITS else 2):
        raise NotAPixmapError(f"it ends before its {width} x {height} pixels do")
    if maximum != _EIGHT_BITS:
        with Image.open(io.BytesIO(data), formats=("PPM",)) as image:
            return np.asarray(image)
    return np.frombuffer(data, np.uint8, count, match.end()).reshape(height, width, 3)
