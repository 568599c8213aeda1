"""A small residual network with pre-activation blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from casemate.models.architecture import image_shape
from casemate.models.hyperparameters import whole

if TYPE_CHECKING:
    from casemate.data.domain import Domain

__all__ = ["ResNet"]

_STAGES = 3
_SMALLEST = 8


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """Three stages of pre-activation blocks, 6 * blocks + 2 layers; ResNet-20 by default.

    He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2
    (three stages of width w, 2w, 4w, each halving the image) with the blocks of "Identity
    mappings in deep residual networks", ECCV 2016, figure 4(e). Where the shape changes, the
    shortcut is a 1x1 convolution.

    Attributes:
        width: Feature maps of the first stage.
        blocks: Blocks a stage.
    """

    revision: ClassVar[int] = 1

    width: int = 16
    blocks: int = 3

    def __post_init__(self) -> None:
        whole("resnet.width", self.width, low=1, high=1024)
        whole("resnet.blocks", self.blocks, low=1, high=64)

    def build(self, domain: Domain, classes: int) -> nn.Module:
        """Return the network for images of at least 8x8 pixels.

        Raises:
            UsageError: If inputs are no images, or smaller.
        """
        channels, _, _ = image_shape(domain, "resnet", smallest=_SMALLEST)
        return _Network(channels, self.width, self.blocks, classes)


class _Block(nn.Module):
    """Two 3x3 convolutions, each after batch normalization and ReLU, around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            if stride != 1 or inputs != outputs
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        active = self.norm1(x).relu()
        # a shortcut that changes shape starts after the shared activation, as He et al. do
        identity = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(self.norm2(self.conv1(active)).relu())
        return out + identity


class _Network(nn.Module):
    def __init__(self, channels: int, width: int, blocks: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        stages = []
        inputs = width
        for stage in range(_STAGES):
            outputs = width << stage
            for i in range(blocks):
                stages.append(_Block(inputs, outputs, 2 if stage > 0 and i == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(inputs)
        self.out = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.stem(x))).relu()
        # a plain mean: adaptive pooling has no deterministic gradient on a GPU
        out: Tensor = self.out(x.mean(dim=(2, 3)))
        return out
