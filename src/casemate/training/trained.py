"""`TrainedModel`: weights and all that made them, as one immutable value and one file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.identity import canonical, key
from casemate.models.architecture import initialize, skeleton
from casemate.models.own import OwnArchitecture
from casemate.random import stream
from casemate.registry import get, name_of
from casemate.target import Preprocessing, TorchTarget
from casemate.training import modelfile
from casemate.training.precision import resolve
from casemate.training.progress import Epoch
from casemate.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from torch import Tensor, nn

    from casemate.data.dataset import Dataset
    from casemate.models.architecture import Architecture

__all__ = ["TrainedModel", "training_key"]

_FORMAT = 1


def training_key(
    architecture: Architecture,
    recipe: Recipe,
    data: Dataset,
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> str:
    """Return the digest of the model that `train` makes of these, without training it."""
    place = torch.device(device)
    name = name_of("model", type(architecture))
    return key(
        "trained model",
        data.digest,
        {"name": name, "revision": architecture.revision, "settings": architecture},
        {"revision": recipe.revision, "settings": recipe},
        seed,
        # "auto" means different numbers on different machines
        {"device": place.type, "precision": resolve(recipe.precision, place)},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
    """A model that Casemate trained.

    Attributes:
        architecture: Of the network.
        weights: State dict: contiguous tensors on the CPU; read-only.
        preprocessing: Stands between the domain and the network.
        domain: Of the inputs.
        classes: Class names by label; untrusted text.
        recipe: How it was trained.
        seed: What it was trained with.
        precision: The number format that the recipe's meant on the device.
        history: One entry an epoch.
        seconds: How long training took.
        digest: `training_key` of what made it.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]
    preprocessing: Preprocessing
    domain: Domain
    classes: tuple[str, ...]
    recipe: Recipe
    seed: int
    precision: str
    history: tuple[Epoch, ...]
    seconds: float
    digest: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))

    def check(self) -> None:
        """Raise `UsageError` if the weights do not fit the architecture."""
        module = skeleton(self.architecture, self.domain, len(self.classes))
        expected = {k: (tuple(v.shape), v.dtype) for k, v in module.state_dict().items()}
        given = {k: (tuple(v.shape), v.dtype) for k, v in self.weights.items()}
        for name in sorted(expected.keys() | given.keys()):
            if expected.get(name) != given.get(name):
                raise UsageError(
                    f'the weights do not fit the architecture: "{name}" is '
                    f"{_shape(given.get(name))}, not {_shape(expected.get(name))}"
                )

    def module(self, device: torch.device | str = "cpu") -> nn.Module:
        """Return a new network with these weights, in evaluation mode, without gradients.

        Raises:
            UsageError: If the weights do not fit the architecture.
        """
        self.check()  # before memory is taken for what a file claims
        module = initialize(
            self.architecture,
            self.domain,
            len(self.classes),
            stream(self.seed, "model/placeholder"),
        )
        module.load_state_dict(dict(self.weights))
        module.eval().requires_grad_(requires_grad=False).to(device)
        if self.recipe.channels_last and self.domain.is_image:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
        return module

    def target(self, device: torch.device | str = "cpu") -> TorchTarget:
        """Return the model as a target in its domain, in float32."""
        return TorchTarget(
            self.module(device),
            domain=self.domain,
            classes=self.classes,
            digest=self.digest,
            preprocessing=self.preprocessing,
            device=device,
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file with all of this in it, all or nothing.

        Raises:
            StoreError: If the file cannot be written.
        """
        modelfile.write(path, self.weights, self.header())

    def header(self) -> dict[str, Any]:
        """Return all but the weights as plain JSON data."""
        header = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "weights"}
        header["format"] = _FORMAT
        header["architecture"] = {
            "name": name_of("model", type(self.architecture)),
            "settings": self.architecture,
        }
        plain: dict[str, Any] = canonical(header)
        return plain

    @classmethod
    def load(cls, path: str | PathLike[str]) -> TrainedModel:
        """Read a file that `save` wrote.

        Raises:
            UsageError: If the file is missing, damaged, not such a file, of a model that is not
                installed here, or of a factory that nobody declared here.
        """
        return cls.of(*modelfile.read(path), path)

    @classmethod
    def of(
        cls, weights: Mapping[str, Tensor], header: Mapping[str, Any], path: str | PathLike[str]
    ) -> TrainedModel:
        """Return the model of weights and what `header` returned.

        Args:
            weights: State dict.
            header: All else; untrusted.
            path: Where both come from, for messages.

        Raises:
            UsageError: As `load`.
        """
        if header.get("format") != _FORMAT:
            raise UsageError(
                f"{path} has the format {header.get('format')!r}, but this version of Casemate "
                f"reads {_FORMAT}; train the model again or use the version that wrote it"
            )
        try:
            model = cls(
                architecture=_architecture(header["architecture"], path),
                weights=weights,
                preprocessing=Preprocessing(**_tuples(header["preprocessing"])),
                domain=Domain(**_tuples(header["domain"])),
                classes=tuple(str(c) for c in header["classes"]),
                recipe=Recipe.of(header["recipe"]),
                seed=int(header["seed"]),
                precision=str(header["precision"]),
                history=tuple(Epoch(**e) for e in header["history"]),
                seconds=float(header["seconds"]),
                digest=str(header["digest"]),
            )
            model.check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{path} does not describe a model: {error}; make it again") from error
        return model


def _architecture(described: dict[str, Any], path: str | PathLike[str]) -> Architecture:
    """Return the architecture that a file names; a file never makes anything be imported."""
    if described["name"] == OwnArchitecture.__name__:
        own = OwnArchitecture(**described["settings"])
        if not own.declared:
            raise UsageError(
                f'{path} holds a model of the factory "{str(own.factory)[:100]}", which nobody '
                "declared here with that code and those arguments; declare the factory in the "
                "campaign, or by casemate.own_architecture, or train the model again"
            )
        return own
    architecture: Architecture = get("model", described["name"])(**described["settings"])
    return architecture


def _tuples(settings: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}


def _shape(entry: Any) -> str:
    return "missing" if entry is None else f"{entry[1]} {list(entry[0])}"
