"""Which faults a bench's defense notices, and which it repairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from casemate.hardware.defenses.guarding import MemoryGuard, ProductCheck

if TYPE_CHECKING:
    from casemate.hardware.bench import Bench
    from casemate.hardware.cases import Cases
    from casemate.hardware.defenses.guarding import OwnFlips

__all__ = ["Noticed", "noticed"]

_IMAGES = 256  # on which products are checked


@dataclass(frozen=True)
class Noticed:
    """What a defense makes of cases of faults.

    Attributes:
        detected: (count,) bool; of products, where an alarm is raised on any of some inputs.
        repaired: (count,) bool, where memory is again what it was.
    """

    detected: np.ndarray
    repaired: np.ndarray


def noticed(bench: Bench, cases: Cases, own: OwnFlips | None = None) -> Noticed | None:
    """Return what a bench's defense makes of cases; None if it notices nothing by its nature."""
    if isinstance(bench.defense, MemoryGuard):
        found = bench.defense.guarded(bench.defended.memory, cases, own)
        return Noticed(found.detected, found.repaired)
    if isinstance(bench.defense, ProductCheck):
        x = bench.evaluation.x[:_IMAGES]
        alarms = bench.defense.alarms(bench.defended, cases, x, bench.clean)
        detected = np.asarray(alarms.detected.any(1))
        return Noticed(detected, np.zeros(cases.count, dtype=bool))
    return None
