"""From what the contenders did to rows: times, ratios, success and memory."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.contenders import PEERS
from benchmarks.memory import MIB
from benchmarks.rows import Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.verifier import Judgement

__all__ = ["Result", "compare"]

OURS, DROPPING = "casemate", "casemate, dropping"

FASTEST_LIMIT = 1.0
SLOW_PEERS_LIMIT = 0.7
DROPPING_LIMIT = 0.3
SLOW_PEERS = ("foolbox", "art")
SAME_SUCCESS = 0.0  # points: dropping may not buy its speed with success


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one contender did to one subject.

    Attributes:
        seconds: One entry a round; the contenders took turns within a round.
        judgement: Of the last round's points.
        peak: Most bytes held while attacking, and how many more than before; None if unknown.
    """

    seconds: tuple[float, ...]
    judgement: Judgement
    peak: tuple[int, int] | None


def compare(where: str, subject: str, results: Mapping[str, Result]) -> list[Row]:
    """Return the rows of one subject.

    Ratios are the median of each round's ratio, so that a machine that is busy for a while slows
    both sides of a ratio; limits stand on those that the project promises.

    Args:
        where: Device, for the rows' names.
        subject: Name of the model.
        results: By contender: `CONTENDERS`' names.
    """
    peers = [name for name in PEERS if name in results]
    fastest = min(peers, key=lambda name: statistics.median(results[name].seconds))
    best = max(results[name].judgement.success for name in peers)
    start = f"{where}, {subject}"
    rows = []
    for name in peers:
        limit = SLOW_PEERS_LIMIT if name in SLOW_PEERS else None
        if name == fastest:
            limit = min(FASTEST_LIMIT, limit or FASTEST_LIMIT)
        rows.append(
            Row(
                name=f"{start}: time, all steps / {name}{' (fastest)' * (name == fastest)}",
                value=_ratio(results[OURS], results[name]),
                unit="x",
                limit=limit,
                peer=name,
            )
        )
    rows += [
        Row(
            name=f"{start}: time, dropping / {fastest} (fastest)",
            value=_ratio(results[DROPPING], results[fastest]),
            unit="x",
            limit=DROPPING_LIMIT if subject == "undefended" else None,
            peer=fastest,
        ),
        Row(
            name=f"{start}: success, dropping - best peer",
            value=results[DROPPING].judgement.success - best,
            unit="points",
            limit=SAME_SUCCESS,
            better="higher",
        ),
    ]
    for name, result in results.items():
        rows += _own_rows(start, name, result)
    return rows


def _own_rows(start: str, name: str, result: Result) -> list[Row]:
    peer = name if name in PEERS else ""
    rows = [
        Row(
            name=f"{start}: {name}: time",
            value=statistics.median(result.seconds),
            unit="s",
            peer=peer,
        ),
        Row(
            name=f"{start}: {name}: success of {result.judgement.n}",
            value=result.judgement.success,
            unit="%",
            better="higher",
            peer=peer,
        ),
        Row(
            name=f"{start}: {name}: images outside the ball",
            value=result.judgement.outside,
            unit="images",
            limit=None if peer else 0,
            peer=peer,
        ),
    ]
    if result.peak is not None:
        most, more = result.peak
        rows += [
            Row(name=f"{start}: {name}: peak memory", value=most / MIB, unit="MiB", peer=peer),
            Row(
                name=f"{start}: {name}: peak memory above the loaded model's",
                value=more / MIB,
                unit="MiB",
                peer=peer,
            ),
        ]
    return rows


def _ratio(ours: Result, theirs: Result) -> float:
    pairs = zip(ours.seconds, theirs.seconds, strict=True)
    return statistics.median(mine / other for mine, other in pairs)
