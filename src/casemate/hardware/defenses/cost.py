"""What a defense of the deployed model takes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cost"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a defense adds to a deployed model.

    Attributes:
        bits: Of memory, secure memory included.
        operations: Additions, comparisons, multiplications or bitwise operations on words that one
            inference takes more. What the memory's controller does on its own is none.
    """

    bits: int
    operations: int
