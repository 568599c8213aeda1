"""Number formats: in what words a deployed model holds its numbers, and how it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from casemate.errors import ParameterError

__all__ = ["NumberFormat"]

_FLOATING = ("float32", "float16", "bfloat16")
_INTEGER = ("int8", "int4")


@dataclass(frozen=True, kw_only=True)
class NumberFormat:
    """The number format of a deployed model.

    In a floating-point format all numbers in memory have it, and arithmetic is float32, as where
    16 bits only store. In an integer format weights have it; with integer activations the model
    computes as ONNX Runtime's and TensorFlow Lite's do: int8 activations with a scale and a zero
    point a tensor, batch normalization folded into the layer before it, sums in int32, biases in
    int32 in the unit of the sums, requantization by a float32 factor; scores are dequantized sums.
    With float32 activations weights alone are integers and are turned into float32 for each use.

    In a floating-point format the others say nothing and are as by default.

    Attributes:
        name: Of the weights: "float32", "float16", "bfloat16", "int8" or "int4".
        scheme: Of integer weights: "symmetric" (zero stands for 0, the lowest integer is not used)
            or "affine" (a zero point, the whole range of integers).
        granularity: Of integer weights: one scale a "channel" of the output, or one a "tensor".
        activations: With integer weights: "int8" or "float32".
    """

    name: Literal["float32", "float16", "bfloat16", "int8", "int4"] = "float32"
    scheme: Literal["symmetric", "affine"] = "symmetric"
    granularity: Literal["channel", "tensor"] = "channel"
    activations: Literal["int8", "float32"] = "int8"

    def __post_init__(self) -> None:
        for key, known in (
            ("name", (*_FLOATING, *_INTEGER)),
            ("scheme", ("symmetric", "affine")),
            ("granularity", ("channel", "tensor")),
            ("activations", ("int8", "float32")),
        ):
            value = getattr(self, key)
            if value not in known:
                raise ParameterError(
                    f"format.{key}", f'is "{value}", but must be one of {", ".join(known)}'
                )
            if not self.is_integer and key != "name":  # it says nothing: one trial, not two
                object.__setattr__(self, key, getattr(type(self), key))

    @property
    def is_integer(self) -> bool:
        """Whether weights are integers."""
        return self.name in _INTEGER

    @property
    def computes_integers(self) -> bool:
        """Whether activations are integers too."""
        return self.is_integer and self.activations == "int8"
