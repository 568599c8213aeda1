"""What an attacker's surrogates are worth who does not know the victim's architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.report.facts import share_key
from casemate.report.poisonings import SEED
from casemate.report.systems import systems, undefended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.poisonings import Poisoning

__all__ = ["Surrogate", "Transfer", "transfers"]

_OWN = "victim"


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """One architecture of the attacker's models; "lenet, the victim's own" is none the less one."""

    architecture: str
    row: Poisoning


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Settings that differ in nothing but the architecture of the attacker's surrogates.

    Attributes:
        system: What sets the system apart from others of the campaign, or empty.
        surrogates: At least two, the victim's own architecture first.
    """

    system: str
    surrogates: tuple[Surrogate, ...]


def transfers(rows: Sequence[Poisoning]) -> tuple[Transfer, ...]:
    """Return the attacks that were made on surrogates of several architectures."""
    found = []
    for system in systems(undefended(rows)):
        groups: dict[str, list[Surrogate]] = {}
        for row in system.rows:
            attack = row.first.trial.settings["training"].get("attack") or {}
            if isinstance(attack.get("architecture"), str):
                key = share_key(row.first, *SEED, "monitor", "training.attack.architecture")
                groups.setdefault(key, []).append(Surrogate(architecture=_named(row), row=row))
        found += [
            Transfer(
                system=system.words,
                surrogates=tuple(sorted(group, key=lambda s: not _is_own(s.row))),
            )
            for group in groups.values()
            if len(group) > 1
        ]
    return tuple(found)


def _is_own(row: Poisoning) -> bool:
    own: bool = row.first.trial.settings["training"]["attack"]["architecture"] == _OWN
    return own


def _named(row: Poisoning) -> str:
    settings = row.first.trial.settings
    if not _is_own(row):
        return str(settings["training"]["attack"]["architecture"])
    model = settings.get("model")
    names = ("architecture", "factory")
    own = next((model[n] for n in names if n in model), None) if isinstance(model, dict) else None
    return f"{own or 'unnamed'}, as the victim"
