"""Which keys an entry of a campaign's `trials` may hold, and which of them go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from casemate.campaign.fieldtypes import field_types
from casemate.campaign.gate_sections import KEYS
from casemate.campaign.sections import Options
from casemate.errors import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Collection

    from casemate.campaign.document import KeyPath, Problems

__all__ = ["AT_INFERENCE", "OPTIONS", "TRIAL_KEYS", "check_keys"]

OPTIONS = tuple(field_types(Options))
"""Keys of a trial that are an option each."""
TRIAL_KEYS = ("data", "model", *KEYS, "attack", "goal", "defense", "monitor", *OPTIONS)
"""Every key that an entry may hold."""
AT_INFERENCE = ("goal", "attacker", "early_stop", "queries")
"""Keys that mean nothing without an attack at inference."""
_AFTER_DEPLOYMENT = ("attack", "defense", "monitor")


def check_keys(
    section: dict[str, Any], path: KeyPath, own: Collection[str], problems: Problems
) -> None:
    """Note keys of an entry that there are not, that are missing or that do not go together.

    Args:
        section: The entry, defaults merged in.
        path: Where it stands.
        own: Keys that the entry itself holds; the others are from defaults.
        problems: Told what is wrong.
    """
    meant = set()  # what is there, but not under its name
    for key in section:
        if key not in TRIAL_KEYS:
            meant.add(nearest(str(key), TRIAL_KEYS))
            hint = did_you_mean(str(key), TRIAL_KEYS)
            problems.add((*path, key), f'there is no key "{key}" in a trial.{hint}')
    gates = [name for name in KEYS if section.get(name) is not None]
    ends = bool(gates) or bool(meant & KEYS.keys())
    needed = ("data", "model") if ends else ("attack", "data", "model")
    for key in needed:
        if section.get(key) is None and key not in meant:
            problems.add((*path, key), f"is missing; say what {key} this trial has")
    if "hardware" in gates:
        _check_last(section, path, problems)
    if gates and _nobody(section.get("attack")):
        _check_unused(section, path, own, problems)
    elif "attacker" in section and section.get("defense") is None and "defense" not in meant:
        problems.add(
            (*path, "attacker"), "needs a defense to stand before or after; add one or remove it"
        )


def _nobody(attack: Any) -> bool:
    """Return whether the section "attack" names no attack at all, as [null] does not."""
    if isinstance(attack, list) and attack:
        return all(_nobody(a) for a in attack)
    return attack is None


def _check_last(section: dict[str, Any], path: KeyPath, problems: Problems) -> None:
    """Note what stands behind the hardware gate, where the trial ends."""
    for key in _AFTER_DEPLOYMENT:
        if not _nobody(section.get(key)):
            problems.add(
                (*path, key),
                "stands at inference, but a trial with hardware ends with the deployed model; "
                f"move it under hardware, or give the {key} a trial without hardware",
            )


def _check_unused(
    section: dict[str, Any], path: KeyPath, own: Collection[str], problems: Problems
) -> None:
    """Note what the entry says of an attack at inference, of which it has none.

    A default of the campaign may say so: other trials have one.
    """
    deployed = section.get("hardware") is not None
    gate, model = ("hardware", "deployed") if deployed else ("training", "trained")
    for key in AT_INFERENCE:
        if key in own and section[key] is not None:
            hint = f" (an attack under {gate} has its goal in its own parameters)"
            problems.add(
                (*path, key),
                f"speaks of an attack at inference, but this trial ends with the {model} model; "
                f"remove it, or name an attack beside {gate}{hint if key == 'goal' else ''}",
            )
