"""The samples that the checks look at and what the model said of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from casemate.errors import UsageError
from casemate.inference.checks.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.target import Target

__all__ = ["BATCH", "ModelRaisedError", "Probe", "calling", "scores_of"]

BATCH = 64
"""Samples in one call of the model."""
_LONGEST = 300


class ModelRaisedError(Exception):
    """The user's model raised while a check called it."""

    def __init__(self, error: BaseException, shape: tuple[int, ...], device: torch.device) -> None:
        super().__init__(str(error))
        self.error = error
        self.shape = shape
        self.device = device

    def problem(self) -> Problem:
        """Return the problem that the exception is."""
        line = " ".join(str(self.error).split())
        line = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
        if isinstance(self.error, UsageError):  # the target's own complaint about the outputs
            return Problem(
                id="outputs-shape",
                severity="error",
                message=line.partition("; ")[0],
                remedy=line.partition("; ")[2] or "mend what the model returns",
            )
        if isinstance(self.error, (torch.OutOfMemoryError, MemoryError)):
            return Problem(
                id="memory",
                severity="error",
                message=f"memory ran out on inputs of shape {self.shape} on {self.device}",
                remedy="choose a smaller batch size or another device",
            )
        return Problem(
            id="model-raises",
            severity="error",
            message=f"the model raised {type(self.error).__name__} on inputs of shape "
            f"{self.shape} on {self.device}: {line or 'no message'}",
            remedy="mend the model, or its preprocessing if it expects another shape",
        )


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What every check of the model works on; the model is guarded meanwhile.

    Attributes:
        target: The model.
        classes: Names of the data's classes.
        x: (n, *shape) float32 inputs in the domain, on the target's device.
        y: (n,) int64 true labels, on the CPU; may lie outside the model's classes.
        scores: (n, classes) float32 scores, on the CPU.
    """

    target: Target
    classes: tuple[str, ...]
    x: Tensor
    y: Tensor
    scores: Tensor

    @classmethod
    def take(cls, target: Target, data: Dataset, positions: Tensor) -> Probe:
        """Return the samples at some positions and their scores.

        Raises:
            ModelRaisedError: If the model raises.
        """
        x = data.batch(positions, device=target.device)
        return cls(
            target=target,
            classes=data.classes,
            x=x,
            y=data.targets[positions].cpu(),
            scores=scores_of(target, x),
        )

    @property
    def predicted(self) -> Tensor:
        """(n,) int64 predicted labels."""
        return self.scores.argmax(1)

    @property
    def right(self) -> Tensor:
        """(n,) bool, whether the prediction is true; never where a score is not finite."""
        return (self.predicted == self.y) & self.scores.isfinite().all(1)


def scores_of(target: Target, x: Tensor, *, batch: int = BATCH) -> Tensor:
    """Return (n, classes) scores on the CPU.

    Raises:
        ModelRaisedError: If the model raises.
    """
    parts = []
    for begin in range(0, len(x), batch):
        part = x[begin : begin + batch]
        with calling(target, part), torch.no_grad():
            parts.append(target.scores(part).cpu())
    return torch.cat(parts)


@contextmanager
def calling(target: Target, x: Tensor) -> Iterator[None]:
    """Turn what the model raises on inputs `x` into `ModelRaisedError`."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ModelRaisedError(error, tuple(x.shape), target.device) from error
