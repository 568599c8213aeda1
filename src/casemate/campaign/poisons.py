"""`Poisons`: poisoned training sets that stay at hand, as many as memory allows."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from casemate.training.poisoned import Poisoned

__all__ = ["Poisons"]

_ROOM = 1 << 30


class Poisons:
    """Poisoned sets by name; those that were not asked for longest make room for others.

    What a set shares with the clean one does not count, its patch and its labels do.

    Args:
        room: Bytes to hold at most; the last set stays whatever its size.
    """

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._held: OrderedDict[str, Poisoned] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def of(self, name: str, make: Callable[[], Poisoned]) -> Poisoned:
        """Return the set of a name, made if it is not at hand."""
        if name not in self._held:
            self.put(name, make())
        self._held.move_to_end(name)
        return self._held[name]

    def put(self, name: str, poisoned: Poisoned) -> None:
        """Keep a set at hand."""
        self._held[name] = poisoned
        self._held.move_to_end(name)
        while len(self._held) > 1 and sum(map(_size, self._held.values())) > self._room:
            self._held.popitem(last=False)


def _size(poisoned: Poisoned) -> int:
    data = poisoned.dataset
    own: list[Tensor | None] = [data.patch, data.patched, data.labels, poisoned.touched]
    return sum(int(t.nbytes) for t in own if t is not None)
