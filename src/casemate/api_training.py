"""Attacks on training from Python: poison, train, defend and measure.

import casemate as cm

train, test = (cm.load_data("digits", split=split) for split in ("train", "test"))
result = cm.attack_training(
    cm.LeNet(), train, test, [None, cm.BadNets(target=0)], defense=cm.NearDuplicates()
)
print(result)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, cast

from casemate import registry
from casemate.api import Result, check_dataset, plugin_settings
from casemate.campaign.exposures import exposure_of
from casemate.campaign.facts import attack_facts, with_facts
from casemate.campaign.provenance import now, origin
from casemate.campaign.record import TrialRecord
from casemate.data.dataset import Dataset
from casemate.errors import UsageError
from casemate.identity import canonical, key
from casemate.inference.exposure import expose
from casemate.models.own import OwnArchitecture, declare
from casemate.threats import Stage
from casemate.training.gate import check_attack, hold_out
from casemate.training.making import Order
from casemate.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from casemate.evidence import Evidence
    from casemate.models.architecture import Architecture
    from casemate.target import Target
    from casemate.training.defended import TrainingDefense
    from casemate.training.poisoned import PoisonAttack, SurrogateAttack
    from casemate.training.stored import StoredModel
    from casemate.training.trained import TrainedModel

    Attack = PoisonAttack | SurrogateAttack

__all__ = ["attack_training", "own_architecture"]


def attack_training(
    architecture: Architecture | str | Callable[..., nn.Module],
    train: Dataset,
    test: Dataset,
    attacks: Attack | Sequence[Attack | None] | None,
    *,
    recipe: Recipe | None = None,
    defense: TrainingDefense | None = None,
    clean: int = 0,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int = 128,
) -> Result:
    """Poison a training set, train a model on it and measure what the attack gained.

    Each victim is held against a reference, trained alike from the same seed without attack and
    defense, and against a control, such a model of another seed. One seed is one observation of
    the training's randomness: call it with several, or run a campaign, which keeps its models.

    Args:
        architecture: Of the model, such as `LeNet()`; or a factory of your own network, as
            `own_architecture` takes it: "package.module:make", or the function or class itself.
        train: What it is trained on; the attacks leave it as it is and poison a view.
        test: What it is measured on; attacks on one known input take it from here.
        attacks: One attack on training or several, each on a victim of its own; None is nobody,
            which shows what a defense costs.
        recipe: How models are trained; the defaults if None.
        defense: At training, such as `NearDuplicates()`, or None.
        clean: How many samples of `train`, about, are held out before any attack, for defenses that
            need clean ones; the reference is trained without them, too.
        seed: Of everything random.
        device: Where models are trained and measured.
        batch_size: Samples at a time when measuring.

    Raises:
        UsageError: If something does not fit the data or the model.
    """
    recipe = Recipe() if recipe is None else recipe
    chosen = tuple(attacks) if isinstance(attacks, Sequence) else (attacks,)
    model = _check_call(architecture, train, test, chosen, defense)
    if defense is not None and defense.needs_clean and not clean:
        raise UsageError(
            f"{_name('defense', defense)} needs clean samples and gets none; set clean to how many "
            "of the training set to hold out"
        )
    rest, held = hold_out(train, clean, seed)
    orders = [
        Order(
            architecture=model,
            recipe=recipe,
            seed=seed,
            data=rest,
            held=held,
            known=test if getattr(attack, "surrogate", False) else None,
            attack=attack,
            defense=defense,
            device=device,
        )
        for attack in chosen
    ]
    for order in orders:
        _check(order, test)
    reference = orders[0].train(rest)
    control = orders[0].control().train(rest).target(device)
    trials, made = [], {**origin(device), "batch_size": batch_size}
    for number, order in enumerate(orders, start=1):
        begun = time.perf_counter()
        evidence = _measured(order, test, reference, control, batch_size)
        settings = {
            "data": {"source": train.name, "digest": train.digest},
            "model": {**_model(model), "recipe": canonical(recipe)},
            "training": {
                "attack": plugin_settings("attack", order.attack),
                "defense": plugin_settings("defense", defense),
                "clean": clean,
            },
            "attack": None,
            "goal": {"from": None, "to": None},
            "defense": None,
            "samples": len(test),
            "round": False,
            "seed": seed,
            "model_digest": reference.digest,
        }
        trials.append(
            TrialRecord(
                key=key("trial", settings, test.digest),
                number=number,
                settings=settings,
                threat="" if order.attack is None else order.attack.threat.threat,
                status="finished",
                made={**made, "at": now()},
                seconds=time.perf_counter() - begun,
                evidence=evidence,
            )
        )
    return Result(
        trials=tuple(trials), classes=test.classes, data=train.name, model=reference.digest
    )


def own_architecture(
    factory: str | Callable[..., nn.Module],
    data: Dataset,
    *,
    arguments: Mapping[str, Any] | None = None,
) -> OwnArchitecture:
    """Return your own network as an architecture that can be trained, after a few tries of it.

    A file of a trained model never makes anything be imported: call this before
    `TrainedModel.load` reads a model of your own network.

    Args:
        factory: "package.module:make", or the function or class itself, which builds a new
            `torch.nn.Module` each time, its weights drawn from torch's default generator.
        data: Says what an input is and how many classes there are.
        arguments: Keyword arguments for the factory. `shape` and `classes` of the data are added
            where it requires them.

    Raises:
        UsageError: If there is no such factory, or its network cannot be trained on such data.
    """
    check_dataset("data", data)
    return declare(factory, arguments=arguments, domain=data.domain, classes=len(data.classes))


def _is_factory(architecture: Any) -> bool:
    """Return whether it is the user's, rather than an architecture or the name of one."""
    if isinstance(architecture, str):
        return ":" in architecture
    return callable(architecture) and not hasattr(architecture, "build")


