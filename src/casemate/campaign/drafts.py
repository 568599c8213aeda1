"""Trials resolved against their data and models: everything that can be checked before a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from casemate.campaign.collector import without_collecting
from casemate.campaign.measurable import measurable, measures_of
from casemate.campaign.rules import matched
from casemate.campaign.soundness import Soundness
from casemate.identity import key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.campaign.document import Problems
    from casemate.campaign.gates import Gates
    from casemate.campaign.plugins import Plugin
    from casemate.campaign.rules import Rule
    from casemate.campaign.sections import Hardware
    from casemate.campaign.spec import Spec
    from casemate.campaign.trials import Trial
    from casemate.inference.evaluate import Cost

__all__ = ["Draft", "make_drafts"]


@dataclass(frozen=True)
class Draft:
    """A trial resolved against its data and model; attributes as in `Planned`."""

    trial: Trial
    key: str
    identity: dict[str, Any]
    settings: dict[str, Any]
    n: int
    cost: Cost
    rules: tuple[int, ...] = ()


def make_drafts(spec: Spec | None, problems: Problems, gates: Gates) -> list[Draft]:
    """Return all trials that are sound; what is wrong with the others goes to `problems`.

    A trial that differs from an earlier one in nothing that matters to it, such as the attacker's
    knowledge of no defense, is that trial and not another observation: it is left out.
    """
    if spec is None:
        return []
    soundness = Soundness(gates, problems)
    with without_collecting():
        drafts = [_draft(trial, gates) for trial in spec.trials if soundness.of(trial)]
    if len(drafts) == len(spec.trials):
        drafts = _ruled(spec.rules, drafts, problems, gates)
    first: dict[str, Draft] = {}
    for draft in drafts:
        first.setdefault(draft.key, draft)
    return list(first.values())


def _ruled(
    rules: Sequence[Rule], drafts: list[Draft], problems: Problems, gates: Gates
) -> list[Draft]:
    """Return the drafts with the rules that speak of them; rules of none go to `problems`."""
    named = matched(rules, [d.settings for d in drafts], problems)
    if not rules:
        return drafts
    can = [measures_of(d.trial, len(gates.data(d.trial.data, "test").classes)) for d in drafts]
    spoken = {k: set(trials) for k, trials in measurable(rules, named, can, problems).items()}
    each = [tuple(k for k, trials in spoken.items() if i in trials) for i in range(len(drafts))]
    return [replace(d, rules=r) for d, r in zip(drafts, each, strict=True)]


def _draft(trial: Trial, gates: Gates) -> Draft:
    """Return a sound trial with key and cost."""
    options = trial.options
    test = gates.data(trial.data, "test")
    start, end = gates.labels(trial)
    attack, defense, gate = trial.attack, trial.defense, trial.training
    n = len(gates.samples(trial))
    common: dict[str, Any] = {"samples": n, "round": options.round, "seed": options.seed}
    if attack is not None:
        common |= {
            "attacker": options.attacker if defense is not None else None,
            "early_stop": options.early_stop,
            "queries": options.queries,
        }
    model = gates.model_key(trial)
    identity = {
        "data": test.digest,
        "model": model,
        "attack": _revised(attack),
        "goal": {"from": start, "to": end},
        "defense": _revised(defense),
        **common,
        "device": gates.device.partition(":")[0],
    }
    if gate is not None:
        identity["training"] = {
            "attack": _revised(gate.attack),
            "defense": _revised(gate.defense),
            "clean": gate.clean,
        }
    hardware = trial.hardware
    if hardware is not None:
        identity["hardware"] = {
            **hardware.settings,
            "attack": _revised(hardware.attack),
            "defense": _revised(hardware.defense),
            "revision": _strike_revision(),
        }
    watched = trial.monitor
    settings = {
        "data": trial.data.settings,
        "model": trial.model.settings,
        "model_digest": gates.subject_key(trial),
        "training": gate and gate.settings,
        **({} if hardware is None else {"hardware": hardware.settings}),
        "attack": attack and attack.settings,
        "goal": {
            "from": None if start is None else test.classes[start],
            "to": None if end is None else test.classes[end],
        },
        "defense": None if defense is None else defense.settings,
        **({} if watched is None else {"monitor": watched.settings}),
        **common,
    }
    if watched is not None:
        identity["monitor"] = _revised(watched)
    if trial.exposed:
        identity["exposure"] = {"revision": _exposure_revision()}
    # the same as hashing all of `identity`, but a plugin's hash is at hand already
    name = key(
        "trial",
        {
            **identity,
            "attack": attack and attack.digest,
            "defense": defense and defense.digest,
            **({"training": gate.digest} if gate is not None else {}),
            **({"hardware": _struck(hardware)} if hardware is not None else {}),
            **({"monitor": watched.digest} if watched is not None else {}),
        },
    )
    return Draft(trial, name, identity, settings, n, gates.cost(trial, n))


def _struck(hardware: Hardware) -> str:
    """Return the hash of a hardware gate and of what is measured there."""
    return key("struck", hardware.digest, _strike_revision())


def _strike_revision() -> int:
    from casemate.hardware.gate import Struck  # noqa: PLC0415 - imports torch

    return Struck.revision


def _exposure_revision() -> int:
    from casemate.inference.exposure import Exposure  # noqa: PLC0415 - imports torch

    return Exposure.revision


def _revised(plugin: Plugin | None) -> dict[str, Any] | None:
    """Return a plugin's settings with its revision."""
    return None if plugin is None else {"revision": plugin.revision, **plugin.settings}
