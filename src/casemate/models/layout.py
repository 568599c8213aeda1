"""How inputs (n, *shape) are laid out for a graph whose input shape is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from casemate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

__all__ = ["Arrangement", "Layout", "arrangement"]

Layout = Literal["NCHW", "NHWC"]


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Turns (n, *shape) into what the graph takes.

    Attributes:
        axes: Order of the axes, the first being the batch.
        shape: Shape of one input after that.
        batch: The batch size that the graph fixes, or None for any.
    """

    axes: tuple[int, ...]
    shape: tuple[int, ...]
    batch: int | None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the inputs as the graph takes them."""
        return x.transpose(self.axes).reshape(len(x), *self.shape)


def arrangement(
    graph: Sequence[int | str | None], shape: tuple[int, ...], layout: Layout | None, where: str
) -> Arrangement:
    """Return how inputs of a shape are to be laid out.

    Sizes that the graph leaves open fit any. An image fits channels first, channels last, without
    its channel axis if it has one channel, or flattened; where several fit, channels first wins.

    Args:
        graph: The graph's input shape, the batch first; an open size is text or None.
        shape: (channels, height, width) or (features,) of one input.
        layout: What the user says; None to find out.
        where: The file, for messages.

    Raises:
        UsageError: If the inputs cannot be laid out so.
    """
    sizes = [g if isinstance(g, int) and g > 0 else None for g in graph]
    plain = tuple(range(len(shape) + 1))
    candidates: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {"": (plain, shape)}
    if len(shape) == 3:  # noqa: PLR2004 - channels, height, width
        c, h, w = shape
        candidates = {"NCHW": (plain, shape), "NHWC": ((0, 2, 3, 1), (h, w, c))}
        if c == 1:
            candidates["NHW"] = (plain, (h, w))
        candidates["flat"] = (plain, (math.prod(shape),))
        if layout is not None:
            candidates = {layout: candidates[layout]}
    for axes, arranged in candidates.values():
        fits = len(sizes) == len(arranged) + 1 and all(
            size in (None, given) for size, given in zip(sizes[1:], arranged, strict=True)
        )
        if fits:
            return Arrangement(axes=axes, shape=arranged, batch=sizes[0])
    wanted = [g if isinstance(g, int) else "any" for g in graph]
    raise UsageError(
        f"{where}: the graph takes inputs of shape {wanted}, batch first, which inputs of shape "
        f"{list(shape)} do not fit{f' as {layout}' if layout else ''}; set preprocessing.size, or "
        "layout if channels come last"
    )
