"""Weight reconstruction: a weight far from its neighbors is read as the nearest possible one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from casemate.errors import ParameterError, UsageError
from casemate.hardware.defenses.cost import Cost
from casemate.hardware.defenses.guarding import read_anew
from casemate.hardware.parameters import check_number, check_whole
from casemate.threats import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.cases import Cases
    from casemate.hardware.defenses.guarding import Guarded, OwnFlips
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Memory, Region

__all__ = ["WeightReconstruction"]

_MOST = 1 << 22  # codes of grains that are looked at together


@dataclass(frozen=True, kw_only=True)
class WeightReconstruction:
    """Reads each integer weight no further from the median of its grain than `reach`.

    Li, Rakin, Xiong, Chang, He, Fan and Chakrabarti, "Defending bit-flip attack through DNN weight
    reconstruction", DAC 2020 (doi 10.1109/DAC18072.2020.9218665): weights are reconstructed at
    inference from the quantized ones of their grain, so that what a flip moves is bounded and
    spread over neighbors.

    The paper's text is not at hand, and what follows is ours. A grain are so many weights in a row
    of memory. At deployment each weight is cut to at most `reach` of the highest level above or
    below the lower median of its grain, and so it is whenever weights are read. The median, where
    the paper has the mean, is not moved by cutting, so that without faults what is read is what is
    there; with a flip it moves by at most one place. A flip of the highest bit thus moves one
    weight by `reach` and what it was off, and no further; nothing is stored for that.

    What is cut at deployment costs accuracy, which training with small weights of one size
    (`weight-clipping`) makes less. An attacker who knows it searches for flips on the model as it
    is read.

    Attributes:
        grain: Weights in a grain, at least 3.
        reach: Largest distance from the median, as a share of the format's highest level, in (0, 2]
            (127 of eight bits, 7 of four).
    """

    grain: int = 9
    reach: float = 0.5

    stage: ClassVar[Stage] = Stage.HARDWARE
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_whole("grain", self.grain, low=3, high=1 << 16)
        check_number("reach", self.reach, low=0.0, high=2.0)
        if self.reach == 0:
            raise ParameterError("reach", "must be above 0, got 0; 0.5 is the default")

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if no weights are integers."""
        _integers(deployed.memory)

    def cost(self, deployed: Implementation) -> Cost:
        """Return the comparisons that sort each grain and cut each weight."""
        operations = 0
        for region in _integers(deployed.memory):
            grains = -(-region.count // self.grain)
            operations += grains * self.grain * (self.grain - 1) // 2 + 2 * region.count
        return Cost(bits=0, operations=operations)

    def protected(self, implementation: Implementation, clean: Tensor) -> Implementation:
        """Return the implementation with its weights cut, and read so; no clean inputs are needed.

        Raises:
            UsageError: If no weights are integers.
        """
        del clean
        memory = implementation.memory
        words = {
            r.name: r.word.carried(torch.from_numpy(self._read(r, _codes(r, r.words)) & _mask(r)))
            for r in _integers(memory)
        }
        return replace(implementation, memory=memory.with_words(words), reading=self)

    def storage(self, memory: Memory) -> int:
        """Return 0: nothing is stored."""
        _integers(memory)
        return 0

    def evading(
        self,
        deployed: Implementation,
        numbers: Sequence[int],
        *,
        constraint: Constraint | None = None,
    ) -> list[list[int]]:
        """Return each bit alone: who knows how weights are read searches for flips so."""
        del deployed, constraint
        return [[n] for n in numbers]

    def values(self, region: Region, words: Tensor) -> Tensor:
        """Return the numbers that a tensor's words are read as, (n,)."""
        if not _is_weight(region):
            return region.word.decode(words)
        read = torch.from_numpy(self._read(region, _codes(region, words)))
        return read.to(region.word.value_type)

    def guarded(self, memory: Memory, cases: Cases, own: OwnFlips | None = None) -> Guarded:
        """Return what is read where weights are cut; a case in which any is counts as detected.

        It has no bits of its own that could be struck.
        """
        del own
        return read_anew(memory, cases, _integers(memory), self._of_region)

    def _of_region(
        self, region: Region, case: np.ndarray, word: np.ndarray, raw: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return case, word and raw value of what is read of touched grains, and cases of cuts."""
        grains = -(-region.count // self.grain)
        keys, which = np.unique(case * grains + word // self.grain, return_inverse=True)
        step = max(1, _MOST // self.grain)
        codes = _codes(region, region.words)
        new = region.word.of_raw(torch.from_numpy(raw)).to(torch.int64).numpy()
        found: list[tuple[np.ndarray, ...]] = []
        for low in range(0, len(keys), step):
            part = keys[low : low + step]
            members = (part % grains)[:, None] * self.grain + np.arange(self.grain)
            there = members < region.count
            held = np.where(there, codes[np.minimum(members, region.count - 1)], 0)
            mine = (which >= low) & (which < low + len(part))
            held[which[mine] - low, word[mine] % self.grain] = new[mine]
            cut = self._cut(region, held, there)
            row, column = np.nonzero(there)
            of_case = part[row] // grains
            found.append(
                (
                    of_case,
                    members[row, column],
                    cut[row, column] & _mask(region),
                    part[((cut != held) & there).any(1)] // grains,
                )
            )
        if not found:
            return (np.zeros(0, dtype=np.int64),) * 4
        out = [np.concatenate(column) for column in zip(*found, strict=True)]
        return out[0], out[1], out[2], out[3]

    def _read(self, region: Region, codes: np.ndarray) -> np.ndarray:
        """Return all codes of a tensor as they are read, (n,) int64."""
        rest = -len(codes) % self.grain
        held = np.append(codes, np.zeros(rest, dtype=np.int64)).reshape(-1, self.grain)
        there = np.arange(held.size).reshape(held.shape) < len(codes)
        read: np.ndarray = self._cut(region, held, there).reshape(-1)[: len(codes)]
        return read

    def _cut(self, region: Region, held: np.ndarray, there: np.ndarray) -> np.ndarray:
        """Return grains of codes, (k, grain) int64, each cut to the reach of its median.

        Args:
            region: Whose codes they are.
            held: The codes.
            there: (k, grain) bool, which are codes: the last grain of a tensor may have fewer.
        """
        highest = (1 << (region.word.bits - 1)) - 1
        ordered = np.sort(np.where(there, held, 1 << 20), axis=1)
        middle = (there.sum(1) - 1) // 2
        median = np.take_along_axis(ordered, middle[:, None], axis=1)
        reach = max(1, round(self.reach * highest))
        cut: np.ndarray = np.clip(held, median - reach, median + reach)
        return cut


def _is_weight(region: Region) -> bool:
    return region.role == "weight" and region.word.name in ("int8", "int4")


def _integers(memory: Memory) -> list[Region]:
    """Return the tensors of weights that are integers."""
    found = [r for r in memory.regions if _is_weight(r)]
    if not found:
        raise UsageError(
            "weight-reconstruction needs weights that are integers, and the deployed model has "
            "none; choose the format int8 or int4, or another defense"
        )
    return found


def _codes(region: Region, words: Tensor) -> np.ndarray:
    """Return the integers that words hold, (n,) int64."""
    codes: np.ndarray = region.word.of_raw(region.word.raw(words)).to(torch.int64).numpy()
    return codes


def _mask(region: Region) -> int:
    return (1 << region.word.bits) - 1
