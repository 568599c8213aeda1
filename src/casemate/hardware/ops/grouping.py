"""Which weights of a grouped convolution lead from some of its inputs to its outputs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Taps", "taps"]


@dataclass(frozen=True)
class Taps:
    """Part of the weights, (outputs, inputs / groups, ...).

    Attributes:
        outputs: Rows: the channels that the inputs reach.
        inputs: Columns.
        groups: Of the convolution with these alone.
    """

    outputs: slice
    inputs: slice
    groups: int


def taps(first: int, count: int, inputs: int, outputs: int, groups: int) -> Taps | None:
    """Return the weights of consecutive inputs; None where they share a group with others.

    That is where they begin in one group and end inside another.

    Args:
        first: Channel that they begin with.
        count: How many they are.
        inputs: Channels in all.
        outputs: Channels in all.
        groups: As torch has them.
    """
    own, made = inputs // groups, outputs // groups
    low, high = first // own, (first + count - 1) // own
    if low == high:
        begin = first - low * own
        return Taps(slice(low * made, (low + 1) * made), slice(begin, begin + count), 1)
    if first % own or count % own:
        return None
    return Taps(slice(low * made, (high + 1) * made), slice(0, own), high + 1 - low)
