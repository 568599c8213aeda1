"""Findings in full: who attacks, how often it works, what it looks like, how to run it again.

The record has a finding for each trial that breaks a rule. Here the seeds of a setting are one
finding, and a monitor, which watches a victim and does not change it, makes no second one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.report.exhibit import Exhibit, exhibit
from casemate.report.facts import SUCCESS, share_key
from casemate.report.poisonings import SEED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from casemate.campaign.record import CampaignRecord, Finding
    from casemate.report.curves import Chart
    from casemate.report.facts import Facts

__all__ = ["FullFinding", "Grouped", "full_findings", "grouped"]

_OF_A_MONITOR = "monitor "
_EITHER = (False, True)
_BESIDE = ("seed", "model_digest")
"""Settings in which trials of an attack at inference may differ."""


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """A rule that one setting breaks.

    Attributes:
        finding: Of the trial that breaks it most; of those whose victim did not collapse, if any.
        facts: That trial.
        trials: All trials that break it, in the order of the campaign.
        broken: How many seeds break it; a victim with and without a monitor is one.
        seeds: How many seeds the setting has.
    """

    finding: Finding
    facts: Facts
    trials: tuple[Facts, ...]
    broken: int
    seeds: int


@dataclass(frozen=True, kw_only=True)
class FullFinding(Exhibit):
    """One finding with everything that the record holds on its trial.

    Attributes:
        rank: Position, from 1; 1 is the worst.
        group: As judged, over the seeds.
    """

    rank: int
    group: Grouped


def grouped(record: CampaignRecord, facts: Sequence[Facts]) -> tuple[Grouped, ...]:
    """Return the findings over their seeds, worst first; success of collapsed victims last."""
    settings = {watched: {f.number: _setting(f, watched) for f in facts} for watched in _EITHER}
    members: dict[tuple[str, bool, str], list[tuple[Finding, Facts]]] = {}
    by_number = {f.number: f for f in facts}
    for finding in record.findings:
        if finding.trial in by_number:
            rule = json.dumps(finding.rule, sort_keys=True, default=str)
            watched = str(finding.rule.get("measure", "")).startswith(_OF_A_MONITOR)
            key = rule, watched, settings[watched][finding.trial]
            members.setdefault(key, []).append((finding, by_number[finding.trial]))
    seeds = {watched: _seeds(facts, settings[watched]) for watched in _EITHER}
    found = [
        _grouped(pairs, len(seeds[watched][setting]))
        for (_, watched, setting), pairs in members.items()
    ]
    return tuple(sorted(found, key=lambda g: _is_no_backdoor(g.finding, g.facts)))


def full_findings(
    findings: Sequence[Grouped], charts: Mapping[int, Chart]
) -> tuple[FullFinding, ...]:
    """Return the findings in full, in their order."""
    return tuple(
        FullFinding(
            rank=rank, group=group, **vars(exhibit(group.facts, charts, group.finding.rule))
        )
        for rank, group in enumerate(findings, 1)
    )


def _grouped(pairs: Sequence[tuple[Finding, Facts]], seeds: int) -> Grouped:
    finding, worst = next((pair for pair in pairs if not _is_no_backdoor(*pair)), pairs[0])
    return Grouped(
        finding=finding,
        facts=worst,
        trials=tuple(sorted((f for _, f in pairs), key=lambda f: f.number)),
        broken=len({_seed(f) for _, f in pairs}),
        seeds=seeds,
    )


def _is_no_backdoor(finding: Finding, facts: Facts) -> bool:
    """Return whether it is success of a victim that answers the target anyway."""
    return finding.rule.get("measure") == SUCCESS and bool(facts.collapse)


def _setting(f: Facts, watched: bool) -> str:  # noqa: FBT001 - the key of a table of two
    """Return what is the same for all seeds, and for all monitors but where a rule is on them."""
    without = SEED if f.at_training or f.at_hardware else _BESIDE
    return share_key(f, *without, *(() if watched else ("monitor",)))


def _seeds(facts: Sequence[Facts], settings: Mapping[int, str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for f in facts:
        found.setdefault(settings[f.number], set()).add(_seed(f))
    return found


def _seed(f: Facts) -> str:
    return repr(f.trial.settings.get("seed"))
