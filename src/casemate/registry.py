"""One registry of everything that can be named in a campaign.

Built-in plugins are listed by import path and loaded only when used, so that listing names costs
no import of torch. Third parties join with an entry point in the group `casemate`, named
"kind.name" ("attack.my-attack = my_package.my_module:MyAttack"). A broken third-party plugin warns
and the rest works.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from casemate.errors import UsageError, did_you_mean

__all__ = ["Kind", "get", "name_of", "names", "path_of"]

Kind = Literal["attack", "defense", "monitor", "model", "data"]

_BUILT_IN: dict[Kind, dict[str, str]] = {
    "attack": {
        "fgsm": "casemate.inference.attacks.fgsm:FGSM",
        "bim": "casemate.inference.attacks.bim:BIM",
        "pgd": "casemate.inference.attacks.pgd:PGD",
        "lbfgs": "casemate.inference.attacks.lbfgs:LBFGS",
        "uniform-noise": "casemate.inference.attacks.noise:UniformNoise",
        "gaussian-noise": "casemate.inference.attacks.noise:GaussianNoise",
        "label-flips": "casemate.training.attacks.label_flips:LabelFlips",
        "input-noise": "casemate.training.attacks.input_noise:InputNoise",
        "badnets": "casemate.training.attacks.badnets:BadNets",
        "blended": "casemate.training.attacks.blended:Blended",
        "sig": "casemate.training.attacks.sig:SIG",
        "wanet": "casemate.training.attacks.wanet:WaNet",
        "adaptive-blend": "casemate.training.attacks.adaptive_blend:AdaptiveBlend",
        "label-consistent": "casemate.training.attacks.label_consistent:LabelConsistent",
        "input-aware": "casemate.training.attacks.input_aware:InputAware",
        "gradient-matching": "casemate.training.attacks.gradient_matching:GradientMatching",
        "feature-collision": "casemate.training.attacks.feature_collision:FeatureCollision",
        "low-impact": "casemate.training.attacks.low_impact:LowImpact",
        "bfa": "casemate.hardware.attacks.bfa:BFA",
        "t-bfa": "casemate.hardware.attacks.tbfa:TBFA",
        "tbt": "casemate.hardware.attacks.tbt:TBT",
        "random-flips": "casemate.hardware.attacks.random_flips:RandomFlips",
        "random-faults": "casemate.hardware.attacks.random_faults:RandomFaults",
        "random-upsets": "casemate.hardware.attacks.random_upsets:RandomUpsets",
        "bit-errors": "casemate.hardware.attacks.bit_errors:BitErrors",
    },
    "defense": {
        "neighborhood-average": "casemate.inference.defenses.averages:NeighborhoodAverage",
        "radius-average": "casemate.inference.defenses.averages:RadiusAverage",
        "median": "casemate.inference.defenses.median:Median",
        "spectral-signatures": (
            "casemate.training.defenses.spectral_signatures:SpectralSignatures"
        ),
        "activation-clustering": (
            "casemate.training.defenses.activation_clustering:ActivationClustering"
        ),
        "confident-learning": "casemate.training.defenses.confident_learning:ConfidentLearning",
        "knn-disagreement": "casemate.training.defenses.knn_disagreement:KNNDisagreement",
        "near-duplicates": "casemate.training.defenses.near_duplicates:NearDuplicates",
        "fine-tuning": "casemate.training.defenses.fine_tuning:FineTuning",
        "fine-pruning": "casemate.training.defenses.fine_pruning:FinePruning",
        "neural-cleanse": "casemate.training.defenses.neural_cleanse:NeuralCleanse",
        "adversarial-pruning": (
            "casemate.training.defenses.adversarial_pruning:AdversarialPruning"
        ),
        "i-bau": "casemate.training.defenses.i_bau:IBAU",
        "robust-loss": "casemate.training.defenses.robust_losses:RobustLoss",
        "anti-backdoor": "casemate.training.defenses.anti_backdoor:AntiBackdoorLearning",
        "weight-clipping": "casemate.training.defenses.weight_clipping:WeightClipping",
        "private-training": "casemate.training.defenses.private_training:PrivateTraining",
        "partition-aggregation": (
            "casemate.training.defenses.partition_aggregation:PartitionAggregation"
        ),
        "secded": "casemate.hardware.defenses.ecc:SECDED",
        "radar": "casemate.hardware.defenses.checksums:RADAR",
        "triplication": "casemate.hardware.defenses.triplication:Triplication",
        "weight-reconstruction": (
            "casemate.hardware.defenses.weight_reconstruction:WeightReconstruction"
        ),
        "ranger": "casemate.hardware.defenses.range_restriction:Ranger",
        "product-checksums": ("casemate.hardware.defenses.product_checksums:ProductChecksums"),
    },
    "monitor": {
        "strip": "casemate.inference.monitors.strip:STRIP",
        "mahalanobis": "casemate.inference.monitors.mahalanobis:Mahalanobis",
    },
    "model": {
        "lenet": "casemate.models.lenet:LeNet",
        "vgg": "casemate.models.vgg:VGG",
        "resnet": "casemate.models.resnet:ResNet",
        "mlp": "casemate.models.mlp:MLP",
    },
    "data": {
        "digits": "casemate.data.digits:Digits",
        "mnist": "casemate.data.mnist:MNIST",
        "gtsrb": "casemate.data.gtsrb:GTSRB",
        "folder": "casemate.data.folder:Folder",
        "npz": "casemate.data.npz:Npz",
    },
}


@cache
def _third_party() -> dict[Kind, dict[str, str]]:
    """Return kind -> name -> "module:object" of installed plugins; warn once of what is ignored."""
    found: dict[Kind, dict[str, str]] = {kind: {} for kind in _BUILT_IN}
    ignored = []
    for point in entry_points(group="casemate"):
        kind, _, name = point.name.partition(".")
        if kind not in found or not name:
            ignored.append(
                f'plugin {point.value} is ignored: its entry point is named "{point.name}", not '
                f"KIND.NAME with a kind of {', '.join(found)}"
            )
        elif name in _BUILT_IN[kind] or name in found[kind]:
            ignored.append(f'plugin {point.value} is ignored: the {kind} "{name}" is already taken')
        else:
            found[kind][name] = point.value
    for sentence in ignored:
        warnings.warn(sentence, stacklevel=2)
    return found


@cache
def _table(kind: Kind) -> dict[str, str]:
    return _BUILT_IN[kind] | _third_party()[kind]


def names(kind: Kind) -> list[str]:
    """Return the names of this kind, built-in ones first, without importing them."""
    return list(_table(kind))


def path_of(kind: Kind, name: str) -> str:
    """Return the import path "module:object" behind a name.

    Raises:
        UsageError: If there is no such name.
    """
    table = _table(kind)
    if name not in table:
        raise UsageError(f'there is no {kind} named "{name}".{did_you_mean(name, table)}')
    return table[name]


@cache
def get(kind: Kind, name: str) -> Any:
    """Return the class behind a name.

    Raises:
        UsageError: If there is no such name, or if a third party's plugin cannot be imported.
    """
    path = path_of(kind, name)
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:
        if name in _BUILT_IN[kind]:
            raise
        # whatever a third party's module raises is its defect, not a reason for a traceback of ours
        raise UsageError(
            f'the {kind} "{name}" ({path}) cannot be imported: {type(error).__name__}: {error}; '
            "reinstall or remove the package that provides it"
        ) from error


def name_of(kind: Kind, cls: type) -> str:
    """Return the name under which a class is registered (the class name if it is not)."""
    path = f"{cls.__module__}:{cls.__qualname__}"
    for name, known in _table(kind).items():
        if known == path:
            return name
    return cls.__name__
