"""What the description of any user's model holds, and one sentence when it is not well formed."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from casemate.errors import UsageError, did_you_mean
from casemate.target import Outputs, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from casemate.data.domain import Domain
    from casemate.target import Target

__all__ = ["ModelSection", "preprocessing_from", "refusal"]


class ModelSection(BaseModel):
    """One kind of user's model, as written in a spec.

    Attributes:
        tag: The key that tells this kind.
        preprocessing: What happens to an input between its domain and the model.
        outputs: What the model gives; None takes what the model offers.
        accuracy: Accuracy that its owner declares, in [0, 1]; the preflight compares.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tag: ClassVar[str]

    preprocessing: Preprocessing | None = None
    outputs: Outputs | None = None
    accuracy: float | None = Field(default=None, ge=0, le=1)

    @field_validator("preprocessing", mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        return _complete(value)

    @abstractmethod
    def load(
        self, *, domain: Domain, classes: tuple[str, ...], base_dir: Path, device: str
    ) -> Target:
        """Return the model.

        Args:
            domain: What an input is.
            classes: Class names by label.
            base_dir: Folder that paths are relative to and that is searched for modules first.
            device: Where a torch module is to run; other models run where they are.

        Raises:
            UsageError: If the model cannot be had as described.
        """


def preprocessing_from(written: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing that a mapping describes, as in a model section.

    Raises:
        UsageError: If it is not well formed.
    """
    try:
        return TypeAdapter(Preprocessing).validate_python(_complete(dict(written)))
    except (ValidationError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UsageError(f"preprocessing: {reason.removeprefix('Value error, ')}") from error


def _complete(value: Any) -> Any:
    """Let one number stand for all channels and for both sides, and refuse unknown keys."""
    if not isinstance(value, dict):
        return value
    known = ("mean", "std", "size")
    for name in value:
        if name not in known:
            raise ValueError(f'there is no "{name}".{did_you_mean(str(name), known)}')
    full = {k: v for k, v in value.items() if v is not None}
    for name, times in (("mean", 1), ("std", 1), ("size", 2)):
        if isinstance(full.get(name), (int, float)):
            full[name] = (full[name],) * times
    return full


def refusal(error: ValidationError, section: type[ModelSection]) -> UsageError:
    """Return the first thing that is wrong with a section, as one sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in ("model", *first["loc"]))
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        known = section.model_fields.keys()
        return UsageError(
            f'model: "{section.tag}" takes no key "{name}".{did_you_mean(name, known)}'
        )
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if message.startswith("preprocessing."):  # its own sentence names the key already
        return UsageError(f"model.{message}")
    return UsageError(f"{where} is {first['input']!r}: {message}")
