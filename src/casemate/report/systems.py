"""Which attacks on training may be held against each other: those on the same system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.report.facts import share_key, varying
from casemate.report.poisonings import SEED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.poisonings import Poisoning

__all__ = ["System", "systems", "undefended", "unwatched"]

# what the attacker does, and what only watches
_ATTACKED = (*SEED, "training.attack", "monitor")
_DEFENDED = ("training.defense", "defense", "attacker")


@dataclass(frozen=True, kw_only=True)
class System:
    """Rows that differ in attack, defense and monitor alone.

    Attributes:
        words: What sets it apart from the other systems of the campaign: "architecture vgg"; empty
            where there is only one. Untrusted text.
        rows: In the order of the campaign.
    """

    words: str
    rows: tuple[Poisoning, ...]


def systems(rows: Sequence[Poisoning]) -> tuple[System, ...]:
    """Return the rows by the data and model that they attack."""
    groups: dict[str, list[Poisoning]] = {}
    for row in rows:
        groups.setdefault(share_key(row.first, *_ATTACKED, *_DEFENDED), []).append(row)
    words = varying([members[0].first for members in groups.values()], *_ATTACKED, *_DEFENDED)
    return tuple(
        System(words=words[members[0].first.number], rows=tuple(members))
        for members in groups.values()
    )


def undefended(rows: Sequence[Poisoning]) -> tuple[Poisoning, ...]:
    """Return the rows without a defense; of those that only a monitor tells apart, one."""
    return unwatched([row for row in rows if row.first.defense is None])


def unwatched(rows: Sequence[Poisoning]) -> tuple[Poisoning, ...]:
    """Return the rows; of those that only a monitor tells apart, one.

    A monitor watches a model and does not change it.
    """
    found: dict[str, Poisoning] = {}
    for row in rows:
        key = share_key(row.first, *SEED, "monitor")
        known = found.get(key)
        if known is None or row.seeds > known.seeds:
            found[key] = row
    return tuple(found.values())
