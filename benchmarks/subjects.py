"""The models that are attacked: a VGG on GTSRB and the same VGG trained adversarially.

`python -m benchmarks.subjects` trains both, each once: they lie in the user's cache folder under
the hash of what made them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch
from torch import nn

from casemate.data.gtsrb import GTSRB
from casemate.data.locations import cache_folder
from casemate.data.splits import stratified_sample
from casemate.models.vgg import VGG
from casemate.training.adversarial import Adversarial
from casemate.training.loop import train
from casemate.training.recipe import Recipe
from casemate.training.trained import TrainedModel, training_key

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.training.progress import Progress

__all__ = ["SUBJECTS", "Normalized", "images", "network", "prepare"]

_SEED = 0

SUBJECTS: dict[str, Recipe] = {
    "undefended": Recipe(epochs=4),
    "robust": Recipe(
        epochs=5, adversarial=Adversarial(epsilon=8 / 255, step_size=4 / 255, steps=3)
    ),
}
"""How each model is trained. Not to their best: enough that one is accurate and one robust."""


class Normalized(nn.Module):
    """A network behind its normalization, as every library here is handed it."""

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (b, classes) logits of (b, channels, height, width) images in [0, 1]."""
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits


def prepare(name: str) -> Path:
    """Return the file with a subject, trained now if it is not there yet."""
    recipe, architecture = SUBJECTS[name], VGG()
    data = GTSRB().load("train")
    digest = training_key(architecture, recipe, data, seed=_SEED)
    path = cache_folder() / "benchmarks" / f"{name}-{digest[:16]}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        show = _Shown(name)
        train(architecture, recipe, data, seed=_SEED, progress=show).save(path)
    return path


def network(path: Path, *, device: str, frozen: bool) -> Normalized:
    """Return a subject as its owner would hand it over: in evaluation mode and nothing else done.

    Args:
        path: What `prepare` returned.
        device: "cpu" or "cuda".
        frozen: Also prepare it for attacks as well as its owner can: no parameter wants a
            gradient, and weights lie in memory as convolutions like them best.
    """
    model = TrainedModel.load(path)
    plain = model.architecture.build(model.domain, len(model.classes))
    plain.load_state_dict(dict(model.weights))
    module = Normalized(plain, model.preprocessing.mean, model.preprocessing.std).eval().to(device)
    if frozen:
        module.requires_grad_(requires_grad=False)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    return module


def images(count: int) -> Dataset:
    """Return that many test images, each class with its share."""
    return stratified_sample(GTSRB().load("test"), count, _SEED)


class _Shown:
    """Writes each finished epoch to the standard error."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._epoch = 0

    def __call__(self, progress: Progress) -> None:
        if progress.step * progress.epochs < progress.steps * (self._epoch + 1):
            return
        self._epoch += 1
        sys.stderr.write(
            f"training {self._name}: epoch {self._epoch}/{progress.epochs}, "
            f"{progress.seconds_left:.0f} s left\n"
        )


if __name__ == "__main__":
    for subject in SUBJECTS:
        print(prepare(subject))
