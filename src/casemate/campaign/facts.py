"""What the training gate knows of a trial, as part of its evidence."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from casemate.campaign.note_figures import note_figures
from casemate.campaign.notes import bounded
from casemate.evidence import HealthFlag, Severity
from casemate.stats import Measurement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from casemate.evidence import Evidence
    from casemate.training.poisoned import Poisoned
    from casemate.training.stored import StoredModel

__all__ = ["NOT_LEARNED", "attack_facts", "with_facts"]

NOT_LEARNED = "poison-not-learned"
"""The model did not take in what the attacker left; see docs/health.md."""

_HALF = 0.5
_COUNTED = {
    "poisoned": "poisoned samples",
    "relabeled": "relabeled samples",
    "training samples": "training samples",
}


def attack_facts(model: StoredModel, poisoned: Poisoned, *, device: str) -> dict[str, Any]:
    """Return what an attack did to the data, and whether the undefended model took it in."""
    from casemate.training.gate import learned  # noqa: PLC0415 - imports torch

    return {
        "poisoned": len(poisoned.touched),
        "relabeled": len(poisoned.relabeled),
        "training samples": len(poisoned.dataset),
        "targeted": poisoned.trigger is not None or poisoned.aim is not None,
        "learned": asdict(learned(model, poisoned, device=device)),
    }


def with_facts(
    evidence: Evidence, facts: Mapping[str, Any], *, target: int | None = None
) -> Evidence:
    """Return the evidence with what attack and defense did at the training gate.

    Args:
        evidence: Of the trained model.
        facts: As `Victims.facts` returns them.
        target: Label that the attack's trigger leads to; None without a trigger.
    """
    defense = facts.get("defense") or {}
    measured = [Measurement(**m) for m in defense.get("measurements", ())]
    notes = defense.get("notes") or {}
    measured += note_figures(notes, target)
    flags = list(evidence.flags)
    if "learned" in facts:
        learned = Measurement(**facts["learned"])
        measured.append(learned)
        # who flips labels at random does not want them learned
        if facts.get("targeted") and learned.value is not None and learned.value < _HALF:
            flags.append(
                HealthFlag(
                    id=NOT_LEARNED,
                    severity=Severity.WARNING,
                    message=f"without a defense the model gives {100 * learned.value:.0f} % of "
                    f"{learned.n} samples that were touched the labels that they carry: it did not "
                    "take in what the attacker left; more epochs or a stronger poison would tell "
                    "whether the attack or the recipe is at fault",
                )
            )
    spent = dict(evidence.spent)
    spent |= {words: facts[name] for name, words in _COUNTED.items() if name in facts}
    if defense:
        spent |= {
            "defender's models": defense["models"],
            "defender's training samples": defense["samples"],
        }
        measured += _seconds(defense)
    return replace(
        evidence,
        measurements=(*evidence.measurements, *measured),
        flags=tuple(flags),
        spent=spent,
        notes=bounded(notes),
    )


def _seconds(defense: Mapping[str, Any]) -> list[Measurement]:
    seconds = float(defense["seconds"])
    return [
        Measurement(
            name="seconds of the defense",
            value=seconds,
            n=1,
            low=None,
            high=None,
            unit="s",
            method="t",
        )
    ]
