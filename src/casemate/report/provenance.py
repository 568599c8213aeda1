"""Where the figures come from: versions, hardware, hashes, seeds, cost and configuration."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from casemate.report import formats
from casemate.report.text import cut
from casemate.stats import Measurement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.campaign.record import CampaignRecord
    from casemate.report.facts import Facts

__all__ = ["ModelFacts", "as_yaml", "flat", "models", "provenance", "spent"]

_LONGEST = 300
_MEASUREMENT = frozenset({"name", "value", "n", "low", "high"})
_TITLES = {
    "started": "Started",
    "seconds": "Wall time",
    "command": "Command",
    "seed": "Seed",
    "versions": "Versions",
    "hardware": "Hardware",
    "hashes": "Hashes",
}


def provenance(record: CampaignRecord) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Return groups of (title, rows); a row is (name, value), the name empty for a single value."""
    found = []
    for name in (*_TITLES, *(k for k in record.provenance if k not in _TITLES)):
        if name not in record.provenance:
            continue
        value = record.provenance[name]
        if name == "seconds" and isinstance(value, (int, float)):
            value = formats.duration(value)
        found.append((_TITLES.get(name, name), tuple(flat(value))))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model under test as the report speaks of it.

    Attributes:
        name: Its name; untrusted text, as all that follows.
        classes: Class names by label.
        rows: (name, value) of what is said of it directly.
        details: (dotted name, value) of nested settings, such as its recipe.
    """

    name: str
    classes: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    details: tuple[tuple[str, str], ...]


def models(record: CampaignRecord) -> tuple[ModelFacts, ...]:
    """Return the models under test."""
    found = []
    for model in record.models:
        rows = flat({k: v for k, v in model.items() if k != "classes"})
        found.append(
            ModelFacts(
                name=str(model.get("name", "unnamed")),
                classes=tuple(str(c) for c in model.get("classes") or ()),
                rows=tuple(row for row in rows if row[0] in model),
                details=tuple(row for row in rows if row[0] not in model),
            )
        )
    return tuple(found)


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested data as rows of a dotted name and a value in words."""
    if isinstance(value, dict) and value.keys() >= _MEASUREMENT:
        found = Measurement(
            **{f.name: value[f.name] for f in fields(Measurement) if f.name in value}
        )
        return [(prefix, f"{formats.figure(found)} {formats.interval(found)}, n = {found.n:,}")]
    if isinstance(value, dict):
        return [
            row for k, v in value.items() for row in flat(v, f"{prefix}.{k}" if prefix else str(k))
        ]
    if isinstance(value, (list, tuple)) and any(isinstance(v, dict) for v in value):
        return [row for i, v in enumerate(value) for row in flat(v, f"{prefix}[{i}]")]
    return [(prefix, cut(formats.NOTHING if value is None else formats.value(value), _LONGEST))]


def spent(facts: Sequence[Facts]) -> dict[str, int]:
    """Return what all trials together used, by name."""
    total: Counter[str] = Counter()
    for f in facts:
        if f.trial.evidence is not None:
            total.update(f.trial.evidence.spent)
    return dict(total)


def as_yaml(data: Any) -> str:
    """Return plain JSON data as YAML, as a specification is written."""
    import yaml  # noqa: PLC0415 - the other parts need no YAML

    plain = json.loads(json.dumps(data, default=str))  # no aliases, no types that YAML would tag
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
    return text
