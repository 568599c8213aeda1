"""Changes of one node's output, followed to the scores row by row.

Rows are dropped as soon as nothing of them differs, or as the difference provably cannot move any
two scores past each other (`bound.py`). In floating point two ways to sum differ in the last bits:
a row whose two best scores are closer than that is run in full.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from casemate.hardware.cache import Cache
from casemate.hardware.changes import Box, Rows, picked, positions, take, whole
from casemate.hardware.effects import Effects
from casemate.hardware.rounding import LARGEST, NEAR, Rounding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from casemate.hardware.graph import Graph

__all__ = ["ELEMENTS", "Sweep"]

ELEMENTS = 1 << 21
"""Of one tensor of a batch: 8 MiB of float32."""

_LOOKED = 1 << 18
"""Rows whose changes are looked at together, each of which takes some numbers on the way."""

_HUGE, _FAR = 1e18, 1e30
"""A changed number, and a reach, from which on sums might overflow."""
_SUMMED = 3e38  # a sum that does not overflow in any order
_CLEAR = 3.3e38  # surely no more than the largest number


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
            self._rounding = Rounding.of(graph, values, self.cache)
            self._growth = [node.op.growth(values, graph.shapes(node)) for node in graph.nodes]
            self._ease = self._eased()
        self._checked = [self._is_checked(i) for i in range(len(graph.nodes))]
        sizes = [math.prod(n.shape) for n in graph.nodes]
        self._largest = [max(sizes[i:]) for i in range(len(sizes))]
        self._found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def _eased(self) -> list[Tensor | None]:
        """Return which share of each output's bound counts for each image."""
        known: dict[int, Tensor | None] = {}
        for bound in self._bounds:
            if bound is not None and id(bound.pairs) not in known:
                known[id(bound.pairs)] = bound.ease(self.cache.scores, self.cache.labels)
        return [None if b is None else known[id(b.pairs)] for b in self._bounds]

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
        looked = [self._alive(node, rows.at(p), box.at(p)) for p in _parts(len(rows))]
        keep, reach = (torch.cat(found) for found in zip(*looked, strict=True))
        rows, box, reach = rows.at(keep), box.at(keep), reach[keep]
        # where sums may overflow their order decides: such rows are watched on their way
        far = ~(_largest(box.value) < _HUGE) | ((reach > _FAR) & reach.isfinite())
        for watched, which in ((False, ~far), (True, far)):
            left, low = which.nonzero()[:, 0], 0
            step = least = self.step(max(node, 0))
            while low < len(left):
                part = left[low : low + step]
                low += step
                mine, start = rows.at(part), box.at(part)
                pushed = self._pushed(node, mine, start, reach[part], watched=watched)
                self._settle(number, pushed, full)
                # small boxes: more of them at once
                step = max(least, ELEMENTS // max(1, pushed.largest))

    def _is_checked(self, node: int) -> bool:
        """Return whether rows are looked at behind a node: where much is masked, and once."""
        nodes, takers = self.graph.nodes, self.graph.takers[node]
        # a pool behind a ReLU leaves less to look at
        later = len(takers) == 1 and nodes[takers[0]].op.masks
        return nodes[node].op.masks and bool(takers) and not later

    def may_matter(self, node: int, channel: Tensor, size: Tensor, length: Tensor) -> Tensor:
        """Return which cases may change a prediction, (cases,) bool.

        Args:
            node: Whose output changes, one channel a case.
            channel: (cases,) which.
            size: (cases, images) no smaller than the sum of the change's sizes.
            length: (cases, images) no smaller than its Euclidean norm.
        """
        bound = self._bounds[node]
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

    def _matters(
        self, node: int, image: Tensor, channels: Tensor | None, size: Tensor, length: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return which changes may change a prediction, (rows,), and how far they reach.

        Only where there is a bound. Arguments as those of `Bound.reach`.
        """
        bound, ease = self._bounds[node], self._ease[node]
        assert bound is not None  # noqa: S101 - the callers look
        share = 1.0 if ease is None else ease[image]
        reach, counted = bound.reaches(channels, size, length, share)
        matters = ~self._rounding.within(counted, self.cache.margins[image])
        # numbers so large may be too large for a sum, and no weight makes that nothing
        return matters | ~(size.amax(1) < _HUGE), reach

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
        return {j: picked(self.cache.outputs[j], image) for j in self.graph.needed(first)}

    def step(self, node: int) -> int:
        """Return how many rows are followed at once from a node on."""
        return max(1, ELEMENTS // self._largest[node])

    def _run_on(self, node: int, rows: Rows, boxes: Mapping[int, Box]) -> tuple[Tensor, Tensor]:
        """Return rows' scores, run in full from a node on with changed outputs, and doubts."""
        x, known = picked(self.cache.x, rows.image), self.known(node, rows.image)
        for j, box in boxes.items():
            changed = whole(box, self.cache.output(j), rows.image)
            if j < 0:
                x = changed
            else:
                known[j] = changed
        scores = self.graph.resume(self.values, x, node, known)
        return scores, self._rounding.close(scores)

    def _pushed(self, node: int, rows: Rows, box: Box, reach: Tensor, *, watched: bool) -> _Pushed:
        """Follow boxes to the scores; watched ones no further than nothing can overflow."""
        nodes = self.graph.nodes
        live = _Live(rows, reach, {node: box})
        stopped: list[tuple[int, _Live]] = []
        largest = math.prod(box.size)
        if watched:
            live = self._watched(node, live, stopped, _largest(box.value))
        for i in range(node + 1, len(nodes)):
            if not any(j in live.boxes for j in nodes[i].inputs) or not len(live.rows):
                continue
            live = self._stepped(i, live, stopped if watched else None)
            largest = max(largest, math.prod(live.boxes[i].size))
        end = live.boxes.get(len(nodes) - 1)
        if end is None or not len(live.rows):
            return _Pushed(largest, live.at(slice(0, 0)), self.cache.scores[:0], stopped)
        scores = whole(end, self.cache.scores, live.rows.image)
        doubtful = self._rounding.doubtful(scores, live.reach)
        if watched:  # what is not finite here is so in any order
            doubtful &= torch.isfinite(scores).all(1)
        stopped.append((-1, live.at(doubtful)))
        return _Pushed(largest, live.at(~doubtful), scores[~doubtful], stopped)

    def _stepped(self, i: int, live: _Live, stopped: list[tuple[int, _Live]] | None) -> _Live:
        """Return rows one node further; where a list is given, they are watched."""
        op = self.graph.nodes[i].op
        given = [live.boxes.get(j) for j in self.graph.nodes[i].inputs]
        live.boxes[i] = made = op.push(self.cache.site(i), live.rows, given)
        for j in set(self.graph.nodes[i].inputs):
            if j in live.boxes and self.graph.last_use(j) == i:
                del live.boxes[j]
        checked = len(live.boxes) == 1 and self._checked[i]
        if stopped is None:
            return live.at(self._alive(i, live.rows, made)[0]) if checked else live
        size = _largest(made.value)
        edge = self._edge(i, live.rows, given, size)
        if edge is not None:
            stopped.append((-1, live.at(edge)))
            live, size = live.at(~edge), size[~edge]
        if checked:
            keep = self._worth_following(i, live, size)
            live, size = live.at(keep), size[keep]
        return self._watched(i, live, stopped, size)

    def _worth_following(self, node: int, live: _Live, size: Tensor) -> Tensor:
        """Return which rows may still change a prediction; huge numbers are taken to."""
        keep = ~(size < _HUGE)
        small = (~keep).nonzero()[:, 0]
        keep[small] = self._alive(node, live.rows.at(small), live.boxes[node].at(small))[0]
        return keep

    def _watched(
        self, node: int, live: _Live, stopped: list[tuple[int, _Live]], size: Tensor
    ) -> _Live:
        """Return the rows of which no sum of this output may overflow in some order only.

        The others are stopped, to be run in full from the next node on. What is infinite already
        makes every sum infinite, or no number, in any order.

        Args:
            node: The output's.
            live: The rows.
            stopped: Where those go that stop.
            size: (rows,) of the largest number of each.
        """
        box = live.boxes[node]
        if not bool(size.isfinite().all()):
            size = _largest(box.value.nan_to_num(0.0, 0.0, 0.0))
        fine = torch.ones(len(size), dtype=torch.bool, device=size.device)
        for k in self.graph.takers[node]:
            sums = size.double() * self._growth[k].of(box.channels())
            fine &= sums.nan_to_num(torch.inf) < _SUMMED
        if not bool(fine.all()):
            stopped.append((node + 1, live.at(~fine)))
        return live.at(fine)

    def _edge(
        self, node: int, rows: Rows, given: Sequence[Box | None], size: Tensor
    ) -> Tensor | None:
        """Return the rows with a number that rounding alone may have made infinite, or not.

        Only where no sum does so, which `_watched` sees to: there the number itself decides, seen
        in twice the precision.

        Args:
            node: Where the number is made.
            rows: All.
            given: The node's inputs.
            size: (rows,) of the largest number of each.
        """
        if self._growth[node].every or bool((size < _CLEAR).all()):
            return None
        large = (~(size < _CLEAR)).nonzero()[:, 0]
        double = [None if b is None else b.at(large) for b in given]
        double = [None if b is None else Box(b.origin, b.value.double()) for b in double]
        made = self.graph.nodes[node].op.push(self.cache.site(node), rows.at(large), double)
        exact = made.value.abs()
        near = (exact > (1 - NEAR) * LARGEST) & (exact < (1 + NEAR) * LARGEST)
        out = torch.zeros(len(rows), dtype=torch.bool, device=size.device)
        out[large] = near.flatten(1).any(1)
        return out

    def _alive(self, node: int, rows: Rows, box: Box) -> tuple[Tensor, Tensor]:
        """Return which rows may still change a prediction, and how far each one's change reaches.

        The reach is the most by which two scores may move apart; infinite where no bound is known.
        """
        base = take(self.cache.output(node), rows.image, box.origin, box.size)  # a copy
        bound = self._bounds[node]
        if bound is None:
            changed = (box.value != base).flatten(1).any(1)  # NaN is not itself
            return changed, torch.full(changed.shape, torch.inf, device=changed.device)
        same = base.dtype == box.value.dtype
        size, length = _norms(base.sub_(box.value).abs_() if same else (box.value - base).abs())
        if len(size) and not float(size.amax()) < _HUGE:  # squares would overflow
            held = take(self.cache.output(node), rows.image, box.origin, box.size)
            size, length = _norms((box.value - held).double().abs())
        changed = (size != 0).any(1)
        matters, reach = self._matters(node, rows.image, box.channels(), size, length)
        return changed & matters, reach

    def _settle(
        self, number: Tensor, pushed: _Pushed, full: Callable[[int, Tensor], Tensor]
    ) -> None:
        """Note the predictions that are sure, and those of longer runs for the others."""
        mine = pushed.ended.rows
        self.note(number[mine.case], mine.image, pushed.scores)
        for node, stopped in pushed.stopped:
            if node < 0:
                self._run_full(number, stopped.rows, full)
            elif len(stopped.rows):
                rows = stopped.rows
                scores, doubtful = self._run_on(node, rows, stopped.boxes)
                sure = ~doubtful
                self.note(number[rows.case[sure]], rows.image[sure], scores[sure])
                self._run_full(number, rows.at(doubtful), full)

    def _run_full(self, number: Tensor, rows: Rows, full: Callable[[int, Tensor], Tensor]) -> None:
        """Note the predictions of full passes."""
        for c in torch.unique(rows.case).tolist():
            image = rows.image[rows.case == c]
            self.note(number[c].expand(len(image)), image, full(c, image))


@dataclass(frozen=True)
class _Live:
    """Rows on their way.

    Attributes:
        rows: Which they are.
        reach: (R,) of each one's first change.
        boxes: What has changed that later nodes take, by node.
    """

    rows: Rows
    reach: Tensor
    boxes: dict[int, Box]

    def at(self, keep: Tensor | slice) -> _Live:
        """Return the rows under a mask."""
        if isinstance(keep, Tensor):
            if bool(keep.all()):
                return self
            keep = positions(keep)
        return _Live(
            self.rows.at(keep),
            picked(self.reach, keep),
            {i: box.at(keep) for i, box in self.boxes.items()},
        )


@dataclass(frozen=True)
class _Pushed:
    """What became of rows.

    Attributes:
        largest: Size of the largest box.
        ended: The rows of which the scores are sure.
        scores: (k, classes) of these.
        stopped: The others, with the node from which on they must run in full; -1 for those that
            rounding puts in doubt, which must from the start.
    """

    largest: int
    ended: _Live
    scores: Tensor
    stopped: list[tuple[int, _Live]]


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


def _largest(value: Tensor) -> Tensor:
    """Return the largest size of a number in each row, (rows,); NaN where there is one."""
    if not len(value):
        return value.new_zeros(0)
    flat = value.flatten(1)
    return torch.maximum(flat.amax(1), -flat.amin(1))  # no copy of the sizes
