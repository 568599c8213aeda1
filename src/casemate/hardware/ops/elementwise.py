"""Operations that map each element by itself: activations, and what evaluation leaves as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.hardware.ops.operation import Pointwise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from casemate.hardware.bound import Bound

__all__ = ["FUNCTIONS", "Elementwise"]

FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "relu": (F.relu, 1.0),
    "relu6": (F.relu6, 1.0),
    "hardtanh": (F.hardtanh, 1.0),
    "tanh": (torch.tanh, 1.0),
    "sigmoid": (torch.sigmoid, 0.25),
    "hardsigmoid": (F.hardsigmoid, 1 / 6),
    "silu": (F.silu, 1.1),
    "hardswish": (F.hardswish, 1.5),
    "gelu": (F.gelu, 1.13),
    "softplus": (F.softplus, 1.0),
    "identity": (lambda x: x, 1.0),
}
"""By name: the function, and a bound of its slope."""

MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "hardsigmoid",
    nn.SiLU: "silu",
    nn.Hardswish: "hardswish",
    nn.Identity: "identity",
    nn.Dropout: "identity",
    nn.Dropout2d: "identity",
    nn.Dropout3d: "identity",
    nn.AlphaDropout: "identity",
}
"""Modules without parameters that are such a function in evaluation mode."""


@dataclass(frozen=True)
class Elementwise(Pointwise):
    """A function of each element.

    Attributes:
        function: Its name in `FUNCTIONS`.
    """

    function: str

    @property
    def masks(self) -> bool:
        """Whether it has flat parts."""
        return self.function in ("relu", "relu6", "hardtanh", "hardsigmoid", "hardswish")

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return the function of every element."""
        del values
        return FUNCTIONS[self.function][0](inputs[0])

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound times the largest slope."""
        del values, shapes
        return [after.times(FUNCTIONS[self.function][1])]
