"""The hardware gate of a trial: checked, counted and run with a campaign's data and models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from casemate.campaign.deployments import (
    check_deployment,
    check_target,
    deployed_evidence,
    rest_of,
)

if TYPE_CHECKING:
    from casemate.campaign.events import Listener
    from casemate.campaign.gates import Gates
    from casemate.campaign.sections import Hardware
    from casemate.campaign.store import Store
    from casemate.campaign.trials import Trial
    from casemate.evidence import Evidence

__all__ = ["check_hardware", "passes", "strike_trial"]

_TENSORS = 10  # of weights, in estimates of time


def check_hardware(trial: Trial, gates: Gates) -> None:
    """Hold a trial's hardware gate against its model, which need not be trained.

    Raises:
        UsageError: If the model cannot be deployed so, or what stands there does not fit it.
    """
    from casemate.models.architecture import initialize  # noqa: PLC0415 - imports torch
    from casemate.random import stream  # noqa: PLC0415 - only here
    from casemate.target import Preprocessing  # noqa: PLC0415 - imports torch

    hardware, test = trial.hardware, gates.data(trial.data, "test")
    assert hardware is not None  # noqa: S101 - the caller asked
    given = gates.given(trial)
    if given is not None:
        rest_of(test, gates.samples(trial))
        model = check_target(given)
        module, preprocessing = model.module, model.preprocessing
    else:
        seed = stream(trial.options.seed, "hardware/check")
        architecture = gates.orders.architecture(trial)
        module = initialize(architecture, test.domain, len(test.classes), seed).eval()
        preprocessing = Preprocessing()
    check_deployment(hardware, module, preprocessing, test, **_plugins(hardware))


def passes(hardware: Hardware, n: int) -> int:
    """Return about how many samples run through a deployed model that is read on n."""
    attack = _plugins(hardware)["attack"]
    return 2 * n + (0 if attack is None else int(attack.forwards(_TENSORS, n)))


def strike_trial(
    trial: Trial, gates: Gates, store: Store, tell: Listener, progress: Any
) -> Evidence:
    """Deploy a trial's model, attack it there, and measure that.

    Args:
        trial: With a hardware gate.
        gates: Loads the data and makes the model.
        store: Where the model may lie.
        tell: Told what happens to the model.
        progress: Called with what is done and how much there is.
    """
    hardware, samples = trial.hardware, gates.samples(trial)
    assert hardware is not None  # noqa: S101 - the caller asked
    if trial.model.trained_here:
        others = gates.data(trial.data, "train")
    else:
        others = rest_of(gates.data(trial.data, "test"), samples)
    return deployed_evidence(
        hardware,
        gates.target(trial, store, tell),
        samples,
        others,
        **_plugins(hardware),
        seed=trial.options.seed,
        progress=progress,
    )


def _plugins(hardware: Hardware) -> dict[str, Any]:
    """Return what stands at the gate, each None if nothing does."""
    return {
        "attack": hardware.attack and hardware.attack.value,
        "defense": hardware.defense and hardware.defense.value,
    }
