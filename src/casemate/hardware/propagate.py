"""What faults change, without a full pass a fault.

Activations without faults are kept. A case starts at the first node that reads a changed word, with
the new values of the one channel that changes where that is all; from there only what changes is
computed, image by image as **rows**, and a row is dropped as soon as nothing of it differs, or as
the difference provably cannot move any two scores past each other (`Graph.bounds`). The predictions
are those of a full pass. Sums of integers are exact. In floating point two ways to sum differ in
the last bits: a row whose two best scores are closer than that is run in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from casemate.hardware.cache import Cache
from casemate.hardware.changes import Box, Rows, take, whole
from casemate.hardware.graph import Change, Channelwise
from casemate.hardware.ops.exact import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from casemate.hardware.cases import Cases
    from casemate.hardware.graph import Graph
    from casemate.hardware.memory import Memory

__all__ = ["Effects", "Propagator"]

_EPS = 2.0**-24  # half a unit in the last place of a float32 in [1, 2), relative
_SAFETY = 64.0
"""How many times its estimate a rounding error may be before a prediction is in doubt."""
_PROBED = 64  # images on which the rounding error without faults is measured
_SMALL = 1 << 9  # a change of an integer that no float32 sum of a few such changes feels
_HUGE, _FAR = 1e18, 1e30
"""A changed number, and a reach, from which on sums might overflow."""
_LARGEST = 3.4028234663852886e38  # float32
_ELEMENTS = 1 << 21  # of one tensor of a batch: 8 MiB of float32


@dataclass(frozen=True)
class Effects:
    """The predictions that cases change.

    Attributes:
        count: How many cases there were.
        images: How many images each was tried on.
        case: (m,) int64, the case of each changed prediction; in no order.
        image: (m,) int64, its image.
        label: (m,) int64, the new prediction.
        broken_case: (k,) int64, cases of predictions with a score that is no finite number, whether
            or not the predicted label changed.
        broken_image: (k,) int64.
    """

    count: int
    images: int
    case: np.ndarray
    image: np.ndarray
    label: np.ndarray
    broken_case: np.ndarray
    broken_image: np.ndarray

    @property
    def changed(self) -> np.ndarray:
        """(count,) int64, how many images' predictions each case changes."""
        return np.bincount(self.case, minlength=self.count)

    @property
    def broken(self) -> np.ndarray:
        """(count,) int64, how many images get scores that are no finite numbers."""
        return np.bincount(self.broken_case, minlength=self.count)

    def gained(self, before: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return (count,) int64, how many more images than before are predicted right.

        Args:
            before: (images,) predictions without faults.
            truth: (images,) labels.
        """
        right = (self.label == truth[self.image]).astype(np.int64)
        was = (before[self.image] == truth[self.image]).astype(np.int64)
        gained = np.bincount(self.case, weights=right - was, minlength=self.count)
        return gained.astype(np.int64)


class Propagator:
    """Tries cases on a set of images.

    Args:
        graph: The deployed network.
        memory: Its words, without faults.
        x: (n, *shape) inputs of the network.
    """

    def __init__(self, graph: Graph, memory: Memory, x: Tensor) -> None:
        self.graph = graph
        self.memory = memory
        self.values = {name: v.to(x.device) for name, v in memory.values.items()}
        self.cache = Cache(graph, self.values, x)
        self.exact = graph.exact
        last = len(graph.nodes) - 1
        with torch.no_grad():
            self._bounds = graph.bounds(self.values)
        self._largest = self._largest_after()
        self._error = self._rounding_error()
        self._single = [self._only_path(i) for i in range(last + 1)]
        self._found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 predictions without faults."""
        out: np.ndarray = self.cache.labels.cpu().numpy()
        return out

    def effects(self, cases: Cases) -> Effects:
        """Return what the cases change."""
        self._found = []
        with torch.no_grad():
            for batch in self._batches(cases):
                if batch.channelwise:
                    self._run_channels(batch)
                else:
                    self._run_whole(batch)
        return self._collected(cases.count)

    def _collected(self, count: int) -> Effects:
        parts = [torch.cat(p).cpu().numpy() for p in zip(*self._found, strict=True)] or [
            np.zeros(0, dtype=np.int64)
        ] * 4
        case, image, label, broken = parts
        broken = broken.astype(bool)
        moved = label != self.labels[image]
        return Effects(
            count=count,
            images=len(self.cache),
            case=case[moved],
            image=image[moved],
            label=label[moved],
            broken_case=case[broken],
            broken_image=image[broken],
        )

    # -- what starts a case ---------------------------------------------------------------------

    def _batches(self, cases: Cases) -> Iterator[_Batch]:
        """Yield the cases in batches that start alike, each with its numbers in `cases`."""
        if not len(cases.case):
            return
        changes = self._changes(cases)
        starts = np.flatnonzero(np.diff(cases.case, prepend=-1))
        ends = np.append(starts[1:], len(cases.case))
        by_node: dict[int, list[_Start]] = {}
        for low, high in zip(starts.tolist(), ends.tolist(), strict=True):
            mine = changes[low:high]
            nodes = {n for c in mine for n in self.graph.readers.get(c.tensor, ())}
            if not nodes:
                continue
            start = _Start(int(cases.case[low]), mine)
            node = min(nodes)
            if len(nodes) == 1 and self._is_channelwise(node, mine):
                by_node.setdefault(node, []).append(start)
            else:
                yield _Batch(node, max(nodes), [start], channelwise=False)
        for node, all_starts in by_node.items():
            each = max(1, len(self.cache) * _numel(self.graph.nodes[node].shape[1:]))
            step = max(1, _ELEMENTS // each)
            all_starts.sort(key=lambda s: s.changes[0].index[0])  # one channel together
            for i in range(0, len(all_starts), step):
                yield _Batch(node, node, all_starts[i : i + step], channelwise=True)

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

    def _is_channelwise(self, node: int, changes: Sequence[Change]) -> bool:
        op = self.graph.nodes[node].op
        if not isinstance(op, Channelwise) or len({c.index[:1] for c in changes}) > 1:
            return False
        channels = self.graph.nodes[node].shape[0]
        return all(
            op.row(c.tensor)
            and self.memory[c.tensor].shape[:1] == (channels,)
            and np.isfinite(c.value)
            for c in changes
        )

    def _run_channels(self, batch: _Batch) -> None:
        """Run cases that change one channel each of the same node."""
        node, n = batch.node, len(self.cache)
        site = self.cache.site(node)
        op = self.graph.nodes[node].op
        assert isinstance(op, Channelwise)  # noqa: S101 - batched so
        channel = torch.tensor([s.changes[0].index[0] for s in batch.starts], device=self._device)
        value = site.output[:, channel].transpose(0, 1).contiguous()  # (cases, images, ...)
        sums = self.graph.nodes[node].holds == "int32"
        if sums and any(abs(c.by) > _SMALL for s in batch.starts for c in s.changes):
            value = value.double()
        op.renew(site, [s.changes for s in batch.starts], value)
        if sums:
            value = wrapped(value)
        rows = Rows(
            torch.arange(len(batch.starts), device=self._device).repeat_interleave(n),
            torch.arange(n, device=self._device).repeat(len(batch.starts)),
        )
        origin = (channel.repeat_interleave(n), *[None] * (value.ndim - 2))
        box = Box(origin, value.flatten(0, 1).unsqueeze(1))
        self._advance(batch, rows, box)

    def _run_whole(self, batch: _Batch) -> None:
        """Run one case of any kind: its nodes in full, and what lies between and after them."""
        (start,) = batch.starts
        values = self._with(start.changes)
        n = len(self.cache)
        image = torch.arange(n, device=self._device)
        step = max(1, _ELEMENTS // self._largest[batch.node])
        for part in torch.split(image, step):
            known = self._known(batch.node, part)
            scores = self.graph.resume(values, self.cache.x[part], batch.node, known)
            self._note(torch.full_like(part, start.case), part, scores)

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

    # -- from a start to the scores -------------------------------------------------------------

    def _advance(self, batch: _Batch, rows: Rows, box: Box) -> None:
        """Follow changes of one node's output to the scores."""
        keep, reach = self._alive(batch.node, rows, box)
        rows, box, reach = rows.at(keep), box.at(keep), reach[keep]
        # where sums may overflow their order decides: there nothing is added to what was before
        size = box.value.flatten(1).abs().amax(1) if len(rows) else reach
        far = ~(size < _HUGE) | ((reach > _FAR) & reach.isfinite())
        step = max(1, _ELEMENTS // self._largest[batch.node])
        for low in range(0, len(rows), step):
            part = slice(low, low + step)
            near = (~far[part]).nonzero()[:, 0] + low
            self._follow(batch, rows.at(near), box.at(near), reach[near])
            beyond = far[part].nonzero()[:, 0] + low
            if len(beyond):
                self._run_on(batch, rows.at(beyond), box.at(beyond))

    def _run_on(self, batch: _Batch, rows: Rows, box: Box) -> None:
        """Run rows in full from the first node's changed output on."""
        known = self._known(batch.node + 1, rows.image)
        if len(self.graph.nodes) - 1 == batch.node or batch.node in known:
            known[batch.node] = whole(box, self.cache.outputs[batch.node], rows.image)
        scores = self.graph.resume(self.values, self.cache.x[rows.image], batch.node + 1, known)
        # a number next to the largest one may be infinite if summed in another order
        size = box.value.flatten(1).abs()
        edge = ((size > 0.999 * _LARGEST) & (size < torch.inf)).any(1)
        top = scores.topk(min(2, scores.shape[1]), 1).values
        margin = (top[:, 0] - top[:, -1]).nan_to_num(torch.inf, torch.inf)
        doubtful = edge | (margin <= _SAFETY * _EPS * scores.abs().amax(1).clamp_max(_LARGEST))
        self._settle(batch, rows, scores, doubtful)

    def _follow(self, batch: _Batch, rows: Rows, box: Box, reach: Tensor) -> None:
        nodes = self.graph.nodes
        boxes: dict[int, Box] = {batch.node: box}
        for i in range(batch.node + 1, len(nodes)):
            if not len(rows):
                return
            inputs = nodes[i].inputs
            if not any(j in boxes for j in inputs):
                continue
            boxes[i] = nodes[i].op.push(self.cache.site(i), rows, [boxes.get(j) for j in inputs])
            for j in set(inputs):
                if j in boxes and self.graph.last_use[j] == i:
                    del boxes[j]
            if len(boxes) == 1 and nodes[i].op.masks and i < len(nodes) - 1:
                keep, _ = self._alive(i, rows, boxes[i])
                if not bool(keep.all()):
                    rows, reach = rows.at(keep), reach[keep]
                    boxes = {i: boxes[i].at(keep)}
        last = len(nodes) - 1
        if last in boxes and len(rows):
            self._judge(batch, rows, boxes[last], reach)

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

    def _judge(self, batch: _Batch, rows: Rows, box: Box, reach: Tensor) -> None:
        """Note predictions; run in full what rounding puts in doubt."""
        scores = box.value if box.is_whole else _whole_scores(box, self.cache, rows)
        self._settle(batch, rows, scores, self._doubtful(scores, reach))

    def _settle(self, batch: _Batch, rows: Rows, scores: Tensor, doubtful: Tensor) -> None:
        """Note the predictions that are sure, and those of full runs for the others."""
        sure = ~doubtful
        case = torch.tensor([s.case for s in batch.starts], device=self._device)
        self._note(case[rows.case[sure]], rows.image[sure], scores[sure])
        if not bool(doubtful.any()):
            return
        again = rows.at(doubtful)
        for c in torch.unique(again.case).tolist():
            image = again.image[again.case == c]
            start = batch.starts[c]
            known = self._known(batch.node, image)
            full = self.graph.resume(
                self._with(start.changes), self.cache.x[image], batch.node, known
            )
            self._note(torch.full_like(image, start.case), image, full)

    def _doubtful(self, scores: Tensor, reach: Tensor) -> Tensor:
        """Return which rows' predictions may differ from those of a full pass."""
        finite = torch.isfinite(scores).all(1)
        if self.exact:
            return ~finite
        top = scores.topk(min(2, scores.shape[1]), 1).values
        margin = top[:, 0] - top[:, -1]
        size = scores.abs().amax(1)
        bounded = torch.where(torch.isfinite(reach), reach, size * 2.0**12)
        error = self._error + _SAFETY * _EPS * torch.maximum(bounded, size)
        return ~finite | ~(margin > error)

    def _note(self, case: Tensor, image: Tensor, scores: Tensor) -> None:
        broken = ~torch.isfinite(scores).all(1)
        label = scores.argmax(1)
        worth = broken | (label != self.cache.labels[image])
        self._found.append((case[worth], image[worth], label[worth], broken[worth]))

    def _known(self, first: int, image: Tensor) -> dict[int, Tensor]:
        """Return what nodes from `first` on take of earlier ones, for these images."""
        needed = {j for node in self.graph.nodes[first:] for j in node.inputs if 0 <= j < first}
        return {j: self.cache.outputs[j][image] for j in needed}

    # -- what is known of the network -----------------------------------------------------------

    @property
    def _device(self) -> torch.device:
        return self.cache.x.device

    def _largest_after(self) -> list[int]:
        """Return for each node the size of the largest output from it on, for one image."""
        sizes = [_numel(n.shape) for n in self.graph.nodes]
        return [max(sizes[i:]) for i in range(len(sizes))]

    def _only_path(self, node: int) -> bool:
        return all(j >= node for n in self.graph.nodes[node + 1 :] for j in n.inputs)

    def _rounding_error(self) -> float:
        """Return how far off scores may be for rounding alone, without faults."""
        if self.exact:
            return 0.0
        x = self.cache.x[:_PROBED]
        least = _SAFETY * _EPS * float(self.cache.scores.abs().max())
        try:
            double = self.graph.forward({n: v.double() for n, v in self.values.items()}, x.double())
        except (RuntimeError, TypeError):  # a module of the user's that takes float32 only
            return 16 * least
        off = float((double - self.cache.scores[: len(x)]).abs().max())
        return max(_SAFETY * off, least)


@dataclass(frozen=True)
class _Start:
    """One case: its number, and what changes."""

    case: int
    changes: Sequence[Change]


@dataclass(frozen=True)
class _Batch:
    """Cases that start alike.

    Attributes:
        node: First node that reads a changed word.
        last: Last one.
        starts: The cases.
        channelwise: Whether each changes one channel of that node's output and nothing else.
    """

    node: int
    last: int
    starts: Sequence[_Start]
    channelwise: bool


def _numel(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _whole_scores(box: Box, cache: Cache, rows: Rows) -> Tensor:
    out = cache.scores[rows.image].to(box.value.dtype)
    channels = box.channels()
    assert channels is not None  # noqa: S101 - the box is not whole
    return out.scatter(1, channels, box.value)
