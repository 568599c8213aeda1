"""The plan: every trial with its key, whether it runs and why, and what it costs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from casemate.campaign.ahead import workers
from casemate.campaign.document import Problems  # noqa: TC001 - part of a signature that is shown
from casemate.campaign.drafts import Draft, make_drafts
from casemate.campaign.probe import Pace, probe, probed
from casemate.campaign.spec import Spec, check_spec
from casemate.campaign.words import changed
from casemate.errors import UsageError

if TYPE_CHECKING:
    from casemate.campaign.gates import Gates
    from casemate.campaign.store import Store
    from casemate.campaign.trials import Trial
    from casemate.inference.evaluate import Cost

__all__ = ["Plan", "Planned", "make_plan"]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One trial of a plan.

    Attributes:
        trial: What was asked.
        key: Hash of everything that decides the evidence.
        identity: What the key is the hash of, as plain data.
        settings: The trial as resolved, as `TrialRecord.settings`.
        threat: Id of the threat in the taxonomy; "" if nobody attacks.
        control: Whether the "attack" is one to compare with, and no attacker, or there is none.
        rules: Positions of the rules of the policy that speak of it.
        n: Samples that it attacks.
        cost: The most samples that it sends through its model.
        cached: Whether the evidence is there already.
        reason: Why it runs, or that it is cached.
        seconds: Estimate; None without a probe.
    """

    trial: Trial
    key: str
    identity: dict[str, Any]
    settings: dict[str, Any]
    threat: str
    control: bool
    rules: tuple[int, ...]
    n: int
    cost: Cost
    cached: bool
    reason: str
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a campaign would do now.

    Attributes:
        spec: The specification.
        trials: All trials, in order.
        training: Estimated seconds of what is still to be done at the training gate: models, and
            what attacks and defenses compute besides; None without a probe.
        paces: Pace of each architecture and recipe by their digest, if probed.
        part: Whether trials were left out by `only`.
    """

    spec: Spec
    trials: tuple[Planned, ...]
    training: float | None = None
    paces: dict[str, Pace] | None = None
    part: bool = False

    @property
    def seconds(self) -> float | None:
        """Estimated seconds of all that is still to be done, at most; None without a probe."""
        if self.training is None:
            return None
        return self.training + sum(p.seconds or 0.0 for p in self.trials if not p.cached)

    def only(self, wanted: str) -> Plan:
        """Return the plan with the trials of that number, or whose key begins so.

        Raises:
            UsageError: If there is no such trial, or several have keys that begin so.
        """
        from dataclasses import replace  # noqa: PLC0415 - only here

        if wanted.isascii() and wanted.isdigit() and len(wanted) <= len(str(len(self.trials))):
            chosen = [p for p in self.trials if p.trial.number == int(wanted)]
        else:
            chosen = [p for p in self.trials if p.key.startswith(wanted.lower())]
        if not chosen:
            raise UsageError(
                f'no trial has the number or key "{wanted}"; list them with: '
                f"casemate plan {shlex.quote(self.spec.source)}"
            )
        if len({p.key for p in chosen}) > 1:
            raise UsageError(
                f'{len(chosen)} trials have keys that begin with "{wanted}"; give more of it'
            )
        return replace(self, trials=tuple(chosen), part=True)


def make_plan(
    spec: Spec | None,
    problems: Problems,
    gates: Gates,
    store: Store | None,
    *,
    estimate: bool = False,
) -> Plan:
    """Check everything that can be checked before anything runs, and plan the campaign.

    Args:
        spec: From `read_spec`.
        problems: From `read_spec`.
        gates: Loads data and the user's models.
        store: Where evidence may already lie, if there is one.
        estimate: Probe each model that runs, for estimates in seconds.

    Raises:
        UsageError: With one line for each thing that is wrong with the specification.
    """
    drafts = make_drafts(spec, problems, gates)
    spec = check_spec(spec, problems)
    done = store.finished() if store is not None else set()
    before = store.last_run(spec.name) if store is not None else {}
    paces: dict[str, Pace] = {}
    trainings: dict[str, float] = {}
    labors: dict[str, float] = {}
    networks: dict[tuple[object, ...], float] = {}
    trials = []
    for draft in drafts:
        cached = draft.key in done
        pace = None
        if estimate and not cached:
            name = gates.kind_of_model(draft.trial)
            if name not in paces:
                paces[name] = probe(draft.trial, gates)
            pace = paces[name]
            trainings |= dict.fromkeys(gates.trainings(draft.trial, store), pace.training)
            labors |= {
                made: sum(probed(p, draft.trial, gates, pace, networks) for p in passes)
                for made, passes in gates.labors(draft.trial, store).items()
                if made not in labors
            }
        trials.append(
            Planned(
                trial=draft.trial,
                key=draft.key,
                identity=draft.identity,
                settings=draft.settings,
                threat=_threat(draft.trial),
                control=_control(draft.trial),
                rules=draft.rules,
                n=draft.n,
                cost=draft.cost,
                cached=cached,
                reason=_reason(draft, before.get(draft.trial.number), cached=cached),
                seconds=None if pace is None else _estimate(draft.cost, pace),
            )
        )
    training = None
    if estimate:
        # the models are shared out among worker processes
        training = sum((*trainings.values(), *labors.values())) / workers(
            gates.device, len(trainings)
        )
    return Plan(spec=spec, trials=tuple(trials), training=training, paces=paces or None)


def _threat(trial: Trial) -> str:
    """Return the id of the threat that the trial's last attack stands for; "" without any."""
    return "" if trial.lead is None else str(trial.lead.value.threat.threat)


def _control(trial: Trial) -> bool:
    """Return whether nobody attacks, or only noise does."""
    return trial.lead is None or bool(getattr(trial.lead.value, "control", False))


def _reason(draft: Draft, before: tuple[str, dict[str, Any]] | None, *, cached: bool) -> str:
    if cached:
        return "cached"
    if before is None:
        return "new"
    last_key, last_identity = before
    if last_key == draft.key:
        return "not finished in the last run"
    return f"changed: {changed(last_identity, draft.identity)}"


def _estimate(cost: Cost, pace: Pace) -> float:
    """Return the seconds of a trial in which no sample is dropped early."""
    backward = pace.backward or 0.0
    return (cost.forward - cost.backward) * pace.forward + cost.backward * backward
