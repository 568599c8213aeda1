"""The vocabulary: stages, goals, knowledge, and the threat model that every attack declares.

The words are those of NIST AI 100-2 E2025. Public identifiers of each threat (MITRE ATLAS, NIST,
OWASP, CWE) come from `taxonomy.yaml`, each with its relation to the threat: exact, closest or
related. A threat without a counterpart in a catalog has none; no match is forced.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = [
    "Access",
    "Goal",
    "Knowledge",
    "Reference",
    "Stage",
    "Threat",
    "ThreatModel",
    "taxonomy",
    "taxonomy_sources",
]


class Stage(str, Enum):
    """Where in the life of a model the attacker acts."""

    TRAINING = "training"
    HARDWARE = "hardware"
    INFERENCE = "inference"


class Goal(str, Enum):
    """What the attacker wants."""

    INTEGRITY_TARGETED = "integrity, targeted"
    INTEGRITY_UNTARGETED = "integrity, untargeted"
    AVAILABILITY = "availability"
    CONFIDENCE_REDUCTION = "confidence reduction"
    CONFIDENTIALITY_DATA = "confidentiality of data"
    CONFIDENTIALITY_MODEL = "confidentiality of the model"


class Access(str, Enum):
    """What the attacker may touch at inference, from most to least."""

    GRADIENTS = "gradients"
    SCORES = "scores"
    LABELS = "labels"
    NONE = "none"


class Knowledge(str, Enum):
    """How much of the system the attacker knows (NIST AI 100-2 E2025, section 2.1.3)."""

    WHITE_BOX = "white box"
    GRAY_BOX = "gray box"
    BLACK_BOX = "black box"


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """Who attacks, where, with what, and to what end.

    Attributes:
        threat: Id of the threat in the taxonomy, such as "evasion-white-box".
        stage: Where the attacker acts.
        goals: What the attack can be used for.
        access: What it touches of the model at most; the engine hands it exactly this. At the
            hardware gate it is what the attacker needs beside changing memory.
        knowledge: How much of the system it must know.
        budget: What bounds it, in words, with the unit.
    """

    threat: str
    stage: Stage
    goals: tuple[Goal, ...]
    access: Access
    knowledge: Knowledge
    budget: str

    @property
    def touches(self) -> str:
        """What the attacker touches, in words."""
        if self.stage is Stage.TRAINING:
            return "training data"
        if self.stage is Stage.HARDWARE:
            return "memory" if self.access is Access.NONE else f"memory, {self.access.value}"
        return self.access.value


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One identifier in a public catalog.

    Attributes:
        catalog: Key of the catalog: "atlas", "nist", "owasp" or "cwe".
        id: The identifier as the catalog writes it.
        relation: "exact" (the same scope), "closest" (no entry has the same scope, this one is the
            nearest) or "related" (the entry covers one part, variety or step of the threat).
        note: What the identifier covers, where that is not exactly the threat.
    """

    catalog: str
    id: str
    relation: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Threat:
    """One row of the taxonomy.

    Attributes:
        id: Casemate's own id.
        title: The threat in a few words.
        stages: Stages at which it strikes.
        references: Identifiers in public catalogs; empty where a catalog has none.
        eu_ai_act: The wording of Article 15(5) that evidence on this threat is relevant to.
        note: What to know of the identifiers, such as why a catalog has none.
    """

    id: str
    title: str
    stages: tuple[Stage, ...]
    references: tuple[Reference, ...]
    eu_ai_act: str | None
    note: str = ""


@cache
def _document() -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - the vocabulary itself needs no YAML

    text = files("casemate").joinpath("taxonomy.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def taxonomy_sources() -> dict[str, dict[str, str]]:
    """Return catalog key -> {title, version, url} of the catalogs that references name."""
    sources: dict[str, dict[str, str]] = _document()["sources"]
    return sources


@cache
def taxonomy() -> dict[str, Threat]:
    """Return all threats by id, in the order of a model's life."""
    return {
        row["id"]: Threat(
            id=row["id"],
            title=row["title"],
            stages=tuple(Stage(s) for s in row["stages"]),
            references=tuple(
                Reference(
                    catalog=catalog,
                    id=reference["id"],
                    relation=reference["relation"],
                    note=reference.get("note", ""),
                )
                for catalog in taxonomy_sources()
                for reference in row.get(catalog, ())
            ),
            eu_ai_act=row.get("eu_ai_act"),
            note=row.get("note", ""),
        )
        for row in _document()["threats"]
    }
