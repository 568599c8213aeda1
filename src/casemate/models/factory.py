"""A torch module of the user's: built by a factory or handed over, with weights or without."""

from __future__ import annotations

from contextlib import nullcontext
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field
from torch import nn
from torch.nn.parameter import is_lazy

from casemate.errors import UsageError
from casemate.identity import key
from casemate.models.fingerprint import fingerprint
from casemate.models.imports import importable, imported, said
from casemate.models.section import ModelSection
from casemate.models.weights import fit_weights, read_weights
from casemate.target import Outputs, Preprocessing, TorchTarget

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from casemate.data.domain import Domain

__all__ = ["FactoryModel", "call_factory", "import_factory", "torch_target"]


class FactoryModel(ModelSection):
    """A torch module that a function of the user's builds.

    Attributes:
        factory: "package.module:factory", a function or class that returns a `torch.nn.Module`.
        arguments: Keyword arguments for the factory; `shape` and `classes` of the data are added
            where it requires them.
        weights: File of weights, relative to the spec: safetensors, or a torch file of tensors.
        trust_pickle: Whether to run the code in a pickle that `weights_only` refuses.
    """

    tag: ClassVar[str] = "factory"

    factory: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    trust_pickle: bool = False
    outputs: Outputs = "logits"

    def load(
        self, *, domain: Domain, classes: tuple[str, ...], base_dir: Path, device: str
    ) -> TorchTarget:
        """Return the module in evaluation mode on the device.

        Raises:
            UsageError: If the factory fails or returns no module, the weights do not fit, or the
                device is not there.
        """
        factory = import_factory(self.factory, base_dir=base_dir)
        if isinstance(factory, nn.Module):
            module = _ready(factory, self.factory, self.arguments)
        else:
            module = call_factory(
                factory,
                self.arguments,
                name=self.factory,
                folder=base_dir,
                domain=domain,
                classes=len(classes),
            )
        if self.weights is None:
            notes: tuple[str, ...] = (
                f'no weights are given: the model is as "{self.factory}" returned it',
            )
        else:
            file = base_dir / self.weights
            weights, found = read_weights(file, trust_pickle=self.trust_pickle)
            notes = found + fit_weights(
                module, weights, file=str(file), builder=f'"{self.factory}"'
            )
        return torch_target(
            module.eval(),
            domain=domain,
            classes=classes,
            preprocessing=self.preprocessing,
            outputs=self.outputs,
            device=device,
            notes=notes,
        )


def import_factory(name: str, *, base_dir: Path) -> Any:
    """Return the function or class that "package.module:factory" names, or a module built already.

    Raises:
        UsageError: If there is none, or it is nothing of that kind.
    """
    factory = imported(name, key="model.factory", base_dir=base_dir)
    if isinstance(factory, nn.Module) or callable(factory):
        return factory
    raise _no_factory(factory, name)


def call_factory(
    factory: Any,
    arguments: dict[str, Any],
    *,
    name: str,
    folder: Path | None,
    domain: Domain,
    classes: int,
) -> nn.Module:
    """Return the module that a factory builds.

    Args:
        factory: A function or class.
        arguments: Keyword arguments for it. Where it requires `shape` or `classes` and they are not
            among these, it gets those of the data.
        name: What the user calls it.
        folder: First on `sys.path` meanwhile; None adds none.
        domain: What an input is.
        classes: How many there are.

    Raises:
        UsageError: If it fails or returns something else.
    """
    data = {"shape": domain.shape, "classes": classes}
    asked = {k: v for k, v in data.items() if k in _required(factory) and k not in arguments}
    try:
        # a factory may import what it builds only when called
        with nullcontext() if folder is None else importable(folder):
            module = factory(**arguments, **asked)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f'model.factory: "{name}" raised {said(error)}; mend it or its arguments'
        ) from error
    if not isinstance(module, nn.Module):
        raise UsageError(
            f'model.factory: "{name}" returned a value of type '
            f"{type(module).__name__} and no torch.nn.Module; return the module"
        )
    return module


def _required(factory: Any) -> set[str]:
    """Return the names of the arguments that a factory cannot be called without."""
    try:
        parameters = signature(factory).parameters.values()
    except (TypeError, ValueError):  # compiled code has none
        return set()
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return {p.name for p in parameters if p.kind in named and p.default is Parameter.empty}


def _ready(module: nn.Module, name: str, arguments: dict[str, Any]) -> nn.Module:
    """Return a module that is built already, for which there is nothing to hand over."""
    if arguments:
        raise _no_factory(module, name)
    return module


def _no_factory(found: Any, name: str) -> UsageError:
    return UsageError(
        f'model.factory: "{name}" is of type {type(found).__name__} and no '
        "function that returns a torch.nn.Module; name the function or class, without "
        "arguments if it is a module already"
    )


def torch_target(
    module: nn.Module,
    *,
    domain: Domain,
    classes: tuple[str, ...],
    preprocessing: Preprocessing | None,
    outputs: Outputs,
    device: torch.device | str | None,
    notes: tuple[str, ...] = (),
) -> TorchTarget:
    """Return the target around a module.

    The digest names weights, buffers, structure, attributes and source code of the module's
    classes (see `fingerprint`), preprocessing, outputs, domain and classes.

    Args:
        module: The module; its mode is left as it is.
        domain: What an input is.
        classes: Class names in the order of the module's outputs.
        preprocessing: What happens to an input before the module.
        outputs: What the module returns.
        device: Where to move the module; None leaves it where its first tensor is.
        notes: For the target.

    Raises:
        UsageError: If the device is not there, or weights are not initialized yet.
    """
    tensors = [*module.parameters(), *module.buffers()]
    if any(map(is_lazy, tensors)):
        raise UsageError(
            "the model has lazy layers without weights; give its weights, or call it once on an "
            "input before handing it over"
        )
    if device is None:
        device = tensors[0].device if tensors else "cpu"
    else:
        try:
            module.to(device)
        except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
            raise UsageError(
                f'the model cannot be moved to the device "{device}" ({said(error)}); '
                "choose another device, such as cpu"
            ) from error
    return TorchTarget(
        module,
        domain=domain,
        classes=classes,
        digest=key(
            "torch model", fingerprint(module), preprocessing, outputs, domain, list(classes)
        ),
        preprocessing=preprocessing,
        outputs=outputs,
        device=device,
        notes=notes,
    )
