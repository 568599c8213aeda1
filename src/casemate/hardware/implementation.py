"""`Implementation`: a trained network as it is deployed, its numbers as words in memory."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from casemate.data.dataset import digest_arrays
from casemate.errors import UsageError
from casemate.guard import guarded
from casemate.hardware.folding import folded
from casemate.hardware.formats import NumberFormat
from casemate.hardware.integers import Integers
from casemate.hardware.memory import Memory, Region, Role, region
from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.ops.linear import Linear
from casemate.hardware.ops.norm import BatchNorm
from casemate.hardware.ops.opaque import Opaque
from casemate.hardware.ranges import ranges
from casemate.hardware.tracing import tensors_of, traced
from casemate.hardware.weight_codes import quantized_weight
from casemate.identity import key

if TYPE_CHECKING:
    from casemate.hardware.defenses.guarding import Reading
    from casemate.hardware.graph import Graph

__all__ = ["Implementation", "deploy"]


@dataclass(frozen=True, eq=False)
class Implementation:
    """A network as deployed.

    Attributes:
        graph: What it computes.
        memory: Its words.
        form: Their format.
        reading: How words are read where they are not taken as they are: a defense that mends what
            it reads. The memory's own words are read as they are in any case.
    """

    graph: Graph
    memory: Memory
    form: NumberFormat
    reading: Reading | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the model's owner should know, one sentence each."""
        return self.graph.notes

    @cached_property
    def digest(self) -> str:
        """Hash of the words and of what they are."""
        words = digest_arrays(*(r.words for r in self.memory.regions))
        layout = [(r.name, r.role, list(r.shape), r.word.name) for r in self.memory.regions]
        return key("implementation", self.form, layout, words, self.reading)

    def scores(self, x: Tensor) -> Tensor:
        """Return (b, classes) scores of (b, *shape) inputs as the network gets them."""
        with torch.no_grad():
            return torch.cat(
                [
                    self.graph.forward(self.memory.values, part)
                    for part in torch.split(x, self.graph.batch())
                ]
            )


def deploy(
    module: nn.Module,
    shape: tuple[int, ...],
    form: NumberFormat | str | None = None,
    *,
    calibration: Tensor | None = None,
) -> Implementation:
    """Return a module's network in a number format.

    Args:
        module: Left as it is; copied to the CPU in float32.
        shape: Of one input as the module gets it, behind any preprocessing.
        form: Or its name; float32 if omitted.
        calibration: (n, *shape) inputs whose activations' lowest and highest values set the ranges
            of integer activations; only needed there. Of clean data that the model was not
            tested on.

    Raises:
        UsageError: If the network cannot be deployed in that format.
    """
    if isinstance(form, str):
        form = NumberFormat(name=form)  # type: ignore[arg-type]  # it refuses others
    form = form or NumberFormat()
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError(
            f"{module.original_name} is TorchScript, whose words cannot be told apart; give the "
            "torch.nn.Module that it was made of"
        )
    own = _plain(copy.deepcopy(module).to("cpu", torch.float32).eval())
    with guarded([own]):
        graph = traced(own, shape)
        tensors = {n: t.detach().clone() for n, t in tensors_of(own).items()}
    _check_numbers(tensors, form)
    if not form.is_integer:
        roles = _roles(graph)
        used = {name for node in graph.nodes for name in node.op.tensors}
        regions = [
            region(n, t, form.name, layer=roles[n][0], role=roles[n][1])
            for n, t in tensors.items()
            if n in used
        ]
        return Implementation(graph, Memory(regions), form)
    if not any(isinstance(node.op, (Conv2d, Linear)) for node in graph.nodes):
        why = f"has no convolution or linear layer, as far as it is traced{_listed(graph)}"
        raise UsageError(
            f"format.name is {form.name}, but {type(own).__name__} {why}, that could be quantized; "
            "choose float32, float16 or bfloat16"
        )
    if not form.computes_integers:
        return _weights_only(graph, tensors, form)
    if calibration is None or not len(calibration):
        raise UsageError(
            "format.activations is int8, which needs inputs to calibrate on, and there are none; "
            "give some, or set format.activations to float32"
        )
    graph, tensors = folded(graph, tensors)
    built, regions = Integers(graph, tensors, form, ranges(graph, tensors, calibration)).build()
    return Implementation(built, Memory(_in_order(built, regions)), form)


