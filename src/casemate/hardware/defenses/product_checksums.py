"""Checksums of matrix products: what a layer sums is compared with what it should sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from casemate.errors import ParameterError, UsageError
from casemate.hardware.aftermath import values_under
from casemate.hardware.defenses.cost import Cost
from casemate.hardware.defenses.second_flips import paired
from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.ops.linear import Linear
from casemate.hardware.upsets import rewritten
from casemate.hardware.words import WORDS
from casemate.threats import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.cases import Cases
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Memory
    from casemate.hardware.upsets import Upsets

__all__ = ["ProductChecksums"]

_WIDTH = 32  # bits of a checksum's weight
_IMAGES = 64  # that run at once


@dataclass(frozen=True, kw_only=True)
class ProductChecksums:
    """Adds one output channel to each layer, the sum of all others, and compares.

    Huang and Abraham, "Algorithm-based fault tolerance for matrix operations", IEEE Transactions on
    Computers C-33(6), 1984, section III, for convolutions as Zhao et al., "FT-CNN: algorithm-based
    fault tolerance for convolutional neural networks", arXiv 2003.12203, section 3 (the checksum of
    kernels): at each position the outputs of all channels sum to the input times the sum of all
    channels' weights, which is kept from when the model was loaded. A difference says that weights
    have changed since, or that a sum went wrong. In floating point both sides round, so the
    difference must be larger than `slack` times the largest one that clean inputs gave; integers
    must agree.

    It notices a layer's changes and not what they do: changes of the same input's weights that
    cancel in the sum pass, which an attacker who knows it uses (a bit set in one channel and the
    same bit cleared in another), and so do weights that were changed before they were loaded.

    Attributes:
        slack: Multiple of the largest clean difference, at least 1; 10 in the authors' code.
    """

    slack: float = 10.0

    stage: ClassVar[Stage] = Stage.HARDWARE
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.slack >= 1:
            raise ParameterError(
                "product-checksums.slack", f"is {self.slack}, but must be at least 1"
            )

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if there is no layer to check."""
        _layers(deployed)

    def cost(self, deployed: Implementation) -> Cost:
        """Return the sums of weights, and the multiplications with them."""
        return Cost(bits=self.storage(deployed), operations=self.multiplications(deployed))

    def evading(
        self,
        deployed: Implementation,
        numbers: Sequence[int],
        *,
        constraint: Constraint | None = None,
    ) -> list[list[int]]:
        """Return each bit with the same one of another channel's weight of the same input.

        That one has the other value, so that the sum stays: set in one, cleared in the other. A bit
        is alone where no channel's weight has the other value, in words that are no integers, whose
        bits weigh differently in each, where channels have units of their own that the sum is made
        in, and in layers that are not checked.
        """
        memory = deployed.memory
        checked = {op.weight for op in _layers(deployed).values() if _sums_integers(op, memory)}

        def candidates(number: int) -> Iterator[tuple[np.ndarray, bool]]:
            (at,), (word,), (bit,) = (a.tolist() for a in memory.locate(np.array([number])))
            region = memory.regions[at]
            if region.name in checked:
                inputs = region.count // region.shape[0]
                words = np.arange(word % inputs, region.count, inputs)
                yield memory.span(region.name)[0] + words * region.word.bits + bit, True

        return paired(memory, numbers, candidates, constraint=constraint)

    def storage(self, implementation: Implementation) -> int:
        """Return the bits of the sums of weights and of biases, kept in 32 bits each."""
        values = implementation.memory.values
        return _WIDTH * sum(
            values[op.weight][0].numel() + 1 for op in _layers(implementation).values()
        )

    def multiplications(self, implementation: Implementation) -> int:
        """Return how many more multiplications one inference takes."""
        graph, values = implementation.graph, implementation.memory.values
        more = 0
        for i, op in _layers(implementation).items():
            shape = graph.nodes[i].shape
            # a position of an image or a token
            positions = int(np.prod(shape[1:] if isinstance(op, Conv2d) else shape[:-1]))
            more += positions * values[op.weight][0].numel()
        return more

    def limits(self, deployed: Implementation, clean: Tensor) -> dict[int, float]:
        """Return by layer the largest difference that raises no alarm.

        Args:
            deployed: As loaded.
            clean: (n, *shape) inputs on which the largest clean difference is found.
        """
        if deployed.graph.exact:
            return dict.fromkeys(_layers(deployed), 0.0)
        found = _differences(deployed, deployed.memory.values, clean)
        return {i: self.slack * float(d.max()) for i, d in found.items()}

    def alarms(
        self, deployed: Implementation, cases: Cases, x: Tensor, limits: Mapping[int, float]
    ) -> np.ndarray:
        """Return (cases, images) bool, which inferences raise an alarm.

        Args:
            deployed: As loaded, when the sums were taken.
            cases: What changed in its memory since.
            x: (images, *shape) inputs of the network.
            limits: As `limits` returned them.
        """
        raised = np.zeros((cases.count, len(x)), dtype=bool)
        for c in range(cases.count):
            values = values_under(deployed, cases.part(c, c + 1))
            for i, difference in _differences(deployed, values, x).items():
                raised[c] |= ~(difference <= limits[i]).numpy()  # NaN is an alarm
        return raised

    def alarms_of_upsets(
        self,
        deployed: Implementation,
        upsets: Upsets,
        x: Tensor,
        limits: Mapping[int, float],
    ) -> np.ndarray:
        """Return (cases,) bool, which upsets raise an alarm in any of the inferences they strike.

        Args:
            deployed: As loaded.
            upsets: Of outputs on x.
            x: (images, *shape) inputs of the network.
            limits: As `limits` returned them.
        """
        permanent = upsets.image < 0
        times = np.where(permanent, len(x), 1)
        case = np.repeat(np.arange(upsets.count), times)
        within = np.arange(len(case)) - np.repeat(np.cumsum(times) - times, times)
        image = np.where(permanent[case], within, upsets.image[case])
        raised = np.zeros(upsets.count, dtype=bool)
        for low in range(0, len(case), _IMAGES):
            part = slice(low, low + _IMAGES)
            edited = _Edited(deployed, upsets, case[part])
            found = _of_part(deployed, deployed.memory.values, x[image[part]], edited)
            for i, difference in found.items():
                over = ~(difference <= limits[i]).numpy()  # NaN is an alarm
                raised[case[part][over]] = True
        return raised


