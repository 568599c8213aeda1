"""Words: how one number is held in bits, and what it becomes when bits change.

A word is held raw, as an integer of its own width; `decode` says which number it stands for. Bit 0
is the least significant one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WORDS", "Word"]


@dataclass(frozen=True)
class Word:
    """A kind of word.

    Attributes:
        name: "float32", "float16", "bfloat16", "int8", "uint8", "int4", "uint4" or "int32".
        bits: How many it has.
        carrier: The torch type that holds it raw; a word of four bits lies in the lower half of a
            byte, whose upper half is 0.
        floating: Its torch type, if it is a floating-point number; integers are two's complement
            where signed.
        signed: Whether it can be negative.
    """

    name: str
    bits: int
    carrier: torch.dtype
    floating: torch.dtype | None = None
    signed: bool = True

    @property
    def low(self) -> int:
        """The smallest integer that it holds."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest integer that it holds."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def value_type(self) -> torch.dtype:
        """The torch type of decoded numbers, which holds each of them exactly."""
        return torch.float64 if self.name == "int32" else torch.float32

    def encode(self, values: Tensor) -> Tensor:
        """Return the words that hold these numbers: the nearest, ties to even.

        Args:
            values: Any shape. Integers are cut to [low, high]; a floating-point number too large
                for its format becomes infinite, as when a framework converts it.

        Returns:
            The same shape, of type `carrier`.
        """
        if self.floating is not None:
            return values.to(self.floating).contiguous().view(self.carrier)
        whole = values.to(torch.float64).round().clamp(self.low, self.high).to(torch.int64)
        return self._carried(whole & self._mask)

    def decode(self, words: Tensor) -> Tensor:
        """Return the numbers that words hold, of type `value_type`."""
        if self.floating is not None:
            return words.contiguous().view(self.floating).to(torch.float32)
        return self._number(self.raw(words)).to(self.value_type)

    def raw(self, words: Tensor) -> Tensor:
        """Return words as int64 in [0, 2**bits)."""
        return words.to(torch.int64) & self._mask

    def of_raw(self, raw: Tensor) -> Tensor:
        """Return the numbers that raw words, int64 in [0, 2**bits), stand for."""
        if self.floating is not None:
            return self.decode(self._carried(raw))
        return self._number(raw).to(self.value_type)

    def carried(self, raw: Tensor) -> Tensor:
        """Return raw words, int64 in [0, 2**bits), as the type that holds them in memory."""
        return self._carried(raw)

    @property
    def _mask(self) -> int:
        return (1 << self.bits) - 1

    def _number(self, raw: Tensor) -> Tensor:
        if not self.signed:
            return raw
        return torch.where(raw > self.high, raw - (1 << self.bits), raw)

    def _carried(self, raw: Tensor) -> Tensor:
        """Return raw words in their carrier, which may be a signed type of the same width."""
        if self.carrier is torch.uint8:
            return raw.to(torch.uint8)
        return torch.where(raw >= 1 << (self.bits - 1), raw - (1 << self.bits), raw).to(
            self.carrier
        )


WORDS: Mapping[str, Word] = {
    word.name: word
    for word in (
        Word("float32", 32, torch.int32, floating=torch.float32),
        Word("float16", 16, torch.int16, floating=torch.float16),
        Word("bfloat16", 16, torch.int16, floating=torch.bfloat16),
        Word("int32", 32, torch.int32),
        Word("int8", 8, torch.int8),
        Word("uint8", 8, torch.uint8, signed=False),
        Word("int4", 4, torch.uint8),
        Word("uint4", 4, torch.uint8, signed=False),
    )
}
"""All kinds of words by name."""
