"""Casemate: a security test bench for machine-learning models, over their whole life.

Names are loaded when first used, so that `import casemate` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casemate.api import Result, attack, load_data, load_model
    from casemate.api_hardware import attack_hardware
    from casemate.api_training import attack_training, own_architecture
    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.hardware.attacks.bfa import BFA
    from casemate.hardware.attacks.bit_errors import BitErrors
    from casemate.hardware.attacks.random_faults import RandomFaults
    from casemate.hardware.attacks.random_flips import RandomFlips
    from casemate.hardware.attacks.random_upsets import RandomUpsets
    from casemate.hardware.attacks.tbfa import TBFA
    from casemate.hardware.attacks.tbt import TBT
    from casemate.hardware.defenses.checksums import RADAR
    from casemate.hardware.defenses.ecc import SECDED
    from casemate.hardware.defenses.product_checksums import ProductChecksums
    from casemate.hardware.defenses.range_restriction import Ranger
    from casemate.hardware.defenses.triplication import Triplication
    from casemate.hardware.defenses.weight_reconstruction import WeightReconstruction
    from casemate.hardware.formats import NumberFormat
    from casemate.hardware.rowhammer.module import MemoryModule
    from casemate.inference.attacks.bim import BIM
    from casemate.inference.attacks.fgsm import FGSM
    from casemate.inference.attacks.lbfgs import LBFGS
    from casemate.inference.attacks.noise import GaussianNoise, UniformNoise
    from casemate.inference.attacks.pgd import PGD
    from casemate.inference.defenses.averages import NeighborhoodAverage, RadiusAverage
    from casemate.inference.defenses.median import Median
    from casemate.models.lenet import LeNet
    from casemate.models.mlp import MLP
    from casemate.models.resnet import ResNet
    from casemate.models.vgg import VGG
    from casemate.target import Preprocessing, Target, TorchTarget
    from casemate.training.attacks.adaptive_blend import AdaptiveBlend
    from casemate.training.attacks.amount import Amount
    from casemate.training.attacks.badnets import BadNets
    from casemate.training.attacks.blended import Blended
    from casemate.training.attacks.feature_collision import FeatureCollision
    from casemate.training.attacks.gradient_matching import GradientMatching
    from casemate.training.attacks.input_aware import InputAware
    from casemate.training.attacks.input_noise import InputNoise
    from casemate.training.attacks.label_consistent import LabelConsistent
    from casemate.training.attacks.label_flips import LabelFlips
    from casemate.training.attacks.low_impact import LowImpact
    from casemate.training.attacks.sig import SIG
    from casemate.training.attacks.wanet import WaNet
    from casemate.training.defenses.activation_clustering import ActivationClustering
    from casemate.training.defenses.adversarial_pruning import AdversarialPruning
    from casemate.training.defenses.anti_backdoor import AntiBackdoorLearning
    from casemate.training.defenses.confident_learning import ConfidentLearning
    from casemate.training.defenses.fine_pruning import FinePruning
    from casemate.training.defenses.fine_tuning import FineTuning
    from casemate.training.defenses.i_bau import IBAU
    from casemate.training.defenses.knn_disagreement import KNNDisagreement
    from casemate.training.defenses.near_duplicates import NearDuplicates
    from casemate.training.defenses.neural_cleanse import NeuralCleanse
    from casemate.training.defenses.partition_aggregation import PartitionAggregation
    from casemate.training.defenses.private_training import PrivateTraining
    from casemate.training.defenses.robust_losses import RobustLoss
    from casemate.training.defenses.spectral_signatures import SpectralSignatures
    from casemate.training.defenses.weight_clipping import WeightClipping
    from casemate.training.loop import train
    from casemate.training.recipe import Recipe
    from casemate.training.trained import TrainedModel

__version__ = "0.1.0"

__all__ = [
    "BFA",
    "BIM",
    "FGSM",
    "IBAU",
    "LBFGS",
    "MLP",
    "PGD",
    "RADAR",
    "SECDED",
    "SIG",
    "TBFA",
    "TBT",
    "VGG",
    "ActivationClustering",
    "AdaptiveBlend",
    "AdversarialPruning",
    "Amount",
    "AntiBackdoorLearning",
    "BadNets",
    "BitErrors",
    "Blended",
    "ConfidentLearning",
    "Dataset",
    "Domain",
    "FeatureCollision",
    "FinePruning",
    "FineTuning",
    "GaussianNoise",
    "GradientMatching",
    "InputAware",
    "InputNoise",
    "KNNDisagreement",
    "LabelConsistent",
    "LabelFlips",
    "LeNet",
    "LowImpact",
    "Median",
    "MemoryModule",
    "NearDuplicates",
    "NeighborhoodAverage",
    "NeuralCleanse",
    "NumberFormat",
    "PartitionAggregation",
    "Preprocessing",
    "PrivateTraining",
    "ProductChecksums",
    "RadiusAverage",
    "RandomFaults",
    "RandomFlips",
    "RandomUpsets",
    "Ranger",
    "Recipe",
    "ResNet",
    "Result",
    "RobustLoss",
    "SpectralSignatures",
    "Target",
    "TorchTarget",
    "TrainedModel",
    "Triplication",
    "UniformNoise",
    "WaNet",
    "WeightClipping",
    "WeightReconstruction",
    "attack",
    "attack_hardware",
    "attack_training",
    "load_data",
    "load_model",
    "own_architecture",
    "train",
]

_HOMES = {
    "casemate.api": ("Result", "attack", "load_data", "load_model"),
    "casemate.api_training": ("attack_training", "own_architecture"),
    "casemate.data.dataset": ("Dataset",),
    "casemate.data.domain": ("Domain",),
    "casemate.api_hardware": ("attack_hardware",),
    "casemate.hardware.attacks.bfa": ("BFA",),
    "casemate.hardware.attacks.bit_errors": ("BitErrors",),
    "casemate.hardware.attacks.random_faults": ("RandomFaults",),
    "casemate.hardware.attacks.random_upsets": ("RandomUpsets",),
    "casemate.hardware.attacks.random_flips": ("RandomFlips",),
    "casemate.hardware.attacks.tbfa": ("TBFA",),
    "casemate.hardware.attacks.tbt": ("TBT",),
    "casemate.hardware.defenses.checksums": ("RADAR",),
    "casemate.hardware.defenses.ecc": ("SECDED",),
    "casemate.hardware.defenses.product_checksums": ("ProductChecksums",),
    "casemate.hardware.defenses.range_restriction": ("Ranger",),
    "casemate.hardware.defenses.triplication": ("Triplication",),
    "casemate.hardware.defenses.weight_reconstruction": ("WeightReconstruction",),
    "casemate.hardware.formats": ("NumberFormat",),
    "casemate.hardware.rowhammer.module": ("MemoryModule",),
    "casemate.inference.attacks.bim": ("BIM",),
    "casemate.inference.attacks.fgsm": ("FGSM",),
    "casemate.inference.attacks.lbfgs": ("LBFGS",),
    "casemate.inference.attacks.noise": ("GaussianNoise", "UniformNoise"),
    "casemate.inference.attacks.pgd": ("PGD",),
    "casemate.inference.defenses.averages": ("NeighborhoodAverage", "RadiusAverage"),
    "casemate.inference.defenses.median": ("Median",),
    "casemate.models.lenet": ("LeNet",),
    "casemate.models.mlp": ("MLP",),
    "casemate.models.resnet": ("ResNet",),
    "casemate.models.vgg": ("VGG",),
    "casemate.target": ("Preprocessing", "Target", "TorchTarget"),
    "casemate.training.attacks.adaptive_blend": ("AdaptiveBlend",),
    "casemate.training.attacks.amount": ("Amount",),
    "casemate.training.attacks.badnets": ("BadNets",),
    "casemate.training.attacks.blended": ("Blended",),
    "casemate.training.attacks.feature_collision": ("FeatureCollision",),
    "casemate.training.attacks.gradient_matching": ("GradientMatching",),
    "casemate.training.attacks.input_aware": ("InputAware",),
    "casemate.training.attacks.input_noise": ("InputNoise",),
    "casemate.training.attacks.label_consistent": ("LabelConsistent",),
    "casemate.training.attacks.label_flips": ("LabelFlips",),
    "casemate.training.attacks.low_impact": ("LowImpact",),
    "casemate.training.attacks.sig": ("SIG",),
    "casemate.training.attacks.wanet": ("WaNet",),
    "casemate.training.defenses.activation_clustering": ("ActivationClustering",),
    "casemate.training.defenses.adversarial_pruning": ("AdversarialPruning",),
    "casemate.training.defenses.anti_backdoor": ("AntiBackdoorLearning",),
    "casemate.training.defenses.confident_learning": ("ConfidentLearning",),
    "casemate.training.defenses.fine_pruning": ("FinePruning",),
    "casemate.training.defenses.fine_tuning": ("FineTuning",),
    "casemate.training.defenses.i_bau": ("IBAU",),
    "casemate.training.defenses.knn_disagreement": ("KNNDisagreement",),
    "casemate.training.defenses.near_duplicates": ("NearDuplicates",),
    "casemate.training.defenses.neural_cleanse": ("NeuralCleanse",),
    "casemate.training.defenses.partition_aggregation": ("PartitionAggregation",),
    "casemate.training.defenses.private_training": ("PrivateTraining",),
    "casemate.training.defenses.robust_losses": ("RobustLoss",),
    "casemate.training.defenses.spectral_signatures": ("SpectralSignatures",),
    "casemate.training.defenses.weight_clipping": ("WeightClipping",),
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
