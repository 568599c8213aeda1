"""The hardware gate of a trial: its model deployed, with what attacker and defender have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from casemate.errors import UsageError
from casemate.random import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from casemate.data.dataset import Dataset
    from casemate.evidence import Evidence
    from casemate.hardware.deployment import Deployment
    from casemate.hardware.gate import Inputs
    from casemate.target import Preprocessing, Target, TorchTarget

__all__ = ["check_deployment", "check_target", "deployed_evidence", "rest_of"]

_AT_ONCE, _FEW = 256, 4  # inputs


def check_target(target: Target) -> TorchTarget:
    """Return a model that can be deployed.

    Raises:
        UsageError: If it is no torch module that gives scores.
    """
    from casemate.target import TorchTarget  # noqa: PLC0415 - imports torch

    if not isinstance(target, TorchTarget):
        raise UsageError(
            "hardware needs a torch module, whose memory and operations are known, but this model "
            "is a function to Casemate; give a factory or an architecture"
        )
    if target.front:
        raise UsageError(
            "hardware deploys the network alone, but a defense stands in front of this model; hand "
            "over the model without it"
        )
    if target.outputs == "labels":
        raise UsageError(
            "hardware needs a model that gives scores, but this one gives labels; declare "
            "outputs: logits or outputs: probabilities"
        )
    return target


def rest_of(test: Dataset, samples: Dataset) -> Dataset:
    """Return the samples of a split that are not among some of it.

    Raises:
        UsageError: If there are fewer than two.
    """
    import torch  # noqa: PLC0415 - only who runs a campaign needs it

    rest = (~torch.isin(test.rows, samples.rows)).nonzero().squeeze(1)
    if len(rest) < 2:  # noqa: PLR2004 - one to calibrate on and one for the attacker
        raise UsageError(
            f"samples takes all {len(test)} of {test.name}, which leaves none for the attacker and "
            f"none to calibrate on; set samples to at most {max(1, len(test) // 2)}"
        )
    return test.select(rest, how=("rest of", samples.digest))


def deployed_evidence(
    deployment: Deployment,
    target: Target,
    samples: Dataset,
    others: Dataset,
    *,
    attack: Any,
    defense: Any,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Evidence:
    """Deploy a model, attack it, and measure that.

    Args:
        deployment: How it is deployed, and what the attacker has.
        target: The model as trained.
        samples: What it is measured on.
        others: None of these: what the defender calibrates on and the attacker has, the first
            before the second.
        attack: On the deployed model, or None.
        defense: Against such attacks, or None.
        seed: Of all that is random.
        progress: Called with what is done and how much there is.

    Raises:
        UsageError: If the model cannot be deployed so.
    """
    from casemate.data.splits import stratified_sample  # noqa: PLC0415 - imports torch
    from casemate.hardware.gate import bench_of, strike  # noqa: PLC0415 - as above

    model = check_target(target)
    calibration, pool = _shared_out(others)
    known = stratified_sample(calibration, deployment.calibration, seed)
    has = stratified_sample(pool, deployment.inputs, seed)
    bench = bench_of(
        model.module,
        deployment,
        samples=_inputs(model, samples),
        pool=_inputs(model, has),
        clean=_inputs(model, known).x,
        defense=defense,
        rng=stream(seed, "hardware"),
        classes=len(samples.classes),
    )
    evidence = strike(attack, bench, _labels(model, samples), progress=progress)
    evidence.samples["row"] = samples.rows.numpy()
    return evidence


def check_deployment(
    deployment: Deployment,
    module: nn.Module,
    preprocessing: Preprocessing,
    test: Dataset,
    *,
    attack: Any,
    defense: Any,
) -> None:
    """Hold a gate against a network, whose weights need not be trained.

    Raises:
        UsageError: If the network cannot be deployed so, or what stands there does not fit it.
    """
    import torch  # noqa: PLC0415 - as above

    from casemate.hardware.gate import Inputs, bench_of, check  # noqa: PLC0415 - as above

    few = test.batch(torch.arange(min(_FEW, len(test))))
    inputs = Inputs(x=preprocessing(few).to(torch.float32), labels=test.targets[: len(few)])
    bench = bench_of(
        module,
        deployment,
        samples=inputs,
        pool=inputs,
        clean=inputs.x,
        defense=defense,
        rng=stream(0, "hardware"),
        classes=len(test.classes),
    )
    check(attack, bench)


def _shared_out(others: Dataset) -> tuple[Dataset, Dataset]:
    """Return what the defender and the attacker draw from: a half each, at random.

    It depends on nothing that a campaign varies, so that what one of them has does not change what
    the other has.
    """
    import torch  # noqa: PLC0415 - as above

    order = torch.from_numpy(stream(0, "hardware/shares").numpy().permutation(len(others)))
    half = len(others) // 2
    mine, theirs = order[:half].sort().values, order[half:].sort().values
    return others.select(mine, how="to calibrate on"), others.select(theirs, how="the attacker's")


def _inputs(model: TorchTarget, data: Dataset) -> Inputs:
    """Return inputs as the network gets them, with their labels."""
    import torch  # noqa: PLC0415 - as above

    from casemate.hardware.gate import Inputs  # noqa: PLC0415 - as above

    parts = [
        model.preprocessing(data.batch(slice(i, i + _AT_ONCE))).to(torch.float32)
        for i in range(0, len(data), _AT_ONCE)
    ]
    return Inputs(x=torch.cat(parts).contiguous(), labels=data.targets.clone())


def _labels(model: TorchTarget, data: Dataset) -> Tensor:
    """Return what a model predicts before it is deployed; -1 where a score is not finite."""
    import torch  # noqa: PLC0415 - as above

    from casemate.inference.exposure import scores  # noqa: PLC0415 - as above

    found = scores(model, data)
    return torch.where(found.isfinite().all(1), found.argmax(1), -1)
