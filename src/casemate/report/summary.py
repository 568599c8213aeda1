"""The verdict in plain words, the counts, and a summary to paste into a mail."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.errors import ExitCode
from casemate.evidence import Severity, Verdict
from casemate.report import formats
from casemate.report.facts import NORMS, State, share_key
from casemate.report.findings import grouped
from casemate.report.matrix import untested

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.campaign.record import CampaignRecord
    from casemate.report.facts import Facts
    from casemate.report.matrix import Row
    from casemate.stats import Measurement

__all__ = ["Summary", "exit_meaning", "in_words", "paste", "states_in_words", "summary"]

_HEADLINES = {
    Verdict.FAIL: ("Policy violated", State.VIOLATED),
    Verdict.PASS: ("Policy met", State.PASSED),
    Verdict.INCONCLUSIVE: ("Inconclusive", State.INCONCLUSIVE),
}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a reader with one minute has to know.

    Attributes:
        headline: The verdict in two words.
        state: The state that the verdict is shown in.
        sentence: The verdict in one sentence.
        worst: The attack with the highest success rate, or None if none was measured; no control,
            none that goes as far as it must, whose rate says nothing without its distance, and no
            victim that collapsed while there is another.
        collapsed: Victims that answer the target without the trigger as well.
        smallest: Of the attacks that search the smallest perturbation, the one with the least
            distance, or None.
        control: The control with the highest success rate, or None.
        states: Trials by state.
        tested: Threats with at least one finished trial that is no control.
        threats: Threats of the taxonomy, and those it does not know.
        unhealthy: Finished trials with a flag that makes low success worthless.
    """

    headline: str
    state: State
    sentence: str
    worst: Facts | None
    collapsed: int
    smallest: Facts | None
    control: Facts | None
    states: dict[State, int]
    tested: int
    threats: int
    unhealthy: int


def summary(record: CampaignRecord, facts: Sequence[Facts], rows: Sequence[Row]) -> Summary:
    """Return the figures that stand at the top of a report."""
    counts = Counter(f.state for f in facts)
    states = {s: counts[s] for s in State if counts[s]}
    headline, state = ("Measured, not judged", State.MEASURED)
    if record.verdict is not None:
        headline, state = _HEADLINES[record.verdict]
    return Summary(
        headline=headline,
        state=state,
        sentence=_sentence(record, states, len(grouped(record, facts))),
        worst=_worst([f for f in facts if not f.threat.control and not f.unbounded]),
        collapsed=len({share_key(f, "monitor") for f in facts if f.collapse}),
        smallest=_smallest([f for f in facts if not f.threat.control and f.unbounded]),
        control=_worst([f for f in facts if f.threat.control]),
        states=states,
        tested=len({f.threat.id for f in facts if f.trial.evidence and not f.threat.control}),
        threats=len(rows),
        unhealthy=sum(bool(f.trial.evidence and f.trial.evidence.failed) for f in facts),
    )


def exit_meaning(record: CampaignRecord) -> str:
    """Return what the campaign's exit code says, in one sentence."""
    if record.exit_code == ExitCode.MET:
        if record.verdict is None:
            return "every trial finished, and there was no policy to violate."
        return "every trial finished and the policy is met."
    if record.exit_code == ExitCode.VIOLATED:
        return "the policy is violated."
    if record.exit_code == ExitCode.USAGE:
        return "the configuration or the call is wrong."
    if record.exit_code == ExitCode.INCOMPLETE:
        return "a trial failed, did not run or was inconclusive."
    return "no code of Casemate's own; the run was ended from outside."


def paste(
    record: CampaignRecord, summed: Summary, facts: Sequence[Facts], rows: Sequence[Row]
) -> tuple[tuple[str, str], ...]:
    """Return the executive summary as (title, statement), one a line."""
    exit_code = f"exit code {record.exit_code}: {exit_meaning(record)}"
    worst = in_words(summed.worst) if summed.worst else "no rate within a budget was measured"
    lines = [
        ("Subject", _subject(record)),
        ("Result", f"{summed.headline} ({exit_code.rstrip('.')}). {summed.sentence}"),
        ("Trials", f"{len(facts):,} in all: {states_in_words(summed.states)}."),
        ("Worst case", f"{worst}{_not_counted(summed)}."),
    ]
    if summed.smallest is not None:
        lines.append(("Smallest perturbation", f"{_distance_in_words(summed.smallest)}."))
    if summed.control is not None:
        lines.append(("Control", f"noise without direction, at most {in_words(summed.control)}."))
    lines.append(("Health", _health(summed.unhealthy, facts)))
    missing = [
        f"{stage.value} stage ({'; '.join(titles)})"
        for stage, titles in untested(rows).items()
        if titles
    ]
    lines.append(
        ("Not tested", f"{', '.join(missing)}." if missing else "nothing of the taxonomy.")
    )
    return tuple(lines)


def _not_counted(summed: Summary) -> str:
    """Return how many victims are no candidates for the worst case."""
    if not summed.collapsed or summed.worst is None or summed.worst.collapse:
        return ""
    one = summed.collapsed == 1
    return (
        f"; not counted {'is' if one else 'are'} {formats.plural(summed.collapsed, 'victim')} that "
        f"{'answers' if one else 'answer'} the target without the trigger as well (see Health)"
    )


