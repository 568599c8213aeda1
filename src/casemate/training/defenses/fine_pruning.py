"""Fine-pruning: cut channels that clean samples do not use, then fine-tune (arXiv 1805.12185)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from casemate.data.splits import holdout, units
from casemate.errors import UsageError
from casemate.models.accuracy import accuracy
from casemate.models.architecture import skeleton
from casemate.models.layers import has_hidden_layer, layers, listening
from casemate.training.defenses.further_training import FurtherTraining
from casemate.training.defenses.mending import (
    FEWEST,
    Mending,
    clean_samples,
    floats,
    no_hidden_layer,
    some_clean,
)

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.target import TorchTarget
    from casemate.training.defended import Repaired
    from casemate.training.lab import Lab
    from casemate.training.trained import TrainedModel

__all__ = ["FinePruning"]

_BATCH = 512
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True, kw_only=True)
class FinePruning(FurtherTraining):
    """Channels of the last convolution that clean samples leave at rest are cut off for good.

    Liu, Dolan-Gavitt and Garg, "Fine-pruning: defending against backdooring attacks on deep neural
    networks", RAID 2018 (arXiv 1805.12185, sections 3.1 and 3.3): channels go by their mean
    activation on clean samples, the least active first, until clean accuracy falls below a
    threshold; then the network is fine-tuned. The threshold and the parameters of fine-tuning are
    those of BackdoorBench (arXiv 2206.12654).

    Ours: the activation is the positive part of what the layer gives, after the batch
    normalization that runs next if there is one, because ReLU follows in every network here. A
    network without convolutions loses units of its last hidden layer. Accuracy is taken on clean
    samples that fine-tuning does not see. Cut channels stay at zero during fine-tuning. One channel
    always stays.

    Attributes:
        epochs: Passes of fine-tuning over the other clean samples, at least 1.
        batch_size: Samples a step, at least 2.
        learning_rate: Of the first step, above 0; it falls to 0 along a cosine.
        momentum: Of SGD, from 0 to 0.9999.
        weight_decay: Per step and unit of learning rate, at least 0.
        tolerance: Largest share of clean accuracy that pruning may cost, from 0 to below 1.
        step: Share of the channels cut between two measurements, above 0 and up to 1; at least one
            channel.
        validation: Share of the clean samples that accuracy is measured on, above 0 and up to 0.9.
    """

    tolerance: float = 0.1
    step: float = 0.01
    validation: float = 0.2

    revision: ClassVar[int] = 1
    measures: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        floats(self, "tolerance", high=0.9999)
        floats(self, "step", high=1, open_low=True)
        floats(self, "validation", high=0.9, open_low=True)

    def check(self, dataset: Dataset, lab: Lab, clean: Dataset | None = None) -> None:
        """Raise `UsageError` if there are too few clean samples, or no channels to prune."""
        self._divided(some_clean("fine-pruning", clean), 0)
        if not has_hidden_layer(skeleton(lab.architecture, dataset.domain, len(dataset.classes))):
            raise no_hidden_layer("fine-pruning")

    def repair(
        self, model: TrainedModel, rng: Stream, lab: Lab, clean: Dataset | None = None
    ) -> Repaired:
        """Return the model pruned and fine-tuned."""
        known = clean_samples("fine-pruning", model, clean)
        mending = Mending(
            name="fine-pruning", defense=self, model=model, rng=rng, lab=lab, clean=known
        )
        rest, held = self._divided(known, rng.child("holdout").key)
        site = _Site.of(mending.target)
        cut, before, after = self._prune(site, mending.target, rest, held)
        self.train_on(mending, rest, after=lambda: site.silence(cut))
        return mending.done(
            notes={
                "layer": site.name,
                "channels": site.channels,
                "pruned": cut.tolist(),
                "accuracy": {"before": before, "pruned": after},
            }
        )

    def _divided(self, known: Dataset, seed: int) -> tuple[Dataset, Dataset]:
        """Return the clean samples to tune on, and those that accuracy is measured on.

        Raises:
            UsageError: If there are too few for both.
        """
        try:
            rest, held = holdout(known, self.validation, seed)
        except UsageError as error:
            raise self._too_few(known) from error
        if len(rest) < FEWEST:
            raise self._too_few(known)
        return rest, held

    def _too_few(self, known: Dataset) -> UsageError:
        """Return the error that says how many clean samples are enough."""
        # then one class has two, of which one can be held out, and the share is no less than half
        # a sample, which is rounded up
        enough = max(len(known.classes) + 1, math.ceil(0.5 / self.validation))
        return UsageError(
            f"fine-pruning measures accuracy on a share of {self.validation:g} of the clean "
            f"samples (validation) and tunes on the others, at least one of each class, for which "
            f"{len(known)} are too few; set training.clean to "
            f"{math.ceil(enough * len(known) / units(known))} or more"
        )

    def _prune(
        self, site: _Site, target: TorchTarget, data: Dataset, held: Dataset
    ) -> tuple[Tensor, float, float]:
        """Return the channels that were cut, and accuracy before and after."""
        order = site.activation(target, data).argsort(stable=True)
        every = max(1, round(self.step * site.channels))
        before = after = _accuracy(target, held)
        kept = {k: v.clone() for k, v in target.module.state_dict().items()}
        cut = order[:0]
        for count in range(every, site.channels, every):
            site.silence(order[:count])
            now = _accuracy(target, held)
            if before - now > self.tolerance * before:
                break
            cut, after = order[:count], now
        target.module.load_state_dict(kept)
        site.silence(cut)
        return cut, before, after


@dataclass(frozen=True, kw_only=True, eq=False)
class _Site:
    """Where channels are cut.

    Attributes:
        name: Of the layer.
        module: The layer.
        norm: The batch normalization that runs next, if any.
        channels: How many there are.
    """

    name: str
    module: nn.Module
    norm: nn.Module | None
    channels: int

    @classmethod
    def of(cls, target: TorchTarget) -> _Site:
        """Return the last convolution before the scores, else the last hidden linear layer."""
        inner = layers(target)[:-1]
        chosen = [x for x in inner if x.is_convolution] or list(inner)
        if not chosen:
            raise no_hidden_layer("fine-pruning")
        last = chosen[-1]
        return cls(
            name=last.name,
            module=last.module,
            norm=_following(target, last.module),
            channels=last.shape[0],
        )

    def activation(self, target: TorchTarget, data: Dataset) -> Tensor:
        """Return (channels,) mean activation."""
        total = torch.zeros(self.channels, dtype=torch.float64, device=target.device)

        def told(_: Tensor, out: Tensor) -> None:
            places = out.clamp(min=0).view(*out.shape[:2], -1)
            total.add_(places.mean(2).double().sum(0))

        with (
            torch.no_grad(),
            listening(self.module if self.norm is None else self.norm, told),
        ):
            for begin in range(0, len(data), _BATCH):
                target.scores(data.batch(slice(begin, begin + _BATCH), device=target.device))
        return (total / len(data)).cpu()

    @torch.no_grad()
    def silence(self, channels: Tensor) -> None:
        """Set what makes these channels to zero."""
        for module in (self.module, self.norm):
            for parameter in () if module is None else module.parameters(recurse=False):
                parameter[channels.to(parameter.device)] = 0


def _accuracy(target: TorchTarget, data: Dataset) -> float:
    return accuracy(target, data).value or 0.0


def _following(target: TorchTarget, layer: nn.Module) -> nn.Module | None:
    """Return the batch normalization that runs after a layer and before any other with weights."""
    order: list[nn.Module] = []
    handles = [
        m.register_forward_hook(lambda module, *_: order.append(module))
        for m in target.module.modules()
        if next(m.parameters(recurse=False), None) is not None
    ]
    blank = torch.full((1, *target.domain.shape), target.domain.low, device=target.device)
    try:
        with torch.no_grad():
            target.scores(blank)
    finally:
        for handle in handles:
            handle.remove()
    after = order[order.index(layer) + 1]  # the layer of the scores runs later
    return after if isinstance(after, _NORMS) else None
