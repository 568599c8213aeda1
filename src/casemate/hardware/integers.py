"""A network of integers: made of one in floating point and the ranges of its activations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from casemate.errors import UsageError
from casemate.hardware.graph import Graph, Node, Op, listed
from casemate.hardware.memory import Region, Role, region
from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.ops.elementwise import Elementwise
from casemate.hardware.ops.joining import Add, Concat
from casemate.hardware.ops.linear import Linear
from casemate.hardware.ops.lookup import Lookup
from casemate.hardware.ops.pooling import MapMean, Pool2d
from casemate.hardware.ops.quantized_add import QuantizedAdd
from casemate.hardware.ops.shaping import Reshape
from casemate.hardware.ops.units import Dequantize, Quantize, Requantize, Round
from casemate.hardware.weight_codes import quantized_weight

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from casemate.hardware.formats import NumberFormat

__all__ = ["Integers"]

_STEPS = 255  # between the lowest and the highest of 256 integers
_LOW = -128
_BIAS = 2.0**30  # the largest bias in the unit of its sums, so that these have room beside it
_INT32 = 2.0**31 - 1
_AMPLITUDE = 255.0  # the largest distance of an int8 number from a zero point


@dataclass(frozen=True)
class _Unit:
    """The names of an activation's scale and zero point."""

    scale: str
    zero: str


