"""What a campaign leaves behind: one record a trial, and the campaign around them.

Records are what the store keeps and what reports are made from; they hold plain data only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from casemate.evidence import Evidence, Verdict

__all__ = ["CampaignRecord", "Finding", "Status", "TrialRecord"]

Status = Literal["finished", "failed", "not run"]


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial: what was asked, what came of it.

    Attributes:
        key: Hash of everything that decides the evidence.
        number: Position in the campaign, from 1.
        settings: The trial as resolved, plain JSON data: "data", "model", "attack" {"name", ...},
            "goal" {"from", "to"}, "defense" {"name", ...} or None, "attacker", "samples", "seed".
        threat: Id of the threat in the taxonomy.
        rules: Positions of the rules of the policy that speak of it; None are those of `where`.
        control: Whether the "attack" is one to compare with, such as noise, and no attacker.
        status: Whether there is evidence.
        seconds: Wall time of the run that made the evidence.
        made: Where the evidence, or the failure, comes from: "at", "versions" and "hardware" of
            the run that computed it, which need not be the campaign's last one.
        evidence: Measurements and samples, if finished.
        error: One sentence, if failed.
        traceback: For the maintainer of the model or plugin, if failed.
        verdict: What the policy makes of it; None when no rule speaks of this trial.
        reasons: One sentence for each rule that speaks of it.
        replay: The command that runs this one trial again.
    """

    key: str
    number: int
    settings: dict[str, Any]
    threat: str
    status: Status
    rules: tuple[int, ...] | None = None
    control: bool = False
    seconds: float = 0.0
    made: dict[str, Any] = field(default_factory=dict)
    evidence: Evidence | None = None
    error: str | None = None
    traceback: str | None = None
    verdict: Verdict | None = None
    reasons: tuple[str, ...] = ()
    replay: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A measurement that breaks a rule of the policy.

    Attributes:
        trial: Number of the trial.
        title: The finding in a few words.
        message: One sentence with value, interval, n and the limit.
        rule: The rule as the user wrote it.
    """

    trial: int
    title: str
    message: str
    rule: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class CampaignRecord:
    """A campaign and all its trials.

    Attributes:
        name: As in the specification; untrusted text.
        description: As in the specification; untrusted text.
        spec: The specification as resolved, plain JSON data.
        trials: In the order of the specification.
        models: One entry a model under test: "digest", "name", "classes", "parameters",
            "accuracy" (a Measurement as a dict), "recipe", ...
        verdict: Of the whole; None without a policy.
        findings: Rules broken, worst first.
        doubts: Sentences on why the evidence as a whole does not suffice for a pass, or should be
            read with care.
        exit_code: What the command line ends with.
        provenance: "versions", "hardware", "seed", "hashes", "started", "seconds", "command".
    """

    name: str
    description: str
    spec: dict[str, Any]
    trials: tuple[TrialRecord, ...]
    models: tuple[dict[str, Any], ...] = ()
    verdict: Verdict | None = None
    findings: tuple[Finding, ...] = ()
    doubts: tuple[str, ...] = ()
    exit_code: int = 0
    provenance: dict[str, Any] = field(default_factory=dict)
