"""Findings in full: who attacks, how often it works, what it looks like, how to run it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.report.exhibit import Exhibit, exhibit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from casemate.campaign.record import CampaignRecord, Finding
    from casemate.report.curves import Chart
    from casemate.report.facts import Facts

__all__ = ["FullFinding", "full_findings"]


@dataclass(frozen=True, kw_only=True)
class FullFinding(Exhibit):
    """One finding with everything that the record holds on its trial.

    Attributes:
        rank: Position, from 1; 1 is the worst.
        finding: As judged.
    """

    rank: int
    finding: Finding


def full_findings(
    record: CampaignRecord, facts: Sequence[Facts], charts: Mapping[int, Chart]
) -> tuple[FullFinding, ...]:
    """Return the findings in the record's order, worst first."""
    by_number = {f.number: f for f in facts}
    return tuple(
        FullFinding(
            rank=rank,
            finding=finding,
            **vars(exhibit(by_number[finding.trial], charts, finding.rule)),
        )
        for rank, finding in enumerate(record.findings, 1)
        if finding.trial in by_number
    )
