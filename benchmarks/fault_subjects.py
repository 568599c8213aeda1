"""The models that faults strike: LeNet on MNIST, a VGG and a small residual network on GTSRB.

Each is trained once: it lies in the user's cache folder under the hash of what made it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from casemate.data.gtsrb import GTSRB
from casemate.data.locations import cache_folder
from casemate.data.mnist import MNIST
from casemate.data.splits import stratified_sample
from casemate.models.lenet import LeNet
from casemate.models.resnet import ResNet
from casemate.models.vgg import VGG
from casemate.training.loop import train
from casemate.training.recipe import Recipe
from casemate.training.trained import TrainedModel, training_key

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Subject", "subject"]

_SEED = 0
_KINDS: dict[str, tuple[Any, Any, Recipe, int]] = {
    "lenet": (LeNet(), MNIST(), Recipe(epochs=3), 1000),
    "vgg": (VGG(), GTSRB(), Recipe(epochs=3), 500),
    "resnet": (ResNet(blocks=1), GTSRB(), Recipe(epochs=2), 200),
}
"""Architecture, data, how it is trained, and how many test images faults are tried on."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network and the images that faults are tried on.

    Attributes:
        name: "lenet", "vgg" or "resnet".
        title: For people.
        module: In evaluation mode; no parameter wants a gradient.
        shape: Of one input of the network.
        x: (n, *shape) test images as the network gets them.
        calibration: (m, *shape) training images as the network gets them.
        layers: Convolutions and linear layers in the order of the module's.
        kinds: Their types.
    """

    name: str
    title: str
    module: nn.Module
    shape: tuple[int, ...]
    x: Tensor
    calibration: Tensor
    layers: Sequence[str]
    kinds: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.Linear)


def subject(name: str) -> Subject:
    """Return a subject, trained now if it is not there yet."""
    architecture, source, recipe, images = _KINDS[name]
    data = source.load("train")
    digest = training_key(architecture, recipe, data, seed=_SEED)
    path = cache_folder() / "benchmarks" / f"faults-{name}-{digest[:16]}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"training the {name}; it is kept for the next time", file=sys.stderr)
        train(architecture, recipe, data, seed=_SEED).save(path)
    model = TrainedModel.load(path)
    module = model.architecture.build(model.domain, len(model.classes))
    module.load_state_dict(dict(model.weights))
    module.eval().requires_grad_(requires_grad=False)
    test = stratified_sample(source.load("test"), images, seed=_SEED)
    some = stratified_sample(data, images, seed=_SEED)
    x, calibration = (model.preprocessing(d.batch(slice(None))) for d in (test, some))
    layers = [n for n, m in module.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    title = {"lenet": "LeNet", "vgg": "VGG", "resnet": "ResNet"}[name]
    return Subject(
        name=name,
        title=f"{title}, {len(x):,} images",
        module=module,
        shape=tuple(x.shape[1:]),
        x=x.to(torch.float32).contiguous(),
        calibration=calibration.to(torch.float32).contiguous(),
        layers=layers,
    )
