"""Attacks on a deployed model from Python: deploy, strike, defend and measure.

import casemate as cm

train, test = (cm.load_data("digits", split=split) for split in ("train", "test"))
model = cm.train(cm.LeNet(), cm.Recipe(epochs=20, batch_size=32), train, seed=0).target()
attacks = [cm.BFA(objective="sigmoid margin"), cm.RandomFlips()]
print(cm.attack_hardware(model, test, attacks, format="int8", others=train))
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from casemate.api import Result, check_dataset, plugin_settings
from casemate.campaign.deployments import check_deployment, check_target, deployed_evidence, rest_of
from casemate.campaign.provenance import now, origin
from casemate.campaign.record import TrialRecord
from casemate.data.dataset import Dataset
from casemate.data.splits import stratified_sample
from casemate.errors import UsageError
from casemate.hardware.deployment import Deployment
from casemate.hardware.formats import NumberFormat
from casemate.hardware.parameters import check_whole
from casemate.identity import key
from casemate.threats import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.hardware.attacks.attack import Accident, ChosenFlips
    from casemate.hardware.defenses.guarding import Defense
    from casemate.hardware.rowhammer.module import MemoryModule
    from casemate.target import Target

    Attack = ChosenFlips | Accident

__all__ = ["attack_hardware"]

_SAMPLES = 1000


def attack_hardware(
    model: Target,
    data: Dataset,
    attacks: Attack | Sequence[Attack | None] | None,
    *,
    format: NumberFormat | str = "float32",  # noqa: A002 - the campaign's word for it
    defense: Defense | None = None,
    attacker: Literal["aware", "unaware"] = "aware",
    rowhammer: MemoryModule | None = None,
    others: Dataset | None = None,
    calibration: int = 512,
    inputs: int = 1024,
    memory_limit: int = 4096,
    samples: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Deploy a model, attack it in its hardware, and return the evidence.

    Args:
        model: From `load_model`, or `TrainedModel.target()`; a torch network.
        data: Samples with true labels; `samples` of them are drawn, stratified by class.
        attacks: One attack or several, such as `BFA()`; None only deploys the model.
        format: In which the model lies in memory, or its name.
        defense: Such as `SECDED()`.
        attacker: Whether the attacker is "aware" of the defense, or "unaware".
        rowhammer: The memory module that is hammered; without one any bit flips.
        others: What the defender calibrates on and the attacker has, such as the training split;
            the samples of `data` that are left over if omitted.
        calibration: How many of these the defender takes.
        inputs: How many the attacker takes.
        memory_limit: MiB that activations and work may take where single faults are tried.
        samples: How many samples the model is read on at most; if omitted 1,000, or half of the
            data where `others` are not given and that is less.
        seed: Of all random draws.
        progress: Called with what is done and how much there is, for each attack.

    Raises:
        UsageError: If something does not fit the model or the data.
    """
    chosen = tuple(attacks) if isinstance(attacks, Sequence) else (attacks,)
    _check_call(model, data, chosen, defense, rowhammer)
    form = NumberFormat(name=format) if isinstance(format, str) else format  # type: ignore[arg-type]  # it refuses others
    deployment = Deployment(
        format=form,
        attacker=attacker,
        rowhammer=rowhammer,
        calibration=calibration,
        inputs=inputs,
        memory_limit=memory_limit,
    )
    network = check_target(model)
    if samples is None:
        samples = _SAMPLES if others is not None else min(_SAMPLES, max(1, len(data) // 2))
    check_whole("samples", samples)
    check_whole("seed", seed, low=0)
    drawn = stratified_sample(data, samples, seed)
    rest = rest_of(data, drawn) if others is None else _checked(others, data)
    for one in chosen:
        check_deployment(
            deployment, network.module, network.preprocessing, data, attack=one, defense=defense
        )
    trials, made = [], origin("cpu")
    for number, one in enumerate(chosen, start=1):
        begun = time.perf_counter()
        evidence = deployed_evidence(
            deployment,
            model,
            drawn,
            rest,
            attack=one,
            defense=defense,
            seed=seed,
            progress=progress,
        )
        settings = {
            "data": {"source": data.name, "digest": data.digest},
            "hardware": deployment.described(
                plugin_settings("attack", one),
                plugin_settings("defense", defense),
                chosen=hasattr(one, "run"),
            ),
            "attack": None,
            "goal": {"from": None, "to": None},
            "defense": None,
            "samples": len(drawn),
            "seed": seed,
            "model_digest": model.digest,
        }
        trials.append(
            TrialRecord(
                key=key("trial", settings, drawn.digest, rest.digest),
                number=number,
                settings=settings,
                threat="" if one is None else one.threat.threat,
                status="finished",
                control=one is None or bool(getattr(one, "control", False)),
                made={**made, "at": now()},
                seconds=time.perf_counter() - begun,
                evidence=evidence,
            )
        )
    return Result(trials=tuple(trials), classes=data.classes, data=data.name, model=model.digest)


def _checked(others: Dataset, data: Dataset) -> Dataset:
    """Return the data of attacker and defender, which must fit and hold none of the samples."""
    if not isinstance(others, Dataset):
        raise UsageError(
            f"others is of type {type(others).__name__}; hand over another split of the data, such "
            'as casemate.load_data("mnist", split="train")'
        )
    if others.domain.shape != data.domain.shape or others.classes != data.classes:
        raise UsageError(
            f"{others.name} and {data.name} differ in shape or classes; give two splits of one set"
        )
    if others.name == data.name:
        raise UsageError(
            f"others is {data.name} as well, so that the attacker would have what the model is "
            "read on; give another split, or leave others out"
        )
    if len(others) < 2:  # noqa: PLR2004 - one to calibrate on and one for the attacker
        raise UsageError(f"{others.name} holds {len(others)} samples; attacker and defender need 2")
    return others


def _check_call(
    model: Any, data: Any, attacks: tuple[Any, ...], defense: Any, rowhammer: Any
) -> None:
    """Raise `UsageError` where something else than what `attack_hardware` takes is handed over."""
    from casemate.target import Target  # noqa: PLC0415 - only here at run time

    if not isinstance(model, Target):
        raise UsageError(
            f"the model is of type {type(model).__name__}; hand over casemate.load_model(model, "
            "data), or the target() of a trained model"
        )
    check_dataset("the data", data)
    if not attacks:
        raise UsageError("there is no attack; give at least one, such as casemate.BFA(), or None")
    for one in attacks:
        threat = getattr(one, "threat", None)
        if one is not None and (
            isinstance(one, type) or threat is None or threat.stage is not Stage.HARDWARE
        ):
            raise UsageError(
                f"{one!r} is no attack on a deployed model; give such attacks with their "
                "parameters, such as casemate.BFA(), or None for nobody"
            )
    if rowhammer is not None and not hasattr(rowhammer, "reach"):
        raise UsageError(
            f"rowhammer is {rowhammer!r}; give casemate.MemoryModule(profile=...) or leave it out"
        )
    if defense is not None and (
        isinstance(defense, type) or getattr(defense, "stage", None) is not Stage.HARDWARE
    ):
        raise UsageError(
            f"{defense!r} is no defense of a deployed model; give one with its parameters, such as "
            "casemate.SECDED()"
        )
