"""Checks of the data against what the model declares; the model is not called."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch

from casemate.inference.checks.problem import Problem, few

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.domain import Domain

__all__ = ["class_names", "domains", "input_values", "label_range", "missing_classes"]

_SLACK = 1e-4  # of the domain's width: rounding of conversions is no mistake


def domains(declared: Domain, data: Domain) -> list[Problem]:
    """The data's domain must be the one that the model declares."""
    if (declared.shape, declared.low, declared.high) == (data.shape, data.low, data.high):
        return []
    return [
        Problem(
            id="domain",
            severity="error",
            message=f"the model declares inputs of shape {declared.shape} in [{declared.low:g}, "
            f"{declared.high:g}] but the data has shape {data.shape} in [{data.low:g}, "
            f"{data.high:g}]",
            remedy="declare the data's domain and reach the model's with preprocessing",
        )
    ]


def label_range(labels: Tensor, classes: int) -> list[Problem]:
    """Every label must name one of the model's classes."""
    outside = (labels < 0) | (labels >= classes)
    if not bool(outside.any()):
        return []
    found = sorted(set(labels[outside].tolist()))
    return [
        Problem(
            id="labels-range",
            severity="error",
            message=f"{int(outside.sum())} of {len(labels)} labels are outside 0 to {classes - 1}, "
            f"the model's classes: {few(found)}",
            remedy="give the model's own label numbers, from 0, or the model with all classes",
        )
    ]


def class_names(model: tuple[str, ...], data: tuple[str, ...]) -> list[Problem]:
    """The model and the data must agree on number and order of classes, each with its own name."""
    problems = []
    if len(model) != len(data):
        problems.append(
            Problem(
                id="class-count",
                severity="error",
                message=f"the model has {len(model)} classes but the data has {len(data)}",
                remedy="give data with the model's classes, or declare the model's classes",
            )
        )
    elif model != data and sorted(model) == sorted(data):
        pairs = enumerate(zip(model, data, strict=True))
        moved = [f'{i}: "{m}" but "{d}"' for i, (m, d) in pairs if m != d]
        problems.append(
            Problem(
                id="class-order",
                severity="error",
                message="the model and the data name their classes in another order "
                f"({few(moved)})",
                remedy="list the classes in the order of the data's labels",
            )
        )
    counts = Counter(name.strip().casefold() for name in model)
    doubled = [name for name, count in counts.items() if count > 1]
    if doubled:
        problems.append(
            Problem(
                id="class-names",
                severity="warning",
                message=f"several classes share a name, apart from case and blanks: {few(doubled)}",
                remedy="give each class a name of its own, or scenarios by name may pick the wrong "
                "one",
            )
        )
    return problems


def missing_classes(labels: Tensor, classes: tuple[str, ...]) -> list[Problem]:
    """Each class should have samples."""
    counts = torch.bincount(labels[labels >= 0], minlength=len(classes))
    missing = [classes[i] for i in range(len(classes)) if counts[i] == 0]
    if not missing:
        return []
    return [
        Problem(
            id="classes-missing",
            severity="warning",
            message=f"{len(missing)} of {len(classes)} classes have no sample in the data: "
            f"{few(missing)}",
            remedy="add samples of them; nothing can be said about these classes",
        )
    ]


def input_values(x: Tensor, domain: Domain) -> list[Problem]:
    """Inputs must be finite and inside the domain.

    Args:
        x: (n, *shape) inputs.
        domain: Their declared bounds.
    """
    flat = x.flatten(1)
    bad = ~flat.isfinite().all(1)
    slack = _SLACK * domain.width
    outside = ((flat < domain.low - slack) | (flat > domain.high + slack)).any(1) & ~bad
    problems = []
    if bool(bad.any()):
        problems.append(
            Problem(
                id="input-values",
                severity="error",
                message=f"{int(bad.sum())} of {len(x)} inputs hold NaN or infinite values",
                remedy="mend or remove these samples",
            )
        )
    if bool(outside.any()):
        low, high = flat[outside].min(), flat[outside].max()
        problems.append(
            Problem(
                id="input-values",
                severity="error",
                message=f"{int(outside.sum())} of {len(x)} inputs leave the declared range "
                f"[{domain.low:g}, {domain.high:g}]: they span {low:.4g} to {high:.4g}",
                remedy="declare the range that the inputs have, or scale them into it",
            )
        )
    return problems
