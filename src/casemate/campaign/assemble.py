"""From the store to a campaign's record: evidence judged by the policy, findings worst first."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from casemate.campaign.doubts import doubts
from casemate.campaign.policy import exit_code, finding, judge, overall
from casemate.campaign.record import CampaignRecord, TrialRecord
from casemate.campaign.rules import Rule, read_frame_rules, speaking
from casemate.evidence import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.campaign.plan import Plan
    from casemate.campaign.record import Finding
    from casemate.campaign.store import Store, StoredTrial

__all__ = ["Frame", "Replay", "assemble", "frame_of", "judged", "stored_frame"]


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The command line that computes one trial again and compares.

    Attributes:
        source: The specification as the user named it.
        size: The size, if one was chosen.
        store: The store, if it is not the default one.
        device: The device, if it is not the default one.
        batch_size: Samples at a time, if they are not as many as by default: how much work is
            under way when a sample is fooled is part of what a trial has spent.
    """

    source: str
    size: str | None = None
    store: str | None = None
    device: str | None = None
    batch_size: int | None = None

    def command(self, key: str) -> str:
        """Return the command, quoted for the shell."""
        words = ["casemate", "run", self.source]
        for option, value in (
            ("--size", self.size),
            ("--store", self.store),
            ("--device", self.device),
            ("--batch-size", self.batch_size),
        ):
            if value is not None:
                words += [option, str(value)]
        return shlex.join([*words, "--only", key[:12], "--again"])


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A campaign without its evidence, as plain data: what the store keeps of it.

    Attributes:
        name: Of the campaign.
        description: Of the campaign.
        spec: As resolved.
        policy: Rules as written.
        trials: "key", "number", "settings", "threat", "control", "rules" and "replay" of each.
        models: Entries of the models under test.
        provenance: As `CampaignRecord.provenance`.
    """

    name: str
    description: str
    spec: dict[str, Any]
    policy: list[dict[str, Any]]
    trials: list[dict[str, Any]]
    models: list[dict[str, Any]]
    provenance: dict[str, Any]


def frame_of(
    plan: Plan, *, replay: Replay, models: Sequence[dict[str, Any]], provenance: dict[str, Any]
) -> Frame:
    """Return the frame of a plan."""
    spec = plan.spec
    resolved = {k: v for k, v in spec.document.data.items() if k != "sizes"}
    if spec.size is not None:
        resolved["size"] = spec.size
    return Frame(
        name=spec.name,
        description=spec.description,
        spec=resolved,
        policy=[rule.written for rule in spec.rules],
        trials=[
            {
                "key": p.key,
                "number": p.trial.number,
                "settings": p.settings,
                "threat": p.threat,
                "control": p.control,
                "rules": list(p.rules),
                "replay": replay.command(p.key),
            }
            for p in plan.trials
        ],
        models=list(models),
        provenance=provenance,
    )


def stored_frame(store: Store, name: str) -> Frame | None:
    """Return the frame of a campaign that ran, or None."""
    document = store.campaign(name)
    return None if document is None else Frame(**document)


def assemble(frame: Frame, store: Store | None) -> CampaignRecord:
    """Return the record of a campaign with whatever evidence the store has."""
    rules = read_frame_rules(frame.policy)
    trials: list[TrialRecord] = []
    found: list[tuple[float, Finding]] = []
    for entry in frame.trials:
        stored = store.trial(entry["key"]) if store is not None else None
        record, findings = judged(_recorded(entry, stored), rules)
        trials.append(record)
        found += findings
    verdict = overall(t.verdict for t in trials) if rules else None
    found_doubts = doubts(trials, frame.models, verdict)
    if found_doubts and verdict is Verdict.PASS:
        verdict = Verdict.INCONCLUSIVE
    found.sort(key=lambda pair: -pair[0])
    return CampaignRecord(
        name=frame.name,
        description=frame.description,
        spec=frame.spec,
        trials=tuple(trials),
        models=tuple(frame.models),
        verdict=verdict,
        findings=tuple(f for _, f in found),
        doubts=found_doubts,
        exit_code=int(exit_code(verdict, trials)),
        provenance=frame.provenance,
    )


def judged(
    record: TrialRecord, rules: Sequence[Rule]
) -> tuple[TrialRecord, list[tuple[float, Finding]]]:
    """Return a trial with what the policy makes of it, and its findings with their excess."""
    ours = speaking(rules, record)
    if not ours:
        return record, []
    judgements = [judge(rule, record.evidence) for rule in ours]
    found = [
        (j.excess, finding(rule, record, j))
        for rule, j in zip(ours, judgements, strict=True)
        if j.excess > 0
    ]
    verdict = overall(j.verdict for j in judgements)
    return replace(record, verdict=verdict, reasons=tuple(j.reason for j in judgements)), found


def _recorded(entry: dict[str, Any], stored: StoredTrial | None) -> TrialRecord:
    if entry.get("rules") is not None:
        entry = {**entry, "rules": tuple(entry["rules"])}
    if stored is None:
        return TrialRecord(**entry, status="not run")
    return TrialRecord(
        **entry,
        status="finished" if stored.evidence is not None else "failed",
        seconds=stored.seconds,
        made=stored.made,
        evidence=stored.evidence,
        error=stored.error,
        traceback=stored.traceback,
    )
