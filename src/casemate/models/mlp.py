"""A multi-layer perceptron: the model for inputs that are features."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from casemate.models.hyperparameters import number, widths

if TYPE_CHECKING:
    from casemate.data.domain import Domain

__all__ = ["MLP"]

_DEEPEST = 32
_MOST_DROPOUT = 0.95


@dataclass(frozen=True, kw_only=True)
class MLP:
    """Fully connected layers with ReLU between them; images are flattened.

    Attributes:
        hidden: Units of each hidden layer; an empty list makes a linear classifier.
        dropout: Probability of dropping a hidden unit during training, from 0 to 0.95.
    """

    revision: ClassVar[int] = 1

    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        hidden = widths("mlp.hidden", self.hidden, fewest=0, most=_DEEPEST)
        object.__setattr__(self, "hidden", hidden)
        object.__setattr__(
            self, "dropout", number("mlp.dropout", self.dropout, low=0, high=_MOST_DROPOUT)
        )

    def build(self, domain: Domain, classes: int) -> nn.Module:
        """Return the network for inputs of any shape."""
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        width = domain.size
        for i, units in enumerate(self.hidden, start=1):
            layers[f"fc{i}"] = nn.Linear(width, units)
            layers[f"relu{i}"] = nn.ReLU()
            if self.dropout > 0:
                layers[f"dropout{i}"] = nn.Dropout(self.dropout)
            width = units
        layers["out"] = nn.Linear(width, classes)
        return nn.Sequential(layers)