def _health(unhealthy: int, facts: Sequence[Facts]) -> str:
    warned = sum(
        any(x.severity is Severity.WARNING for x in f.trial.evidence.flags)
        and not f.trial.evidence.failed
        for f in facts
        if f.trial.evidence
    )
    if not any(f.trial.evidence for f in facts):
        return "no trial has evidence, so no check was made."
    if not unhealthy and not warned:
        return "no check raised a flag."
    said = []
    if unhealthy:
        said.append(
            f"{formats.plural(unhealthy, 'trial')} with a failure flag (low success proves nothing)"
        )
    if warned:
        said.append(f"{formats.plural(warned, 'trial')} with a warning only")
    return f"{'; '.join(said)}."


def in_words(facts: Facts) -> str:
    """Return a trial and its success rate in one line."""
    found = facts.success
    if found is None:
        return f"not measured ({facts.attack}, trial {facts.number})"
    evidence = facts.trial.evidence
    broken = ", ".join(flag.id for flag in evidence.failed) if evidence else ""
    return (
        f"{formats.figure(found)} {formats.interval(found)} (95 % interval, n = {found.n:,}) by "
        f"{facts.attack}, {facts.budget}, {facts.scenario}, {facts.against} (trial {facts.number})"
        + (f"; the attack itself failed ({broken}), so this is no bound" if broken else "")
        + (f"; collapsed victim: {facts.collapse}" if facts.collapse else "")
    )


def states_in_words(states: dict[State, int]) -> str:
    """Return "3 violated, 20 passed"."""
    return ", ".join(f"{n:,} {s.value}" for s, n in states.items()) or "none"


def _worst(facts: Sequence[Facts]) -> Facts | None:
    measured = [(f, m) for f in facts if (m := f.success) is not None]
    if not measured:
        return None
    sound = [(f, m) for f, m in measured if not f.collapse]
    # of equal rates the one with more samples behind it, which has the higher lower end
    return max(sound or measured, key=lambda fm: (fm[1].value or 0.0, fm[1].low or 0.0))[0]


def _smallest(facts: Sequence[Facts]) -> Facts | None:
    measured = [(f, m.value) for f in facts if (m := _distance(f)) and m.value is not None]
    return min(measured, key=lambda pair: pair[1])[0] if measured else None


def _distance(facts: Facts) -> Measurement | None:
    return facts.measurement(f"distance {facts.norm or 'l2'}")


def _distance_in_words(facts: Facts) -> str:
    found, success = _distance(facts), facts.success
    assert found is not None  # noqa: S101 - it was chosen by it
    norm = NORMS.get(facts.norm or "l2", facts.norm)
    rate = f"; success {formats.figure(success)}, n = {success.n:,}" if success else ""
    return (
        f"mean distance {formats.figure(found)} {norm} {formats.interval(found)} (95 % interval, "
        f"n = {found.n:,}{rate}) by {facts.attack}, {facts.scenario}, {facts.against} "
        f"(trial {facts.number})"
    )


def _why(record: CampaignRecord) -> str:
    """Return what the first inconclusive trial lacks."""
    for trial in record.trials:
        if trial.verdict is Verdict.INCONCLUSIVE and trial.reasons:
            error = f" ({trial.error})" if trial.error else ""
            return f" Trial {trial.number}, for one: {trial.reasons[0]}{error}."
    return ""


def _subject(record: CampaignRecord) -> str:
    names = ", ".join(dict.fromkeys(str(m.get("name", "unnamed")) for m in record.models))
    version = (record.provenance.get("versions") or {}).get("casemate", "")
    started = str(record.provenance.get("started", ""))[:10]
    parts = [f"security test of {names or 'a model'}", f"campaign {record.name}"]
    if version:
        parts.append(f"Casemate {version}")
    if started:
        parts.append(started)
    return f"{', '.join(parts)}."


def _sentence(record: CampaignRecord, states: dict[State, int], count: int) -> str:
    findings = formats.plural(count, "finding")
    broken = formats.plural(len({f.trial for f in record.findings}), "trial")
    doubt = "".join(f" {d[:1].upper()}{d[1:]}." for d in record.doubts)
    incomplete = sum(states.get(s, 0) for s in (State.FAILED, State.NOT_RUN))
    lacking = f" {formats.plural(incomplete, 'trial')} failed or did not run." if incomplete else ""
    if record.verdict is Verdict.FAIL:
        return f"The policy is broken by {findings} in {broken}.{lacking}{doubt}"
    if record.verdict is Verdict.PASS:
        return f"No measurement breaks the policy.{lacking}"
    if record.verdict is Verdict.INCONCLUSIVE:
        return f"The evidence neither breaks the policy nor meets it.{_why(record)}{lacking}{doubt}"
    if record.spec.get("policy"):
        return f"No rule of the policy speaks of what ran.{lacking}{doubt}"
    return f"The campaign has no policy: figures are reported and not judged.{lacking}{doubt}"
