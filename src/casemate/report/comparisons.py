"""What a defense changes: trials that differ only in the defense and where the attacker stands."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from casemate.report.facts import share_key
from casemate.stats import holm, mcnemar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.facts import Facts

__all__ = ["Comparison", "comparisons"]


_DEFENSES = ("defense", "attacker", "training.defense", "hardware.defense", "hardware.attacker")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One attack with and without a defense, sample by sample.

    Attributes:
        without: The trial without the defense.
        defended: The trial with it.
        pairs: Samples that both systems got right before the attack; only they are compared.
        change: Success with the defense minus success without, over the pairs; None without pairs.
        p: Two-sided exact McNemar p value, corrected by Holm over all comparisons of the report.
    """

    without: Facts
    defended: Facts
    pairs: int
    change: float | None
    p: float


def comparisons(facts: Sequence[Facts]) -> tuple[Comparison, ...]:
    """Return every defended trial that has an undefended counterpart, in the record's order."""
    groups: dict[str, list[Facts]] = defaultdict(list)
    for f in facts:
        if f.success is not None:
            groups[share_key(f, *_DEFENSES)].append(f)
    found = [
        _compared(without, defended)
        for group in groups.values()
        for without in [f for f in group if f.defense is None][:1]
        for defended in group
        if defended.defense is not None
    ]
    corrected = holm([c.p for c in found])
    return tuple(replace(c, p=p) for c, p in zip(found, corrected, strict=True))


def _compared(without: Facts, defended: Facts) -> Comparison:
    rows_a, success_a = _eligible(without)
    rows_b, success_b = _eligible(defended)
    common, at_a, at_b = np.intersect1d(rows_a, rows_b, return_indices=True)
    a, b = success_a[at_a], success_b[at_b]
    return Comparison(
        without=without,
        defended=defended,
        pairs=len(common),
        change=float(b.mean() - a.mean()) if len(common) else None,
        p=mcnemar(int((a & ~b).sum()), int((b & ~a).sum())),
    )


def _eligible(facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    """Return the data set rows that count in a trial, and whether each was fooled."""
    evidence = facts.trial.evidence
    if evidence is None or not {"row", "eligible", "success"} <= evidence.samples.keys():
        return np.empty(0, np.int64), np.empty(0, bool)
    eligible = evidence.samples["eligible"].astype(bool)
    return evidence.samples["row"][eligible], evidence.samples["success"][eligible].astype(bool)
