"""How a limit of memory is shared out between activations that are kept and work on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.errors import ParameterError
from casemate.hardware.cache import bytes_per_image
from casemate.hardware.sweep import ELEMENTS

if TYPE_CHECKING:
    from casemate.hardware.graph import Graph

__all__ = ["CASES", "MEBI", "Room", "check_scores", "room"]

MEBI = 1 << 20
"""Bytes of a mebibyte."""
_FIXED = 32 << 20
"""Bytes whatever the batch."""
_FOUND = 64  # bytes a changed prediction
_SHARE = 8  # of memory one part holds predictions that changed
CASES = 4096
"""Cases that are tried in one call if memory does not matter."""
_EACH = 4 * 56
"""Bytes of work an element of a batch: so many numbers, those included that the allocator holds
back between others."""
_ROW = 4 * 20
"""Bytes of work a number of the largest output, where that is one row of a batch."""
_LEAST = 1 << 16  # elements
_SCORE = 50  # bytes a bit that is scored and drawn by its score


@dataclass(frozen=True)
class Room:
    """What fits.

    Attributes:
        images: On how many faults are tried at once.
        elements: Of one tensor of a batch of rows.
        cases: That are tried in one call, after which the predictions that they change are summed.
    """

    images: int
    elements: int
    cases: int = CASES


def room(graph: Graph, memory: int, count: int = 1) -> Room:
    """Return what fits into a limit of memory: work gets half of it at most.

    Args:
        graph: The deployed network.
        memory: Bytes that activations and work may take.
        count: Images that there are.

    Raises:
        ParameterError: If not even one image fits.
    """
    each = bytes_per_image(graph)
    row = graph.largest * _ROW
    results = memory // _SHARE
    left = memory - _FIXED - results
    elements = max(_LEAST, min(ELEMENTS, left // 2 // _EACH))
    images = (left - max(elements * _EACH, row)) // each
    if images < 1:
        least = _FIXED + max(2 * each, each + max(_LEAST * _EACH, row))
        raise ParameterError(
            "memory_limit",
            f"is {memory / MEBI:.3g} MiB, but one image at a time takes "
            f"{least * _SHARE // (_SHARE - 1) // MEBI + 1} MiB; allow as much",
        )
    return Room(images, elements, max(1, min(CASES, results // (_FOUND * count))))


def check_scores(bits: int, memory: int | None) -> None:
    """Raise `ParameterError` if scores of so many bits do not fit into a limit of memory.

    Args:
        bits: That are scored together.
        memory: Bytes; None is no limit.
    """
    if memory is not None and bits * _SCORE > memory:
        raise ParameterError(
            "memory_limit",
            f"is {memory / MEBI:.3g} MiB, but importance sampling of {bits:,} bits takes "
            f"{bits * _SCORE // MEBI + 1} MiB; allow as much, name fewer layers, or choose another "
            "estimator",
        )
