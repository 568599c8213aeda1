"""What faults change, without a full pass a fault.

Activations without faults are kept. A case starts at the first node that reads a changed word, with
the new values of the one channel that changes where that is all; from there only what changes is
computed (`sweep.py`). The predictions are those of a full pass; sums of integers are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from casemate.hardware.changes import Box, Rows, peaks
from casemate.hardware.graph import Change, Channelwise
from casemate.hardware.ops.exact import wrapped
from casemate.hardware.ops.layer import Layer
from casemate.hardware.rounding import LARGEST
from casemate.hardware.sweep import ELEMENTS, Sweep
from casemate.hardware.upsets import rewritten
from casemate.hardware.words import WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from casemate.hardware.cases import Cases
    from casemate.hardware.effects import Effects
    from casemate.hardware.graph import Graph
    from casemate.hardware.memory import Memory
    from casemate.hardware.spread import Spread
    from casemate.hardware.upsets import Upsets

__all__ = ["Propagator"]

_ROWS = 1 << 16  # that start together with one changed number each
_LOST = 1 << 12  # times as large a channel was, where taking away from it is not to be trusted
_SMALL = 1 << 9  # a change of an integer that no float32 sum of a few such changes feels


class Propagator:
    """Tries cases on a set of images.

    Args:
        graph: The deployed network.
        memory: Its words, without faults.
        x: (n, *shape) inputs of the network.
        spread: Of the network with these words; computed if omitted.
        elements: Of one tensor of a batch of rows.
    """

    def __init__(
        self,
        graph: Graph,
        memory: Memory,
        x: Tensor,
        spread: Spread | None = None,
        *,
        elements: int = ELEMENTS,
    ) -> None:
        self.graph = graph
        self.memory = memory
        self.values = {name: v.to(x.device) for name, v in memory.values.items()}
        self.sweep = Sweep(graph, self.values, x, spread, elements=elements)
        self.cache = self.sweep.cache

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 predictions without faults."""
        out: np.ndarray = self.cache.labels.cpu().numpy()
        return out

    def effects(self, cases: Cases) -> Effects:
        """Return what cases of changed words in memory do to the predictions."""
        with torch.no_grad():
            for node, starts in self._batches(cases):
                if node is None:
                    self._run_whole(starts[0])
                else:
                    self._run_channels(node, starts)
        return self.sweep.collected(cases.count)

    def upset(self, upsets: Upsets) -> Effects:
        """Return what changed words of activations do to the predictions.

        A case that strikes one image changes that prediction alone.
        """
        upsets.check(self.graph, len(self.cache))
        with torch.no_grad():
            many = np.flatnonzero(np.bincount(upsets.case, minlength=upsets.count) > 1)
            alone = ~np.isin(upsets.case, many)
            for node in np.unique(upsets.node[alone]).tolist():
                self._run_elements(upsets, np.flatnonzero(alone & (upsets.node == node)), node)
            for c in many.tolist():
                self._run_upset(upsets, c)
        return self.sweep.collected(upsets.count)

    # -- words in memory ------------------------------------------------------------------------

    def _batches(self, cases: Cases) -> Iterator[tuple[int | None, list[_Start]]]:
        """Yield cases that start at a node with a channel each, or one of another kind."""
        if not len(cases.case):
            return
        changes = self._changes(cases)
        starts = np.flatnonzero(np.diff(cases.case, prepend=-1))
        ends = np.append(starts[1:], len(cases.case))
        by_node: dict[int, list[_Start]] = {}
        for low, high in zip(starts.tolist(), ends.tolist(), strict=True):
            start = _Start(int(cases.case[low]), changes[low:high])
            nodes = self._readers(start.changes)
            if not nodes:
                continue
            if len(nodes) == 1 and self._is_channelwise(nodes[0], start.changes):
                by_node.setdefault(nodes[0], []).append(start)
            else:
                yield None, [start]
        for node, all_starts in by_node.items():
            each = len(self.cache) * math.prod(self.graph.nodes[node].shape[1:])
            step = max(1, self.sweep.elements // max(1, each))
            all_starts.sort(key=lambda s: s.changes[0].index[0])  # one channel together
            for i in range(0, len(all_starts), step):
                yield node, all_starts[i : i + step]

    def _changes(self, cases: Cases) -> list[Change]:
        """Return the changes of all cases, in their order."""
        out: list[Change | None] = [None] * len(cases.case)
        for r in np.unique(cases.region).tolist():
            mine = np.flatnonzero(cases.region == r)
            region = self.memory.regions[r]
            new = region.word.of_raw(torch.from_numpy(cases.raw[mine])).to(torch.float64)
            word = cases.word[mine]
            old = region.values.reshape(-1)[torch.from_numpy(word)].to(torch.float64)
            index = np.stack(np.unravel_index(word, region.shape or (1,)), 1).tolist()
            for at, i, value, by in zip(
                mine.tolist(), index, new.tolist(), (new - old).tolist(), strict=True
            ):
                out[at] = Change(region.name, tuple(i) if region.shape else (), value, by)
        return [c for c in out if c is not None]

    def _readers(self, changes: Sequence[Change]) -> list[int]:
        """Return the positions of the nodes that read changed words, in order."""
        return sorted({n for c in changes for n in self.graph.readers.get(c.tensor, ())})

    def _is_channelwise(self, node: int, changes: Sequence[Change]) -> bool:
        op = self.graph.nodes[node].op
        if not isinstance(op, Channelwise) or len({c.index[:1] for c in changes}) > 1:
            return False
        channels = self.graph.nodes[node].shape[0]
        return all(
            op.row(c.tensor, self.graph.nodes[node].shape)
            and self.memory[c.tensor].shape[:1] == (channels,)
            and math.isfinite(c.value)
            and abs(c.by) <= LARGEST  # NaN is not
            for c in changes
        )

    def _run_channels(self, node: int, starts: Sequence[_Start]) -> None:
        """Run cases that change one channel each of the same node."""
        n, device = len(self.cache), self.sweep.device
        site = self.cache.site(node)
        op = self.graph.nodes[node].op
        assert isinstance(op, Channelwise)  # noqa: S101 - batched so
        extents = op.extents(site, [s.changes for s in starts])
        if extents is not None:
            channels = [s.changes[0].index[0] for s in starts]
            may = self.sweep.matters.cases(node, torch.tensor(channels, device=device), *extents)
            starts = [s for s, matters in zip(starts, may.tolist(), strict=True) if matters]
            if not starts:
                return
        channel = torch.tensor([s.changes[0].index[0] for s in starts], device=device)
        value = site.output[:, channel].transpose(0, 1).contiguous()  # (cases, images, ...)
        sums = self.graph.nodes[node].holds == "int32"
        if sums and any(abs(c.by) > _SMALL for s in starts for c in s.changes):
            value = value.double()
        op.renew(site, [s.changes for s in starts], value)
        if sums:
            value = wrapped(value)
        value = value.flatten(0, 1)
        rows = Rows(
            torch.arange(len(starts), device=device).repeat_interleave(n),
            torch.arange(n, device=device).repeat(len(starts)),
        )
        origin = (channel.repeat_interleave(n), *[None] * (value.ndim - 1))
        box = Box(origin, value.unsqueeze(1))

        def full(c: int, image: Tensor) -> Tensor:
            return self._full(node, starts[c].changes, image)

        number = torch.tensor([s.case for s in starts], device=device)
        if isinstance(op, Layer) and not sums:
            # what is left of a number that a much larger one was taken from is rounding
            before = self.cache.peaks(node)[:, channel].T.reshape(-1)
            lost = ~(before <= _LOST * peaks(value)) | ~torch.isfinite(before)
            if bool(lost.any()):
                self.sweep.run_full(number, rows.at(lost), full)
                rows, box = rows.at(~lost), box.at(~lost)
        self.sweep.follow(node, number, rows, box, full)

    def _run_whole(self, start: _Start) -> None:
        """Run a case of any kind: from the first node that reads a changed word on, in full."""
        first = self._readers(start.changes)[0]
        image = torch.arange(len(self.cache), device=self.sweep.device)
        for part in torch.split(image, self.sweep.step(first)):
            scores = self._full(first, start.changes, part)
            self.sweep.note(torch.full_like(part, start.case), part, scores)

    def _full(self, first: int, changes: Sequence[Change], image: Tensor) -> Tensor:
        """Return the scores of a full pass with changed words for some images."""
        known = self.sweep.known(first, image)
        return self.graph.resume(self._with(changes), self.cache.x[image], first, known)

    def _with(self, changes: Sequence[Change]) -> Mapping[str, Tensor]:
        """Return the memory's numbers with these changes."""
        values = dict(self.values)
        touched: set[str] = set()
        for change in changes:
            if change.tensor not in touched:
                touched.add(change.tensor)
                values[change.tensor] = values[change.tensor].clone()
            values[change.tensor][change.index] = change.value
        return values

    # -- words of activations -------------------------------------------------------------------

    def _run_elements(self, upsets: Upsets, entries: np.ndarray, node: int) -> None:
        """Run cases that change one element each of the same node."""
        every = upsets.image[upsets.case[entries]] < 0
        ends = np.cumsum(np.where(every, len(self.cache), 1))
        low = 0
        while low < len(entries):
            before = int(ends[low - 1]) if low else 0
            high = max(low + 1, int(np.searchsorted(ends, before + _ROWS, side="right")))
            self._run_some(upsets, entries[low:high], node)
            low = high

    def _run_some(self, upsets: Upsets, entries: np.ndarray, node: int) -> None:
        """Run a few of them, each on its image or on all."""
        device, n = self.sweep.device, len(self.cache)
        image_of = torch.from_numpy(upsets.image[upsets.case[entries]]).to(device)
        times = torch.where(image_of < 0, n, 1)
        which = torch.repeat_interleave(times)  # rows to entries
        begin = (times.cumsum(0) - times)[which]
        image = torch.where(
            image_of[which] < 0, torch.arange(len(which), device=device) - begin, image_of[which]
        )
        element = torch.from_numpy(upsets.element[entries]).to(device)[which]
        for low in range(0, len(which), _ROWS):
            part = slice(low, low + _ROWS)
            self._run_part(upsets, entries, node, which[part], image[part], element[part])

    def _run_part(
        self,
        upsets: Upsets,
        entries: np.ndarray,
        node: int,
        which: Tensor,
        image: Tensor,
        element: Tensor,
    ) -> None:
        shape, device = self._shape(node), self.sweep.device
        held = self.cache.output(node).flatten(1)[image, element]
        keep, flip = (
            torch.from_numpy(a[entries]).to(device)[which] for a in (upsets.keep, upsets.flip)
        )
        value = self._struck(node, held, keep, flip)
        origin = torch.unravel_index(element, shape)
        box = Box(tuple(origin), value.view(-1, *[1] * len(shape)))
        number = torch.from_numpy(upsets.case[entries]).to(device)

        def full(c: int, images: Tensor) -> Tensor:
            return self._full_upset(upsets, entries[c : c + 1], images)

        self.sweep.follow(node, number, Rows(which, image), box, full)

    def _run_upset(self, upsets: Upsets, case: int) -> None:
        """Run a case of several changed elements, from the first node on in full."""
        entries = np.flatnonzero(upsets.case == case)
        only = int(upsets.image[case])
        image = torch.arange(len(self.cache), device=self.sweep.device)
        image = image if only < 0 else image[only : only + 1]
        first = max(0, int(upsets.node[entries].min()))
        for part in torch.split(image, self.sweep.step(first)):
            scores = self._full_upset(upsets, entries, part)
            self.sweep.note(torch.full_like(part, case), part, scores)

    def _full_upset(self, upsets: Upsets, entries: np.ndarray, image: Tensor) -> Tensor:
        """Return the scores of a full pass with changed elements for some images."""
        first = max(0, int(upsets.node[entries].min()))

        def edited(node: int, out: Tensor) -> Tensor:
            mine = entries[upsets.node[entries] == node]
            if not len(mine):
                return out
            element, keep, flip = (
                torch.from_numpy(a[mine]).to(out.device)
                for a in (upsets.element, upsets.keep, upsets.flip)
            )
            flat = out.flatten(1)
            struck = self._struck(node, flat[:, element], keep, flip)
            flat = flat.to(torch.promote_types(flat.dtype, struck.dtype), copy=True)
            flat[:, element] = struck
            return flat.view(out.shape)

        return self.graph.resume(
            self.values,
            edited(-1, self.cache.x[image]),
            first,
            self.sweep.known(first, image),
            edited,
        )

    def _struck(self, node: int, held: Tensor, keep: Tensor, flip: Tensor) -> Tensor:
        """Return numbers of a node's output whose words changed."""
        word = WORDS[self.graph.holds if node < 0 else self.graph.nodes[node].holds]
        return rewritten(word, held, keep, flip)

    def _shape(self, node: int) -> tuple[int, ...]:
        return self.graph.shape if node < 0 else self.graph.nodes[node].shape


@dataclass(frozen=True)
class _Start:
    """One case: its number, and what changes."""

    case: int
    changes: Sequence[Change]
