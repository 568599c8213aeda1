"""`Bench`: a deployed model with all that stands beside it at the hardware gate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from casemate.hardware.defenses.guarding import MemoryGuard, ProductCheck, Restriction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from casemate.hardware.attacks.samples import Samples
    from casemate.hardware.defenses.guarding import Defense
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.rowhammer.module import MemoryModule
    from casemate.random import Stream

__all__ = ["Bench"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """What an attack on a deployed model meets.

    Attributes:
        bare: The deployed model without defense.
        pool: Inputs that the attacker draws from.
        evaluation: What the model is read on, none of it in the pool.
        clean: (n, *shape) inputs that the defender knows to be clean, none of them in either.
        defense: In memory or in the network, or None.
        aware: Whether the attacker knows the defense.
        module: The memory module that an attacker hammers; without one any bit can flip.
        memory_limit: Bytes that activations and work may take where single faults are tried; images
            are done in parts if need be. None is as much as it takes.
        rng: Of everything that attacks draw at random.
    """

    bare: Implementation
    pool: Samples
    evaluation: Samples
    clean: Tensor
    rng: Stream
    defense: Defense | None = None
    aware: bool = True
    module: MemoryModule | None = None
    memory_limit: int | None = None

    @cached_property
    def defended(self) -> Implementation:
        """The model that runs, with what a defense puts into its network.

        Raises:
            UsageError: If the defense cannot stand there.
        """
        if isinstance(self.defense, Restriction):
            return self.defense.protected(self.bare, self.clean)
        return self.bare

    @cached_property
    def limits(self) -> Mapping[int, float]:
        """By layer what a check of products lets pass; empty without one."""
        if not isinstance(self.defense, ProductCheck):
            return {}
        return self.defense.limits(self.defended, self.clean)

    @property
    def known(self) -> Implementation:
        """The model as the attacker takes it to be."""
        return self.defended if self.aware else self.bare

    @property
    def guard(self) -> MemoryGuard | None:
        """The defense, if it guards memory."""
        return self.defense if isinstance(self.defense, MemoryGuard) else None
