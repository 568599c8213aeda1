"""Noise in training images: the same labels, worse inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from casemate.errors import ParameterError
from casemate.models.hyperparameters import choice, number
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.backdoors import words
from casemate.training.poisoned import Poisoned

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset
    from casemate.random import Stream

__all__ = ["InputNoise"]


@dataclass(frozen=True, kw_only=True)
class InputNoise:
    """Random noise in some inputs; their labels stay. The grid of Khalid et al., as far as known.

    The seed paper names noise in training images without its parameters; the definition is ours.

    Attributes:
        kind: "gaussian" adds normal numbers of deviation `intensity`, "uniform" adds numbers
            uniform in [-intensity, intensity], "salt-and-pepper" sets each value (of an image: each
            pixel, in all channels) with probability `intensity` to the domain's lower or upper
            bound, one as likely as the other.
        intensity: In the domain's units, above 0; for "salt-and-pepper" a probability up to 1.
        amount: How many samples get noise; one that noise leaves as it was, such as black pixels
            set to black, does not count as touched.
        classes: Only samples of these, by name or label, each named once; None takes all.
    """

    kind: Literal["gaussian", "uniform", "salt-and-pepper"] = "gaussian"
    intensity: float = 0.5
    amount: Amount = field(default_factory=lambda: Amount(percent=10.0))
    classes: tuple[str | int, ...] | None = None

    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="data-poisoning",
        stage=Stage.TRAINING,
        goals=(Goal.AVAILABILITY,),
        access=Access.NONE,
        knowledge=Knowledge.BLACK_BOX,
        budget="number of training samples and intensity of their noise",
    )
    revision: ClassVar[int] = 2

    def __post_init__(self) -> None:
        choice("kind", self.kind, ("gaussian", "uniform", "salt-and-pepper"))
        most = 1.0 if self.kind == "salt-and-pepper" else math.inf
        number("intensity", self.intensity, low=0, high=most, open_low=True)
        if self.classes is not None and not self.classes:
            raise ParameterError(
                "classes", "is an empty list; name a class, or leave it out for all"
            )

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data."""
        self.amount.shares(dataset, self._allowed(dataset))

    def _allowed(self, dataset: Dataset) -> Tensor:
        """Return (n,) bool, samples of the chosen classes."""
        if self.classes is None:
            return torch.ones(len(dataset), dtype=torch.bool)
        wanted: list[int] = []
        for i, name in enumerate(self.classes):
            label = dataset.class_index(name, f"classes[{i}]")
            if label in wanted:
                raise ParameterError(
                    f"classes[{i}]",
                    f'is "{dataset.classes[label]}", which is named before; name each class once',
                )
            wanted.append(label)
        return torch.isin(dataset.targets, torch.tensor(wanted))

    def poison(self, dataset: Dataset, rng: Stream) -> Poisoned:
        """Return the data set with noise in some inputs."""
        chosen = self.amount.choose(dataset, self._allowed(dataset), rng.child("samples"))
        named = words(dataset, chosen)
        noisy = self._noisy(dataset.batch(chosen), dataset, named, rng.child("noise"))
        poisoned = dataset.replaced(chosen, inputs=noisy, how="input-noise")
        return Poisoned.of(dataset, poisoned, chosen)

    def _noisy(self, x: Tensor, dataset: Dataset, words: Tensor, rng: Stream) -> Tensor:
        """Return noisy inputs; the noise belongs to the sample, not to its place."""
        domain = dataset.domain
        if self.kind == "gaussian":
            x += rng.normal(words, domain.shape).mul_(self.intensity)
        elif self.kind == "uniform":
            x += rng.uniform(words, domain.shape).mul_(2).sub_(1).mul_(self.intensity)
        else:
            shape = (1, *domain.shape[1:]) if domain.is_image else domain.shape
            draw = rng.uniform(words, shape)
            half = self.intensity / 2
            x = torch.where(draw < half, domain.low, x)
            x = torch.where((draw >= half) & (draw < self.intensity), domain.high, x)
        return x.clamp_(domain.low, domain.high)
