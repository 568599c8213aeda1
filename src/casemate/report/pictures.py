"""Arrays as PNG pictures in data URIs."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LARGEST", "amplification", "difference", "is_picture", "picture"]

LARGEST = 128
"""Pixels of the longer side; larger pictures are thinned out to this."""

_FACTORS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_COLORS = 3


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether an input of this shape can be shown as a picture: (channels, height, width)."""
    return len(shape) == 3 and min(shape[1:]) > 1  # noqa: PLR2004 - the three axes of an image


def picture(image: NDArray[np.float32], low: float, high: float) -> str:
    """Return a (channels, height, width) image in [low, high] as a PNG data URI.

    Three channels are shown as red, green and blue, any other number by its mean in gray. Values
    that are not finite are shown black.
    """
    levels = (_colors(_thinned(image)) - low) / (high - low)
    return _png(levels)


def amplification(clean: NDArray[np.float32], attacked: NDArray[np.float32], width: float) -> int:
    """Return the largest round factor at which no difference leaves the range of gray.

    Args:
        clean: Inputs of any shape.
        attacked: The same inputs after the attack.
        width: high - low of the domain.
    """
    with np.errstate(invalid="ignore"):
        largest = float(np.nanmax(np.abs(attacked - clean), initial=0.0))
    if not np.isfinite(largest) or largest == 0:
        return 1
    return max((f for f in _FACTORS if f * largest <= 0.5 * width * (1 + 1e-6)), default=1)


def difference(
    clean: NDArray[np.float32], attacked: NDArray[np.float32], width: float, factor: int
) -> str:
    """Return 0.5 + factor * (attacked - clean) / width as a PNG data URI: gray is no change."""
    change = _colors(_thinned(attacked)) - _colors(_thinned(clean))
    return _png(0.5 + factor * change / width)


def _thinned(image: NDArray[np.float32]) -> NDArray[np.float32]:
    # every k-th pixel, not their mean, which would make a difference look smaller than it is
    step = -(-max(image.shape[1:]) // LARGEST)
    return image[:, ::step, ::step]


def _colors(image: NDArray[np.float32]) -> NDArray[np.float64]:
    values = image.astype(np.float64)
    return values if len(values) == _COLORS else values.mean(axis=0, keepdims=True)


def _png(levels: NDArray[np.float64]) -> str:
    from PIL import Image  # noqa: PLC0415 - records without pictures need no imaging library

    gray = np.nan_to_num(levels, nan=0.0, posinf=1.0, neginf=0.0)
    pixels = (gray.clip(0, 1) * 255).round().astype(np.uint8)
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1).copy())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
