"""The report for machines: everything that the HTML says, as one JSON document.

docs/report.md explains every block. The document is versioned: within a version, keys are added
but never renamed, removed or given another meaning.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from casemate.report import provenance, summary
from casemate.report.comparisons import comparisons
from casemate.report.facts import facts_of
from casemate.report.findings import grouped
from casemate.report.matrix import matrix, untested
from casemate.report.monitoring import BEYOND, USES, monitoring
from casemate.report.poisonings import poisonings
from casemate.report.strongest import strongest
from casemate.report.struck import struck
from casemate.report.threat_models import identifiers
from casemate.report.training_json import of_training
from casemate.report.writing import write_text
from casemate.threats import taxonomy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from pathlib import Path

    from casemate.campaign.record import CampaignRecord
    from casemate.report.comparisons import Comparison
    from casemate.report.facts import Facts
    from casemate.report.findings import Grouped
    from casemate.report.matrix import Row
    from casemate.report.poisonings import Poisoning
    from casemate.report.struck import Struck

__all__ = ["SCHEMA", "VERSION", "document", "write"]

SCHEMA = "casemate-report"
VERSION = 1


def write(record: CampaignRecord, path: str | PathLike[str]) -> Path:
    """Write the report of a campaign as JSON and return the file's absolute path.

    The text is ASCII, without NaN, and without "<", so that it can stand in a page.

    Raises:
        UsageError: If the file cannot be written.
    """
    text = json.dumps(document(record), indent=1, allow_nan=False).replace("<", "\\u003c")
    return write_text(path, f"{text}\n")


def document(record: CampaignRecord) -> dict[str, Any]:
    """Return the report as plain JSON data: no NaN, no infinity (both are None)."""
    facts = facts_of(record)
    rows = matrix(facts)
    summed = summary.summary(record, facts, rows)
    of_poison = poisonings(facts)
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "name": record.name,
        "description": record.description,
        "verdict": record.verdict,
        "exit_code": record.exit_code,
        "exit_meaning": summary.exit_meaning(record),
        "summary": {
            "headline": summed.headline,
            "sentence": summed.sentence,
            "worst_trial": summed.worst.number if summed.worst else None,
            "smallest_trial": summed.smallest.number if summed.smallest else None,
            "control_trial": summed.control.number if summed.control else None,
            "states": {s.value: n for s, n in summed.states.items()},
            "collapsed_victims": summed.collapsed,
            "threats_tested": summed.tested,
            "threats": summed.threats,
            "trials_with_failure_flag": summed.unhealthy,
        },
        "doubts": record.doubts,
        "findings": [{"rank": i, **asdict(f)} for i, f in enumerate(record.findings, 1)],
        "findings_over_seeds": [_grouped(i, g) for i, g in enumerate(grouped(record, facts), 1)],
        "strongest": [e.facts.number for e in strongest(facts, {})] if not record.findings else [],
        "matrix": [_row(row) for row in rows],
        "not_tested": {stage.value: list(titles) for stage, titles in untested(rows).items()},
        "threats": _threats(facts),
        "trials": [_trial(f) for f in facts],
        "comparisons": [_comparison(c) for c in comparisons(facts)],
        "monitoring": _monitoring(of_poison),
        **of_training(of_poison),
        "deployed_models": [_struck(row) for row in struck(facts)],
        "models": record.models,
        "specification": record.spec,
        "provenance": record.provenance,
        "spent": provenance.spent(facts),
    }
    plain: dict[str, Any] = _plain(found)
    return plain


def _grouped(rank: int, found: Grouped) -> dict[str, Any]:
    return {
        "rank": rank,
        "title": found.finding.title,
        "rule": found.finding.rule,
        "worst_trial": found.facts.number,
        "trials": [f.number for f in found.trials],
        "broken": found.broken,
        "seeds": found.seeds,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "threat": row.id,
        "title": row.title,
        "stages": {
            cell.stage.value: {
                "state": cell.state,
                "trials": cell.trials,
                "available": cell.available,
            }
            for cell in row.cells
            if cell.state is not None
        },
    }


def _monitoring(rows: Sequence[Poisoning]) -> list[dict[str, Any]]:
    found = monitoring(rows)
    if found is None:
        return []
    return [
        {
            "trials": [f.number for f in w.row.trials],
            "alarms": {
                USES[use].format(name): cell
                for use, cells in w.cells.items()
                for name, cell in zip(found.monitors, cells, strict=True)
            },
            "beyond_another_clean_model": {
                USES[use].format(name): more
                and {"difference": more.difference, "detected": more.detected}
                for use in BEYOND
                for name, more in zip(found.monitors, w.excess[use], strict=True)
            },
        }
        for w in found.rows
    ]


def _struck(row: Struck) -> dict[str, Any]:
    return {
        "trials": [f.number for f in row.trials],
        "seeds": row.seeds,
        "figures": list(row.figures.values()),
        "flips_until_goal": [None if math.isinf(n) else n for n in row.until],
    }


def _threats(facts: Sequence[Facts]) -> dict[str, Any]:
    known = taxonomy()
    used = dict.fromkeys(f.threat.id for f in facts if f.threat.id in known)
    return {
        id_: {
            "title": known[id_].title,
            "stages": known[id_].stages,
            "evidence_relevant_to": identifiers(known[id_]),
            "eu_ai_act": known[id_].eu_ai_act,
        }
        for id_ in used
    }


def _trial(facts: Facts) -> dict[str, Any]:
    trial, evidence = facts.trial, facts.trial.evidence
    return {
        "number": trial.number,
        "key": trial.key,
        "status": trial.status,
        "state": facts.state,
        "control": facts.threat.control,
        "threat": trial.threat,
        "stage": facts.threat.stage,
        "scenario": facts.scenario,
        "settings": trial.settings,
        "seconds": trial.seconds,
        "made": trial.made,
        "measurements": evidence.measurements if evidence else [],
        "by_class": evidence.by_class if evidence else [],
        "flags": evidence.flags if evidence else [],
        "spent": evidence.spent if evidence else {},
        "notes": evidence.notes if evidence else {},
        "tables": evidence.tables if evidence else {},
        "verdict": trial.verdict,
        "reasons": trial.reasons,
        "error": trial.error,
        "traceback": trial.traceback,
        "replay": trial.replay,
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "without": comparison.without.number,
        "defended": comparison.defended.number,
        "pairs": comparison.pairs,
        "change": comparison.change,
        "p_holm": comparison.p if comparison.pairs else None,
    }


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one return a kind of value
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
