"""How much of the training data an attack poisons, and how strongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from casemate.report.poisonings import Poisoning

__all__ = ["intensity", "share"]


def share(row: Poisoning) -> float | None:
    """Return the poisoned part of the training samples in percent, or None where unknown."""
    evidence = next((f.trial.evidence for f in row.trials if f.trial.evidence is not None), None)
    if evidence is None or not evidence.spent.get("training samples"):
        return None
    return 100 * evidence.spent.get("poisoned samples", 0) / evidence.spent["training samples"]


def intensity(row: Poisoning) -> float | None:
    """Return how strong the noise in poisoned samples is, or None of attacks without one."""
    attack = row.first.trial.settings["training"].get("attack") or {}
    value = attack.get("intensity")
    return float(value) if isinstance(value, (int, float)) else None
