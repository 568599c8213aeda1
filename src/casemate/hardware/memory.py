"""The memory of a deployed model: all its numbers as words at addresses.

Each tensor lies in a region of its own, its words one after another in the order of its elements,
little-endian, as a flat file of weights is mapped; regions start at multiples of `ALIGNMENT` bytes.
Words of four bits lie two in a byte, the first in the lower half. This layout is ours: frameworks
differ, and an attacker learns theirs from the binary.

A **fault** is (tensor, index, bit). Bits are also counted through all regions, without the padding
between them: that number says which bit is meant in a compact way, and drawing it uniformly draws
uniformly over bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from casemate.errors import ParameterError, UsageError, did_you_mean
from casemate.hardware.words import WORDS, Word

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ALIGNMENT", "Fault", "Memory", "Region", "Role"]

Role = Literal["weight", "bias", "norm", "scale", "zero point"]

ALIGNMENT = 64
"""Bytes: where regions start."""

_BITS = 8  # of a byte


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One bit of one word.

    Attributes:
        tensor: Name of the tensor: "conv1.weight", "fc1.weight.scale".
        index: Its element.
        bit: 0 is the least significant.
    """

    tensor: str
    index: tuple[int, ...]
    bit: int

    def __str__(self) -> str:
        return f"{self.tensor}[{', '.join(map(str, self.index))}] bit {self.bit}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """One tensor in memory.

    Attributes:
        name: Of the tensor.
        layer: Name of the layer that it belongs to.
        role: What it is to the layer.
        shape: Of the tensor; () is one number.
        word: What each number is held in.
        words: (n,) raw, of the word's carrier type; on the CPU.
        address: Of the first byte.
    """

    name: str
    layer: str
    role: Role
    shape: tuple[int, ...]
    word: Word
    words: Tensor
    address: int = 0

    @property
    def count(self) -> int:
        """How many words."""
        return len(self.words)

    @property
    def bits(self) -> int:
        """How many bits."""
        return self.count * self.word.bits

    @property
    def bytes(self) -> int:
        """How many bytes, the last one perhaps in part."""
        return -(-self.bits // _BITS)

    @cached_property
    def values(self) -> Tensor:
        """The numbers that the words hold, in the tensor's shape."""
        return self.word.decode(self.words).view(self.shape)