def _listed(graph: Graph) -> str:
    """Return the notes of a graph in brackets; empty without any."""
    return f" ({' '.join(graph.notes)})" if graph.notes else ""


def _check_numbers(tensors: dict[str, Tensor], form: NumberFormat) -> None:
    """Raise `UsageError` if numbers have no place in the format."""
    for name, tensor in tensors.items():
        finite = tensor.isfinite()
        if form.is_integer and not bool(finite.all()):
            raise UsageError(
                f"format.name is {form.name}, but {name} holds {float(tensor[~finite][0]):g}, "
                "which has no integer; mend the model, or choose float32"
            )
        if form.name == "float16":
            lost = tensor[finite & ~tensor.half().isfinite()]
            if len(lost):
                raise UsageError(
                    f"format.name is float16, whose largest number is 65504, but {name} holds "
                    f"{float(lost[0]):g}; choose bfloat16 or float32"
                )


def _plain(module: nn.Module) -> nn.Module:
    """Return the module with weights as they are computed, which is what a device holds."""
    for part in list(module.modules()):
        if is_parametrized(part):
            # torch's own removal takes the attribute from the class, which the original shares
            with torch.no_grad():
                made = {name: getattr(part, name).clone() for name in part.parametrizations}  # type: ignore[union-attr]
            del part._modules["parametrizations"]  # noqa: SLF001 - there is no other way to it
            part.__class__ = type_before_parametrizations(part)
            for name, value in made.items():
                part.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return module


def _weights_only(graph: Graph, tensors: dict[str, Tensor], form: NumberFormat) -> Implementation:
    """Return the network with integer weights that are turned into float32 for each use."""
    regions: dict[str, Region] = {}
    nodes = []
    roles = _roles(graph)
    for node in graph.nodes:
        op = node.op
        if isinstance(op, (Conv2d, Linear)):
            for made in quantized_weight(op.weight, tensors[op.weight], node.name, form):
                regions.setdefault(made.name, made)
            zero = f"{op.weight}.zero"
            op = replace(
                op,
                weight_scale=f"{op.weight}.scale",
                weight_zero=zero if zero in regions else None,
            )
        for name in op.tensors:
            if name not in regions:
                layer, role = roles[name]
                regions[name] = region(name, tensors[name], "float32", layer=layer, role=role)
        nodes.append(replace(node, op=op))
    built = replace(graph, nodes=tuple(nodes))
    return Implementation(built, Memory(_in_order(built, list(regions.values()))), form)


def _in_order(graph: Graph, regions: list[Region]) -> list[Region]:
    """Return the regions in the order in which the network reads them."""
    order: dict[str, int] = {}
    for node in graph.nodes:
        for name in node.op.tensors:
            order.setdefault(name, len(order))
    return sorted((r for r in regions if r.name in order), key=lambda r: order[r.name])


def _roles(graph: Graph) -> dict[str, tuple[str, Role]]:
    """Return of each tensor the layer that reads it first, and what it is to that."""
    found: dict[str, tuple[str, Role]] = {}
    for node in graph.nodes:
        for name in node.op.tensors:
            role: Role = "weight"
            if isinstance(node.op, BatchNorm):
                role = "norm"
            elif name.rpartition(".")[2] == "bias":
                role = "bias"
            layer = node.name
            if isinstance(node.op, Opaque) and "." in name:
                layer = name.rpartition(".")[0]
            found.setdefault(name, (layer, role))
    return found
