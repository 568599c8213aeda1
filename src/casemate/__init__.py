"""Casemate: a security test bench for machine-learning models, over their whole life.

Names are loaded when first used, so that `import casemate` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casemate.api import Result, attack, load_data, load_model
    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.inference.attacks.bim import BIM
    from casemate.inference.attacks.fgsm import FGSM
    from casemate.inference.attacks.lbfgs import LBFGS
    from casemate.inference.attacks.noise import GaussianNoise, UniformNoise
    from casemate.inference.attacks.pgd import PGD
    from casemate.inference.defenses.averages import NeighborhoodAverage, RadiusAverage
    from casemate.inference.defenses.median import Median
    from casemate.target import Preprocessing, Target, TorchTarget
    from casemate.training.loop import train
    from casemate.training.recipe import Recipe
    from casemate.training.trained import TrainedModel

__version__ = "0.1.0"

__all__ = [
    "BIM",
    "FGSM",
    "LBFGS",
    "PGD",
    "Dataset",
    "Domain",
    "GaussianNoise",
    "Median",
    "NeighborhoodAverage",
    "Preprocessing",
    "RadiusAverage",
    "Recipe",
    "Result",
    "Target",
    "TorchTarget",
    "TrainedModel",
    "UniformNoise",
    "attack",
    "load_data",
    "load_model",
    "train",
]

_HOMES = {
    "casemate.api": ("Result", "attack", "load_data", "load_model"),
    "casemate.data.dataset": ("Dataset",),
    "casemate.data.domain": ("Domain",),
    "casemate.inference.attacks.bim": ("BIM",),
    "casemate.inference.attacks.fgsm": ("FGSM",),
    "casemate.inference.attacks.lbfgs": ("LBFGS",),
    "casemate.inference.attacks.noise": ("GaussianNoise", "UniformNoise"),
    "casemate.inference.attacks.pgd": ("PGD",),
    "casemate.inference.defenses.averages": ("NeighborhoodAverage", "RadiusAverage"),
    "casemate.inference.defenses.median": ("Median",),
    "casemate.target": ("Preprocessing", "Target", "TorchTarget"),
    "casemate.training.loop": ("train",),
    "casemate.training.recipe": ("Recipe",),
    "casemate.training.trained": ("TrainedModel",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
