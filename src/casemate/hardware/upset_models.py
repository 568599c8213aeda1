"""What an upset does to the word that it strikes: as `fault_models.py`, for what is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from casemate.hardware.upsets import Upsets

if TYPE_CHECKING:
    from casemate.hardware.upsets import Sites

__all__ = ["UpsetKind", "upsets_at"]

UpsetKind = Literal["flip", "stuck at 0", "stuck at 1", "random value"]


def upsets_at(
    sites: Sites,
    kind: UpsetKind,
    bit: np.ndarray,
    image: np.ndarray | None,
    rng: np.random.Generator,
) -> Upsets:
    """Return one case for each bit that is struck.

    Args:
        sites: The bits that there are.
        kind: Whether the bit is inverted, reads one value, or its word is replaced by a random one,
            each of its kind as likely as any other.
        bit: (n,) int64, numbers in `sites`.
        image: (n,) int64, the only one that each strikes; they strike all if omitted.
        rng: What random words are drawn by.
    """
    node, element, place = sites.locate(bit)
    one = np.int64(1) << place
    if kind == "random value":
        keep = np.zeros_like(one)
        flip = rng.integers(0, np.int64(1) << sites.bits_of_words(bit))
    elif kind == "flip":
        keep, flip = np.full_like(one, -1), one
    else:
        keep, flip = ~one, one if kind == "stuck at 1" else np.zeros_like(one)
    n = len(bit)
    return Upsets(
        count=n,
        case=np.arange(n),
        node=node,
        element=element,
        keep=keep,
        flip=flip,
        image=np.full(n, -1) if image is None else image,
    )
