"""Which changes of an activation may still change a prediction.

A change cannot where nothing of it differs, nor where it is too small for its bound (`bound.py`) to
carry it past an image's margin, rounding counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from casemate.hardware.changes import take

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from casemate.hardware.bound import Bound
    from casemate.hardware.cache import Cache
    from casemate.hardware.changes import Box, Rows
    from casemate.hardware.rounding import Rounding

__all__ = ["HUGE", "Mattering"]

HUGE = 1e18
"""A changed number from which on sums might overflow."""

_LOOKED = 1 << 18
"""Rows whose changes are looked at together, each of which takes some numbers on the way."""


class Mattering:
    """Holds changes of nodes' outputs against the margins of some images.

    Args:
        bounds: Of each node's output, and last of the input.
        rounding: Of the scores.
        cache: Holds the images.
    """

    def __init__(self, bounds: Sequence[Bound | None], rounding: Rounding, cache: Cache) -> None:
        self.bounds, self._rounding, self._cache = bounds, rounding, cache
        self._ease = self._eased()

    def cases(self, node: int, channel: Tensor, size: Tensor, length: Tensor) -> Tensor:
        """Return which cases may change a prediction, (cases,) bool.

        Args:
            node: Whose output changes, one channel a case.
            channel: (cases,) which.
            size: (cases, images) no smaller than the sum of the change's sizes.
            length: (cases, images) no smaller than its Euclidean norm.
        """
        bound = self.bounds[node]
        if bound is None:
            return torch.ones(len(channel), dtype=torch.bool, device=channel.device)
        images = torch.arange(size.shape[1], device=channel.device)
        found = []
        for part in _parts(len(channel), size.shape[1]):
            mine = channel[part].repeat_interleave(len(images))[:, None]
            sizes, lengths = size[part].reshape(-1, 1), length[part].reshape(-1, 1)
            image = images.repeat(len(size[part]))
            matters, _ = self._matters(node, image, mine, sizes, lengths)
            found.append(matters.view(-1, len(images)).any(1))
        return torch.cat(found)

    def rows(self, node: int, rows: Rows, box: Box) -> tuple[Tensor, Tensor]:
        """Return which rows may still change a prediction, and how far each one's change reaches.

        The reach is the most by which two scores may move apart; infinite where no bound is known.

        Args:
            node: Whose output changes; -1 is the network's input.
            rows: One for each image under each case.
            box: The node's new output.
        """
        looked = [self._looked(node, rows.at(p), box.at(p)) for p in _parts(len(rows))]
        keep, reach = (torch.cat(found) for found in zip(*looked, strict=True))
        return keep, reach

    def _looked(self, node: int, rows: Rows, box: Box) -> tuple[Tensor, Tensor]:
        """Return as `rows`, of few enough of them."""
        base = take(self._cache.output(node), rows.image, box.origin, box.size)  # a copy
        bound = self.bounds[node]
        if bound is None:
            changed = (box.value != base).flatten(1).any(1)  # NaN is not itself
            return changed, torch.full(changed.shape, torch.inf, device=changed.device)
        same = base.dtype == box.value.dtype
        size, length = _norms(base.sub_(box.value).abs_() if same else (box.value - base).abs())
        if len(size) and not float(size.amax()) < HUGE:  # squares would overflow
            held = take(self._cache.output(node), rows.image, box.origin, box.size)
            size, length = _norms((box.value - held).double().abs())
        changed = (size != 0).any(1)
        matters, reach = self._matters(node, rows.image, box.channels(), size, length)
        return changed & matters, reach

    def _matters(
        self, node: int, image: Tensor, channels: Tensor | None, size: Tensor, length: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return which changes may change a prediction, (rows,), and how far they reach.

        Only where there is a bound. Arguments as those of `Bound.reach`.
        """
        bound, ease = self.bounds[node], self._ease[node]
        assert bound is not None  # noqa: S101 - the callers look
        share = 1.0 if ease is None else ease[image]
        reach, counted = bound.reaches(channels, size, length, share)
        matters = ~self._rounding.within(counted, self._cache.margins[image])
        # numbers so large may be too large for a sum, and no weight makes that nothing
        return matters | ~(size.amax(1) < HUGE), reach

    def _eased(self) -> list[Tensor | None]:
        """Return which share of each output's bound counts for each image."""
        known: dict[int, Tensor | None] = {}
        for bound in self.bounds:
            if bound is not None and id(bound.pairs) not in known:
                known[id(bound.pairs)] = bound.ease(self._cache.scores, self._cache.labels)
        return [None if b is None else known[id(b.pairs)] for b in self.bounds]


def _parts(count: int, each: int = 1) -> list[slice]:
    """Return slices of no more than `_LOOKED` rows, at least one; each of `count` has `each`."""
    step = max(1, _LOOKED // max(1, each))
    return [slice(i, i + step) for i in range(0, max(1, count), step)]


def _norms(size: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum and the Euclidean norm of sizes in each channel, (rows, k)."""
    if size.ndim == 2:  # noqa: PLR2004 - features
        return size, size
    size = size.flatten(2)
    return size.sum(2), torch.linalg.vector_norm(size, dim=2)
