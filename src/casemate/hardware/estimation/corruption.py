"""Values of faults: what they do to predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from casemate.hardware.cases import flips

if TYPE_CHECKING:
    from collections.abc import Iterator

    from casemate.hardware.effects import Effects
    from casemate.hardware.estimation.faults import Values
    from casemate.hardware.propagate import Propagator

__all__ = ["above", "accuracy_drop", "corruption"]

_AT_ONCE = 4096  # faults that are tried in one call


def corruption(propagator: Propagator, numbers: np.ndarray) -> np.ndarray:
    """Return for each bit the share of images whose prediction its flip changes.

    Args:
        propagator: Holds the network, its memory and the images.
        numbers: (n,) of the bits.

    Returns:
        (n,) in [0, 1].
    """
    changed = [effects.changed for effects in _tried(propagator, numbers)]
    return np.concatenate([np.zeros(0), *changed]) / len(propagator.cache)


def accuracy_drop(propagator: Propagator, truth: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return for each bit how much accuracy its flip costs.

    Args:
        propagator: Holds the network, its memory and the images.
        truth: (images,) labels.
        numbers: (n,) of the bits.

    Returns:
        (n,) in [-1, 1]; negative where more images are predicted right than before.
    """
    before = propagator.labels
    lost = [-effects.gained(before, truth) for effects in _tried(propagator, numbers)]
    return np.concatenate([np.zeros(0), *lost]) / len(propagator.cache)


def above(values: Values, threshold: float) -> Values:
    """Return 1 for faults whose value is above a threshold, as of critical faults, and else 0."""

    def is_above(numbers: np.ndarray, /) -> np.ndarray:
        return (values(numbers) > threshold).astype(np.float64)

    return is_above


def _tried(propagator: Propagator, numbers: np.ndarray) -> Iterator[Effects]:
    for i in range(0, len(numbers), _AT_ONCE):
        part = numbers[i : i + _AT_ONCE]
        cases = flips(propagator.memory, np.arange(len(part)), part, len(part))
        yield propagator.effects(cases)
