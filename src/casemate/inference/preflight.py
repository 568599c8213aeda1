"""The preflight: everything that is wrong with a model and its data, listed at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from casemate.errors import UsageError
from casemate.guard import guarded
from casemate.inference.checks import (
    of_accuracy,
    of_data,
    of_gradients,
    of_memory,
    of_outputs,
    of_range,
    of_state,
)
from casemate.inference.checks.probe import ModelRaisedError, Probe, scores_of
from casemate.inference.checks.problem import Problem
from casemate.random import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.target import Target

__all__ = ["Problem", "preflight"]

CHECKS: tuple[Callable[[Probe], list[Problem]], ...] = (
    of_outputs.not_finite,
    of_outputs.constant,
    of_outputs.probabilities,
    of_accuracy.above_chance,
    of_accuracy.class_order,
    of_range.input_range,
    of_state.nondeterminism,
    of_state.batch_dependence,
    of_gradients.gradients,
    of_memory.memory,
)
"""What is looked at once the model has answered; each is independent of the others."""


def preflight(
    target: Target,
    data: Dataset,
    *,
    declared_accuracy: float | None = None,
    samples: int = 256,
    seed: int = 0,
) -> list[Problem]:
    """Return every problem that is found, errors first; an empty list means none.

    The model is evaluated under the guard: afterwards its weights, buffers, modes, gradients and
    the global random states are what they were, bit for bit.

    Args:
        target: The model as loaded.
        data: Samples with true labels, such as the test split.
        declared_accuracy: What its owner says, in [0, 1].
        samples: How many samples are drawn; fewer if the data has fewer.
        seed: Of that draw.

    Raises:
        UsageError: If there is nothing to check, or the declared accuracy is no share.
    """
    if declared_accuracy is not None and not 0 <= declared_accuracy <= 1:
        raise UsageError(
            f"the declared accuracy is {declared_accuracy:g}; give a share in [0, 1], such as 0.97"
        )
    if samples < 1 or len(data) == 0:
        raise UsageError(
            f"{data.name}: nothing to check with {samples} of {len(data)} samples; give at least 1"
        )
    draw = stream(seed, "preflight").numpy().permutation(len(data))[:samples]
    positions = torch.from_numpy(draw)
    problems = [
        *of_data.domains(target.domain, data.domain),
        *of_data.class_names(target.classes, data.classes),
        *of_data.label_range(data.targets, len(target.classes)),
        *of_data.missing_classes(data.targets, data.classes),
        *of_data.input_values(data.batch(positions), data.domain),
        *of_state.training_mode(target.modules),
    ]
    with guarded(target.modules, [target.device]):
        problems += _of_model(target, data, positions, declared_accuracy)
    return sorted(problems, key=lambda p: p.severity != "error")


def _of_model(
    target: Target, data: Dataset, positions: Tensor, declared_accuracy: float | None
) -> list[Problem]:
    try:
        probe = Probe.take(target, data, positions)
    except ModelRaisedError as raised:
        return [_with_single(raised, target, data, positions)]
    found = of_accuracy.declared(probe, declared_accuracy)
    for check in CHECKS:
        found += [p for p in _checked(check, probe) if p not in found]
    return found


def _checked(check: Callable[[Probe], list[Problem]], probe: Probe) -> list[Problem]:
    try:
        return check(probe)
    except ModelRaisedError as raised:
        return [raised.problem()]


def _with_single(
    raised: ModelRaisedError, target: Target, data: Dataset, positions: Tensor
) -> Problem:
    """Return the problem, and add whether a single sample goes through."""
    problem = raised.problem()
    if problem.id != "model-raises" or raised.shape[0] == 1:
        return problem
    try:
        scores_of(target, data.batch(positions[:1], device=target.device))
    except ModelRaisedError:
        return problem
    return Problem(
        id=problem.id,
        severity=problem.severity,
        message=f"{problem.message} (a single sample goes through)",
        remedy="make the model take batches of any size",
    )
