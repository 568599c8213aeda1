"""Gradients of a deployed network, also where rounding has none.

Scores of faults need to know in which direction a word pulls at the margin and how strongly, and
need not be right. So an operation computes as ever, and its gradient is that of a smooth one in its
place: straight through rounding and cutting (Bengio, Leonard and Courville, arXiv 1308.3432,
section 4), with a small part of it even below a ReLU, since a flip may well be large enough to wake
up what was off.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.ops.elementwise import FUNCTIONS, Elementwise
from casemate.hardware.ops.linear import Linear
from casemate.hardware.ops.lookup import Lookup
from casemate.hardware.ops.norm import BatchNorm
from casemate.hardware.ops.quantized_add import QuantizedAdd
from casemate.hardware.ops.units import Quantize, Requantize, Round

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from casemate.hardware.graph import Op

__all__ = ["smooth", "through"]

LEAK = 0.1
"""How much of the gradient goes through a ReLU that is off."""


def through(op: Op, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
    """Return an operation's output, (b, *shape), with the gradient of the smooth one."""
    soft = smooth(op, values, *inputs)
    hard = op.dense(values, *(x.detach() for x in inputs))
    return hard + (soft - soft.detach()).to(hard.dtype)


def smooth(op: Op, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:  # noqa: PLR0911 - a table
    """Return a differentiable stand-in for an operation's output, (b, *shape)."""
    x = inputs[0]
    if isinstance(op, (Conv2d, Linear)):
        return replace(op, amplitude=None).dense(values, *inputs)  # sums in floating point
    if isinstance(op, BatchNorm):
        scale, offset = (f.view(-1, *[1] * (x.ndim - 2)) for f in op.affine(values))
        return x * scale + offset
    if isinstance(op, Elementwise) and op.function == "relu":
        return F.leaky_relu(x, LEAK)
    if isinstance(op, Quantize):
        return x / values[op.scale] + values[op.zero]
    if isinstance(op, Requantize):
        factor = 1 / values[op.scale]
        for name in op.scales:
            factor = factor * values[name]
        if op.input_zero is not None:
            x = x - values[op.input_zero]
        scaled = x * factor.view(-1, *[1] * (x.ndim - 2))
        return (F.leaky_relu(scaled, LEAK) if op.relu else scaled) + values[op.zero]
    if isinstance(op, QuantizedAdd):
        pairs = zip(inputs, op.scales, op.zeros, strict=True)
        first, second = ((x - values[zero]) * values[scale] for x, scale, zero in pairs)
        scaled = (first + second) / values[op.scale]
        return (F.leaky_relu(scaled, LEAK) if op.relu else scaled) + values[op.zero]
    if isinstance(op, Lookup):
        number = (x - values[op.input_zero]) * values[op.input_scale]
        return FUNCTIONS[op.function][0](number) / values[op.scale] + values[op.zero]
    return x if isinstance(op, Round) else op.dense(values, *inputs)
