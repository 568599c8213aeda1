"""The sections of a trial besides its plugins: model, training gate, goal and options."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from casemate.errors import UsageError
from casemate.hardware.deployment import Deployment
from casemate.identity import key

if TYPE_CHECKING:
    from casemate.campaign.plugins import Plugin

__all__ = [
    "USER_MODELS",
    "Goal",
    "Hardware",
    "HeldOut",
    "ModelChoice",
    "Options",
    "Training",
    "plain_model",
]

ClassRef = str | int


USER_MODELS = ("factory", "onnx", "sklearn", "function")
"""The key that tells which kind of user's model a section describes."""


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """The model under test: one that is trained here, or one that comes trained.

    Attributes:
        settings: The section with all its defaults, plain JSON data.
        architecture: A registered one, which is trained here.
        recipe: How, if it is trained here.
        given: The section as written, if it is the user's: with a recipe a factory whose network is
            trained here, which takes the data to build; without one a model that comes trained.
    """

    settings: dict[str, Any]
    architecture: Plugin | None = None
    recipe: Any = None
    given: dict[str, Any] | None = None

    @property
    def trained_here(self) -> bool:
        """Whether it is trained here, rather than coming trained."""
        return self.recipe is not None

    @cached_property
    def digest(self) -> str:
        """Hash of the settings; what files hold is not in it, nor is the code of a factory."""
        return key(
            "model", self.settings, self.architecture.revision if self.architecture else None
        )


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Samples that no attacker touches.

    Attributes:
        clean: How many samples of the training split, about, are held out before any attack, for a
            defense that needs clean ones. Nothing else is trained on them.
    """

    clean: int = 0

    def __post_init__(self) -> None:
        if self.clean < 0:
            raise UsageError(f"is {self.clean}, but must not be negative")


@dataclass(frozen=True, kw_only=True)
class Training(HeldOut):
    """What stands at the training gate.

    Attributes:
        attack: On the training data, or None.
        defense: Against such attacks, or None.
    """

    attack: Plugin | None = None
    defense: Plugin | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        defense = self.defense
        if defense is not None and defense.value.needs_clean and not self.clean:
            raise UsageError(
                f"{defense.name} needs clean samples and gets none; set clean to how many of the "
                "training split to hold out"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """The section with all defaults, plain JSON data."""
        return {
            "attack": self.attack and self.attack.settings,
            "defense": self.defense and self.defense.settings,
            "clean": self.clean,
        }

    @cached_property
    def digest(self) -> str:
        """Hash of all of it."""
        return key(
            "training gate",
            self.attack and self.attack.digest,
            self.defense and self.defense.digest,
            self.clean,
        )


@dataclass(frozen=True, kw_only=True)
class Hardware(Deployment):
    """What stands at the hardware gate.

    Attributes:
        attack: On the deployed model, or None.
        defense: Against such attacks, or None.
    """

    attack: Plugin | None = None
    defense: Plugin | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The section with all defaults, plain JSON data."""
        return self.described(
            None if self.attack is None else self.attack.settings,
            None if self.defense is None else self.defense.settings,
            chosen=self.attack is not None and hasattr(self.attack.value, "run"),
        )

    @cached_property
    def digest(self) -> str:
        """Hash of all of it."""
        settings = self.settings
        return key(
            "hardware gate",
            {**settings, "attack": None, "defense": None},
            self.attack and self.attack.digest,
            self.defense and self.defense.digest,
        )


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the attacker wants.

    Attributes:
        from_: Only samples of this class, by name or label; None takes all.
        to: The class to reach, by name or label; None takes any wrong one.
    """

    from_: ClassRef | None = field(default=None, metadata={"key": "from"})
    to: ClassRef | None = None


@dataclass(frozen=True, kw_only=True)
class Options:
    """What else decides a trial.

    Attributes:
        attacker: Position relative to the defense: "after", "before" not knowing it, or "aware".
        samples: How many samples of the test split, stratified by class. By default 100 where they
            are attacked at inference, 1000 where the model is attacked in its hardware, and all of
            them where not.
        early_stop: Drop a sample once it is fooled.
        round: Round what the attack returns to 8 bits (the domain's step) before judging it.
        queries: Most points of a sample that the attacker may have evaluated; as many as the attack
            asks for if omitted.
        seed: Seed of all random draws of the trial, and of the training of its model.
    """

    attacker: Literal["after", "before", "aware"] = "aware"
    samples: int | None = None
    early_stop: bool = True
    round: bool = False
    queries: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise UsageError(f"samples is {self.samples}, but a trial needs at least 1")
        if self.queries is not None and self.queries < 1:
            raise UsageError(f"queries is {self.queries}, but an attacker needs at least 1")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, but it must not be negative")


def plain_model(choice: ModelChoice) -> str:
    """Return the model in a few words, for tables: "vgg", "package.module:make"."""
    for tag in ("architecture", *USER_MODELS):
        if choice.settings.get(tag):
            return str(choice.settings[tag])
    return "model"
