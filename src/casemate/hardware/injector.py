"""Faults tried on many images within a bound of memory."""

from __future__ import annotations

from functools import cached_property, reduce
from typing import TYPE_CHECKING

from casemate.errors import ParameterError
from casemate.hardware.effects import Effects
from casemate.hardware.estimation.scores import bit_scores, hardest
from casemate.hardware.propagate import Propagator
from casemate.hardware.room import Room, room
from casemate.hardware.spread import Spread
from casemate.hardware.sweep import ELEMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from torch import Tensor

    from casemate.hardware.cases import Cases
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Region
    from casemate.hardware.upsets import Upsets

__all__ = ["Injector"]


class Injector:
    """Tries faults on all images, as many at a time as memory allows.

    Args:
        implementation: The deployed model.
        x: (n, *shape) inputs of the network, on the device where all is computed.
        memory: Bytes that activations and work may take; all images at once if omitted.

    Raises:
        ParameterError: If there are no images, or memory does not hold one.
    """

    def __init__(
        self, implementation: Implementation, x: Tensor, *, memory: int | None = None
    ) -> None:
        if not len(x):
            raise ParameterError("samples", "is 0, but faults need at least one image")
        self.implementation = implementation
        self._x = x
        fits = Room(len(x), ELEMENTS)
        if memory is not None:
            fits = room(implementation.graph, memory, len(x))
        self._step, self._elements = min(len(x), fits.images), fits.elements
        self.cases = fits.cases
        """How many cases are tried in one call, if memory is to hold what they change."""
        self._values = {n: v.to(x.device) for n, v in implementation.memory.values.items()}
        self._spread = Spread.of(implementation.graph, self._values)
        # where all fit at once their activations stay for the next faults
        self._kept = self._propagator(0) if self._step == len(x) else None
        self._labels: np.ndarray | None = None

    def effects(self, cases: Cases) -> Effects:
        """Return what changed words in memory do to the predictions."""
        return self._joined(lambda propagator, _: propagator.effects(cases))

    def upset(self, upsets: Upsets) -> Effects:
        """Return what changed words of activations do to the predictions."""
        if self._kept is None:  # a part sees only what strikes it
            upsets.check(self.implementation.graph, len(self._x))
        return self._joined(
            lambda propagator, low: propagator.upset(upsets.on(low, low + len(propagator.cache)))
        )

    def bit_scores(self, regions: Sequence[Region]) -> np.ndarray:
        """Return a score of every bit of some regions, whatever the limit of memory.

        Args:
            regions: Whose bits `estimation.scores` looks at.
        """
        return bit_scores(self.implementation.graph, self._values, self._hardest, regions)

    @cached_property
    def _hardest(self) -> Tensor:
        return hardest(self.implementation.scores(self._x), self._x)

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 predictions without faults."""
        if self._kept is not None:
            return self._kept.labels
        if self._labels is None:
            self._labels = self.implementation.scores(self._x).argmax(1).cpu().numpy()
        return self._labels

    def _joined(self, run: Callable[[Propagator, int], Effects]) -> Effects:
        """Return the effects on all images, a part of them at a time."""
        if self._kept is not None:
            return run(self._kept, 0)
        parts = (
            run(self._propagator(low), low).shifted(low)
            for low in range(0, len(self._x), self._step)
        )
        return reduce(Effects.beside, parts)

    def _propagator(self, low: int) -> Propagator:
        made = self.implementation
        part = self._x[low : low + self._step]
        return Propagator(made.graph, made.memory, part, self._spread, elements=self._elements)
