"""What a trial proves: measurements, health flags, what it cost, and the samples behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from casemate.stats import Measurement

__all__ = ["Evidence", "HealthFlag", "Severity", "Verdict"]


class Severity(str, Enum):
    """How much a health flag weighs."""

    FAILURE = "failure"
    """The attack itself did not work: low success proves nothing."""
    WARNING = "warning"
    """Worth knowing when reading the figures; they stand."""


class Verdict(str, Enum):
    """What a policy makes of the evidence."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class HealthFlag:
    """A sign that an attack failed to run as it should; each has a paragraph in docs/health.md.

    Attributes:
        id: Name of the indicator, such as "zero-gradients".
        severity: Whether the figures still stand.
        message: One sentence: what was seen, with figures, and what to do.
    """

    id: str
    severity: Severity
    message: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Measurements of one trial and what they rest on.

    Attributes:
        measurements: Figures with n and interval.
        flags: Signs that the attack itself failed.
        spent: What the attacker and the verifier used, by name: "attack forward samples",
            "attack backward samples", "verifier forward samples", ...
        samples: One row a sample, by column name; every array has the same first axis.
        examples: A few samples in full, for pictures: "index" (k,), "clean" and "attacked"
            (k, *shape) float32 in the domain's units.
    """

    measurements: tuple[Measurement, ...]
    flags: tuple[HealthFlag, ...] = ()
    spent: dict[str, int] = field(default_factory=dict)
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    examples: dict[str, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Measurement:
        for measurement in self.measurements:
            if measurement.name == name:
                return measurement
        raise KeyError(name)

    @property
    def failed(self) -> tuple[HealthFlag, ...]:
        """The flags that make low attack success worthless as a proof of robustness."""
        return tuple(f for f in self.flags if f.severity is Severity.FAILURE)
