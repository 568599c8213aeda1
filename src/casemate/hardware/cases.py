"""Cases: sets of words that are not what they were, one set a case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from casemate.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.hardware.memory import Memory

__all__ = ["Cases", "changed_words", "flips", "merged"]


@dataclass(frozen=True)
class Cases:
    """Changed words by case; no word twice in one case.

    Attributes:
        count: How many cases; one without changed words is the deployed model as it is.
        case: (m,) int64, ascending.
        region: (m,) position of each word's region in the memory.
        word: (m,) position of the word in its region.
        raw: (m,) what it is now, raw.
    """

    count: int
    case: np.ndarray
    region: np.ndarray
    word: np.ndarray
    raw: np.ndarray

    def part(self, low: int, high: int) -> Cases:
        """Return the cases from `low` to `high`, counted from 0 again."""
        first, last = np.searchsorted(self.case, [low, high])
        part = slice(first, last)
        return Cases(
            high - low, self.case[part] - low, self.region[part], self.word[part], self.raw[part]
        )


def flips(memory: Memory, case: np.ndarray, number: np.ndarray, count: int) -> Cases:
    """Return cases in which bits are inverted.

    Args:
        memory: Without faults.
        case: (m,) which case each flip belongs to.
        number: (m,) of the bit; one that is named twice in a case is flipped back.
        count: How many cases there are.
    """
    region, word, bit = memory.locate(number)
    return merged(memory, np.asarray(case), region, word, np.int64(1) << bit, count)


def changed_words(memory: Memory, made: Cases) -> dict[str, Tensor]:
    """Return the words of the tensors that a single case changes, by name, (n,) each."""
    changed = {}
    for position in np.unique(made.region).tolist():
        region, mine = memory.regions[position], made.region == position
        words = region.words.clone()
        raw = torch.from_numpy(made.raw[mine])
        words[torch.from_numpy(made.word[mine])] = region.word.carried(raw)
        changed[region.name] = words
    return changed


def merged(
    memory: Memory,
    case: np.ndarray,
    region: np.ndarray,
    word: np.ndarray,
    mask: np.ndarray,
    count: int,
) -> Cases:
    """Return cases in which each word is inverted by the exclusive or of all its masks."""
    outside = case[(case < 0) | (case >= count)]
    if len(outside):
        raise ParameterError(
            "case",
            f"is {outside[0]}, but there are {count} cases; give one from 0 to {count - 1}",
        )
    order = np.lexsort((word, region, case))
    case, region, word, mask = (a[order] for a in (case, region, word, mask))
    if len(case):
        fresh = np.ones(len(case), dtype=bool)
        fresh[1:] = (np.diff(case) != 0) | (np.diff(region) != 0) | (np.diff(word) != 0)
        starts = np.flatnonzero(fresh)
        mask = np.bitwise_xor.reduceat(mask, starts)
        case, region, word = case[starts], region[starts], word[starts]
        changed = mask != 0
        case, region, word, mask = (a[changed] for a in (case, region, word, mask))
    return Cases(count, case, region, word, memory.raw(region, word) ^ mask)
