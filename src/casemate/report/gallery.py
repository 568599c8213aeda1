"""A few samples of a trial in full: clean, attacked, and what changed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from casemate.report import pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from casemate.report.facts import Facts

__all__ = ["Change", "Example", "Gallery", "gallery"]

_CHANGES = 5


@dataclass(frozen=True, kw_only=True)
class Change:
    """One feature before and after."""

    feature: int
    clean: float
    attacked: float


@dataclass(frozen=True, kw_only=True)
class Example:
    """One sample before and after the attack.

    Attributes:
        row: Its identity in the data set.
        label: Name of its true class.
        goal: Name of the class that the attacker wants, or None.
        outcome: "fooled", "held", or "wrong before the attack".
        figures: Columns of the evidence for this sample, by name.
        clean_label: Name of the class predicted for the clean input.
        attacked_label: Name of the class predicted for the attacked input.
        thinned: Side lengths (height, width) of the input if it is larger than its picture.
    """

    row: int
    label: str
    goal: str | None
    outcome: str
    figures: dict[str, float]
    clean_label: str
    attacked_label: str
    arrays: tuple[NDArray[np.float32], NDArray[np.float32]]
    bounds: tuple[float, float]
    factor: int
    thinned: tuple[int, int] | None = None

    @property
    def already(self) -> bool:
        """Whether the attacker has it without the attack: the clean input is read as the target."""
        return self.outcome == "fooled" and self.goal is not None and self.clean_label == self.goal

    @property
    def is_picture(self) -> bool:
        """Whether the input can be shown as a picture."""
        return pictures.is_picture(self.arrays[0].shape)

    @cached_property
    def clean_picture(self) -> str:
        """The clean input as a data URI."""
        return pictures.picture(self.arrays[0], *self.bounds)

    @cached_property
    def attacked_picture(self) -> str:
        """The attacked input as a data URI."""
        return pictures.picture(self.arrays[1], *self.bounds)

    @cached_property
    def difference_picture(self) -> str:
        """The amplified difference as a data URI."""
        low, high = self.bounds
        return pictures.difference(*self.arrays, high - low, self.factor)

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """The features that changed most, for inputs that are no pictures."""
        clean, attacked = (a.reshape(-1) for a in self.arrays)
        order = np.argsort(-np.abs(attacked - clean), kind="stable")[:_CHANGES]
        return tuple(
            Change(feature=int(i), clean=float(clean[i]), attacked=float(attacked[i]))
            for i in order
        )


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Examples of one trial, those that were fooled first.

    Attributes:
        examples: As many as the evidence holds.
        factor: How much larger differences are shown than they are; the same for all examples.
    """

    examples: tuple[Example, ...]
    factor: int


def gallery(facts: Facts) -> Gallery | None:
    """Return the examples of a trial, or None where its evidence holds none."""
    evidence = facts.trial.evidence
    if evidence is None or not len(evidence.examples.get("position", ())):
        return None
    data, columns = evidence.examples, evidence.samples
    low, high = (float(v) for v in data.get("bounds", (0.0, 1.0)))
    factor = pictures.amplification(data["clean"], data["attacked"], high - low)
    examples = tuple(
        _example(
            facts,
            {k: c[position] for k, c in columns.items()},
            clean,
            attacked,
            (low, high),
            factor,
        )
        for position, clean, attacked in zip(
            data["position"].tolist(), data["clean"], data["attacked"], strict=True
        )
        if all(position < len(c) for c in columns.values())
    )
    return Gallery(
        examples=tuple(sorted(examples, key=lambda e: e.outcome != "fooled")), factor=factor
    )


def _example(
    facts: Facts,
    row: dict[str, Any],
    clean: NDArray[np.float32],
    attacked: NDArray[np.float32],
    bounds: tuple[float, float],
    factor: int,
) -> Example:
    goal = int(row.get("goal", -1))
    if not bool(row.get("eligible", True)):
        outcome = "wrong before the attack"
    else:
        outcome = "fooled" if bool(row.get("success", False)) else "held"
    large = pictures.is_picture(clean.shape) and max(clean.shape[1:]) > pictures.LARGEST
    return Example(
        row=int(row.get("row", -1)),
        label=facts.class_name(int(row.get("label", -1))),
        goal=facts.class_name(goal) if goal >= 0 else None,
        outcome=outcome,
        figures={
            k: float(v) for k, v in row.items() if "confidence" in k or k in ("linf", "l2", "ssim")
        },
        clean_label=facts.class_name(int(row.get("clean_label", -1))),
        attacked_label=facts.class_name(int(row.get("attacked_label", -1))),
        arrays=(clean, attacked),
        bounds=bounds,
        factor=factor,
        thinned=(clean.shape[1], clean.shape[2]) if large else None,
    )
