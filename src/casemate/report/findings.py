"""Findings in full: who attacks, how often it works, what it looks like, how to run it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.report.gallery import gallery
from casemate.report.threat_models import identifiers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.campaign.record import CampaignRecord, Finding
    from casemate.report.curves import Chart
    from casemate.report.facts import Facts
    from casemate.report.gallery import Gallery
    from casemate.report.threat_models import Identifier

__all__ = ["FullFinding", "full_findings"]


@dataclass(frozen=True, kw_only=True)
class FullFinding:
    """One finding with everything that the record holds on it.

    Attributes:
        rank: Position, from 1; 1 is the worst.
        finding: As judged.
        facts: The trial.
        chart: Success against budget on the same system with the same goal, or None.
        gallery: Samples, or None.
        identifiers: Entries of public catalogs that it is evidence relevant to.
    """

    rank: int
    finding: Finding
    facts: Facts
    chart: Chart | None
    gallery: Gallery | None
    identifiers: tuple[Identifier, ...]


def full_findings(
    record: CampaignRecord, facts: Sequence[Facts], charts: dict[int, Chart]
) -> tuple[FullFinding, ...]:
    """Return the findings in the record's order, worst first."""
    by_number = {f.number: f for f in facts}
    return tuple(
        FullFinding(
            rank=rank,
            finding=finding,
            facts=by_number[finding.trial],
            chart=charts.get(finding.trial),
            gallery=gallery(by_number[finding.trial]),
            identifiers=identifiers(by_number[finding.trial].threat.entry),
        )
        for rank, finding in enumerate(record.findings, 1)
        if finding.trial in by_number
    )
