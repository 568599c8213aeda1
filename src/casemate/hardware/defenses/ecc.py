"""SEC-DED: memory words that correct one wrong bit and notice two."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from casemate.hardware.cases import merged
from casemate.hardware.defenses.cost import Cost
from casemate.hardware.defenses.guarding import Guarded, OwnFlips
from casemate.threats import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.cases import Cases
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Memory

__all__ = ["SECDED", "columns"]

_DATA, _CHECK = 64, 8
_BYTE = 8


@dataclass(frozen=True)
class SECDED:
    """The (72, 64) code of Hsiao, as server memory has it: eight check bits for each 64 of data.

    Hsiao, "A class of optimal minimum odd-weight-column SEC-DED codes", IBM Journal of Research and
    Development 14(4), 1970, doi 10.1147/rd.144.0395. A data bit's column has three or five ones of
    eight, all columns differ, a check bit's column has one. Of the wrong bits of a word the decoder
    sees the exclusive or of their columns, the syndrome: none, it takes the word as right; one
    column, it turns that bit back; any other of an odd number of ones, or one of an even number, it
    gives up and passes the word on with an alarm. So one wrong bit is corrected and two are
    noticed, but three may look like one: a fourth is turned, unnoticed but for the report of a
    correction (Cojocaru et al., "Exploiting correcting codes", IEEE S&P 2019, with Rowhammer).
    Words are the 64-bit words of the memory's layout, padding included. Which columns the code has
    is ours, in the order of their binary numbers; modules differ.

    A correction counts as detected: the memory controller logs it. An attacker who knows the code
    and can flip its check bits too (`evading`) flips, beside the bit that he wants, as many check
    bits of its column as leave one: the decoder turns that check bit, logs one more corrected
    error, and hands out the wrong bit.
    """

    stage: ClassVar[Stage] = Stage.HARDWARE
    revision: ClassVar[int] = 1

    def check(self, deployed: Implementation) -> None:
        """Any memory has 64-bit words."""

    def cost(self, deployed: Implementation) -> Cost:
        """Return the check bits; the memory's controller computes."""
        return Cost(bits=self.storage(deployed.memory), operations=0)

    def evading(
        self,
        deployed: Implementation,
        numbers: Sequence[int],
        *,
        constraint: Constraint | None = None,
    ) -> list[list[int]]:
        """Return each bit with check bits of its word, so that the decoder turns a check bit.

        Flips of one word add up: what those of before leave of the syndrome is counted.
        """
        del constraint  # check bits are the guard's own
        memory = deployed.memory
        wanted = np.array(numbers, dtype=np.int64)
        byte, bit = memory.addresses(wanted)
        word, column = byte // _BYTE, columns()[byte % _BYTE * _BYTE + bit]
        found = []
        seen: dict[int, int] = {}  # the syndrome that each word's flips leave
        for number, w, c in zip(numbers, word.tolist(), column.tolist(), strict=True):
            before = seen.get(w, 0)
            ones = [b for b in range(_CHECK) if (before ^ c) >> b & 1]
            seen[w] = 1 << ones[0] if ones else 0
            found.append([number, *(memory.bits + _CHECK * w + b for b in ones[1:])])
        return found

    def storage(self, memory: Memory) -> int:
        """Return the check bits, eight a word."""
        return -(-memory.bytes * _BYTE // _DATA) * _CHECK

    def guarded(self, memory: Memory, cases: Cases, own: OwnFlips | None = None) -> Guarded:
        """Return what is read after each word was decoded; bit b of word w is its own 8 w + b."""
        case, number = wrong_bits(memory, cases)
        byte, bit = memory.addresses(number)
        word, column = byte // _BYTE, columns()[byte % _BYTE * _BYTE + bit]
        of_data = case, number
        if own is not None:
            case = np.concatenate([case, own.case])
            word = np.concatenate([word, own.bit // _CHECK])
            column = np.concatenate([column, (1 << own.bit % _CHECK).astype(np.uint8)])
        order = np.lexsort((word, case))
        case, word, column = (a[order] for a in (case, word, column))
        first = np.flatnonzero(np.diff(word, prepend=-1) | np.diff(case, prepend=-1))
        if not len(first):
            return Guarded.of(cases, np.zeros(cases.count, dtype=bool))
        syndrome = np.bitwise_xor.reduceat(column, first)
        detected = np.zeros(cases.count, dtype=bool)
        detected[case[first[syndrome != 0]]] = True
        turned = _turned(syndrome)
        corrects = turned >= 0
        where, at = word[first[corrects]], turned[corrects]
        byte, bit = where * _BYTE + at // _BYTE, at % _BYTE
        back = memory.at(byte, bit)  # -1 in padding, where a wrong correction harms nothing
        mine = case[first[corrects]][back >= 0]
        both_case = np.concatenate([of_data[0], mine])
        both = np.concatenate([of_data[1], back[back >= 0]])
        region, index, of_word = memory.locate(both)
        read = merged(memory, both_case, region, index, np.int64(1) << of_word, cases.count)
        return Guarded.of(read, detected)


@lru_cache(maxsize=1)
def columns() -> np.ndarray:
    """Return the columns of the data bits, (64,) uint8: 56 of three ones and 8 of five."""
    of = {
        ones: sorted(sum(1 << b for b in bits) for bits in combinations(range(_CHECK), ones))
        for ones in (3, 5)
    }
    return np.array(of[3] + of[5][:_BYTE], dtype=np.uint8)


def wrong_bits(memory: Memory, cases: Cases) -> tuple[np.ndarray, np.ndarray]:
    """Return the cases and numbers of all bits that are not what they were, (k,) both."""
    difference = memory.raw(cases.region, cases.word) ^ cases.raw
    found_case, found = [], []
    widths = np.array([r.word.bits for r in memory.regions])[cases.region]
    starts = np.array([memory.span(r.name)[0] for r in memory.regions])[cases.region]
    for bit in range(int(widths.max(initial=0))):
        mine = (difference >> bit) & 1 == 1
        found_case.append(cases.case[mine])
        found.append(starts[mine] + cases.word[mine] * widths[mine] + bit)
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    case, number = np.concatenate(found_case), np.concatenate(found)
    order = np.lexsort((number, case))
    return case[order], number[order]


def _turned(syndrome: np.ndarray) -> np.ndarray:
    """Return which data bit the decoder turns at each syndrome; -1 if none."""
    table = np.full(1 << _CHECK, -1)
    table[columns()] = np.arange(_DATA)
    turned: np.ndarray = table[syndrome]
    return turned
