"""Attacked samples, taken from a cache where they have been crafted before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from casemate.data.dataset import digest_arrays
from casemate.identity import canonical, key
from casemate.inference.crafted import Crafted
from casemate.inference.engine import craft
from casemate.registry import name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.inference.evaluate import Setting
    from casemate.target import Target

__all__ = ["ExampleCache", "crafted_examples"]


class ExampleCache(Protocol):
    """Where attacked samples are kept under the hash of what made them."""

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """Return the arrays, or None if there are none."""

    def put(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep the arrays."""


def crafted_examples(
    setting: Setting,
    works_on: Target,
    data: Dataset,
    chosen: Tensor,
    *,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
    cache: ExampleCache | None,
) -> Crafted:
    """Return what the setting's attack makes of the chosen samples.

    Args:
        setting: The attack, its goal and how it is run.
        works_on: The model that the attacker works against.
        data: All samples.
        chosen: (m,) int64 positions of those to attack.
        batch_size: Jobs at a time.
        progress: Called with jobs done and jobs in all.
        cache: Where they may already lie, and are put otherwise.
    """
    attack = setting.attack
    which = digest_arrays(chosen)
    name = key(
        "crafted",
        name_of("attack", type(attack)),
        attack.revision,
        canonical(attack),
        works_on.digest,
        works_on.device.type,
        data.digest,
        which,
        setting.goal,
        setting.seed,
        setting.early_stop,
        setting.round,
        setting.queries,
    )
    stored = cache.get(name) if cache is not None else None
    if stored is not None:
        return Crafted.from_arrays(stored)
    samples = data.select(chosen, how=["attacked", which])
    crafted = craft(
        attack,
        works_on,
        samples,
        goals=None if setting.goal is None else torch.full((len(samples),), setting.goal),
        seed=setting.seed,
        batch_size=batch_size,
        early_stop=setting.early_stop,
        round_points=setting.round,
        queries=setting.queries,
        progress=progress,
    )
    if cache is not None:
        cache.put(name, crafted.arrays())
    return crafted
