"""Checksums of groups of weights: RADAR."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from casemate.errors import UsageError
from casemate.hardware.defenses.cost import Cost
from casemate.hardware.defenses.guarding import read_anew
from casemate.hardware.defenses.second_flips import paired
from casemate.hardware.parameters import check_whole
from casemate.random import stream
from casemate.threats import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.cases import Cases
    from casemate.hardware.defenses.guarding import Guarded, OwnFlips
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Memory, Region

__all__ = ["RADAR"]

_MOST_BITS = 3
_WIDTH = 16  # of the key, in bits


@dataclass(frozen=True, kw_only=True)
class RADAR:
    """Signatures of interleaved groups of integer weights; a group that differs becomes zero.

    Li et al., "RADAR: run-time adversarial weight attack detection and accuracy recovery", DATE
    2021 (arXiv 2101.08254), section IV. Each tensor's weights are dealt to groups in turn, so that
    neighbors are in different ones. A group's checksum M is the sum of its weights, each with the
    sign that a secret key of 16 bits gives to its place; its signature are the bits floor(M / 256)
    and floor(M / 128), and floor(M / 64) if there are three. Signatures lie in memory that nobody
    can change. When a layer is read and a signature differs, all weights of that group are taken as
    zero (with affine weights: as the zero point).

    A flip of the highest bit moves M by 128 and is always noticed; one of the bit below is in half
    of all cases, and two of the highest in one group cancel where their signs differ: that is what
    an attacker who knows the defense goes for. With three bits the bit below is noticed too. The
    key is too short: places of a group that are a multiple of 16 apart have one sign whatever it
    is, so that the same bit set in one of these weights and cleared in the other leaves every
    checksum as it was (`evading`, ours), without knowing the key.

    Attributes:
        group: Weights in a group, at least 2; the paper takes 8 for ResNet-20 and 512 for
            ResNet-18.
        bits: Of a signature, 2 or 3.
        key: Seed of the secret key.
    """

    group: int = 512
    bits: int = 2
    key: int = 0

    stage: ClassVar[Stage] = Stage.HARDWARE
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_whole("radar.group", self.group, low=2)
        check_whole("radar.bits", self.bits, low=2, high=_MOST_BITS)
        check_whole("radar.key", self.key, low=0)

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if no weights are integers of eight bits."""
        _protected(deployed.memory)

    def cost(self, deployed: Implementation) -> Cost:
        """Return signatures and key, and an addition for each protected weight."""
        weights = sum(r.count for r in _protected(deployed.memory))
        return Cost(bits=self.secure(deployed.memory), operations=weights)

    def evading(
        self,
        deployed: Implementation,
        numbers: Sequence[int],
        *,
        constraint: Constraint | None = None,
    ) -> list[list[int]]:
        """Return each bit with one of its group that cancels it in the checksum.

        That is the same bit of a weight whose place is a multiple of 16 further, with the other
        value; where there is none, as in groups of at most 16, of any weight of the group with the
        same or the other value, which cancels for half of all keys. A bit of words that no
        signature covers is alone.
        """
        memory = deployed.memory
        held = {memory.names[r.name]: r for r in _protected(memory)}

        def candidates(number: int) -> Iterator[tuple[np.ndarray, bool]]:
            (at,), (word,), (bit,) = (a.tolist() for a in memory.locate(np.array([number])))
            if at in held:
                region = held[at]
                step = self._groups(region)
                group = np.arange(word % step, region.count, step)
                apart = np.abs(group // step - word // step)
                group = group[np.argsort(apart, kind="stable")][1:]  # the nearest first
                bits = memory.span(region.name)[0] + group * region.word.bits + bit
                yield bits[np.abs(group // step - word // step) % _WIDTH == 0], True
                yield bits, False

        return paired(memory, numbers, candidates, constraint=constraint)

    def storage(self, memory: Memory) -> int:
        """Return 0: signatures and key lie where nothing strikes them.

        Raises:
            UsageError: If no weights are integers of eight bits.
        """
        _protected(memory)
        return 0

    def secure(self, memory: Memory) -> int:
        """Return the bits of all signatures, and of the key, in memory that nobody can change.

        Raises:
            UsageError: If no weights are integers of eight bits.
        """
        return sum(self._groups(r) * self.bits for r in _protected(memory)) + _WIDTH

    def guarded(self, memory: Memory, cases: Cases, own: OwnFlips | None = None) -> Guarded:
        """Return what is read where signatures are checked, and groups that differ are zero.

        It has no bits of its own that could be struck.

        Raises:
            UsageError: If no weights are integers of eight bits.
        """
        del own
        return read_anew(memory, cases, _protected(memory), partial(self._region, memory))

    def signs(self, region: Region) -> np.ndarray:
        """Return the sign of each weight of a tensor, (n,) of 1 and -1."""
        drawn = stream(self.key, f"radar/{region.name}").numpy().integers(0, 2, _WIDTH)
        place = np.arange(region.count) // self._groups(region)  # in its group
        signs: np.ndarray = 2 * drawn[place % _WIDTH] - 1
        return signs

    def groups(self, region: Region) -> np.ndarray:
        """Return the group of each weight of a tensor, (n,)."""
        return np.arange(region.count) % self._groups(region)

    def _groups(self, region: Region) -> int:
        return -(-region.count // self.group)

    def _region(
        self, memory: Memory, region: Region, case: np.ndarray, word: np.ndarray, raw: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return case, word and raw value of what is read of a tensor, and cases with alarms."""
        values = region.values.reshape(-1).numpy().astype(np.int64)
        signs, groups = self.signs(region), self.groups(region)
        sums = np.zeros(self._groups(region), dtype=np.int64)
        np.add.at(sums, groups, signs * values)
        new = region.word.of_raw(torch.from_numpy(raw)).numpy().astype(np.int64)
        # one entry for each group that a case touches
        touched = case * len(sums) + groups[word]
        keys, which = np.unique(touched, return_inverse=True)
        moved = np.zeros(len(keys), dtype=np.int64)
        np.add.at(moved, which, signs[word] * (new - values[word]))
        of_group = keys % len(sums)
        differs = self._signature(sums[of_group]) != self._signature(sums[of_group] + moved)
        kept = ~differs[which]
        out_case, out_word, out_raw = [case[kept]], [word[kept]], [raw[kept]]
        nothing = _zero(memory, region)
        for k in keys[differs].tolist():
            members = np.arange(k % len(sums), region.count, len(sums))
            out_case.append(np.full(len(members), k // len(sums)))
            out_word.append(members)
            zeros = nothing[members] if len(nothing) > 1 else np.full(len(members), nothing[0])
            out_raw.append(zeros)
        return (
            np.concatenate(out_case),
            np.concatenate(out_word),
            np.concatenate(out_raw),
            keys[differs] // len(sums),
        )

    def _signature(self, sums: np.ndarray) -> np.ndarray:
        """Return the signature bits of checksums as one number."""
        return (sums >> (7 if self.bits == 2 else 6)) & ((1 << self.bits) - 1)  # noqa: PLR2004


def _protected(memory: Memory) -> list[Region]:
    """Return the tensors of weights that are integers of eight bits."""
    found = [r for r in memory.regions if r.role == "weight" and r.word.name == "int8"]
    if not found:
        raise UsageError(
            "radar needs weights of eight bits, and the deployed model has none; choose the format "
            "int8 or another defense"
        )
    return found


def _zero(memory: Memory, region: Region) -> np.ndarray:
    """Return the raw words that stand for 0, one or one a weight."""
    name = f"{region.name}.zero"
    if name not in memory.names:
        return np.zeros(1, dtype=np.int64)
    points = memory[name].values.numpy().astype(np.int64) & 0xFF
    if len(points) == 1:
        return points
    each = region.count // len(points)
    return np.repeat(points, each)
