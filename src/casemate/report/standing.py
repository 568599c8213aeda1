"""What stands between attacker and user, with names short enough for the head of a column."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from casemate.campaign.words import leaves
from casemate.report.facts import parameters_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.facts import Facts

__all__ = ["NOTHING", "STANDING", "Standing", "column", "defenses", "names", "standing"]

STANDING = ("training.defense", "hardware.defense", "defense", "attacker", "monitor")
"""Settings that say what stands there, as `share_key` takes them."""
_DEFENSES = ("training.defense", "hardware.defense", "defense")
NOTHING = json.dumps([None] * len(STANDING))
"""Name of the column where nothing stands."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A defense at training, one in front of the model, a monitor, or several of them.

    Attributes:
        name: With the parameters in which it differs from its namesakes: "robust-loss (loss
            symmetric)"; "none" where nothing stands. Untrusted text, as the next.
        words: With all parameters.
    """

    name: str
    words: str


def column(first: Facts) -> str:
    """Return a name of what stands there that is the same for the same only."""
    return json.dumps([_part(first, name) for name in STANDING], sort_keys=True, default=str)


def standing(firsts: Sequence[Facts]) -> tuple[Standing, ...]:
    """Return what stands there for one trial of each column, in their order."""
    short = [_words(_names(f), _name(f.trial.settings.get("monitor"))) for f in firsts]
    parameters = [leaves({name: _part(f, name) for name in STANDING}) for f in firsts]
    return tuple(
        Standing(name=name, words=_words(f.defense, f.monitor))
        for f, name in zip(firsts, _apart(short, parameters), strict=True)
    )


def defenses(facts: Sequence[Facts]) -> dict[int, str]:
    """Return by the number of each defended trial its defenses, with what sets them apart.

    That are the parameters in which a defense differs from others of the same name: all of them
    would fill a cell of a table.
    """
    firsts: dict[str, Facts] = {}
    keys = {f.number: _defenses(f) for f in facts if f.defense is not None}
    for f in facts:
        if f.number in keys:
            firsts.setdefault(keys[f.number], f)
    parameters = [leaves({name: _part(f, name) for name in _DEFENSES}) for f in firsts.values()]
    short = _apart([_names(f) for f in firsts.values()], parameters)
    names = dict(zip(firsts, short, strict=True))
    return {number: names[key] for number, key in keys.items()}


def _defenses(f: Facts) -> str:
    return json.dumps([_part(f, name) for name in _DEFENSES], sort_keys=True, default=str)


def _apart(names: Sequence[str], parameters: Sequence[dict[str, Any]]) -> list[str]:
    """Return names with those parameters in which their namesakes differ."""
    found = []
    for name, own in zip(names, parameters, strict=True):
        namesakes = [p for n, p in zip(names, parameters, strict=True) if n == name]
        differing = parameters_in_words(
            {
                key.rpartition(".")[2]: value
                for key, value in own.items()
                if any(other.get(key) != value for other in namesakes)
            }
        )
        found.append(f"{name} ({differing})" if differing else name)
    return found


def names(first: Facts) -> tuple[str, ...]:
    """Return the names of all that stands there, without parameters."""
    parts = (_part(first, name) for name in (*_DEFENSES, "monitor"))
    return tuple(name for part in parts if (name := _name(part)))


def _words(defense: str | None, monitor: str | None) -> str:
    parts = [defense] if defense else []
    if monitor:
        parts.append(f"watched by {monitor}")
    return ", ".join(parts) or "none"


def _names(first: Facts) -> str:
    parts = (_part(first, name) for name in _DEFENSES)
    return " + ".join(name for part in parts if (name := _name(part)))


def _name(part: Any) -> str | None:
    if isinstance(part, dict):
        return str(part.get("name", "unnamed"))
    return None if part is None else str(part)


def _part(first: Facts, name: str) -> Any:
    settings = first.trial.settings
    gate, _, part = name.rpartition(".")
    return (settings.get(gate) or {}).get(part) if gate else settings.get(part)