def _model(architecture: Architecture) -> dict[str, Any]:
    """Return an architecture as a campaign's model section has it."""
    if isinstance(architecture, OwnArchitecture):
        return {"factory": architecture.factory, "arguments": architecture.arguments}
    name = registry.name_of("model", type(architecture))
    return {"architecture": name, **cast("dict[str, Any]", canonical(architecture))}


def _check_call(
    architecture: Any, train: Any, test: Any, attacks: tuple[Any, ...], defense: Any
) -> Architecture:
    """Return the architecture.

    Raises:
        UsageError: If something else than what `attack_training` takes is handed over.
    """
    if _is_factory(architecture) and isinstance(train, Dataset):
        architecture = own_architecture(architecture, train)
    is_class = isinstance(architecture, type)
    if is_class or not is_dataclass(architecture) or not hasattr(architecture, "build"):
        raise UsageError(
            f"{architecture!r} is no architecture that Casemate trains; give casemate.LeNet(), "
            "VGG(), ResNet() or MLP(), or a function of yours that builds a torch.nn.Module"
        )
    for name, data in (("train", train), ("test", test)):
        check_dataset(name, data)
    if train.domain != test.domain or train.classes != test.classes:
        raise UsageError(
            f"{train.name} and {test.name} differ in domain or classes; give two splits of one set"
        )
    if not attacks:
        raise UsageError("there is no attack; give at least one, such as casemate.BadNets()")
    for one in attacks:
        threat = getattr(one, "threat", None)
        if one is not None and (
            isinstance(one, type) or threat is None or threat.stage is not Stage.TRAINING
        ):
            raise UsageError(
                f"{one!r} is no attack on training; give such attacks with their parameters, such "
                "as casemate.BadNets(), or None for nobody"
            )
    if defense is not None and (isinstance(defense, type) or not hasattr(defense, "phase")):
        raise UsageError(
            f"{defense!r} is no defense at training; give one with its parameters, such as "
            "casemate.NearDuplicates()"
        )
    return cast("Architecture", architecture)


def _check(order: Order, test: Dataset) -> None:
    """Raise `UsageError` for what attack or defense refuse, before anything is trained."""
    if order.attack is not None:
        check_attack(order.attack, order.data, test)
    order.check_defense()


def _measured(
    order: Order, test: Dataset, reference: TrainedModel, control: Target, batch_size: int
) -> Evidence:
    """Return the evidence of one victim."""
    poisoned = order.poisoned(order.lab("attacker"))
    facts: dict[str, Any] = {}
    attacked = reference
    if poisoned is not None:
        attacked = order.train(poisoned.dataset)
        facts = attack_facts(attacked, poisoned, device=order.device)
    victim: StoredModel = attacked
    data = order.data if poisoned is None else poisoned.dataset
    if order.defense is not None:

        def undefended(kept: Dataset) -> TrainedModel:
            return attacked if kept is data else order.train(kept)

        passage = order.defended(poisoned, undefended, order.lab("defender"))
        victim = passage.model
        facts |= {"defense": passage.facts}
    exposure, samples = exposure_of(poisoned, test, known=test)
    evidence = expose(
        exposure,
        victim.target(order.device),
        reference.target(order.device),
        samples,
        control=control,
        seed=order.seed,
        batch_size=batch_size,
    )
    return with_facts(evidence, facts, target=exposure.leads_to)


def _name(kind: registry.Kind, plugin: object) -> str:
    return registry.name_of(kind, type(plugin))
