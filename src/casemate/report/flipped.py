"""Which bits an attack on a deployed model flips, and how the model fares after each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from casemate.report.facts import Facts

__all__ = ["Flipped", "flipped"]


@dataclass(frozen=True, kw_only=True)
class Flipped:
    """One bit that the attacker flips.

    Attributes:
        tensor: Its tensor's name; untrusted text.
        place: Where its word is in the tensor: "3, 0, 2, 1"; empty where that is one number.
        bit: Its place in the word; 0 is the least significant.
        bits: How many bits differ after it, those that hide others included.
        accuracy: Of the model after it, in [0, 1].
        success: The same of the attack, where it has a target; else None.
    """

    tensor: str
    place: str
    bit: int
    bits: int
    accuracy: float
    success: float | None


def flipped(facts: Facts) -> tuple[Flipped, ...]:
    """Return the flips of a trial in their order; none where it chose no bits."""
    evidence = facts.trial.evidence
    table = {} if evidence is None else evidence.tables.get("flips", {})
    count = len(table.get("tensor", ()))
    success = table.get("success", [None] * count)
    return tuple(
        Flipped(
            tensor=str(table["tensor"][i]),
            place=", ".join(map(str, table["index"][i])),
            bit=int(table["bit"][i]),
            bits=int(table["bits flipped"][i]),
            accuracy=table["accuracy"][i],
            success=success[i],
        )
        for i in range(count)
    )
