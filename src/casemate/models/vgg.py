"""VGG-style networks from a list of widths and pools."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from casemate.errors import UsageError
from casemate.models.architecture import image_shape
from casemate.models.hyperparameters import number, whole

if TYPE_CHECKING:
    from casemate.data.domain import Domain

__all__ = ["VGG"]

_POOL = "M"
_DEEPEST = 64
_WIDEST = 1 << 13
_MOST_DROPOUT = 0.95


@dataclass(frozen=True, kw_only=True)
class VGG:
    """3x3 convolutions with batch normalization and ReLU, 2x2 max-pools, one linear layer.

    Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition",
    ICLR 2015, in the form that small images need: batch normalization after each convolution and
    a single fully connected layer.

    Attributes:
        layers: From the input on, the width of a convolution or "M" for a pool, which halves the
            image. The default has one thin convolution at full resolution, where most of the cost
            of a VGG lies; study:vgg-gtsrb-inference reports what it reaches on traffic signs.
        dropout: Probability of dropping a feature before the linear layer, from 0 to 0.95.
    """

    revision: ClassVar[int] = 1

    layers: tuple[int | str, ...] = (16, "M", 32, 32, "M", 64, 64, "M", 128, 128, "M")
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", _checked(self.layers))
        dropout = number("vgg.dropout", self.dropout, low=0, high=_MOST_DROPOUT)
        object.__setattr__(self, "dropout", dropout)

    def build(self, domain: Domain, classes: int) -> nn.Module:
        """Return the network for images that survive all pools (the default: from 16x16 pixels).

        Raises:
            UsageError: If inputs are no images, or too small.
        """
        pools = self.layers.count(_POOL)
        channels, height, width = image_shape(domain, "vgg", smallest=2**pools)
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        convolutions = 0
        for layer in self.layers:
            if isinstance(layer, str):
                modules[f"pool{sum(k.startswith('pool') for k in modules) + 1}"] = nn.MaxPool2d(2)
                continue
            convolutions += 1
            # batch normalization has the bias already
            modules[f"conv{convolutions}"] = nn.Conv2d(channels, layer, 3, padding=1, bias=False)
            modules[f"norm{convolutions}"] = nn.BatchNorm2d(layer)
            modules[f"relu{convolutions}"] = nn.ReLU()
            channels = layer
        modules["flatten"] = nn.Flatten()
        if self.dropout > 0:
            modules["dropout"] = nn.Dropout(self.dropout)
        modules["out"] = nn.Linear(channels * (height >> pools) * (width >> pools), classes)
        return nn.Sequential(modules)


def _checked(layers: Any) -> tuple[int | str, ...]:
    if not isinstance(layers, (list, tuple)) or not 1 <= len(layers) <= _DEEPEST:
        raise UsageError(
            f'vgg.layers must be a list of 1 to {_DEEPEST} widths and "M", got {layers!r}'
        )
    for i, layer in enumerate(layers):
        if isinstance(layer, str):
            if layer != _POOL:
                raise UsageError(
                    f'vgg.layers[{i}] must be a width or "M" for a pool, got "{layer}"'
                )
        else:
            whole(f"vgg.layers[{i}]", layer, low=1, high=_WIDEST)
    if all(layer == _POOL for layer in layers):
        raise UsageError("vgg.layers holds no convolution; give at least one width")
    return tuple(layers)
