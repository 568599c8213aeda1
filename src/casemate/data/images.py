"""Opening one image file that may be damaged or made to do harm."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Literal

from PIL import Image, UnidentifiedImageError

from casemate.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Channels", "open_image"]

Channels = Literal[1, 3]

PIXEL_LIMIT = 1 << 26
"""Most pixels of one image (64 million)."""

# no format that runs a program or a language (EPS) and none that is read by an optional plugin
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GRAY = frozenset({"1", "L", "LA"})
_COLOR = frozenset({"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})

# what Pillow's decoders raise for files that are cut off or garbled
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)


def open_image(path: Path, channels: Channels | None) -> Image.Image:
    """Return an image, decoded, in mode "L" or "RGB".

    Pixels are taken as stored: an orientation noted beside them is not applied, transparency is
    dropped.

    Args:
        path: The file.
        channels: 1 for gray, 3 for color, None for what the file has (a palette is color).

    Raises:
        UsageError: If the file is no image of 8 bits a channel, is an animation, is damaged, or is
            a decompression bomb.
    """
    try:
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            _check(image, path)
            wanted = channels or (1 if image.mode in _GRAY else 3)
            image.load()
            image.info.pop("transparency", None)
            return image.convert("L" if wanted == 1 else "RGB")
    # Pillow's own limit may be lower or higher than this one, and its warning may be an error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UsageError(_too_large(path)) from error
    except UsageError:  # a ValueError too
        raise
    except UnidentifiedImageError as error:
        raise UsageError(
            f"{str(path)!r} is not an image ({', '.join(_FORMATS)} are read); move it away"
        ) from error
    except _DAMAGE as error:
        raise UsageError(
            f"{str(path)!r} cannot be read as an image ({error}); replace it or move it away"
        ) from error


def _check(image: Image.Image, path: Path) -> None:
    if image.width * image.height > PIXEL_LIMIT:
        raise UsageError(_too_large(path))
    if getattr(image, "n_frames", 1) != 1:
        raise UsageError(f"{str(path)!r} has several frames; save each as a file of its own")
    if image.mode not in _GRAY | _COLOR:
        raise UsageError(
            f"{str(path)!r} has pixels of mode {image.mode}, not of 8 bits a channel; save it as "
            "8-bit gray or RGB, or the data as .npz with its bounds"
        )


def _too_large(path: Path) -> str:
    return f"{str(path)!r} has more than {PIXEL_LIMIT} pixels and is refused; make it smaller"
