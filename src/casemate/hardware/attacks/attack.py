"""What attacks on a deployed model are: flips that somebody chose, and accidents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.evidence import HealthFlag
    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.attacks.outcome import Outcome
    from casemate.hardware.attacks.readings import Aim, Reading
    from casemate.hardware.attacks.samples import Samples
    from casemate.hardware.bench import Bench
    from casemate.hardware.implementation import Implementation
    from casemate.random import Stream
    from casemate.stats import Measurement
    from casemate.threats import ThreatModel

__all__ = ["Accident", "ChosenFlips", "Observed"]


@runtime_checkable
class ChosenFlips(Protocol):
    """A frozen dataclass that chooses bits to flip one after another."""

    threat: ClassVar[ThreatModel]
    revision: ClassVar[int]

    @property
    def has_goal(self) -> bool:
        """Whether there is a goal that ends the attack."""

    @property
    def aim(self) -> Aim | None:
        """Which inputs are to get which label; None for any wrong one."""

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if a parameter does not fit the model."""

    def wants(self, reading: Reading) -> bool:
        """Return whether the goal is reached where the model fares so."""

    def forwards(self, layers: int, images: int) -> int:
        """Return about how many inputs run through the model, for estimates of time."""

    def run(
        self,
        deployed: Implementation,
        pool: Samples,
        evaluation: Samples,
        rng: Stream,
        *,
        constraint: Constraint | None = None,
    ) -> Outcome:
        """Return the flips, with what they do to a model without defense."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What an accident did.

    Attributes:
        measurements: Figures.
        tables: Figures that belong together, as `Evidence.tables`.
        spent: As `Evidence.spent`.
        flags: Signs that something did not run as it should.
        notes: What else there is to say, as `Evidence.notes`.
    """

    measurements: tuple[Measurement, ...]
    tables: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    flags: tuple[HealthFlag, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Accident(Protocol):
    """A frozen dataclass that has faults strike by chance, and measures what they do."""

    threat: ClassVar[ThreatModel]
    revision: ClassVar[int]
    measures: ClassVar[tuple[str, ...]]

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if a parameter does not fit the model."""

    def forwards(self, layers: int, images: int) -> int:
        """Return about how many inputs run through the model, for estimates of time."""

    def observe(
        self, bench: Bench, *, progress: Callable[[int, int], None] | None = None
    ) -> Observed:
        """Return what happens on a bench; `progress` is called with what is done, of how much."""