class Memory:
    """All words of a deployed model.

    Args:
        regions: In the order of their addresses, which are assigned here.
    """

    def __init__(self, regions: Iterable[Region]) -> None:
        placed, address = [], 0
        for region in regions:
            placed.append(_at(region, address))
            address += -(-region.bytes // ALIGNMENT) * ALIGNMENT
        self.regions: tuple[Region, ...] = tuple(placed)
        self.names = {r.name: i for i, r in enumerate(self.regions)}
        if len(self.names) < len(self.regions):
            raise ValueError("two regions have the same name")
        self.bytes = self.regions[-1].address + self.regions[-1].bytes if self.regions else 0
        # first bit of each region, and the number of all bits at the end
        self._starts = np.cumsum([0, *(r.bits for r in self.regions)])
        self._addresses = np.array([r.address for r in self.regions], dtype=np.int64)
        self._widths = np.array([r.word.bits for r in self.regions], dtype=np.int64)

    @property
    def bits(self) -> int:
        """How many bits hold numbers, padding apart."""
        return int(self._starts[-1])

    @cached_property
    def values(self) -> dict[str, Tensor]:
        """All numbers by the name of their tensor."""
        return {r.name: r.values for r in self.regions}

    def __getitem__(self, name: str) -> Region:
        """Return the region of that name.

        Raises:
            UsageError: If there is none.
        """
        if name not in self.names:
            raise UsageError(
                f'the deployed model has no tensor "{name}".{did_you_mean(name, self.names)}'
            )
        return self.regions[self.names[name]]

    def span(self, name: str) -> tuple[int, int]:
        """Return the number of a region's first bit and of the first one behind it."""
        i = self.names[name]
        return int(self._starts[i]), int(self._starts[i + 1])

    def where(
        self,
        *,
        roles: Sequence[Role] | None = None,
        layers: Sequence[str] | None = None,
    ) -> tuple[Region, ...]:
        """Return the regions with one of these roles and in one of these layers.

        Raises:
            UsageError: If a layer does not exist, or nothing is left.
        """
        known = dict.fromkeys(r.layer for r in self.regions)
        for layer in layers or ():
            if layer not in known:
                raise UsageError(
                    f'the deployed model has no layer "{layer}".{did_you_mean(layer, known)}'
                )
        found = tuple(
            r
            for r in self.regions
            if (roles is None or r.role in roles) and (layers is None or r.layer in layers)
        )
        if not found:
            raise UsageError(
                f"no tensor of the deployed model is one of {', '.join(roles or ())} in the layers "
                f"{', '.join(layers or known)}; ask for other roles or layers"
            )
        return found

    def number(self, fault: Fault) -> int:
        """Return the number of a fault's bit.

        Raises:
            UsageError: If it lies outside the tensor or its words.
        """
        region = self[fault.tensor]
        if len(fault.index) != len(region.shape) or any(
            not 0 <= i < n for i, n in zip(fault.index, region.shape, strict=False)
        ):
            raise UsageError(
                f"{fault.tensor} has the shape {region.shape}, so there is no element "
                f"{fault.index}; give one index a dimension, from 0"
            )
        if not 0 <= fault.bit < region.word.bits:
            raise UsageError(
                f"{fault.tensor} holds {region.word.name} words, so there is no bit {fault.bit}; "
                f"give a bit from 0 to {region.word.bits - 1}"
            )
        flat = int(np.ravel_multi_index(fault.index, region.shape)) if region.shape else 0
        return self.span(fault.tensor)[0] + flat * region.word.bits + fault.bit

    def fault(self, number: int) -> Fault:
        """Return the fault of a bit's number."""
        (region,), (flat,), (bit,) = (a.tolist() for a in self.locate(np.array([number])))
        held = self.regions[region]
        index = np.unravel_index(flat, held.shape) if held.shape else ()
        return Fault(tensor=held.name, index=tuple(int(i) for i in index), bit=bit)

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return of bits by number the region's position, the word in it, and the bit in that.

        Args:
            numbers: (n,) integers in [0, bits).

        Returns:
            Three arrays (n,) int64.

        Raises:
            ParameterError: If a number is out of range, or no integer.
        """
        numbers = np.asarray(numbers)
        if len(numbers) and not np.issubdtype(numbers.dtype, np.integer):
            raise ParameterError("number", f"is {numbers[0]}, but bits are counted in integers")
        numbers = numbers.astype(np.int64)
        outside = numbers[(numbers < 0) | (numbers >= self.bits)]
        if len(outside):
            raise ParameterError(
                "number",
                f"is {outside[0]}, but the memory has {self.bits} bits; give one from 0 to "
                f"{self.bits - 1}",
            )
        region = np.searchsorted(self._starts, numbers, side="right") - 1
        within = numbers - self._starts[region]
        width = self._widths[region]
        return region, within // width, within % width

    def addresses(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return of bits by number the byte's address and the bit in that byte, (n,) int64."""
        region, word, bit = self.locate(numbers)
        within = word * self._widths[region] + bit
        return self._addresses[region] + within // _BITS, within % _BITS

    def at(self, byte: np.ndarray, bit: np.ndarray) -> np.ndarray:
        """Return the numbers of bits by address, (n,) int64; -1 where there is only padding."""
        byte, bit = np.asarray(byte, dtype=np.int64), np.asarray(bit, dtype=np.int64)
        region = np.searchsorted(self._addresses, byte, side="right") - 1
        within = (byte - self._addresses[region]) * _BITS + bit
        sizes = np.diff(self._starts)
        inside = (region >= 0) & (within >= 0) & (within < sizes[region])
        return np.where(inside, self._starts[region] + within, -1)

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return the bits of these numbers as they are, (n,) of 0 and 1."""
        region, word, bit = self.locate(numbers)
        bits: np.ndarray = (self.raw(region, word) >> bit) & 1
        return bits

    def raw(self, region: np.ndarray, word: np.ndarray) -> np.ndarray:
        """Return raw words by region and position in it, (n,) int64 in [0, 2**bits)."""
        out = np.empty(len(region), dtype=np.int64)
        for i in np.unique(region):
            mine = region == i
            held = self.regions[int(i)]
            out[mine] = held.word.raw(held.words[torch.from_numpy(word[mine])]).numpy()
        return out

    def image(self) -> np.ndarray:
        """Return the memory as (bytes,) uint8, padding 0."""
        image = np.zeros(self.bytes, dtype=np.uint8)
        for r in self.regions:
            image[r.address : r.address + r.bytes] = _packed(r)
        return image

    def with_words(self, changed: dict[str, Tensor]) -> Memory:
        """Return the memory with some regions' words replaced: (n,) of the carrier type each."""
        return Memory(
            Region(
                name=r.name,
                layer=r.layer,
                role=r.role,
                shape=r.shape,
                word=r.word,
                words=changed.get(r.name, r.words),
            )
            for r in self.regions
        )


def region(name: str, values: Tensor, word: str, *, layer: str, role: Role) -> Region:
    """Return a region that holds numbers in words of that name."""
    kind = WORDS[word]
    words = kind.encode(values.detach().cpu().reshape(-1))
    return Region(
        name=name, layer=layer, role=role, shape=tuple(values.shape), word=kind, words=words
    )


def _at(region: Region, address: int) -> Region:
    if region.count != math.prod(region.shape):
        raise ValueError(f"{region.name} has {region.count} words for the shape {region.shape}")
    return Region(
        name=region.name,
        layer=region.layer,
        role=region.role,
        shape=region.shape,
        word=region.word,
        words=region.words,
        address=address,
    )


def _packed(region: Region) -> np.ndarray:
    """Return a region's bytes."""
    words = region.words.numpy()
    if region.word.bits < _BITS:
        even = np.concatenate([words, np.zeros(len(words) % 2, dtype=np.uint8)])
        packed: np.ndarray = even[0::2] | (even[1::2] << region.word.bits)
        return packed
    ordered: np.ndarray = words.astype(words.dtype.newbyteorder("<")).view(np.uint8)
    return ordered