@dataclass
class Integers:
    """Builds the integer network node by node.

    Attributes:
        graph: In floating point, normalization folded.
        tensors: Its numbers.
        form: What weights become.
        ranges: Lowest and highest value of each node's output; of the input at -1.
    """

    graph: Graph
    tensors: Mapping[str, Tensor]
    form: NumberFormat
    ranges: Mapping[int, tuple[float, float]]
    nodes: list[Node] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    # of each node of the floating-point network: where it is now, and in which unit (None: float)
    at: dict[int, tuple[int, _Unit | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def build(self) -> tuple[Graph, list[Region]]:
        """Return the network and its memory's regions."""
        self.at[-1] = (-1, None)
        self.at[-1] = self._quantized(-1, "input")
        followers = self._followers()
        merged: set[int] = set()  # activations that are part of the layer before them
        last = len(self.graph.nodes) - 1
        for i, node in enumerate(self.graph.nodes):
            if i in merged:
                continue
            relu = followers.get(i)
            if isinstance(node.op, (Conv2d, Linear)):
                self._layer(i, node, node.op, relu, ends=i == last)
            elif isinstance(node.op, Add):
                self._sum(i, node, relu)
            else:
                self._other(i, node)
                continue
            if relu is not None:
                self.at[relu] = self.at[i]
                merged.add(relu)
        self._scores(last)
        self._note_floats()
        exact = all(n.holds != "float32" for n in self.nodes[:-1])
        graph = Graph(
            nodes=tuple(self.nodes),
            shape=self.graph.shape,
            notes=(*self.graph.notes, *self.notes),
            exact=exact,
        )
        return graph, self.regions

    def _followers(self) -> dict[int, int]:
        """Return of each node that only a ReLU takes that ReLU's position."""
        found = {}
        for j, after in self.graph.takers.items():
            op = self.graph.nodes[after[0]].op if len(after) == 1 else None
            if isinstance(op, Elementwise) and op.function == "relu":
                found[j] = after[0]
        return found

    def _scores(self, last: int) -> None:
        """Put what turns the last integers into scores, if they are still integers."""
        place, unit = self.at[last]
        if unit is not None:
            op = Dequantize(scales=(unit.scale,), input_zero=unit.zero)
            self._put("scores", op, (place,), self.graph.nodes[last].shape, "float32")

    def _note_floats(self) -> None:
        """Note which layers keep weights in floating point."""
        kept = [r for r in self.regions if r.role == "weight" and r.word.floating is not None]
        if kept:
            names = list(dict.fromkeys(r.layer for r in kept))
            share = sum(r.bits for r in kept) / sum(r.bits for r in self.regions)
            self.notes.append(
                f"{listed(names)} have no integer form here and keep their "
                f"weights in float32, {100 * share:.3g} % of the bits of memory"
            )

    def _layer(
        self, i: int, node: Node, op: Conv2d | Linear, relu: int | None, *, ends: bool
    ) -> None:
        """Put a layer with integer weights: sums, then the unit of its output."""
        source, unit = self._integer(node.inputs[0])
        weight = self.tensors[op.weight]
        # over tokens the channels of sums stand last, where units of their own are not looked for
        whole = isinstance(op, Linear) and len(node.shape) > 1
        least = None
        if op.bias is not None:
            least = self.tensors[op.bias].double().abs() / (self._value(unit.scale) * _BIAS)
        scale_name, zero_name = self._weights(
            op.weight, weight, node.name, whole=whole, least=least
        )
        if whole and self.form.granularity == "channel":
            self.notes.append(
                f"{node.name} runs over tokens, and its integer weights have one scale in all"
            )
        bias = None
        if op.bias is not None:
            unit_of_sums = self._value(unit.scale) * self._value(scale_name)
            bias = self._bias(op.bias, self.tensors[op.bias].double() / unit_of_sums, node.name)
        integer = replace(
            op,
            bias=bias,
            weight_zero=zero_name,
            input_zero=unit.zero,
            amplitude=_AMPLITUDE,
        )
        sums = self._put(node.name, integer, (source,), node.shape, "int32")
        scales = (unit.scale, scale_name)
        if ends:
            place = self._put("scores", Dequantize(scales=scales), (sums,), node.shape, "float32")
            self.at[i] = (place, None)
            return
        out = self._unit(relu if relu is not None else i, node.name)
        name = node.name if relu is None else self.graph.nodes[relu].name
        place = self._put(
            f"{name}.requantized" if name == node.name else name,
            Requantize(scales=scales, scale=out.scale, zero=out.zero, relu=relu is not None),
            (sums,),
            node.shape,
            "int8",
        )
        self.at[i] = (place, out)

    def _sum(self, i: int, node: Node, relu: int | None) -> None:
        pairs = [self._integer(j) for j in node.inputs]
        out = self._unit(relu if relu is not None else i, node.name)
        (first, one), (second, two) = pairs
        op = QuantizedAdd(
            scales=(one.scale, two.scale),
            zeros=(one.zero, two.zero),
            scale=out.scale,
            zero=out.zero,
            relu=relu is not None,
        )
        self.at[i] = (self._put(node.name, op, (first, second), node.shape, "int8"), out)

    def _other(self, i: int, node: Node) -> None:
        """Put an operation without weights, or one that stays in floating point."""
        op = node.op
        if isinstance(op, Concat):
            out = self._unit(i, node.name)
            parts = []
            for k, j in enumerate(node.inputs):
                source, unit = self._integer(j)
                moved = Requantize(
                    scales=(unit.scale,), scale=out.scale, zero=out.zero, input_zero=unit.zero
                )
                shape = self.graph.shape if j < 0 else self.graph.nodes[j].shape
                parts.append(self._put(f"{node.name}.part{k}", moved, (source,), shape, "int8"))
            self.at[i] = (self._put(node.name, op, tuple(parts), node.shape, "int8"), out)
            return
        source, unit_or_none = self.at[node.inputs[0]]
        if unit_or_none is not None and len(node.inputs) == 1:
            unit = unit_or_none
            same = isinstance(op, Reshape) or (
                isinstance(op, Elementwise) and op.function == "identity"
            )
            if same or (isinstance(op, Pool2d) and op.kind == "max"):
                place = self._put(node.name, op, (source,), node.shape, "int8")
                self.at[i] = (place, unit)
                return
            if isinstance(op, MapMean) or (isinstance(op, Pool2d) and not any(op.padding)):
                mean = self._put(f"{node.name}.mean", op, (source,), node.shape, "mean")
                place = self._put(node.name, Round(), (mean,), node.shape, "int8")
                self.at[i] = (place, unit)
                return
            if isinstance(op, Elementwise):
                out = self._unit(i, node.name)
                table = Lookup(
                    function=op.function,
                    input_scale=unit.scale,
                    input_zero=unit.zero,
                    scale=out.scale,
                    zero=out.zero,
                )
                self.at[i] = (self._put(node.name, table, (source,), node.shape, "int8"), out)
                return
        for name in op.tensors:
            role: Role = "bias" if name.endswith("bias") else "weight"
            self._add(region(name, self.tensors[name], "float32", layer=node.name, role=role))
        sources = tuple(self._floating(j) for j in node.inputs)
        self.at[i] = (self._put(node.name, op, sources, node.shape, "float32"), None)

    def _integer(self, j: int) -> tuple[int, _Unit]:
        """Return where a node's output is as integers, and their unit."""
        place, unit = self.at[j]
        if unit is None:
            name = "input" if j < 0 else f"{self.graph.nodes[j].name}.quantized"
            place, unit = self.at[j] = self._quantized(j, name)
        return place, unit

    def _floating(self, j: int) -> int:
        """Return where a node's output is in floating point."""
        place, unit = self.at[j]
        if unit is None:
            return place
        shape = self.graph.shape if j < 0 else self.graph.nodes[j].shape
        name = "input" if j < 0 else self.graph.nodes[j].name
        op = Dequantize(scales=(unit.scale,), input_zero=unit.zero)
        return self._put(f"{name}.dequantized", op, (place,), shape, "float32")

    def _quantized(self, j: int, name: str) -> tuple[int, _Unit]:
        unit = self._unit(j, name)
        shape = self.graph.shape if j < 0 else self.graph.nodes[j].shape
        op = Quantize(scale=unit.scale, zero=unit.zero)
        return self._put(
            f"{name}.quantized" if j < 0 else name, op, (self.at[j][0],), shape, "int8"
        ), unit

    def _unit(self, j: int, name: str) -> _Unit:
        """Put the scale and zero point of a node's output."""
        low, high = self.ranges[j]
        low, high = min(low, 0.0), max(high, 0.0)  # 0 stands for itself
        scale = (high - low) / _STEPS or 1.0
        unit = _Unit(f"{name}.output.scale", f"{name}.output.zero")
        self._add(region(unit.scale, torch.tensor([scale]), "float32", layer=name, role="scale"))
        zero = torch.tensor([_LOW - low / scale])
        self._add(region(unit.zero, zero, "int8", layer=name, role="zero point"))
        return unit

    def _weights(
        self, name: str, weight: Tensor, layer: str, *, whole: bool, least: Tensor | None
    ) -> tuple[str, str | None]:
        """Put a layer's weights; return the names of their scale and zero point.

        Args:
            name: Of the tensor.
            weight: In floating point.
            layer: That reads it.
            whole: Whether one scale is for the whole tensor, whatever the format says.
            least: As for `quantized_weight`.
        """
        scale_name, zero_name = f"{name}.scale", f"{name}.zero"
        if any(r.name == name for r in self.regions):  # two layers share them
            shared = any(r.name == zero_name for r in self.regions)
            return scale_name, zero_name if shared else None
        form = replace(self.form, granularity="tensor") if whole else self.form
        found = quantized_weight(name, weight, layer, form, least)
        for r in found:
            self._add(r)
        return scale_name, zero_name if len(found) > 2 else None  # noqa: PLR2004 - with a zero point

    def _bias(self, name: str, steps: Tensor, layer: str) -> str:
        """Put a layer's biases in the unit of its sums and return their name.

        A layer that runs twice on inputs of different units holds them once for each.

        Raises:
            UsageError: If there is one too large for 32 bits.
        """
        if float(steps.abs().max()) > _INT32:
            raise UsageError(
                f"format.name is {self.form.name}, but a bias of {layer} is too large for 32 bits "
                "in the unit of its sums, which another use of its weights sets; choose a "
                "floating-point format"
            )
        made = region(name, steps, "int32", layer=layer, role="bias")
        while True:
            there = next((r for r in self.regions if r.name == made.name), None)
            if there is None or torch.equal(there.words, made.words):
                self._add(made)
                return made.name
            made = replace(made, name=f"{made.name}'")

    def _add(self, added: Region) -> None:
        if all(r.name != added.name for r in self.regions):
            self.regions.append(added)

    def _value(self, name: str) -> Tensor:
        return next(r for r in self.regions if r.name == name).values.double()

    def _put(
        self, name: str, op: Op, inputs: Sequence[int], shape: tuple[int, ...], holds: str
    ) -> int:
        self.nodes.append(Node(name, op, tuple(inputs), shape, holds))
        return len(self.nodes) - 1
