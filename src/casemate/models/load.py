"""The front door for a user's model: from a description in a spec, or from a Python object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from torch import nn

from casemate.errors import UsageError, did_you_mean
from casemate.models.estimator import SklearnModel, estimator_target, is_estimator
from casemate.models.factory import FactoryModel, torch_target
from casemate.models.function import FunctionModel, function_target
from casemate.models.onnx import OnnxModel
from casemate.models.section import ModelSection, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from casemate.data.domain import Domain
    from casemate.target import Outputs, Preprocessing, Target

__all__ = ["SECTIONS", "load_target", "parse_section", "target_from"]

SECTIONS: dict[str, type[ModelSection]] = {
    section.tag: section for section in (FactoryModel, OnnxModel, SklearnModel, FunctionModel)
}
"""Kinds of user's models by the key that tells them."""


def parse_section(spec: Mapping[str, Any]) -> ModelSection:
    """Return the described model, checked but not loaded; nothing is read or imported.

    Args:
        spec: The section as written: exactly one of "factory", "onnx", "sklearn" and "function",
            and that kind's other keys.

    Raises:
        UsageError: If the section is not well formed.
    """
    tags = [tag for tag in SECTIONS if tag in spec]
    if len(tags) != 1:
        given = ", ".join(map(str, spec)) or "nothing"
        hint = "".join(did_you_mean(str(k), SECTIONS) for k in spec if k not in SECTIONS)[:200]
        raise UsageError(
            f"model: give exactly one of {', '.join(SECTIONS)}; got {given}."
            + (hint if not tags else "")
        )
    section = SECTIONS[tags[0]]
    try:
        return section.model_validate(dict(spec))
    except ValidationError as error:
        raise refusal(error, section) from error


def load_target(
    spec: Mapping[str, Any],
    *,
    domain: Domain,
    classes: tuple[str, ...],
    base_dir: Path,
    device: str = "cpu",
) -> Target:
    """Return a user's model as a target.

    - `factory: "package.module:factory"`, `arguments`, `weights`, `trust_pickle`
    - `onnx: model.onnx`, `output`, `layout`
    - `sklearn: "package.module:object_or_function"`, `arguments`
    - `function: "package.module:function"`

    and for each `preprocessing: {mean, std, size}`, `outputs` and `accuracy`. What loading did
    that its owner should know is in the target's `notes`; what changes its digest is said at
    `torch_target`, `OnnxModel.load`, `estimator_target` and `function_target`.

    Args:
        spec: The section of the spec.
        domain: What an input is; `preprocessing` is applied behind it.
        classes: Class names in the order of the model's outputs.
        base_dir: The folder of the spec: file paths are relative to it, and it comes first on
            `sys.path` while the user's code is imported.
        device: Where a torch module runs; the other kinds run on the CPU.

    Raises:
        UsageError: If the section is not well formed or the model cannot be had as described.
    """
    section = parse_section(spec)
    return section.load(domain=domain, classes=classes, base_dir=base_dir, device=device)


def target_from(
    model: Any,
    *,
    domain: Domain,
    classes: tuple[str, ...],
    preprocessing: Preprocessing | None = None,
    outputs: Outputs | None = None,
    device: torch.device | str | None = None,
) -> Target:
    """Return a model that is already a Python object as a target.

    Args:
        model: A `torch.nn.Module`, a fitted classifier with scikit-learn's interface, or a
            function from float32 arrays (n, *shape) to scores or labels.
        domain: What an input is; `preprocessing` is applied behind it.
        classes: Class names in the order of the model's outputs.
        preprocessing: What happens to an input before the model.
        outputs: What it gives; None means logits of a module, probabilities of a function, and
            what a classifier offers.
        device: Where to move a module; None leaves it where it is.

    Raises:
        UsageError: If it is none of these, or cannot be used as it is.
    """
    if isinstance(model, nn.Module):
        return torch_target(
            model,
            domain=domain,
            classes=classes,
            preprocessing=preprocessing,
            outputs=outputs or "logits",
            device=device,
        )
    if is_estimator(model):
        return estimator_target(
            model, domain=domain, classes=classes, preprocessing=preprocessing, outputs=outputs
        )
    if callable(model) and not isinstance(model, type):
        return function_target(
            model,
            domain=domain,
            classes=classes,
            preprocessing=preprocessing,
            outputs=outputs or "probabilities",
        )
    kind = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
    raise UsageError(
        f"the model is {kind}; give a torch.nn.Module, a fitted classifier or a function of arrays"
        f"{' (an instance, not the class)' if isinstance(model, type) else ''}"
    )
