"""Which layers of a deployed model suffer most from one wrong bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from casemate.hardware.cases import flips
from casemate.hardware.estimation.faults import bits_of
from casemate.hardware.estimation.harm import Harm
from casemate.hardware.estimation.importance import ImportanceSample
from casemate.hardware.injector import Injector
from casemate.hardware.room import check_scores

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.hardware.effects import Effects
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Memory
    from casemate.random import Stream

__all__ = ["FAULTS", "layers_of", "most_sensitive"]

FAULTS = 500
"""Faults tried in each layer."""


def layers_of(memory: Memory) -> tuple[str, ...]:
    """Return the names of the layers that have weights in memory, in its order."""
    return tuple(dict.fromkeys(r.layer for r in memory.regions if r.count and r.role == "weight"))


def most_sensitive(
    deployed: Implementation,
    x: Tensor,
    count: int,
    rng: Stream,
    *,
    faults: int = FAULTS,
    memory: int | None = None,
) -> tuple[str, ...]:
    """Return the layers in which one wrong bit changes most predictions on average.

    The mean over all bits of a layer, whatever they hold, is estimated by importance sampling
    (`estimation.importance`). By bit and not by layer, since what a layer's copies cost grows with
    its bits.

    Args:
        deployed: Without faults.
        x: (n, *shape) inputs whose predictions are watched; no labels are needed.
        count: How many layers.
        rng: Of the faults.
        faults: That are tried in each.
        memory: Bytes that this may take; as it comes if omitted.

    Returns:
        (count,) names, the most sensitive first.
    """
    words, injector = deployed.memory, Injector(deployed, x, memory=memory)

    def effects(numbers: np.ndarray) -> Effects:
        return injector.effects(flips(words, np.arange(len(numbers)), numbers, len(numbers)))

    # no truth is known or needed
    harm = Harm(effects, injector.labels, injector.labels, cases=injector.cases)
    means: dict[str, float] = {}
    for layer in layers_of(words):
        regions = [r for r in words.where(layers=(layer,)) if r.count]
        check_scores(sum(r.bits for r in regions), memory)
        sample = ImportanceSample(
            bits_of(words, regions),
            harm.corruption,
            injector.bit_scores(regions),
            rng.child(layer).numpy(),
        )
        sample.extend(faults)
        means[layer] = sample.estimate().mean
    return tuple(sorted(means, key=lambda name: -means[name])[:count])
