"""Running a deployed network with a gradient at every operation.

Rounding to the output's integers passes a gradient as it is (`ops/eight_bits.py`): the
straight-through estimator of Bengio, Leonard and Courville, "Estimating or propagating gradients
through stochastic neurons for conditional computation" (arXiv 1308.3432). Three operations need
more: sums in a register of 32 bits, whose width is chosen by looking at numbers; tables; and batch
normalization, which torch does not differentiate by its statistics. They compute as ever, and the
gradient is that of the same sums in floating point, of the function behind the table, and of the
normalization as a scale and an offset.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.ops.eight_bits import HIGH, LOW
from casemate.hardware.ops.elementwise import FUNCTIONS
from casemate.hardware.ops.linear import Linear
from casemate.hardware.ops.lookup import Lookup
from casemate.hardware.ops.norm import BatchNorm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from casemate.hardware.graph import Graph, Op

__all__ = ["smooth_output", "through"]


def smooth_output(
    graph: Graph,
    values: Mapping[str, Tensor],
    x: Tensor,
    *,
    first: int = 0,
    known: Mapping[int, Tensor] | None = None,
    last: int | None = None,
) -> Tensor:
    """Return the output of a node: the values of `Graph.resume`, bit for bit, with a gradient.

    Args:
        graph: The deployed network.
        values: The memory's numbers.
        x: (n, *shape) inputs.
        first: Position of the first node to run.
        known: (n, *shape) outputs of the nodes before it that later ones take.
        last: Position of the node; -1 is the network's input. That of the scores if omitted.
    """
    last = len(graph.nodes) - 1 if last is None else last
    outputs = {**(known or {}), -1: x}
    for i in range(first, last + 1):
        node = graph.nodes[i]
        outputs[i] = _with_gradient(node.op, values, *(outputs[j] for j in node.inputs))
    return outputs[last]


def through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return the values of `hard` with the gradient of `soft`, which has the same shape."""
    made: Tensor = _Through.apply(hard, soft)  # type: ignore[no-untyped-call]
    return made


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hard: Tensor, soft: Tensor) -> Tensor:
        ctx.kind = soft.dtype
        return hard.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad.to(ctx.kind)


def _with_gradient(op: Op, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
    """Return an operation's output of whole inputs."""
    if isinstance(op, (Conv2d, Linear)) and op.amplitude is not None:
        soft = replace(op, amplitude=None).dense(values, *inputs)
    elif isinstance(op, BatchNorm):
        (x,) = inputs
        scale, offset = (f.view(-1, *[1] * (x.ndim - 2)) for f in op.affine(values))
        soft = x * scale + offset
    elif isinstance(op, Lookup):
        number = (inputs[0] - values[op.input_zero]) * values[op.input_scale]
        held = FUNCTIONS[op.function][0](number) / values[op.scale] + values[op.zero]
        soft = held.clamp(LOW, HIGH)
    else:
        return op.dense(values, *inputs)
    with torch.no_grad():
        hard = op.dense(values, *inputs)
    return through(hard, soft)
