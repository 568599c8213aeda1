"""Changes of one node's output, followed to the scores row by row.

Rows are dropped as soon as nothing of them differs, or as the difference provably cannot move any
two scores past each other (`mattering.py`). In floating point two ways to sum differ in the last
bits: a row whose two best scores are closer than that is run in full.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from casemate.hardware.cache import Cache
from casemate.hardware.changes import Box, Rows, peaks, picked, positions, whole
from casemate.hardware.effects import Effects
from casemate.hardware.found import Found
from casemate.hardware.mattering import HUGE, Mattering
from casemate.hardware.rounding import LARGEST, NEAR, Rounding
from casemate.hardware.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from casemate.hardware.graph import Graph

__all__ = ["ELEMENTS", "Sweep"]

ELEMENTS = 1 << 21
"""Of one tensor of a batch: 8 MiB of float32."""

_FAR = 1e30
"""A reach from which on sums might overflow."""
_SUMMED = 3e38  # a sum that does not overflow in any order
_CLEAR = 3.3e38  # surely no more than the largest number


class Sweep:
    """Follows changes through a network on a set of images.

    Args:
        graph: The network.
        values: The memory's numbers, without faults.
        x: (n, *shape) inputs of the network.
        spread: Of that network with these numbers; computed if omitted.
        elements: Of one tensor of a batch of rows.
    """

    def __init__(
        self,
        graph: Graph,
        values: Mapping[str, Tensor],
        x: Tensor,
        spread: Spread | None = None,
        *,
        elements: int = ELEMENTS,
    ) -> None:
        self.graph = graph
        self.values = values
        self.elements = elements
        self.cache = Cache(graph, values, x, elements)
        spread = Spread.of(graph, values) if spread is None else spread
        self._growth = spread.growth
        with torch.no_grad():
            self._rounding = Rounding.of(graph, values, self.cache, elements)
            self.matters = Mattering(spread.bounds, self._rounding, self.cache)
        self._checked = [self._is_checked(i) for i in range(len(graph.nodes))]
        sizes = [math.prod(n.shape) for n in graph.nodes]
        self._largest = [max(sizes[i:]) for i in range(len(sizes))]
        self._found = Found()

    @property
    def device(self) -> torch.device:
        """Where everything lies."""
        return self.cache.x.device

    def collected(self, count: int) -> Effects:
        """Return what was found since the last time, of cases 0 to count - 1."""
        case, image, label, broken = self._found.take()
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
        keep, reach = self.matters.rows(node, rows, box)
        rows, box, reach = rows.at(keep), box.at(keep), reach[keep]
        # where sums may overflow their order decides: such rows are watched on their way
        far = ~(peaks(box.value) < HUGE) | ((reach > _FAR) & reach.isfinite())
        for watched, which in ((False, ~far), (True, far)):
            left, low = which.nonzero()[:, 0], 0
            step = least = self.step(max(node, 0))
            while low < len(left):
                part = left[low : low + step]
                low += step
                mine, start = rows.at(part), box.at(part)
                largest = 1
                for pushed in self._pushed(node, mine, start, reach[part], watched=watched):
                    self._settle(number, pushed, full)
                    largest = max(largest, pushed.largest)
                step = max(least, self.elements // largest)  # small boxes: more of them at once

    def _is_checked(self, node: int) -> bool:
        """Return whether rows are looked at behind a node: where much is masked, and once."""
        nodes, takers = self.graph.nodes, self.graph.takers[node]
        # a pool behind a ReLU leaves less to look at
        later = len(takers) == 1 and nodes[takers[0]].op.masks
        return nodes[node].op.masks and bool(takers) and not later

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
        if bool(worth.any()):
            self._found.add(case[worth], image[worth], label[worth], broken[worth])

    def known(self, first: int, image: Tensor) -> dict[int, Tensor]:
        """Return what nodes from `first` on take of earlier ones, for these images."""
        return {j: picked(self.cache.outputs[j], image) for j in self.graph.needed(first)}

    def step(self, node: int) -> int:
        """Return how many rows are followed at once from a node on."""
        return max(1, self.elements // self._largest[node])

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

    def _pushed(
        self, node: int, rows: Rows, box: Box, reach: Tensor, *, watched: bool
    ) -> Iterator[_Pushed]:
        """Follow boxes to the scores; watched ones no further than nothing can overflow."""
        live = _Live(rows, reach, {node: box})
        stopped: list[tuple[int, _Live]] = []
        if watched:
            live = self._watched(node, live, stopped, peaks(box.value))
            yield self._none_ended(math.prod(box.size), live, stopped)
        yield from self._pushed_on(node + 1, live, watched=watched)

    def _pushed_on(self, first: int, live: _Live, *, watched: bool) -> Iterator[_Pushed]:
        """Follow boxes from a node on, some rows at a time where boxes become too large for all."""
        nodes = self.graph.nodes
        stopped: list[tuple[int, _Live]] = []
        largest = max(math.prod(box.size) for box in live.boxes.values())
        for i in range(first, len(nodes)):
            if not any(j in live.boxes for j in nodes[i].inputs) or not len(live.rows):
                continue
            fit = self._fitting(i, live)
            if fit < len(live.rows):
                yield self._none_ended(largest, live, stopped)
                for low in range(0, len(live.rows), fit):
                    part = live.at(slice(low, low + fit))
                    yield from self._pushed_on(i, part, watched=watched)
                return
            live = self._stepped(i, live, stopped if watched else None)
            largest = max(largest, math.prod(live.boxes[i].size))
        yield self._ended(live, largest, stopped, watched=watched)

    def _fitting(self, i: int, live: _Live) -> int:
        """Return with how many of some rows a node's changed output is no larger than allowed."""
        if len(live.rows) * math.prod(self.graph.nodes[i].shape) <= self.elements:
            return len(live.rows)
        given = [live.boxes.get(j) for j in self.graph.nodes[i].inputs]
        one = [None if b is None else b.at(slice(0, 1)) for b in given]  # all are of one size
        made = self.graph.nodes[i].op.push(self.cache.site(i), live.rows.at(slice(0, 1)), one)
        return max(1, self.elements // math.prod(made.size))

    def _none_ended(self, largest: int, live: _Live, stopped: list[tuple[int, _Live]]) -> _Pushed:
        """Return rows of which none came to the end."""
        return _Pushed(largest, live.at(slice(0, 0)), self.cache.scores[:0], stopped)

    def _ended(
        self, live: _Live, largest: int, stopped: list[tuple[int, _Live]], *, watched: bool
    ) -> _Pushed:
        """Return what becomes of rows that were followed to the end."""
        end = live.boxes.get(len(self.graph.nodes) - 1)
        if end is None or not len(live.rows):
            return self._none_ended(largest, live, stopped)
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
            return live.at(self.matters.rows(i, live.rows, made)[0]) if checked else live
        size = peaks(made.value)
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
        keep = ~(size < HUGE)
        small = (~keep).nonzero()[:, 0]
        keep[small] = self.matters.rows(node, live.rows.at(small), live.boxes[node].at(small))[0]
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
            size = peaks(box.value.nan_to_num(0.0, 0.0, 0.0))
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

    def _settle(
        self, number: Tensor, pushed: _Pushed, full: Callable[[int, Tensor], Tensor]
    ) -> None:
        """Note the predictions that are sure, and those of longer runs for the others."""
        mine = pushed.ended.rows
        self.note(number[mine.case], mine.image, pushed.scores)
        for node, stopped in pushed.stopped:
            if node < 0:
                self.run_full(number, stopped.rows, full)
            elif len(stopped.rows):
                rows = stopped.rows
                scores, doubtful = self._run_on(node, rows, stopped.boxes)
                sure = ~doubtful
                self.note(number[rows.case[sure]], rows.image[sure], scores[sure])
                self.run_full(number, rows.at(doubtful), full)

    def run_full(self, number: Tensor, rows: Rows, full: Callable[[int, Tensor], Tensor]) -> None:
        """Note the predictions of full passes; arguments as those of `follow`."""
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
