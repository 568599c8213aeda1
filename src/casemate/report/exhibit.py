"""One trial in full: who attacks, how far the budget carries, what it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from casemate.report.flipped import flipped
from casemate.report.gallery import gallery
from casemate.report.threat_models import identifiers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from casemate.report.curves import Chart
    from casemate.report.facts import Facts
    from casemate.report.flipped import Flipped
    from casemate.report.gallery import Gallery
    from casemate.report.threat_models import Identifier

__all__ = ["Exhibit", "exhibit"]


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One trial with everything that the record holds on it.

    Attributes:
        facts: The trial.
        chart: Success against budget on the same system with the same goal, or None.
        gallery: Samples, or None.
        flipped: The bits that the attacker flips, in their order.
        identifiers: Entries of public catalogs that it is evidence relevant to.
        rule: The rule of the policy that the trial breaks, as written, or None.
    """

    facts: Facts
    chart: Chart | None
    gallery: Gallery | None
    flipped: tuple[Flipped, ...]
    identifiers: tuple[Identifier, ...]
    rule: Mapping[str, Any] | None = None


def exhibit(
    facts: Facts, charts: Mapping[int, Chart], rule: Mapping[str, Any] | None = None
) -> Exhibit:
    """Return a trial in full, with its chart from those of all trials by number."""
    return Exhibit(
        facts=facts,
        chart=charts.get(facts.number),
        gallery=gallery(facts),
        flipped=flipped(facts),
        identifiers=identifiers(facts.threat.entry),
        rule=rule,
    )
