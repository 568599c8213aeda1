"""Adversarial neuron pruning: cut the neurons that small changes turn (arXiv 2110.14430)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.models.architecture import skeleton
from casemate.models.hyperparameters import whole
from casemate.models.layers import has_hidden_layer, layers
from casemate.training.defenses.mending import (
    Mender,
    Mending,
    clean_samples,
    floats,
    no_hidden_layer,
)
from casemate.training.loop import steady
from casemate.training.passes import Passes

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.target import TorchTarget
    from casemate.training.defended import Repaired
    from casemate.training.lab import Lab
    from casemate.training.trained import TrainedModel

    Factors = dict[str, Tensor]
    """By the name of a layer, (neurons,) factors."""
    _Loss = Callable[[Factors, Factors], Tensor]

__all__ = ["AdversarialPruning", "Neurons"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, kw_only=True)
class AdversarialPruning(Mender):
    """Neurons are cut whose weights, changed a little, make clean samples go wrong.

    Wu and Wang, "Adversarial neuron pruning purifies backdoored deep models", NeurIPS 2021 (arXiv
    2110.14430), with the parameters of the authors' code, which tries many a threshold. A mask in
    [0, 1] for each neuron's weight is learned on clean samples against the worst relative changes
    of weights and biases; neurons with a mask of at most `threshold` lose their weight and keep
    their bias.

    Neurons are the channels of batch normalization, as in the authors' code; a network without it
    has those of its convolutional and linear layers, but for the last (ours). Ours as well: the
    perturbation is held to its bound after each step, as the paper has it and the code has not;
    samples are not augmented, as they are in the code; batch normalization goes by the statistics
    of the batch, as in the code, and its running ones stay.

    Attributes:
        bound: Largest relative change of a weight or bias, at least 0 (epsilon of the paper).
        clean_share: Weight of the loss without perturbation, from 0 to 1 (alpha of the paper).
        ascents: Steps of the perturbation an iteration, at least 1.
        iterations: Steps of the mask, at least 1.
        learning_rate: Of the mask, above 0.
        momentum: Of the mask, from 0 to 0.9999.
        batch_size: Clean samples an iteration, drawn with replacement; at least 2.
        threshold: Largest mask of a neuron that is cut, from 0 to below 1.
    """

    bound: float = 0.4
    clean_share: float = 0.2
    ascents: int = 1
    iterations: int = 2000
    learning_rate: float = 0.2
    momentum: float = 0.9
    batch_size: int = 128
    threshold: float = 0.2

    revision: ClassVar[int] = 1
    measures: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        floats(self, "bound")
        floats(self, "clean_share", high=1)
        whole("ascents", self.ascents, low=1, high=1000)
        whole("iterations", self.iterations, low=1, high=10_000_000)
        floats(self, "learning_rate", open_low=True)
        floats(self, "momentum", high=0.9999)
        whole("batch_size", self.batch_size, low=2)
        floats(self, "threshold", high=0.9999)

    def check(self, dataset: Dataset, lab: Lab, clean: Dataset | None = None) -> None:
        """Raise `UsageError` if there are too few clean samples, or no neurons to cut."""
        super().check(dataset, lab, clean)
        network = skeleton(lab.architecture, dataset.domain, len(dataset.classes))
        if not has_hidden_layer(network) and not _norms(network):
            raise no_hidden_layer("adversarial-pruning")

    def passes(
        self,
        dataset: Dataset,  # noqa: ARG002 - it was trained on already
        lab: Lab,  # noqa: ARG002 - any model will do
        clean: Dataset | None = None,  # noqa: ARG002 - samples are drawn again and again
    ) -> tuple[Passes, ...]:
        """Return what it computes itself: losses of masks, changed and not."""
        return (Passes(samples=self.iterations * self.batch_size * (self.ascents + 2)),)

    def repair(
        self, model: TrainedModel, rng: Stream, lab: Lab, clean: Dataset | None = None
    ) -> Repaired:
        """Return the model with such neurons cut."""
        known = clean_samples("adversarial-pruning", model, clean)
        mending = Mending(
            name="adversarial-pruning", defense=self, model=model, rng=rng, lab=lab, clean=known
        )
        neurons = Neurons.of(mending.target)
        with steady(mending.device, rng.key >> 1):
            masks = self._masks(mending, neurons)
        # the statistics of batch normalization moved
        mending.module.load_state_dict(dict(model.weights))
        cut = {k: (m <= self.threshold).nonzero().flatten() for k, m in masks.items()}
        with torch.no_grad():
            for name, channels in cut.items():
                neurons.weights[name][channels] = 0
        return mending.done(
            notes={
                "neurons": sum(len(m) for m in masks.values()),
                "pruned": {k: c.tolist() for k, c in cut.items() if len(c)},
                "masks": {k: [round(v, 4) for v in m.tolist()] for k, m in masks.items()},
            }
        )

    def _masks(self, mending: Mending, neurons: Neurons) -> dict[str, Tensor]:
        """Return the learned masks by layer."""
        samples = mending.rng.child("samples").torch()
        start = mending.rng.child("perturbation").torch()
        masks = {k: torch.ones(len(w), device=w.device) for k, w in neurons.weights.items()}
        optimizer = torch.optim.SGD(
            [m.requires_grad_() for m in masks.values()],
            lr=self.learning_rate,
            momentum=self.momentum,
        )
        mending.module.requires_grad_(requires_grad=False)
        for module in mending.module.modules():
            module.train(isinstance(module, _NORMS))
        for _ in range(self.iterations):
            x, labels = mending.batch(samples, self.batch_size)
            loss = partial(_loss, mending, neurons, mending.model.preprocessing(x), labels)
            weight, bias = self._worst(loss, neurons, masks, start)
            robust = loss({k: m + weight[k] for k, m in masks.items()}, bias)
            total = self.clean_share * loss(masks, {}) + (1 - self.clean_share) * robust
            optimizer.zero_grad()
            torch.autograd.backward(total)
            optimizer.step()
            with torch.no_grad():
                for mask in masks.values():
                    mask.clamp_(0, 1)
        return {k: m.detach().cpu() for k, m in masks.items()}

    def _worst(
        self, loss: _Loss, neurons: Neurons, masks: Factors, start: torch.Generator
    ) -> tuple[Factors, Factors]:
        """Return what is added to masks, and the biases' factors, so that the loss is high."""
        drawn = [
            (torch.rand(len(p), generator=start) * 2 - 1).mul_(self.bound).to(p.device)
            for p in (*neurons.weights.values(), *neurons.biases.values())
        ]
        count = len(neurons.weights)

        def split(values: list[Tensor]) -> tuple[Factors, Factors]:
            bias = {k: 1 + v for k, v in zip(neurons.biases, values[count:], strict=True)}
            return dict(zip(neurons.weights, values[:count], strict=True)), bias

        fixed = {k: m.detach() for k, m in masks.items()}
        for _ in range(self.ascents):
            for value in drawn:
                value.requires_grad_()
            weight, bias = split(drawn)
            wrong = loss({k: m + weight[k] for k, m in fixed.items()}, bias)
            gradients = torch.autograd.grad(wrong, drawn)
            drawn = [
                (v.detach() + self.bound / self.ascents * g.sign()).clamp_(-self.bound, self.bound)
                for v, g in zip(drawn, gradients, strict=True)
            ]
        return split(drawn)


