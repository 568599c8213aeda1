"""`Deployment`: what a campaign says of a model's deployment besides attack and defense."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from casemate.errors import ParameterError
from casemate.hardware.formats import NumberFormat
from casemate.identity import canonical

if TYPE_CHECKING:
    from casemate.hardware.rowhammer.module import MemoryModule

__all__ = ["Deployment"]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """How a model is deployed, and what the attacker on its hardware has.

    Attributes:
        format: Number format of the model in memory; its name alone will do.
        attacker: Whether the attacker knows the defense: "aware", or "unaware".
        rowhammer: The memory module that the attacker hammers, so that only its weak cells flip;
            any bit flips if omitted.
        calibration: Inputs that set the ranges of integer activations and of defenses.
        inputs: Inputs that the attacker has.
        memory_limit: MiB that activations and work may take where single faults are tried; images
            are done in parts if need be. It changes no figure.
    """

    format: NumberFormat = field(default_factory=NumberFormat)
    attacker: Literal["aware", "unaware"] = "aware"
    rowhammer: MemoryModule | None = None
    calibration: int = 512
    inputs: int = 1024
    memory_limit: int = 4096

    def described(
        self,
        attack: dict[str, Any] | None,
        defense: dict[str, Any] | None,
        *,
        chosen: bool,
    ) -> dict[str, Any]:
        """Return all that stands at the gate as plain JSON data.

        Args:
            attack: Its settings, or None.
            defense: Its settings, or None.
            chosen: Whether somebody chooses what is struck; else nobody knows the defense.
        """
        return {
            "format": canonical(self.format),
            "attack": attack,
            "defense": defense,
            "attacker": self.attacker if chosen and defense else None,
            "rowhammer": None if self.rowhammer is None else self.rowhammer.settings,
            "calibration": self.calibration,
            "inputs": self.inputs,
        }

    def __post_init__(self) -> None:
        if self.attacker not in ("aware", "unaware"):
            raise ParameterError(
                "attacker", f'is "{self.attacker}", but must be one of aware, unaware'
            )
        if not isinstance(self.format, NumberFormat):
            raise ParameterError(
                "format", f"is {self.format!r}, but must be a NumberFormat, or its name"
            )
        for key in ("calibration", "inputs", "memory_limit"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ParameterError(key, f"must be a whole number, got {value!r}")
            if getattr(self, key) < 1:
                raise ParameterError(key, f"is {getattr(self, key)}, but must be at least 1")
