"""The end of a run on one screen: each trial's figure, the verdict, where the report is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.campaign.policy import judge
from casemate.campaign.rules import read_frame_rules, speaking
from casemate.campaign.words import titles
from casemate.cli.console import err, out, plain, say, table
from casemate.report.formats import hundredths

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from casemate.campaign.record import CampaignRecord, TrialRecord
    from casemate.campaign.rules import Rule

__all__ = ["show_record"]

_MEASURE = "attack success rate"
_INSTEAD = ("accuracy under attack", "mean corruption", "clean accuracy")
"""What is shown where there is no such thing: of accidents what they do, of nobody the model."""
_MOST = 60
_MOST_FINDINGS = 10


def show_record(record: CampaignRecord, *, report: Path | None, json: Path | None) -> None:
    """Print a campaign's results."""
    named = titles([t.settings for t in record.trials])
    rules = read_frame_rules(record.spec.get("policy") or [])
    rows = [_row(t, words, rules) for t, words in zip(record.trials[:_MOST], named, strict=False)]
    columns = ("#", "trial", "n", _MEASURE, "95 % interval", "verdict")
    out().print(table(columns, rows, right=("#", "n", _MEASURE, "95 % interval")))
    if len(record.trials) > _MOST:
        say(f"... and {len(record.trials) - _MOST} more trials; all are in the report")
    say("")
    for trial in record.trials:
        if trial.status == "failed":
            say(f"trial {trial.number} failed: {plain(trial.error, 300)}")
    _show_findings(record)
    for doubt in record.doubts:
        say(f"doubt: {plain(doubt, 500)}")
    say(f"verdict: {_verdict(record)}")
    for name, path in (("report", report), ("JSON", json)):
        if path is not None:
            say(f"{name}: {path}")
    err().file.flush()


def _show_findings(record: CampaignRecord) -> None:
    """Print the findings as the report counts them: one for all seeds of a setting."""
    if not record.findings:
        return
    from casemate.report.facts import facts_of  # noqa: PLC0415 - only a broken rule needs it
    from casemate.report.findings import grouped  # noqa: PLC0415 - as above

    found = grouped(record, facts_of(record))
    for group in found[:_MOST_FINDINGS]:
        seeds = f", with {group.broken} of {group.seeds} seeds" if group.seeds > 1 else ""
        message = plain(group.finding.message, 300)
        say(f"finding in trial {group.finding.trial}{seeds}: {message}")
    if len(found) > _MOST_FINDINGS:
        say(f"... and {len(found) - _MOST_FINDINGS} more findings")


def _row(trial: TrialRecord, words: str, rules: Sequence[Rule]) -> tuple[object, ...]:
    if trial.evidence is None:
        return trial.number, words, "", "", "", trial.status
    known = {m.name: m for m in trial.evidence.measurements}
    name = next((n for n in (_MEASURE, *_INSTEAD) if n in known), _INSTEAD[-1])
    measured = known.get(name)
    verdict = _judged(trial, rules, name)
    flags = ", ".join(flag.id for flag in trial.evidence.failed)
    if flags:
        verdict += f" (attack failed: {flags})"
    if measured is None or measured.value is None:
        return trial.number, words, measured.n if measured else "", "not measured", "", verdict
    interval = ""
    if measured.low is not None and measured.high is not None:
        interval = f"{hundredths(measured.low)} to {hundredths(measured.high)} %"
    label = "" if name == _MEASURE else f"{name} "
    value = f"{label}{hundredths(measured.value)} %"
    return trial.number, words, measured.n, value, interval, verdict


def _judged(trial: TrialRecord, rules: Sequence[Rule], shown: str) -> str:
    """Return a trial's verdict, and what it is about if not the figure that is shown."""
    if trial.verdict is None:
        return "-"
    about = dict.fromkeys(
        rule.measure
        for rule in speaking(rules, trial)
        if judge(rule, trial.evidence).verdict is trial.verdict
    )
    if list(about) in ([], [shown]):
        return trial.verdict.value
    return f"{trial.verdict.value}: {', '.join(about)}"


def _verdict(record: CampaignRecord) -> str:
    unfinished = sum(t.status != "finished" for t in record.trials)
    note = f" ({unfinished} of {len(record.trials)} trials did not finish)" if unfinished else ""
    if record.verdict is None:
        if record.spec.get("policy"):
            return f"none, no rule of the policy speaks of what ran{note}"
        return f"none, the campaign has no policy{note}"
    counts = {"pass": 0, "fail": 0, "inconclusive": 0}
    for trial in record.trials:
        if trial.verdict is not None:
            counts[trial.verdict.value] += 1
    each = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    return f"{record.verdict.value} ({each}){note}"
