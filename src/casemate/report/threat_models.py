"""The threat model behind a trial, in words, and the public identifiers it has to do with.

The attack's class says what it assumes. Where the class cannot be imported any more (a plugin that
is no longer installed), the report is still written from the taxonomy and says what it lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from casemate.report.plugins import installed
from casemate.threats import Stage, ThreatModel, taxonomy, taxonomy_sources

if TYPE_CHECKING:
    from casemate.threats import Threat

_T = TypeVar("_T")

__all__ = ["Identifier", "ThreatFacts", "identifiers", "threat_facts"]


@dataclass(frozen=True, kw_only=True)
class ThreatFacts:
    """Who attacks, in words.

    Attributes:
        id: Id of the threat in the taxonomy; untrusted text.
        title: Its title, or the id where the taxonomy does not know it.
        stage: Where the attacker acts.
        model: What the attack's class declares; None if it cannot be imported.
        control: Whether the "attack" is a control, which says nothing on the threat.
        minimizes: Whether the attack searches the smallest perturbation.
        epsilon: Its budget where the settings leave it out.
        norm: The norm of its budget where the settings leave it out.
        evades: Names of defenses and monitors that its paper claims to get past.
        entry: Row of the taxonomy; None if it does not know the threat.
    """

    id: str
    title: str
    stage: Stage
    model: ThreatModel | None
    control: bool
    minimizes: bool
    epsilon: float | None
    norm: str | None
    evades: frozenset[str]
    entry: Threat | None


@dataclass(frozen=True, kw_only=True)
class Identifier:
    """One entry of a public catalog and how it relates to a threat."""

    catalog: str
    version: str
    url: str
    id: str
    relation: str
    note: str


@cache
def threat_facts(attack: str, threat: str) -> ThreatFacts:
    """Return the threat model of an attack's name and a threat's id."""
    cls = installed("attack", attack)
    declared = getattr(cls, "threat", None)
    model = declared if isinstance(declared, ThreatModel) else None
    entry = taxonomy().get(threat)
    if model is not None:
        stage = model.stage
    elif entry is not None and len(entry.stages) == 1:
        stage = entry.stages[0]
    else:
        stage = Stage.INFERENCE  # the only gate at which a trial without a known class attacks
    return ThreatFacts(
        id=threat,
        title=entry.title if entry else threat,
        stage=stage,
        model=model,
        control=bool(getattr(cls, "control", False)),
        minimizes=bool(getattr(cls, "minimizes", False)),
        epsilon=_default(cls, "epsilon", float),
        norm=_default(cls, "norm", str),
        evades=_default(cls, "evades", frozenset) or frozenset(),
        entry=entry,
    )


def identifiers(threat: Threat | None) -> tuple[Identifier, ...]:
    """Return the public identifiers that evidence on a threat is relevant to."""
    if threat is None:
        return ()
    sources = taxonomy_sources()
    return tuple(
        Identifier(
            catalog=sources[r.catalog]["title"],
            version=sources[r.catalog]["version"],
            url=sources[r.catalog]["url"],
            id=r.id,
            relation=r.relation,
            note=r.note,
        )
        for r in threat.references
    )


def _default(cls: object, name: str, kind: type[_T]) -> _T | None:
    """Return a parameter's default, which a dataclass keeps as an attribute of the class."""
    value = getattr(cls, name, None)
    return value if isinstance(value, kind) else None
