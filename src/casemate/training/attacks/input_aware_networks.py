"""How the networks of the input-aware backdoor are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.training.attacks.input_aware_trigger import (
    Generator,
    InputTrigger,
    apply,
    centered,
    sharpened,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.target import TorchTarget
    from casemate.training.attacks.input_aware import InputAware
    from casemate.training.lab import Lab
    from casemate.training.trained import TrainedModel

__all__ = ["FEWEST", "Networks", "diversity"]

_DECIDE = (
    "density",
    "diversity",
    "sparsity",
    "share",
    "mask_epochs",
    "epochs",
    "batch_size",
    "learning_rate",
    "width",
    "revision",
)
FEWEST = 4  # two attacked and two crossed: batch normalization has no variance over one


def diversity(x: Tensor, other: Tensor, made: Tensor, made_of_other: Tensor) -> Tensor:
    """Return the mean ratio of the distances of inputs and of what was made of them.

    Distances are root mean squares; both floors keep gradients finite where images are equal.
    """

    def apart(a: Tensor, b: Tensor) -> Tensor:
        return ((a - b).square().flatten(1).mean(1) + 1e-14).sqrt()

    return (apart(x, other) / (apart(made, made_of_other) + 1e-7)).mean()


class Networks:
    """Training of masks, then of patterns with a surrogate; random numbers of one stream."""

    def __init__(
        self, attack: InputAware, dataset: Dataset, target: int, rng: Stream, lab: Lab
    ) -> None:
        self.attack = attack
        self.dataset = dataset
        self.target = target
        self.rng = rng
        self.lab = lab
        self.batch = min(attack.batch_size, len(dataset))

    def trigger(self) -> InputTrigger:
        """Return the trained trigger; torch's own random state stays as it was."""
        surrogate = self.lab.trained(self.dataset)
        self.lab.samples += len(self.dataset) * self.attack.epochs
        how = "input-aware", self._settings, self.dataset.digest, self.target, self.rng.key
        numbers = self.lab.computed((*how, surrogate.digest), lambda: self._trained(surrogate))
        masks, patterns = self._networks("meta")
        half = _size(masks)
        return InputTrigger(
            target=self.target,
            width=self.attack.width,
            patterns=_state(patterns, numbers[half:]),
            masks=_state(masks, numbers[:half]),
        )

    @property
    def _settings(self) -> dict[str, Any]:
        """Parameters that decide the networks; not how many samples they poison."""
        return {name: getattr(self.attack, name) for name in _DECIDE}

    def _networks(self, place: torch.device | str) -> tuple[Generator, Generator]:
        channels, width = self.dataset.domain.shape[0], self.attack.width
        with torch.device(place):
            return Generator(channels, 1, width), Generator(channels, channels, width)

    def _trained(self, surrogate: TrainedModel) -> Tensor:
        """Return the numbers of the trained masks, then of the patterns."""
        place = torch.device(self.lab.device)
        with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
            # initial weights and dropout draw from the default generators
            torch.default_generator.manual_seed(self.rng.child("networks").key >> 1)
            if place.type == "cuda":
                torch.cuda.manual_seed(self.rng.child("networks").key >> 1)
            masks, patterns = (network.to(place) for network in self._networks("cpu"))
            self._train_masks(masks)
            masks.eval().requires_grad_(requires_grad=False)
            self._train_patterns(patterns, masks, surrogate.target(place))
        return torch.cat([_numbers(masks), _numbers(patterns)])

    def _train_masks(self, masks: Generator) -> None:
        """Make masks sparse and unlike each other."""
        attack, domain = self.attack, self.dataset.domain
        adam = torch.optim.Adam(masks.parameters(), lr=attack.learning_rate, betas=(0.5, 0.9))
        for first, second in self._pairs("masks", attack.mask_epochs, [adam]):
            x, other = (centered(self._inputs(p), domain) for p in (first, second))
            one, two = sharpened(masks(x)), sharpened(masks(other))
            excess = F.relu(one - attack.density).mean()
            loss = attack.sparsity * excess + attack.diversity * diversity(x, other, one, two)
            adam.zero_grad()
            torch.autograd.backward(loss)
            adam.step()

    def _train_patterns(self, patterns: Generator, masks: Generator, model: TorchTarget) -> None:
        """Teach patterns and the surrogate together: attacked, crossed and ordinary samples."""
        attack, domain = self.attack, self.dataset.domain
        rate = attack.learning_rate
        adam = torch.optim.Adam(patterns.parameters(), lr=rate, betas=(0.5, 0.9))
        classifier = model.module.requires_grad_(True).train()
        sgd = torch.optim.SGD(classifier.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
        part = max(2, int(attack.share * self.batch))
        for first, second in self._pairs("patterns", attack.epochs, [adam, sgd]):
            x, other = self._inputs(first), self._inputs(second[:part])
            labels = self.dataset.targets[first].to(x.device)
            labels[:part] = self.target
            own, seen = centered(x[:part], domain), centered(other, domain)
            made, made_of_other = patterns(own), patterns(seen)
            attacked = apply(x[:part], made, sharpened(masks(own)), domain)
            crossed = apply(x[part : 2 * part], made_of_other, sharpened(masks(seen)), domain)
            scores = model.scores(torch.cat([attacked, crossed, x[2 * part :]]))
            loss = F.cross_entropy(scores, labels)
            loss = loss + attack.diversity * diversity(own, seen, made, made_of_other)
            for optimizer in (adam, sgd):
                optimizer.zero_grad()
            torch.autograd.backward(loss)
            for optimizer in (adam, sgd):
                optimizer.step()

    def _inputs(self, positions: Tensor) -> Tensor:
        return self.dataset.batch(positions, device=self.lab.device)

    def _pairs(
        self, name: str, epochs: int, optimizers: Sequence[torch.optim.Optimizer]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the positions of two independent batches; lower the rates at two thirds."""
        draws = self.rng.child(name).torch()
        count = len(self.dataset)
        per_epoch = count // self.batch
        fall = 2 * epochs * per_epoch // 3
        for epoch in range(epochs):
            first, second = (torch.randperm(count, generator=draws) for _ in range(2))
            for step in range(per_epoch):
                if epoch * per_epoch + step == fall:
                    for optimizer in optimizers:
                        optimizer.param_groups[0]["lr"] *= 0.1
                part = slice(step * self.batch, (step + 1) * self.batch)
                yield first[part], second[part]


def _numbers(network: nn.Module) -> Tensor:
    """Return all numbers of a network, (n,) float64, which holds each exactly."""
    return torch.cat([v.detach().double().flatten().cpu() for v in network.state_dict().values()])


def _size(network: nn.Module) -> int:
    return sum(v.numel() for v in network.state_dict().values())


def _state(network: nn.Module, numbers: Tensor) -> dict[str, Tensor]:
    """Return the state of a network whose numbers `_numbers` returned."""
    like = network.state_dict()
    parts = torch.split(numbers, [v.numel() for v in like.values()])
    return {
        name: part.to(v.dtype).view(v.shape)
        for (name, v), part in zip(like.items(), parts, strict=True)
    }
