"""`Recipe`: everything that decides how a model is trained, except architecture, data and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeVar, get_args

from casemate.errors import ParameterError, did_you_mean
from casemate.models.hyperparameters import choice, flag, number, whole
from casemate.training.adversarial import Adversarial
from casemate.training.augmentation import Augmentation
from casemate.training.precision import PRECISIONS, Precision

__all__ = ["OptimizerName", "Recipe", "ScheduleName"]

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["constant", "cosine", "one-cycle"]

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Attributes:
        optimizer: "sgd" (Nesterov, if there is momentum), "adam" (Kingma and Ba, ICLR 2015) or
            "adamw" (Loshchilov and Hutter, ICLR 2019).
        learning_rate: The highest of the schedule.
        momentum: Of "sgd"; the other two use it as their first beta.
        weight_decay: Per step and unit of learning rate; spares biases and normalization.
        schedule: "constant", "cosine" (Loshchilov and Hutter, ICLR 2017, one descent to zero) or
            "one-cycle" (Smith and Topin, 2018: a straight climb over the first quarter, then a
            straight descent to zero).
        epochs: Passes over the data.
        batch_size: Samples a step; samples that do not fill a batch wait for another epoch.
        label_smoothing: Probability mass spread over all classes, from 0 to below 1.
        augmentation: Random changes to training images.
        adversarial: Train on PGD examples, or None.
        precision: "float32", "bfloat16" (autocast; the weights stay float32), or "auto":
            whichever the device gains by.
        channels_last: Memory layout of images; convolutions gain by it.
    """

    revision: ClassVar[int] = 1

    optimizer: OptimizerName = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: ScheduleName = "one-cycle"
    epochs: int = 10
    batch_size: int = 128
    label_smoothing: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    adversarial: Adversarial | None = None
    precision: Precision = "auto"
    channels_last: bool = True

    def __post_init__(self) -> None:
        choice("recipe.optimizer", self.optimizer, get_args(OptimizerName))
        choice("recipe.schedule", self.schedule, get_args(ScheduleName))
        choice("recipe.precision", self.precision, PRECISIONS)
        whole("recipe.epochs", self.epochs, low=1, high=100_000)
        whole("recipe.batch_size", self.batch_size, low=2)
        flag("recipe.channels_last", self.channels_last)
        for key, value in (
            (
                "learning_rate",
                number("recipe.learning_rate", self.learning_rate, low=0, open_low=True),
            ),
            ("momentum", number("recipe.momentum", self.momentum, low=0, high=0.9999)),
            ("weight_decay", number("recipe.weight_decay", self.weight_decay, low=0)),
            (
                "label_smoothing",
                number("recipe.label_smoothing", self.label_smoothing, low=0, high=0.999),
            ),
            ("augmentation", _nested("augmentation", self.augmentation, Augmentation)),
            (
                "adversarial",
                None
                if self.adversarial is None
                else _nested("adversarial", self.adversarial, Adversarial),
            ),
        ):
            object.__setattr__(self, key, value)

    @classmethod
    def of(cls, settings: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
        """Return the recipe of a mapping as it stands in YAML or JSON.

        Args:
            settings: Fields of `Recipe`; `augmentation` and `adversarial` are mappings themselves.
            where: What the user calls the mapping, for messages.

        Raises:
            UsageError: If a key is unknown or a value does not fit.
        """
        return _made(where, settings, cls)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        Args:
            step: From 0 to steps - 1.
            steps: In the whole training.
        """
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        climb = max(1.0, steps / 4)
        if step < climb:
            return self.learning_rate * (step + 1) / (climb + 1)
        return self.learning_rate * (steps - step) / (steps - climb + 1)


def _nested(key: str, value: Any, cls: type[_T]) -> _T:
    if isinstance(value, cls):
        return value
    return _made(f"recipe.{key}", value, cls)


def _made(where: str, settings: Any, cls: type[_T]) -> _T:
    if not isinstance(settings, Mapping):
        raise ParameterError(where, f"must be a mapping of settings, got {settings!r}")
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type] # only dataclasses come here
    for key in settings:
        if key not in known:
            raise ParameterError(where, f'has no setting "{key}".{did_you_mean(str(key), known)}')
    try:
        return cls(**settings)
    except TypeError as error:  # a setting without a default is missing
        raise ParameterError(where, f"is incomplete: {error}") from error
