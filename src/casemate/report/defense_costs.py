"""What defenses at training cost: time, models of their own, accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from casemate.report.plugins import installed
from casemate.report.poisonings import DROP
from casemate.stats import quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.poisonings import Poisoning
    from casemate.stats import Measurement

__all__ = ["DefenseCost", "defense_cost"]


@dataclass(frozen=True, kw_only=True)
class DefenseCost:
    """One defense at training over all of its trials on one system, whatever the attack.

    Attributes:
        defense: In words.
        trials: How many there are.
        measured: How many of them have evidence.
        seconds: Median time of the defense, beside the training of the model that is deployed.
        models: Median number of models that it trained of its own.
        samples: Median number of samples that it trained them on, each counted once an epoch.
        drop: Of clean accuracy where nobody attacks, over the seeds; None without such a trial.
        clean: Samples held out as known to be clean, whether it needs them or not.
        needs_clean: Whether it needs them; None where the defense is not installed.
    """

    defense: str
    trials: int
    measured: int
    seconds: Measurement
    models: Measurement
    samples: Measurement
    drop: Measurement | None
    clean: int
    needs_clean: bool | None


def defense_cost(rows: Sequence[Poisoning]) -> DefenseCost:
    """Return what one defense costs, from all rows in which it stands."""
    trials = [f for row in rows for f in row.trials]
    evidence = [f.trial.evidence for f in trials if f.trial.evidence is not None]
    seconds = [f.measurement("seconds of the defense") for f in trials]
    gate = rows[0].first.trial.settings["training"]
    return DefenseCost(
        defense=rows[0].first.training_defense or "",
        trials=len(trials),
        measured=len(evidence),
        seconds=_median(
            "seconds", [m.value for m in seconds if m is not None and m.value is not None], "s"
        ),
        models=_median(
            "models",
            [e.spent["defender's models"] for e in evidence if "defender's models" in e.spent],
            "models",
        ),
        samples=_median(
            "training samples",
            [
                e.spent["defender's training samples"]
                for e in evidence
                if "defender's training samples" in e.spent
            ],
            "samples",
        ),
        drop=next((row.figures[DROP] for row in rows if row.null and DROP in row.figures), None),
        clean=int(gate.get("clean") or 0),
        needs_clean=_needs_clean(gate.get("defense")),
    )


def _needs_clean(defense: Any) -> bool | None:
    name = defense.get("name") if isinstance(defense, dict) else defense
    declared = getattr(installed("defense", str(name)), "needs_clean", None)
    return declared if isinstance(declared, bool) else None


def _median(name: str, values: Sequence[float], unit: str) -> Measurement:
    return quantile(name, values, 0.5, unit)
