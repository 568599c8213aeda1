"""What a trial proves: measurements, health flags, what it cost, and the samples behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from casemate.stats import Measurement

__all__ = [
    "AT_HARDWARE",
    "AT_INFERENCE",
    "FALSE_FLAG",
    "FLAGGED",
    "MEASURES",
    "NAMED",
    "ONCE_A_TRIAL",
    "Evidence",
    "HealthFlag",
    "Severity",
    "Verdict",
]

FLAGGED, FALSE_FLAG = "backdoor flagged", "backdoor flagged falsely"
NAMED = "backdoor target named"
ONCE_A_TRIAL = (FLAGGED, NAMED, FALSE_FLAG)
"""What a trial answers with yes or no, so that only several trials make a share."""

AT_INFERENCE = {
    "attack success rate": "1",
    "clean accuracy": "1",
    "accuracy under attack": "1",
    "clean top-5 accuracy": "1",
    "top-5 accuracy under attack": "1",
    "confidence in true class, clean": "probability",
    "confidence in true class, attacked": "probability",
    "confidence in target class, clean": "probability",
    "confidence in target class, attacked": "probability",
    "distance linf": "domain units",
    "distance l2": "domain units",
    "ssim": "index",
}
"""What a trial with an attack at inference measures, with the unit."""

AT_HARDWARE = {
    "accuracy before deployment": "1",
    "bits flipped": "bits",
    "bits flipped until the goal": "bits",
    "mean corruption": "1",
    "mean accuracy drop": "1",
    "critical faults": "1",
    "faults detected": "1",
    "faults repaired": "1",
    "false alarms of the defense": "1",
    "storage of the defense": "x",
    "operations of the defense": "x",
}
"""What a trial that ends with the deployed model measures of it alone, with the unit."""

MEASURES = {
    **AT_INFERENCE,
    **AT_HARDWARE,
    "accuracy without the attack": "1",
    "clean accuracy drop": "1",
    "worst class accuracy drop": "1",
    "clean accuracy drop of another clean model": "1",
    "worst class accuracy drop of another clean model": "1",
    "attack success rate without the attack": "1",
    "target answered without the trigger": "1",
    "poisoned samples learned": "1",
    "precision of removal": "1",
    "recall of removal": "1",
    "area under the curve": "probability",
    "certified poisons": "samples",
    FLAGGED: "1",
    NAMED: "1",
    FALSE_FLAG: "1",
    "epsilon": "nats",
    "seconds of the defense": "s",
    "false alarms by accuracy": "1",
    "false alarms by confidence": "1",
    "false alarms by classes": "1",
    "detection by accuracy": "1",
    "detection by confidence": "1",
    "detection by classes": "1",
    "detection by accuracy with triggers": "1",
    "detection by confidence with triggers": "1",
    "detection by classes with triggers": "1",
    "alarms by accuracy over another clean model": "1",
    "alarms by confidence over another clean model": "1",
    "alarms by classes over another clean model": "1",
    "alarms by accuracy over another clean model with triggers": "1",
    "alarms by confidence over another clean model with triggers": "1",
    "alarms by classes over another clean model with triggers": "1",
    "monitor false alarms": "1",
    "monitor detection": "1",
    "monitor area under the curve": "probability",
    "monitor detection without the attack": "1",
    "monitor area under the curve without the attack": "probability",
}
"""What a trial can measure, with the unit; a policy's rules name these."""


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
        by_class: Clean accuracy of each class, at the place of its label, whatever their number;
            empty where no trained model was held against its reference. They stand apart so that
            hundreds of classes bury no other figure; no rule of a policy names them.
        flags: Signs that the attack itself failed.
        spent: Samples that the attacker, the verifier and the health checks sent through the
            model, by name: "attack forward", "attack backward", "verifier forward", ...
        samples: One row a sample, by column name; every array has the same first axis.
        examples: A few samples in full, for pictures: "position" (k,) in the columns of
            `samples`, "clean" and "attacked" (k, *shape) float32 in the domain's units, and the
            domain's "bounds" (2,).
        notes: What the defense at training noted, such as {"layer": "fc3"}, or how the model was
            deployed: plain JSON data of bounded size, finite numbers only; untrusted text.
        tables: Figures that belong together, by name: columns of equal length by their name, plain
            JSON data.
    """

    measurements: tuple[Measurement, ...]
    by_class: tuple[Measurement, ...] = ()
    flags: tuple[HealthFlag, ...] = ()
    spent: dict[str, int] = field(default_factory=dict)
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    examples: dict[str, np.ndarray] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, dict[str, list[Any]]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Measurement:
        for measurement in self.measurements:
            if measurement.name == name:
                return measurement
        raise KeyError(name)

    @property
    def failed(self) -> tuple[HealthFlag, ...]:
        """The flags that make low attack success worthless as a proof of robustness."""
        return tuple(f for f in self.flags if f.severity is Severity.FAILURE)
