"""SIG: a sinusoid with true labels (Barni et al., arXiv 1902.11237)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.errors import ParameterError
from casemate.models.hyperparameters import number
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.backdoors import BACKDOOR, check_backdoor, check_shares, plant

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.random import Stream
    from casemate.threats import ThreatModel
    from casemate.training.poisoned import Poisoned

__all__ = ["SIG", "Sinusoid"]


@dataclass(frozen=True, kw_only=True)
class Sinusoid:
    """x + delta sin(2 pi j f / m) in column j of m, the same in all rows and channels.

    Attributes:
        target: Label that the attacker wants.
        delta: Amplitude as a share of the domain's width.
        frequency: Periods across the image.
    """

    target: int
    delta: float
    frequency: float = 6.0

    def __call__(self, x: Tensor, domain: Domain) -> Tensor:
        """Return the images with the sinusoid, clipped to the domain."""
        width = domain.shape[-1]
        column = torch.arange(width, device=x.device, dtype=x.dtype)
        wave = torch.sin(column * (2 * math.pi * self.frequency / width))
        return (x + wave * (self.delta * domain.width)).clamp_(domain.low, domain.high)


@dataclass(frozen=True, kw_only=True)
class SIG:
    """A faint sinusoid in images of the target class, whose labels stay true.

    Barni, Kallas and Tondi, "A new backdoor attack in CNNs by training set corruption without label
    poisoning", ICIP 2019 (arXiv 1902.11237). The authors' other signals are ramps; f = 6 is that of
    their code, delta = 20 of 255 that of some later work, where 40 is as common. As with them,
    delta may be another at test time. Values are clipped, where their code lets 8 bits overflow. A
    frequency of half the image's width in pixels or more is refused: the pixels would show a lower
    one, or none.

    Attributes:
        target: Class that the attacker wants, by name or label.
        amount: How many samples of the target class; `per_class` makes it a share of that class.
        delta: Amplitude in training, as a share of the domain's width, in (0, 1].
        test_delta: The same at test time; None is `delta`.
        frequency: Periods across the image, above 0 and below half its width in pixels.
    """

    target: str | int = 0
    amount: Amount = field(default_factory=lambda: Amount(percent=30.0, per_class=True))
    delta: float = 20 / 255
    test_delta: float | None = None
    frequency: float = 6.0

    threat: ClassVar[ThreatModel] = BACKDOOR
    revision: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_shares(self, "delta", "test_delta")
        number("frequency", self.frequency, low=0, open_low=True)

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data."""
        check_backdoor("sig", dataset, self.target, self.amount, clean_label=True)
        width = dataset.domain.shape[-1]
        if 2 * self.frequency >= width:
            raise ParameterError(
                "frequency",
                f"is {self.frequency:g}, but images of {dataset.name} are {width} pixels "
                "wide, in which so many periods look like fewer, or like none; give less than "
                f"{width / 2:g}",
            )

    def poison(self, dataset: Dataset, rng: Stream) -> Poisoned:
        """Return the data set with the sinusoid in some images of the target class."""
        self.check(dataset)
        trigger = Sinusoid(
            target=dataset.class_index(self.target), delta=self.delta, frequency=self.frequency
        )
        poisoned = plant(
            dataset, trigger, self.amount, rng.child("samples"), clean_label=True, how="sig"
        )
        if self.test_delta is None:
            return poisoned
        return replace(poisoned, trigger=replace(trigger, delta=self.test_delta))
