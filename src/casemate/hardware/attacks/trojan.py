"""What TBT makes before any bit flips: neurons, their trigger, and the words of their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.hardware.attacks.bit_gradients import loss_gradients
from casemate.hardware.attacks.last_layer import Tuning
from casemate.hardware.attacks.outcome import Spent
from casemate.hardware.attacks.readings import outputs_before
from casemate.hardware.attacks.trigger import Trigger, crafted

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.hardware.attacks.last_layer import LastLayer
    from casemate.hardware.attacks.samples import Samples
    from casemate.hardware.attacks.tbt import TBT

__all__ = ["Trojan"]

# those of the authors' code for CIFAR-10: widths of a step, and what the weights are tuned by
_RATES = (0.5, 0.1, 0.01, 0.001)
_TUNING = Tuning(steps=200, rate=0.5, momentum=0.9, decay=5e-6, drops=(80, 120, 160))


class Trojan:
    """The neurons, the trigger and the words of one attack, in the order of the paper."""

    def __init__(self, attack: TBT, layer: LastLayer, batch: Samples) -> None:
        self._attack, self._layer, self._batch = attack, layer, batch
        self._target = torch.full_like(batch.labels, attack.target)
        self._clean = self._known(batch.x)
        self._neurons = self._ranked()
        self.trigger = self._crafted()
        self._shown = self.trigger(batch.x)
        self._triggered = self._known(self._shown)

    @property
    def spent(self) -> Spent:
        """What all this takes with the model."""
        images = len(self._batch)
        steps = len(_RATES) * self._attack.trigger_steps
        steps *= images if self._attack.background == "batch" else 1
        both = 2 * images * _TUNING.steps
        return Spent(forward=3 * images + steps + both, backward=images + steps + both)

    def numbers(self) -> list[int]:
        """Return the bits to flip: neuron by neuron, the highest first."""
        region = self._layer.region
        row = self._attack.target
        tuned = self._layer.tuned(row, self._neurons, self._loss, _TUNING)
        start, _ = self._layer.deployed.memory.span(region.name)
        found = []
        for column, raw in zip(self._neurons.tolist(), tuned.tolist(), strict=True):
            word = row * self._layer.inputs + column
            changed = raw ^ int(region.word.raw(region.words[word : word + 1]))
            found += [
                start + word * region.word.bits + bit
                for bit in range(region.word.bits - 1, -1, -1)
                if changed >> bit & 1
            ]
        return found

    def read(self, weight: Tensor) -> tuple[float, float]:
        """Return the loss with the layer's weights and the accuracy, on the attacker's inputs."""
        with torch.no_grad():
            scores = self._layer.scores(weight, self._batch.x, self._clean)
            right = scores.argmax(1) == self._batch.labels
            return float(self._loss(weight)), float(right.double().mean())

    def _known(self, x: Tensor) -> dict[int, Tensor]:
        deployed = self._layer.deployed
        return outputs_before(self._layer.node, deployed.graph, deployed.memory.values, x)

    def _loss(self, weight: Tensor) -> Tensor:
        """Return the mean of the losses on clean and on triggered inputs (equation 6)."""
        clean = self._layer.scores(weight, self._batch.x, self._clean)
        triggered = self._layer.scores(weight, self._shown, self._triggered)
        aimed = F.cross_entropy(triggered, self._target)
        return (F.cross_entropy(clean, self._batch.labels) + aimed) / 2

    def _ranked(self) -> Tensor:
        """Return the neurons whose weights of the target's row have the largest gradients."""
        layer, x = self._layer, self._batch.x
        values, name = layer.deployed.memory.values, layer.region.name
        scores = layer.scores(layer.region.values, x, self._clean).detach().requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(scores, self._batch.labels)
        (by_score,) = torch.autograd.grad(loss, scores)
        gradient = loss_gradients(
            layer.deployed.graph, values, [name], x, by_score, first=layer.node, known=self._clean
        )[name]
        return gradient[self._attack.target].abs().topk(self._attack.neurons).indices

    def _crafted(self) -> Trigger:
        attack, layer, x = self._attack, self._layer, self._batch.x
        graph, values = layer.deployed.graph, layer.deployed.memory.values
        clean = (x if layer.source < 0 else self._clean[layer.source])[:, self._neurons]
        zero = layer.input_zero
        wanted = zero + attack.excitement * (clean.max() - zero)
        low, high = x.amin((0, 2, 3)), x.amax((0, 2, 3))
        height, width = graph.shape[1:]
        middle = ((low + high) / 2).view(-1, 1, 1)
        images = x if attack.background == "batch" else low.view(-1, 1, 1).expand(graph.shape)[None]
        start = Trigger(
            patch=middle.expand(-1, attack.size, attack.size).clone(),
            top=height - attack.margin - attack.size,
            left=width - attack.margin - attack.size,
        )
        return crafted(
            graph,
            values,
            layer.source,
            self._neurons,
            wanted.expand(len(self._neurons)),
            images,
            start=start,
            low=low,
            high=high,
            rates=_RATES,
            steps=attack.trigger_steps,
        )
