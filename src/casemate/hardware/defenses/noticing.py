"""What is read of a bench's memory behind its defense, and what that notices and repairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from casemate.hardware.defenses.guarding import Guarded, MemoryGuard, ProductCheck

if TYPE_CHECKING:
    from casemate.hardware.bench import Bench
    from casemate.hardware.cases import Cases
    from casemate.hardware.defenses.guarding import OwnFlips

__all__ = ["noticed"]

_IMAGES = 256  # on which products are checked


def noticed(bench: Bench, cases: Cases, own: OwnFlips | None = None) -> Guarded | None:
    """Return what a bench's defense makes of cases; None if it notices nothing by its nature.

    A check of products leaves what is read as it is, and notices a case if it raises an alarm on
    any of some inputs.
    """
    if isinstance(bench.defense, MemoryGuard):
        return bench.defense.guarded(bench.defended.memory, cases, own)
    if isinstance(bench.defense, ProductCheck):
        x = bench.evaluation.x[:_IMAGES]
        raised = bench.defense.alarms(bench.defended, cases, x, bench.limits)
        return Guarded.of(cases, np.asarray(raised.any(1)))
    return None
