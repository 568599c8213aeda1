"""How a limit of memory is shared out between activations that are kept and work on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.errors import ParameterError
from casemate.hardware.cache import bytes_per_image
from casemate.hardware.sweep import ELEMENTS

if TYPE_CHECKING:
    from casemate.hardware.graph import Graph

__all__ = ["MEBI", "Room", "room"]

MEBI = 1 << 20
"""Bytes of a mebibyte."""
_FIXED = 32 << 20
"""Bytes whatever the batch."""
_EACH = 4 * 56
"""Bytes of work an element of a batch: so many numbers, those included that the allocator holds
back between others."""
_LEAST = 1 << 16  # elements


@dataclass(frozen=True)
class Room:
    """What fits.

    Attributes:
        images: On how many faults are tried at once.
        elements: Of one tensor of a batch of rows.
    """

    images: int
    elements: int


def room(graph: Graph, memory: int) -> Room:
    """Return what fits into a limit of memory: work gets half of it at most.

    Args:
        graph: The deployed network.
        memory: Bytes that activations and work may take.

    Raises:
        ParameterError: If not even one image fits.
    """
    each = bytes_per_image(graph)
    elements = max(_LEAST, min(ELEMENTS, (memory - _FIXED) // 2 // _EACH))
    images = (memory - _FIXED - elements * _EACH) // each
    if images < 1:
        raise ParameterError(
            "memory_limit",
            f"is {memory / MEBI:.3g} MiB, but one image at a time takes "
            f"{(_FIXED + max(2 * each, each + _LEAST * _EACH)) // MEBI + 1} MiB; allow as much",
        )
    return Room(images, elements)
