"""A trial in words: its settings as plain data, a title, what changed since the last run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "GATES",
    "amount",
    "chain",
    "changed",
    "figure",
    "leaves",
    "meant",
    "short_name",
    "title",
    "titles",
]

GATES = ("training", "hardware")
"""Sections of a trial that stand for gates before inference, in the order of a model's life."""

_LEVELS = 255  # of an 8-bit pixel
_HIDDEN = {"data", "model"}  # hashes, which tell people nothing
_FLIP = "flip"  # what faults of hardware are unless a trial says otherwise
_DIGEST, _N = "model_digest", "samples"


def figure(value: Any) -> str:
    """Return a parameter as people write it: 0.03137... is 8/255."""
    if isinstance(value, float):
        short, levels = f"{value:g}", round(value * _LEVELS)
        is_level = levels != 0 and math.isclose(levels / _LEVELS, value, rel_tol=1e-12)
        return f"{levels}/{_LEVELS}" if is_level and float(short) != value else short
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(figure, value))}]"
    return str(value)


def title(settings: Mapping[str, Any]) -> str:
    """Return a trial in a few words: "bim 8/255, Stop → Speed limit (60km/h), behind median"."""
    gate, hardware = settings.get("training") or {}, settings.get("hardware")
    words = {"training": _training, "hardware": _hardware, "inference": _attack}
    parts = [words[stage](attack) for stage, attack in chain(settings)]
    text = ", then ".join(parts) or "no attack"
    if gate.get("defense"):
        text += f", {gate['defense']['name']}"
    if hardware:
        text += f", on {hardware['format']['name']}"
        if hardware.get("defense"):
            text += f", {hardware['defense']['name']}"
            text += f" ({hardware['attacker']})" if hardware.get("attacker") else ""
    goal = settings["goal"]
    if goal["from"] is not None or goal["to"] is not None:
        text += f", {goal['from'] or 'any class'} → {goal['to'] or 'any wrong class'}"
    defense = settings["defense"]
    if defense is not None:
        parameters = [figure(v) for k, v in defense.items() if k != "name"]
        text += f", {' '.join([defense['name'], *parameters])}"
        if settings.get("attacker") is not None:
            text += f" ({settings['attacker']})"
    if settings.get("monitor"):
        text += f", watched by {settings['monitor']['name']}"
    return text


def chain(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the attacks of a trial in the order of the gates, each with its stage."""
    links = [(stage, (settings.get(stage) or {}).get("attack")) for stage in GATES]
    links.append(("inference", settings.get("attack")))
    return [(stage, attack) for stage, attack in links if attack is not None]


def titles(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each trial of a campaign in a few words, as `title`, and what tells namesakes apart.

    Trials that read the same otherwise get the settings in which they differ: "badnets 1 %, target
    3, seed 0".
    """
    found = [title(settings) for settings in trials]
    groups: dict[str, list[int]] = {}
    for i, text in enumerate(found):
        groups.setdefault(text, []).append(i)
    for text, members in groups.items():
        apart = _apart([trials[i] for i in members])
        for i, words in zip(members, apart, strict=True):
            found[i] = ", ".join((text, *words))
    return found


def _apart(namesakes: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return for each trial the settings in which some of them differ, in words."""
    if len(namesakes) == 1:
        return [[]]
    rows = [leaves(meant(settings)) for settings in namesakes]
    names = dict.fromkeys(name for row in rows for name in row)
    differing = [n for n in names if len({repr(row.get(n, _ABSENT)) for row in rows}) > 1]
    if _DIGEST in differing:  # a hash, and it follows from what else differs
        differing.remove(_DIGEST)
    if _N in differing and len(differing) > 1:  # as does, mostly, how many samples there are
        differing.remove(_N)
    return [
        [
            f"{short_name(n, differing).replace('_', ' ')} {figure(row[n])}"
            for n in differing
            if n in row
        ]
        for row in rows
    ]


def short_name(name: str, names: Sequence[str]) -> str:
    """Return the end of a dotted name, as long as it takes to tell it from the others, in words."""
    parts = name.split(".")
    for i in range(len(parts) - 1, 0, -1):
        end = ".".join(parts[i:])
        if sum(n == end or n.endswith(f".{end}") for n in names) == 1:
            return end.replace(".", " ")
    return name.replace(".", " ")


def _attack(attack: Mapping[str, Any]) -> str:
    """Return an attack at inference in a few words: "bim 8/255"."""
    text = str(attack["name"])
    if isinstance(attack.get("epsilon"), (int, float)):
        text += f" {figure(attack['epsilon'])}"
    return text


def _training(attack: Mapping[str, Any]) -> str:
    """Return an attack on training data in a few words: "label-flips pair 40 %"."""
    words = [str(attack["name"])]
    if isinstance(attack.get("kind"), str):
        words.append(attack["kind"])
    if how_much := amount(attack):
        words.append(how_much)
    if isinstance(attack.get("intensity"), (int, float)):
        words.append(f"at {figure(attack['intensity'])}")
    return " ".join(words)


def _hardware(attack: Mapping[str, Any]) -> str:
    """Return an attack on a deployed model in a few words: "bit-errors 0.001"."""
    words = [str(attack["name"])]
    if attack.get("kind", _FLIP) != _FLIP:
        words.append(str(attack["kind"]))
    if isinstance(attack.get("rate"), (int, float)):
        words.append(f"{attack['rate']:g}")
    if isinstance(attack.get("objective"), str):
        words.append(attack["objective"])
    return " ".join(words)


def amount(attack: Mapping[str, Any]) -> str:
    """Return how many samples an attack on training data touches: "1 %", "60 samples".

    Empty where its settings do not say.
    """
    asked = attack.get("amount")
    if not isinstance(asked, dict):
        return ""
    count, percent = asked.get("count"), asked.get("percent")
    if isinstance(count, int):
        words = f"{count:,} sample{'' if count == 1 else 's'}"
    elif isinstance(percent, (int, float)):
        words = f"{percent:.4g} %"
    else:
        return ""
    return f"{words} of each class touched" if asked.get("per_class") else words


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what differs between two identities: "attack.epsilon 4/255 → 8/255, model"."""
    old, new = leaves(before), leaves(now)
    parts = []
    for name in dict.fromkeys((*new, *old)):
        if old.get(name, _ABSENT) == new.get(name, _ABSENT):
            continue
        if name in _HIDDEN:
            parts.append(f"the {name} itself")
        else:
            parts.append(f"{name} {_or_absent(old, name)} → {_or_absent(new, name)}")
    return ", ".join(parts)


_ABSENT = object()


def _or_absent(values: Mapping[str, Any], name: str) -> str:
    return figure(values[name]) if name in values else "absent"


def meant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's settings without what means nothing: how floating-point numbers are cut."""
    hardware = settings.get("hardware") or {}
    form = hardware.get("format") or {}
    if str(form.get("name", "int")).startswith("int"):
        return dict(settings)
    return {**settings, "hardware": {**hardware, "format": {"name": form["name"]}}}


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Return the single values of nested settings by their dotted names."""
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for k, v in value.items():
        found |= leaves(v, f"{name}.{k}" if name else str(k))
    return found
