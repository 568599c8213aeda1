"""How a deployed model fares on evaluation data while bits of it flip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from casemate.errors import ParameterError, UsageError
from casemate.hardware.parameters import check_class, check_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from casemate.hardware.attacks.samples import Samples
    from casemate.hardware.graph import Graph

    Goal = Callable[["Reading"], bool]

__all__ = ["Aim", "Judge", "Reading", "Watch", "outputs_before", "reading_of"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Shares of the evaluation data, in [0, 1].

    Attributes:
        classes: How many the model knows; no share.
        accuracy: Of all, those whose prediction is right.
        success: Of those that are aimed at, those whose prediction is the target; None without aim.
        others: Of those that are not aimed at, those whose prediction is right; None if there are
            none.
    """

    classes: int
    accuracy: float
    success: float | None = None
    others: float | None = None


@dataclass(frozen=True, kw_only=True)
class Aim:
    """Which inputs are to get which label.

    Attributes:
        target: The label.
        source: Class of the inputs; None is all but the target's own.
    """

    target: int
    source: int | None = None

    def __post_init__(self) -> None:
        check_whole("target", self.target, low=0)
        if self.source is not None:
            check_whole("source", self.source, low=0)
        if self.source == self.target:
            raise ParameterError("source", f"is {self.source}, and so is target; give two classes")

    def check(self, classes: int) -> None:
        """Raise `ParameterError` if there is no such class.

        Args:
            classes: How many the model knows.
        """
        check_class("target", self.target, classes)
        if self.source is not None:
            check_class("source", self.source, classes)

    def check_inputs(self, labels: Tensor) -> None:
        """Raise `UsageError` if no input is aimed at.

        Args:
            labels: (n,) of the evaluation data.
        """
        if not bool(self.at(labels).any()):
            raise UsageError("the evaluation data have no inputs that the attack aims at; add some")

    def at(self, labels: Tensor) -> Tensor:
        """Return (n,) bool, which inputs are aimed at."""
        return labels != self.target if self.source is None else labels == self.source


def outputs_before(
    first: int, graph: Graph, values: Mapping[str, Tensor], x: Tensor
) -> dict[int, Tensor]:
    """Return by position the outputs that nodes from `first` on take of earlier ones.

    Args:
        first: Position of a node.
        graph: The deployed network.
        values: The memory's numbers.
        x: (n, *shape) inputs.
    """
    needed = graph.needed(first)
    known: dict[int, Tensor] = {}

    def seen(i: int, out: Tensor) -> None:
        if i in needed:
            known[i] = out

    if needed:
        with torch.no_grad():
            graph.trace(values, x, seen)
    return known


class Watch:
    """Predictions on some inputs while numbers of the memory change.

    Args:
        graph: The deployed network.
        values: The memory's numbers.
        x: (n, *shape) inputs.
        first: Position of the first node that may read a changed number; what the nodes before it
            give is computed once.
    """

    def __init__(
        self, graph: Graph, values: Mapping[str, Tensor], x: Tensor, first: int = 0
    ) -> None:
        self._graph, self._first = graph, first
        self._parts = torch.split(x, graph.batch())
        self._known = [outputs_before(first, graph, values, part) for part in self._parts]

    def scores(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return (n, classes)."""
        with torch.no_grad():
            return torch.cat(
                [
                    self._graph.resume(values, part, self._first, known)
                    for part, known in zip(self._parts, self._known, strict=True)
                ]
            )

    def predictions(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return (n,) int64; -1 where a score is no finite number, which is right of no input."""
        scores = self.scores(values)
        return scores.argmax(1).masked_fill(~scores.isfinite().all(1), -1)


class Judge:
    """Reads how the model fares.

    Args:
        graph: The deployed network.
        values: The memory's numbers, without flips.
        samples: The evaluation data.
        aim: What the attacker wants of which inputs; None is only wrong predictions.
        first: As for `Watch`.
        moved: (n, *shape) the same inputs as the attacker shows them, of which the success is read;
            as they are if omitted.
    """

    def __init__(
        self,
        graph: Graph,
        values: Mapping[str, Tensor],
        samples: Samples,
        aim: Aim | None = None,
        *,
        first: int = 0,
        moved: Tensor | None = None,
    ) -> None:
        self._labels, self._aim = samples.labels, aim
        self._classes = graph.nodes[-1].shape[0]
        self._watch = Watch(graph, values, samples.x, first)
        self._moved = None if moved is None else Watch(graph, values, moved, first)
        self.before = self.read(values)

    def read(self, values: Mapping[str, Tensor]) -> Reading:
        """Return how the model fares with these numbers in memory."""
        predicted = self._watch.predictions(values)
        shown = predicted
        if self._aim is not None and self._moved is not None:
            shown = self._moved.predictions(values)
        return reading_of(self._labels, predicted, shown, self._aim, self._classes)


def reading_of(
    labels: Tensor, predicted: Tensor, shown: Tensor, aim: Aim | None, classes: int
) -> Reading:
    """Return how predictions fare.

    Args:
        labels: (n,) true ones.
        predicted: (n,) of the inputs as they are.
        shown: (n,) of the inputs as the attacker shows them.
        aim: What the attacker wants of which inputs; None is only wrong predictions.
        classes: How many the model knows.
    """
    right = predicted == labels
    if aim is None:
        return Reading(classes=classes, accuracy=_share(right) or 0.0)
    aimed = aim.at(labels)
    return Reading(
        classes=classes,
        accuracy=_share(right) or 0.0,
        success=_share(shown[aimed] == aim.target),
        others=_share(right[~aimed]),
    )


def _share(hits: Tensor) -> float | None:
    return float(hits.double().mean()) if len(hits) else None
