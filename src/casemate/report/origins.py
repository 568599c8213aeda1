"""Where each trial's evidence comes from, where that is not the run which wrote the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from casemate.report import formats

if TYPE_CHECKING:
    from casemate.campaign.record import CampaignRecord, TrialRecord

__all__ = ["elsewhere", "in_words"]

_TOLD = ("casemate", "torch")


def in_words(trial: TrialRecord) -> str:
    """Return when, with what and on what a trial was computed, in a few words."""
    versions, hardware = trial.made.get("versions") or {}, trial.made.get("hardware") or {}
    told = [f"{name} {versions[name]}" for name in _TOLD if name in versions]
    parts = [str(trial.made.get("at", "")), *told, str(hardware.get("device", ""))]
    return ", ".join(part for part in parts if part)


def elsewhere(record: CampaignRecord) -> tuple[str, ...]:
    """Return one line for each set of versions and hardware that is not the campaign's own.

    Evidence is computed once and kept, so that a report may rest on figures of an earlier version
    or of another machine.
    """
    own = _flat(record.provenance)
    groups: dict[tuple[str, ...], list[TrialRecord]] = {}
    for trial in record.trials:
        differing = (
            *_differing(trial.made, own),
            *_differing(trial.made.get("model"), own, "its model: "),
            *_differing(trial.made.get("examples"), own, "its examples: "),
        )
        if differing:
            groups.setdefault(differing, []).append(trial)
    return tuple(_line(differing, trials) for differing, trials in groups.items())


def _differing(made: dict[str, Any] | None, own: dict[str, str], of: str = "") -> tuple[str, ...]:
    if not made:
        return ()
    found = _flat(made)
    return tuple(
        f"{of}{name} {found.get(name, 'none')} instead of {own.get(name, 'none')}"
        for name in sorted({*own, *found})
        if own.get(name) != found.get(name)
    )


def _line(differing: tuple[str, ...], trials: list[TrialRecord]) -> str:
    dates = sorted({str(t.made.get("at", ""))[:10] for t in trials})
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{formats.plural(len(trials), 'trial')} of {days}: {'; '.join(differing)}"


def _flat(origin: dict[str, Any]) -> dict[str, str]:
    return {
        str(name): str(value)
        for part in ("versions", "hardware")
        for name, value in (origin.get(part) or {}).items()
    }
