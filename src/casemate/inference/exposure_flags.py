"""Signs that an attack on training, or what it is held against, is not what it should have been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from casemate.evidence import HealthFlag, Severity
from casemate.stats import mcnemar, wilson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from casemate.data.domain import Domain

__all__ = ["FLAGS", "exposure_flags"]

FLAGS = ("weak-reference", "trigger-without-effect", "collapsed-victim")
"""What can be wrong with an attack on training, or with the comparison; see docs/health.md."""

_STEPS = 255
"""Between the bounds of an 8-bit image."""
_ROUNDING = 1e-5
"""Relative slack for changes of half a step, as float32 has them."""
_NEGLIGIBLE = 0.05
"""Success that is not clearly above this is an error now and then, whatever its cause."""
_CHANCE = 0.05
"""Largest p with which a victim answers the target more often than the reference."""


def exposure_flags(
    table: Mapping[str, np.ndarray],
    domain: Domain,
    *,
    classes: int,
    attacked: bool,
    goal: int | None,
) -> list[HealthFlag]:
    """Return what is wrong with what an exposure measured.

    Args:
        table: Its rows by column; with "linf" where there is a trigger.
        domain: What an input is.
        classes: How many there are.
        attacked: Whether there is an attacker.
        goal: Label that the attacker wants; None for any wrong one.
    """
    found = [_weak_reference(table, classes)]
    if attacked:
        found.append(_nothing_attacked(table))
    if "linf" in table:
        found.append(_without_effect(table, domain))
        if goal is not None:
            found.append(_collapsed(table, goal))
    return [flag for flag in found if flag is not None]


def _weak_reference(table: Mapping[str, np.ndarray], classes: int) -> HealthFlag | None:
    label, n = table["label"], len(table["label"])
    right = int((table["reference_label"] == label).sum())
    often = max(np.bincount(label, minlength=classes)) / n
    low, high = wilson(right, n)
    if not low <= often < 1:
        return None
    return HealthFlag(
        id="weak-reference",
        severity=Severity.FAILURE,
        message=f"the model trained without the attack is right on {100 * right / n:.1f} % of {n} "
        f"samples (interval {100 * low:.1f} to {100 * high:.1f} %), not clearly more often than "
        f"one that always answers the most frequent class, {100 * often:.1f} %; train it longer or "
        "mend its recipe",
    )


def _nothing_attacked(table: Mapping[str, np.ndarray]) -> HealthFlag | None:
    if table["eligible"].any():
        return None
    return HealthFlag(
        id="nothing-attacked",
        severity=Severity.FAILURE,
        message=f"of {len(table['label'])} samples none counts: the model trained without the "
        "attack reads none of those that the attacker wants right; take other seeds, samples or "
        "classes",
    )


def _without_effect(table: Mapping[str, np.ndarray], domain: Domain) -> HealthFlag | None:
    """Return a flag if no input that counts is another with the trigger once it is stored.

    A value that moves by less than half a step is rounded back to what it was. Poisoned training
    data are rounded so, which makes it a failure. Images of floating-point numbers have no steps
    and keep the trigger, but nobody who looks at 8 bits of them would find it.
    """
    moved = table["linf"][table["eligible"]]
    if not len(moved):
        return None
    largest = float(moved.max())
    step = domain.step
    if largest == 0 or (step is not None and largest < step / 2 * (1 - _ROUNDING)):
        return HealthFlag(
            id="trigger-without-effect",
            severity=Severity.FAILURE,
            message="the trigger leaves every input as it is on the grid of values that inputs "
            f"hold: it changes none by more than {largest:.2g}; make it stronger",
        )
    least = domain.width / _STEPS / 2
    if step is None and domain.is_image and largest < least * (1 - _ROUNDING):
        return HealthFlag(
            id="trigger-without-effect",
            severity=Severity.WARNING,
            message=f"the trigger changes no value by more than {largest:.2g}, less than half a "
            f"step of 8-bit images ({least:.2g}): it is lost where an image is stored in 8 bits; "
            "make it stronger",
        )
    return None


def _collapsed(table: Mapping[str, np.ndarray], goal: int) -> HealthFlag | None:
    """Return a flag if the model answers the target by itself, and no backdoor does.

    That is so if three things hold: success is no rare error (the lower end of its interval lies
    above `_NEGLIGIBLE`), at least half of it is there without the trigger, and on samples of the
    classes that count the model answers the target more often than the reference does, by
    McNemar's exact test. The test is over all samples of these classes, also those that the
    reference misreads: among those that it reads right it never answers the target.
    """
    eligible, hits = table["eligible"], int(table["success"].sum())
    n = int(eligible.sum())
    already = int((table["clean_label"][eligible] == goal).sum())
    if not hits or 2 * already < hits or wilson(hits, n)[0] <= _NEGLIGIBLE:
        return None
    wanted = np.isin(table["label"], np.unique(table["label"][eligible]))
    mine, others = (table[f"{who}_label"][wanted] == goal for who in ("clean", "reference"))
    more, fewer = int((mine & ~others).sum()), int((others & ~mine).sum())
    if more <= fewer or mcnemar(more, fewer) >= _CHANCE:
        return None
    return HealthFlag(
        id="collapsed-victim",
        severity=Severity.WARNING,
        message=f"the model answers the target to {already} of {n} samples without the trigger and "
        f"to {hits} with it: at least half of that success is a broken model and no backdoor; look "
        "at its clean accuracy",
    )
