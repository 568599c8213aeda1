"""Changes of one node's output, followed to the scores row by row.

Rows are dropped as soon as nothing of them differs, or as the difference provably cannot move any
two scores past each other (`bound.py`). In floating point two ways to sum differ in the last bits:
a row whose two best scores are closer than that is run in full.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from casemate.hardware.cache import Cache
from casemate.hardware.changes import Box, Rows, take, whole
from casemate.hardware.effects import Effects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from casemate.hardware.graph import Graph

__all__ = ["ELEMENTS", "Sweep"]

ELEMENTS = 1 << 21
"""Of one tensor of a batch: 8 MiB of float32."""

_EPS = 2.0**-24  # half a unit in the last place of a float32 in [1, 2), relative
_SAFETY = 64.0
"""How many times its estimate a rounding error may be before a prediction is in doubt."""
_PROBED = 64  # images on which the rounding error without faults is measured
_HUGE, _FAR = 1e18, 1e30
"""A changed number, and a reach, from which on sums might overflow."""
_LARGEST = 3.4028234663852886e38  # float32
_UNKNOWN = 2.0**12
"""By how much, without a bound, a change may have been larger on its way than the scores."""


class Sweep:
    """Follows changes through a network on a set of images.

    Args:
        graph: The network.
        values: The memory's numbers, without faults.
        x: (n, *shape) inputs of the network.
    """

    def __init__(self, graph: Graph, values: Mapping[str, Tensor], x: Tensor) -> None:
        self.graph = graph
        self.values = values
        self.cache = Cache(graph, values, x)
        with torch.no_grad():
            self._bounds = graph.bounds(values)
            self._error = 0.0 if graph.exact else self._rounding_error()
        sizes = [math.prod(n.shape) for n in graph.nodes]
        self._largest = [max(sizes[i:]) for i in range(len(sizes))]
        self._found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    @property
    def device(self) -> torch.device:
        """Where everything lies."""
        return self.cache.x.device

    def collected(self, count: int) -> Effects:
        """Return what was found since the last time, of cases 0 to count - 1."""
        none = [np.zeros(0, dtype=np.int64)] * 4
        parts = [torch.cat(p).cpu().numpy() for p in zip(*self._found, strict=True)] or none
        self._found = []
        case, image, label, broken = parts
        broken = broken.astype(bool)
        moved = label != self.cache.labels.cpu().numpy()[image]
        return Effects(
            count=count,
            images=len(self.cache),
            case=case[moved],
            image=image[moved],
            label=label[moved],
            broken_case=case[broken],
            broken_image=image[broken],
        )

    def follow(
        self,
        node: int,
        number: Tensor,
        rows: Rows,
        box: Box,
        full: Callable[[int, Tensor], Tensor],
    ) -> None:
        """Follow changes of one node's output to the scores, and note predictions that change.

        Args:
            node: Its position; -1 is the network's input.
            number: (cases,) int64, what each of the rows' cases is called.
            rows: One for each image under each case.
            box: The node's new output.
            full: Returns the scores, (k, classes), of a full pass under one of the rows' cases for
                these images, (k,).
        """
        keep, reach = self._alive(node, rows, box)
        rows, box, reach = rows.at(keep), box.at(keep), reach[keep]
        # where sums may overflow their order decides: there nothing is added to what was before
        size = box.value.flatten(1).abs().amax(1) if len(rows) else reach
        far = ~(size < _HUGE) | ((reach > _FAR) & reach.isfinite())
        least = self.step(max(node, 0))
        for part in torch.split(far.nonzero()[:, 0], least):
            self._settle(number, *self._run_on(node, rows.at(part), box.at(part)), full)
        near, low, step = (~far).nonzero()[:, 0], 0, least
        while low < len(near):
            part = near[low : low + step]
            low += step
            largest, kept = self._pushed(node, rows.at(part), box.at(part), reach[part])
            if kept is not None:
                self._settle(number, *kept, full)
            step = max(least, ELEMENTS // max(1, largest))  # small boxes: more of them at once

    def note(self, case: Tensor, image: Tensor, scores: Tensor) -> None:
        """Note rows' predictions.

        Args:
            case: (k,) int64 numbers.
            image: (k,) int64.
            scores: (k, classes).
        """
        broken = ~torch.isfinite(scores).all(1)
        label = scores.argmax(1)
        worth = broken | (label != self.cache.labels[image])
        self._found.append((case[worth], image[worth], label[worth], broken[worth]))

    def known(self, first: int, image: Tensor) -> dict[int, Tensor]:
        """Return what nodes from `first` on take of earlier ones, for these images."""
        needed = {j for node in self.graph.nodes[first:] for j in node.inputs if 0 <= j < first}
        return {j: self.cache.outputs[j][image] for j in needed}

    def step(self, node: int) -> int:
        """Return how many rows are followed at once from a node on."""
        return max(1, ELEMENTS // self._largest[node])

    def _run_on(self, node: int, rows: Rows, box: Box) -> tuple[Rows, Tensor, Tensor]:
        """Return rows' scores, run in full from the node's changed output on, and doubts."""
        changed = whole(box, self.cache.output(node), rows.image)
        x, known = self.cache.x[rows.image], self.known(node + 1, rows.image)
        if node < 0:
            x = changed
        else:
            known[node] = changed
        scores = self.graph.resume(self.values, x, node + 1, known)
        # a number next to the largest one may be infinite if summed in another order
        size = box.value.flatten(1).abs()
        edge = ((size > 0.999 * _LARGEST) & (size < torch.inf)).any(1)
        top = scores.topk(min(2, scores.shape[1]), 1).values
        margin = (top[:, 0] - top[:, -1]).nan_to_num(torch.inf, torch.inf)
        near = margin <= _SAFETY * _EPS * scores.abs().amax(1).clamp_max(_LARGEST)
        return rows, scores, edge | near

    def _pushed(
        self, node: int, rows: Rows, box: Box, reach: Tensor
    ) -> tuple[int, tuple[Rows, Tensor, Tensor] | None]:
        """Return the size of the largest box, and the rows that reach the scores.

        With these their scores, and which of them are in doubt.
        """
        nodes = self.graph.nodes
        boxes: dict[int, Box] = {node: box}
        largest = math.prod(box.size)
        for i in range(node + 1, len(nodes)):
            if not len(rows):
                return largest, None
            inputs = nodes[i].inputs
            if not any(j in boxes for j in inputs):
                continue
            boxes[i] = nodes[i].op.push(self.cache.site(i), rows, [boxes.get(j) for j in inputs])
            largest = max(largest, math.prod(boxes[i].size))
            for j in set(inputs):
                if j in boxes and self.graph.last_use(j) == i:
                    del boxes[j]
            if len(boxes) == 1 and nodes[i].op.masks and i < len(nodes) - 1:
                keep, _ = self._alive(i, rows, boxes[i])
                if not bool(keep.all()):
                    rows, reach = rows.at(keep), reach[keep]
                    boxes = {i: boxes[i].at(keep)}
        end = boxes.get(len(nodes) - 1)
        if end is None or not len(rows):
            return largest, None
        scores = whole(end, self.cache.scores, rows.image)
        return largest, (rows, scores, self._doubtful(scores, reach))

    def _alive(self, node: int, rows: Rows, box: Box) -> tuple[Tensor, Tensor]:
        """Return which rows may still change a prediction, and how far each one's change reaches.

        The reach is the most by which two scores may move apart; infinite where no bound is known.
        """
        base = take(self.cache.output(node), rows.image, box.origin, box.size)
        bound = self._bounds[node]
        if bound is None:
            changed = (box.value != base).flatten(1).any(1)  # NaN is not itself
            return changed, torch.full(changed.shape, torch.inf, device=changed.device)
        size = (box.value - base).abs()
        length = size
        if size.ndim > 2:  # noqa: PLR2004 - maps
            length = torch.linalg.vector_norm(size.flatten(2), dim=2)
            size = size.flatten(2).sum(2)
        changed = (size != 0).any(1)
        reach = bound.reach(box.channels(), size, length)
        margin = self.cache.margins[rows.image]
        within = reach * (1 + _SAFETY * _EPS) + 2 * self._error < margin  # false for NaN
        return changed & ~within, reach

    def _settle(
        self,
        number: Tensor,
        rows: Rows,
        scores: Tensor,
        doubtful: Tensor,
        full: Callable[[int, Tensor], Tensor],
    ) -> None:
        """Note the predictions that are sure, and those of full passes for the others."""
        sure = ~doubtful
        self.note(number[rows.case[sure]], rows.image[sure], scores[sure])
        if not bool(doubtful.any()):
            return
        again = rows.at(doubtful)
        for c in torch.unique(again.case).tolist():
            image = again.image[again.case == c]
            self.note(number[c].expand(len(image)), image, full(c, image))

    def _doubtful(self, scores: Tensor, reach: Tensor) -> Tensor:
        """Return which rows' predictions may differ from those of a full pass."""
        finite = torch.isfinite(scores).all(1)
        if self.graph.exact:
            return ~finite
        top = scores.topk(min(2, scores.shape[1]), 1).values
        margin = top[:, 0] - top[:, -1]
        size = scores.abs().amax(1)
        bounded = torch.where(torch.isfinite(reach), reach, size * _UNKNOWN)
        error = self._error + _SAFETY * _EPS * torch.maximum(bounded, size)
        return ~finite | ~(margin > error)

    def _rounding_error(self) -> float:
        """Return how far off scores may be for rounding alone, without faults."""
        x = self.cache.x[:_PROBED]
        least = _SAFETY * _EPS * float(self.cache.scores.abs().max())
        try:
            double = self.graph.forward({n: v.double() for n, v in self.values.items()}, x.double())
        except (RuntimeError, TypeError):  # a module of the user's that takes float32 only
            return 16 * least
        off = float((double - self.cache.scores[: len(x)]).abs().max())
        return max(_SAFETY * off, least)
