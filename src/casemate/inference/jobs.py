"""What the engine and an attack share: the jobs in the batch, and the stepper's interface."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from casemate.random import Stream  # noqa: TC001 - a field's type is read when jobs are selected

if TYPE_CHECKING:
    from casemate.access import Answer
    from casemate.data.domain import Domain
    from casemate.threats import ThreatModel

__all__ = ["Jobs", "Norm", "State", "Stepper", "join", "pick"]

Norm = Literal["linf", "l2"]

State = dict[str, Tensor]
"""An attack's state: tensors whose first axis is the job."""


@dataclass(frozen=True)
class Jobs:
    """The jobs in the batch; every tensor's first axis is the job.

    Attributes:
        origin: (b, *shape) clean inputs.
        label: (b,) int64 true labels.
        goal: (b,) int64 labels to reach, -1 for any wrong one.
        position: (b,) int64 positions of the samples in the data under attack.
        words: (b, 2) int64, the sample's identity and the restart: names the job's random draws.
        age: (b,) int64, points asked for so far.
        domain: Bounds and shape of the inputs.
        stream: Where the attack's random numbers come from.
    """

    origin: Tensor
    label: Tensor
    goal: Tensor
    position: Tensor
    words: Tensor
    age: Tensor
    domain: Domain
    stream: Stream

    def __len__(self) -> int:
        return len(self.label)

    @property
    def targeted(self) -> Tensor:
        """(b,) bool, whether the job has a label to reach."""
        return self.goal >= 0

    def pick(self, index: Tensor) -> Jobs:
        """Return some of the jobs (a bool mask or int64 positions)."""
        chosen: dict[str, Any] = {k: v[index] for k, v in self._tensors().items()}
        return replace(self, **chosen)

    def join(self, other: Jobs) -> Jobs:
        """Return these jobs and then the others."""
        others = other._tensors()
        both: dict[str, Any] = {k: torch.cat([v, others[k]]) for k, v in self._tensors().items()}
        return replace(self, **both)

    def _tensors(self) -> dict[str, Any]:
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in mine.items() if isinstance(v, Tensor)}


def pick(state: State, index: Tensor) -> State:
    """Return some jobs' state (a bool mask or int64 positions)."""
    return {k: v[index] for k, v in state.items()}


def join(first: State, second: State) -> State:
    """Return the state of these jobs and then of those."""
    return {k: torch.cat([v, second[k]]) for k, v in first.items()}


class Stepper(Protocol):
    """An inference attack: it asks for points, is told what the model says of them, and steps.

    A frozen dataclass whose fields are the hyper-parameters. It never sees the model; the engine
    evaluates the points with exactly the access that `threat` declares.

    Attributes:
        threat: The threat model; `threat.access` is what the answers hold.
        revision: Raised when the same parameters come to mean something else.
        minimizes: True if the attack looks for the smallest perturbation rather than for the
            best point within epsilon; such jobs run to their own end.

    A class that is no attack but noise to read the others against also has `control = True`.
    """

    threat: ClassVar[ThreatModel]
    revision: ClassVar[int]
    minimizes: ClassVar[bool]

    @property
    def norm(self) -> Norm:
        """In which distances are measured."""

    @property
    def epsilon(self) -> float | None:
        """Largest distance in `norm`, in the domain's units; None if unbounded."""

    @property
    def restarts(self) -> int:
        """How many jobs a sample gets."""

    @property
    def asks(self) -> int:
        """Most points that one job asks for."""

    @property
    def gradient_asks(self) -> int:
        """How many of them, from the first, need a gradient."""

    def check(self, domain: Domain) -> None:
        """Raise `UsageError` if a parameter does not fit the domain."""

    def start(self, jobs: Jobs) -> State:
        """Return the state of new jobs."""

    def ask(self, jobs: Jobs, state: State) -> Tensor:
        """Return the points to evaluate, (b, *shape), inside the domain and epsilon."""

    def objective(self, jobs: Jobs, scores: Tensor) -> Tensor:
        """Return what to differentiate at the points, (b,) from (b, classes) scores."""

    def tell(self, jobs: Jobs, state: State, answer: Answer) -> Tensor | None:
        """Step; may work in place on `state`. Return (b,) bool of jobs that are done, or None.

        Where only the last points of some jobs were scored, their rows of loss and gradient are
        zero and the step is without consequence.
        """
