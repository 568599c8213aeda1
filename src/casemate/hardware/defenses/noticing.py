"""What is read of a bench's memory behind its defense, and what that notices and repairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from casemate.hardware.cases import flips
from casemate.hardware.defenses.guarding import Guarded, MemoryGuard, ProductCheck

if TYPE_CHECKING:
    from casemate.hardware.bench import Bench
    from casemate.hardware.cases import Cases
    from casemate.hardware.defenses.guarding import OwnFlips
    from casemate.hardware.upsets import Upsets

__all__ = ["noticed", "noticed_upsets"]

_IMAGES = 256  # on which products are checked
_STRUCK = 16  # the same for each upset that strikes all


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


def noticed_upsets(bench: Bench, upsets: Upsets) -> np.ndarray | None:
    """Return (cases,) bool, which upsets a bench's defense notices; None if none by its nature.

    Each is read on the inference that it strikes, or on some inputs where it strikes all of them.
    A guard of memory looks at words that are as they were.
    """
    if isinstance(bench.defense, MemoryGuard):
        nothing = np.zeros(0, dtype=np.int64)
        memory = bench.defended.memory
        unchanged = flips(memory, nothing, nothing, upsets.count)
        return bench.defense.guarded(memory, unchanged).detected
    if isinstance(bench.defense, ProductCheck):
        x = bench.evaluation.x if (upsets.image >= 0).all() else bench.evaluation.x[:_STRUCK]
        return bench.defense.alarms_of_upsets(bench.defended, upsets, x, bench.limits)
    return None
