"""Second flips that make up for a first one, so that a sum stays what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.memory import Memory

    # bits in the order of preference, and whether they must hold the other value
    Candidates = Iterable[tuple[np.ndarray, bool]]

__all__ = ["paired"]


def paired(
    memory: Memory,
    numbers: Sequence[int],
    candidates: Callable[[int], Candidates],
    *,
    constraint: Constraint | None = None,
) -> list[list[int]]:
    """Return each bit, with a second one where there is one that makes up for it.

    Args:
        memory: Without faults.
        numbers: Of the bits that are wanted, in the order in which they flip.
        candidates: Returns for a bit what may make up for it, in groups of falling preference:
            the numbers of bits, the best first, and whether such a bit must hold another value than
            the wanted one when both flip.
        constraint: Which bits can flip beside those; second ones are added to it.
    """
    pairing = _Pairing(memory, numbers, constraint)
    return [pairing.flipped(n, candidates(n)) for n in numbers]


class _Pairing:
    """Bits as they stand while wanted ones and second ones flip."""

    def __init__(
        self, memory: Memory, numbers: Sequence[int], constraint: Constraint | None
    ) -> None:
        self._memory, self._constraint = memory, constraint
        self._taken = {int(n) for n in numbers}
        self._now: dict[int, int] = {}  # bits that flipped, and their value since

    def flipped(self, number: int, candidates: Candidates) -> list[int]:
        """Flip a bit, and what makes up for it; return both."""
        flips = [number]
        second = self._second(number, candidates)
        if second is not None:
            flips.append(second)
            self._taken.add(second)
            if self._constraint is not None:
                self._constraint.add(second)
        for n, value in zip(flips, self._values(np.array(flips)).tolist(), strict=True):
            self._now[n] = 1 - value
        return flips

    def _second(self, number: int, candidates: Candidates) -> int | None:
        own = self._values(np.array([number]))[0]
        for bits, other in candidates:
            fits = ~np.isin(bits, list(self._taken))
            if self._constraint is not None:
                fits &= self._constraint.possible(bits)
            if other:
                fits &= self._values(bits) != own
            if fits.any():
                return int(bits[fits.argmax()])
        return None

    def _values(self, bits: np.ndarray) -> np.ndarray:
        held = self._memory.read(bits).tolist()
        return np.array([self._now.get(n, v) for n, v in zip(bits.tolist(), held, strict=True)])