@dataclass(frozen=True, kw_only=True, eq=False)
class Neurons:
    """The neurons of a network: the first axis of some of its weights and biases.

    Attributes:
        weights: By the name of their layer.
        biases: The same; layers without any are left out.
    """

    weights: dict[str, nn.Parameter]
    biases: dict[str, nn.Parameter]

    @classmethod
    def of(cls, target: TorchTarget) -> Neurons:
        """Return the neurons of a network.

        Raises:
            UsageError: If it has none but the scores.
        """
        found = _norms(target.module) or {x.name: x.module for x in layers(target)[:-1]}
        if not found:
            raise no_hidden_layer("adversarial-pruning")
        own = {n: dict(m.named_parameters(recurse=False)) for n, m in found.items()}
        return cls(
            weights={n: p["weight"] for n, p in own.items()},
            biases={n: p["bias"] for n, p in own.items() if "bias" in p},
        )

    def changed(self, weight: Factors, bias: Factors) -> dict[str, Tensor]:
        """Return these parameters by their names in the network, each neuron's times its factor."""
        every = {}
        for kind, own, factors in (("weight", self.weights, weight), ("bias", self.biases, bias)):
            for name, factor in factors.items():
                values = own[name]
                every[f"{name}.{kind}"] = values * factor.view(-1, *[1] * (values.ndim - 1))
        return every


def _norms(network: nn.Module) -> dict[str, nn.Module]:
    """Return the batch normalization that has weights, by its name."""
    return {n: m for n, m in network.named_modules() if isinstance(m, _NORMS) and m.affine}


def _loss(
    mending: Mending, neurons: Neurons, x: Tensor, labels: Tensor, weight: Factors, bias: Factors
) -> Tensor:
    scores = functional_call(mending.module, neurons.changed(weight, bias), (x,))
    return F.cross_entropy(scores, labels)
