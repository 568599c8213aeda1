"""The linear layer that gives the scores, and weights of it tuned within their number format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from casemate.errors import UsageError
from casemate.hardware.attacks.straight_through import smooth_output, through
from casemate.hardware.ops.linear import Linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Region

__all__ = ["LastLayer", "Tuning"]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Stochastic gradient descent on weights as training has them.

    Attributes:
        steps: How many.
        rate: Of the first ones.
        momentum: Of the steps.
        decay: Of the weights.
        drops: Steps after which the rate is a tenth.
    """

    steps: int
    rate: float
    momentum: float
    decay: float
    drops: tuple[int, ...]


@dataclass(frozen=True)
class LastLayer:
    """The last linear layer of a deployed network, with one row of weights a class.

    Attributes:
        deployed: The network.
        node: Position of the layer.
        source: Position of the node that it takes; -1 is the network's input.
        region: Its weights, (classes, inputs).
    """

    deployed: Implementation
    node: int
    source: int
    region: Region

    @classmethod
    def of(cls, deployed: Implementation) -> LastLayer:
        """Return a network's last layer.

        Raises:
            UsageError: If it does not end with such a layer.
        """
        nodes = deployed.graph.nodes
        for i in range(len(nodes) - 1, -1, -1):
            op = nodes[i].op
            if isinstance(op, Linear) and nodes[i].shape == nodes[-1].shape:
                return cls(deployed, i, nodes[i].inputs[0], deployed.memory[op.weight])
        raise UsageError(
            "the deployed model does not end with a linear layer that gives the scores, whose "
            "weights this attack changes; choose another attack or model"
        )

    @property
    def inputs(self) -> int:
        """How many inputs it has."""
        return self.region.shape[1]

    @property
    def input_zero(self) -> float:
        """The integer that stands for 0 in its input; 0 where that is in floating point."""
        op = self.deployed.graph.nodes[self.node].op
        assert isinstance(op, Linear)  # noqa: S101 - found so
        name = op.input_zero
        return 0.0 if name is None else float(self.deployed.memory[name].values)

    def scale(self, row: int) -> tuple[float, float]:
        """Return the unit of a row's weights and the integer that stands for 0; else 1 and 0."""
        found = []
        for suffix, default in (("scale", 1.0), ("zero", 0.0)):
            name = f"{self.region.name}.{suffix}"
            if self.region.word.floating is None and name in self.deployed.memory.names:
                values = self.deployed.memory[name].values
                found.append(float(values[row if len(values) > 1 else 0]))
            else:
                found.append(default)
        return found[0], found[1]

    def tuned(
        self, row: int, columns: Tensor, loss: Callable[[Tensor], Tensor], tuning: Tuning
    ) -> Tensor:
        """Return some weights of one row, tuned, as raw words.

        Each step runs with the nearest words that the format holds, and the gradient passes their
        rounding as it is; units and zero points stay as they are deployed.

        Args:
            row: Whose weights.
            columns: (k,) which of them.
            loss: What the layer's weights, (classes, inputs), are tuned to make small.
            tuning: How.

        Returns:
            (k,) int64.
        """
        word, (unit, zero) = self.region.word, self.scale(row)
        given = self.region.values
        place = (torch.full_like(columns, row), columns)
        real = ((given[place] - zero) * unit).requires_grad_()
        optimizer = torch.optim.SGD(
            [real], lr=tuning.rate, momentum=tuning.momentum, weight_decay=tuning.decay
        )
        falling = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(tuning.drops), gamma=0.1)
        for _ in range(tuning.steps):
            soft = real / unit + zero
            hard = word.decode(word.encode(soft.detach()))
            with torch.enable_grad():
                now = loss(given.index_put(place, through(hard, soft)))
            (real.grad,) = torch.autograd.grad(now, real)
            optimizer.step()
            falling.step()
            if word.floating is None:  # beyond the last integer nothing changes any more
                with torch.no_grad():
                    real.clamp_((word.low - zero) * unit, (word.high - zero) * unit)
        return word.raw(word.encode(real.detach() / unit + zero))

    def scores(self, weight: Tensor, x: Tensor, known: dict[int, Tensor]) -> Tensor:
        """Return the scores, (n, classes), with other weights, differentiable by them.

        Args:
            weight: (classes, inputs).
            x: (n, *shape) inputs of the network.
            known: What the layer, and nodes behind it, take of earlier ones.
        """
        values = {**self.deployed.memory.values, self.region.name: weight}
        return smooth_output(self.deployed.graph, values, x, first=self.node, known=known)
