"""LeNet-5 for images of any size and any number of channels."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from torch import nn

from casemate.models.architecture import image_shape
from casemate.models.hyperparameters import widths

if TYPE_CHECKING:
    from casemate.data.domain import Domain

__all__ = ["LeNet"]

_KERNEL = 5
_SMALLEST = 8
_VALID_FROM = 20  # pixels: below this an unpadded second convolution leaves next to nothing


@dataclass(frozen=True, kw_only=True)
class LeNet:
    """LeNet-5 with ReLU and max-pooling.

    LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE 1998, section II.B, with today's non-linearities and full connections
    between the feature maps. The first convolution is padded, as LeCun et al. pad 28x28 digits to
    32x32; the second is padded only for images below 20x20 pixels. Ours: of an odd number of rows
    or columns the last one is pooled by itself, so that no edge goes unseen.

    Attributes:
        channels: Feature maps of the two convolutions (5x5).
        hidden: Units of the two hidden layers.
    """

    revision: ClassVar[int] = 2

    channels: tuple[int, int] = (6, 16)
    hidden: tuple[int, int] = (120, 84)

    def __post_init__(self) -> None:
        for key in ("channels", "hidden"):
            values = widths(f"lenet.{key}", getattr(self, key), fewest=2, most=2)
            object.__setattr__(self, key, cast("tuple[int, int]", values))

    def build(self, domain: Domain, classes: int) -> nn.Module:
        """Return the network for images of at least 8x8 pixels.

        Raises:
            UsageError: If inputs are no images, or smaller.
        """
        depth, height, width = image_shape(domain, "lenet", smallest=_SMALLEST)
        first, second = self.channels
        pad = 0 if min(height, width) >= _VALID_FROM else _KERNEL // 2
        shrink = _KERNEL - 1 - 2 * pad
        # of an odd number of pixels the last one is a pool of its own, so that none goes unseen
        rows, columns = (((n + 1) // 2 - shrink + 1) // 2 for n in (height, width))
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(depth, first, _KERNEL, padding=_KERNEL // 2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2, ceil_mode=True),
                conv2=nn.Conv2d(first, second, _KERNEL, padding=pad),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2, ceil_mode=True),
                flatten=nn.Flatten(),
                fc1=nn.Linear(second * rows * columns, self.hidden[0]),
                relu3=nn.ReLU(),
                fc2=nn.Linear(self.hidden[0], self.hidden[1]),
                relu4=nn.ReLU(),
                fc3=nn.Linear(self.hidden[1], classes),
            )
        )
