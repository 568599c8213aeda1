"""The strongest attack on each model and goal, for a report that has no finding to show in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.report.exhibit import exhibit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from casemate.report.curves import Chart
    from casemate.report.exhibit import Exhibit
    from casemate.report.facts import Facts

__all__ = ["strongest"]


def strongest(facts: Sequence[Facts], charts: Mapping[int, Chart]) -> tuple[Exhibit, ...]:
    """Return, for each model and goal, the trial with the highest success, in the trials' order.

    Controls do not count. An attack without a budget counts only where there is no other: it goes
    as far as it must, and its rate says nothing without its distance. The same holds for a victim
    that collapsed: its rate is no backdoor's.
    """
    best: dict[tuple[object, str], Facts] = {}
    for f in facts:
        if f.threat.control or f.success is None:
            continue
        group = (f.trial.settings.get("model_digest"), f.scenario)
        if group not in best or _strength(f) > _strength(best[group]):
            best[group] = f
    return tuple(exhibit(f, charts) for f in best.values())


def _strength(facts: Facts) -> tuple[bool, bool, float, float]:
    found = facts.success
    assert found is not None  # noqa: S101 - the caller asked
    return not facts.unbounded, not facts.collapse, found.value or 0.0, found.low or 0.0