class _Edited:
    """Outputs of a batch in which each row has an upset of its own.

    Args:
        deployed: The model.
        upsets: All of them.
        case: (rows,) the one that strikes each row.
    """

    def __init__(self, deployed: Implementation, upsets: Upsets, case: np.ndarray) -> None:
        self._graph, self._upsets = deployed.graph, upsets
        first = np.searchsorted(upsets.case, case)
        count = np.searchsorted(upsets.case, case, side="right") - first
        self._row = np.repeat(np.arange(len(case)), count)
        within = np.arange(len(self._row)) - np.repeat(np.cumsum(count) - count, count)
        self._entry = np.repeat(first, count) + within

    def __call__(self, node: int, out: Tensor) -> Tensor:
        """Return what becomes of a node's output."""
        mine = self._upsets.node[self._entry] == node
        if not mine.any():
            return out
        row, entry = torch.from_numpy(self._row[mine]), self._entry[mine]
        element, keep, flip = (
            torch.from_numpy(a[entry])
            for a in (self._upsets.element, self._upsets.keep, self._upsets.flip)
        )
        holds = self._graph.holds if node < 0 else self._graph.nodes[node].holds
        flat = out.flatten(1)
        struck = rewritten(WORDS[holds], flat[row, element], keep, flip)
        flat = flat.to(torch.promote_types(flat.dtype, struck.dtype), copy=True)
        flat[row, element] = struck.to(flat.dtype)
        return flat.view(out.shape)


def _sums_integers(op: Conv2d | Linear, memory: Memory) -> bool:
    """Return whether the same bit of two channels' weights weighs the same in their sum."""
    if memory[op.weight].word.name not in ("int8", "int4"):
        return False
    return op.weight_scale is None or memory[op.weight_scale].count == 1


def _layers(implementation: Implementation) -> dict[int, Conv2d | Linear]:
    """Return the layers whose products are checked, by their position."""
    found = {
        i: n.op
        for i, n in enumerate(implementation.graph.nodes)
        if isinstance(n.op, (Conv2d, Linear)) and getattr(n.op, "groups", 1) == 1
    }
    if not found:
        raise UsageError(
            "product-checksums found no convolution or linear layer to check; choose another "
            "defense"
        )
    return found


def _differences(
    implementation: Implementation, values: Mapping[str, Tensor], x: Tensor
) -> dict[int, Tensor]:
    """Return for each layer the largest difference of an image's sums, (n,) float64."""
    parts = [_of_part(implementation, values, part) for part in torch.split(x, _IMAGES)]
    return {i: torch.cat([part[i] for part in parts]) for i in parts[0]}


def _of_part(
    implementation: Implementation,
    values: Mapping[str, Tensor],
    x: Tensor,
    edited: Callable[[int, Tensor], Tensor] = lambda _, out: out,
) -> dict[int, Tensor]:
    graph, loaded = implementation.graph, implementation.memory.values
    layers = _layers(implementation)
    sources = {graph.nodes[i].inputs[0] for i in layers}
    x = edited(-1, x)
    outputs = {-1: x}
    found: dict[int, Tensor] = {}

    def seen(i: int, out: Tensor) -> Tensor:
        out = edited(i, out)
        if i in sources:
            outputs[i] = out
        if i in layers:
            expected = _expected(layers[i], loaded, outputs[graph.nodes[i].inputs[0]])
            summed = out.double().sum(1 if isinstance(layers[i], Conv2d) else -1)
            found[i] = (summed - expected).abs().reshape(len(summed), -1).amax(1)
        return out

    with torch.no_grad():
        graph.resume(values, x, 0, {}, seen)
    return found


def _expected(op: Conv2d | Linear, loaded: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Return what all channels should sum to, computed as one channel in float64."""
    summed = {op.weight: op.decoded(loaded).double().sum(0, keepdim=True)}
    if op.bias is not None:
        summed[op.bias] = loaded[op.bias].double().sum(0, keepdim=True)
    if op.input_zero is not None:
        summed[op.input_zero] = loaded[op.input_zero].double()
    out = op.plain().dense(summed, x.double())
    return out[:, 0] if isinstance(op, Conv2d) else out[..., 0]
