"""`Trial`: one life of a model, as asked for; made from one entry of a campaign's `trials`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from casemate.campaign.expand import Variant, expand_model, expand_plugin, expand_values, product
from casemate.campaign.fieldtypes import field_types
from casemate.campaign.gate_sections import KEYS, built, expand_gate, plugin_at
from casemate.campaign.plugins import InvalidError, Plugin, build_plugin, construct
from casemate.campaign.refusals import sentences
from casemate.campaign.sections import (
    USER_MODELS,
    Goal,
    Hardware,
    ModelChoice,
    Options,
    Training,
)
from casemate.campaign.trial_keys import AT_INFERENCE, OPTIONS, TRIAL_KEYS, check_keys
from casemate.errors import UsageError
from casemate.identity import canonical
from casemate.threats import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from casemate import registry
    from casemate.campaign.document import KeyPath, Problems

__all__ = ["Trial", "expand_trial"]

_SAMPLES, _DEPLOYED_SAMPLES = 100, 1000
_NOT_TRAINED_HERE = {
    "weights": "are of a model that comes trained, and one with a recipe is trained here; remove "
    "weights or recipe",
    "trust_pickle": "is for weights, and a model with a recipe is trained here; remove it",
    "outputs": "must be logits where a model is trained here; remove it, and a softmax at the end "
    "of the network",
    "preprocessing": "is for a model that comes trained; one with a recipe is trained on inputs "
    "normalized by its training data; remove it",
}
"""What a factory with a recipe may not say, and why."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One life of a model, as asked for.

    Attributes:
        number: Position in the campaign, from 1.
        path: Where its entry stands in the specification, for messages.
        data: Data source.
        model: Model under test.
        training: What stands at the training gate, or None.
        hardware: What stands at the hardware gate, or None if the model is deployed as it is.
        attack: At inference, or None if the trial ends with the trained or the deployed model.
        goal: What the attacker wants.
        defense: In front of the model, or None.
        options: Everything else.
        places: Where the sections stand in the specification, and their parts that do not stand
            right below them, for messages.
        monitor: Of single inputs to the model, or None.
    """

    number: int
    path: KeyPath
    data: Plugin
    model: ModelChoice
    training: Training | None
    hardware: Hardware | None
    attack: Plugin | None
    goal: Goal
    defense: Plugin | None
    options: Options
    places: dict[str, KeyPath]
    monitor: Plugin | None = None

    def place(self, section: str, below: KeyPath = ()) -> KeyPath:
        """Return where a section stands in the specification, or a part of it."""
        for n in range(len(below), -1, -1):
            name = ".".join((section, *map(str, below[:n])))
            if name in self.places:
                return self.places[name] + below[n:]
        return self.path

    @property
    def exposed(self) -> bool:
        """Whether the trial ends with the trained model, held against one that nobody touched."""
        return self.attack is None and self.hardware is None

    @property
    def lead(self) -> Plugin | None:
        """The last attack in the model's life, which the evidence is about; None without any."""
        if self.hardware is not None:
            return self.hardware.attack
        if self.attack is not None or self.training is None:
            return self.attack
        return self.training.attack


def expand_trial(
    section: dict[str, Any],
    path: KeyPath,
    *,
    own: Collection[str],
    base_dir: Path,
    recipe: type,
    first: int,
    problems: Problems,
) -> list[Trial]:
    """Return the trials that one entry expands to; what is wrong goes to `problems`.

    Args:
        section: The entry, defaults merged in.
        path: Where it stands.
        own: Keys that the entry itself holds; the others are from defaults.
        base_dir: What relative paths are relative to.
        recipe: Dataclass of training parameters.
        first: Number of the first trial.
        problems: Told what is wrong.
    """
    before = problems.noted
    check_keys(section, path, own, problems)
    resolved: dict[str, list[Variant]] = {}
    for key, value in section.items():
        if key not in TRIAL_KEYS:
            continue
        variants, build = _section(key, value, (*path, key), base_dir, recipe, problems)
        resolved[key] = [built(v, build, problems) for v in variants]
    if problems.noted > before:
        return []
    combinations = product(resolved.values(), path, problems)
    chosen = (dict(zip(resolved, combination, strict=True)) for combination in combinations)
    return [_trial(c, path, first + i) for i, c in enumerate(_distinct(chosen))]


def _distinct(combinations: Iterable[dict[str, Variant]]) -> Iterator[dict[str, Variant]]:
    """Yield each combination once, without the keys that mean nothing in it.

    An attacker's position means nothing without a defense, nor does anything that is said of an
    attack at inference where there is none: in a grid of both, that is one trial.
    """
    seen: set[tuple[int, ...]] = set()
    for chosen in combinations:
        idle: tuple[str, ...] = ()
        if _absent(chosen, "attack"):
            idle = AT_INFERENCE
        elif _absent(chosen, "defense"):
            idle = ("attacker",)
        kept = {k: v for k, v in chosen.items() if k not in idle}
        if len(kept) < len(chosen):
            same = tuple(map(id, kept.values()))
            if same in seen:
                continue
            seen.add(same)
        yield kept


def _absent(chosen: dict[str, Variant], key: str) -> bool:
    return key not in chosen or chosen[key].value is None


def _trial(chosen: dict[str, Variant], path: KeyPath, number: int) -> Trial:
    values = {key: variant.value for key, variant in chosen.items()}
    attack = values.get("attack")
    options = Options(**{k: v for k, v in values.items() if k in OPTIONS})
    if options.samples is None and attack is not None:
        options = replace(options, samples=_SAMPLES)
    elif options.samples is None and values.get("hardware") is not None:
        options = replace(options, samples=_DEPLOYED_SAMPLES)
    places = {key: variant.path for key, variant in chosen.items()}
    for key, variant in chosen.items():
        for below, where in variant.inner.items():
            places[".".join((key, *map(str, below)))] = where
    for name, keys in KEYS.items():
        if name in chosen:
            places |= {f"{name}.{key}": chosen[name].place((key,)) for key in keys}
    return Trial(
        number=number,
        path=path,
        data=values["data"],
        model=values["model"],
        training=values.get("training"),
        hardware=values.get("hardware"),
        attack=attack,
        goal=values.get("goal") or Goal(),
        defense=values.get("defense"),
        monitor=values.get("monitor"),
        options=options,
        places=places,
    )


def _section(
    key: str, value: Any, path: KeyPath, base_dir: Path, recipe: type, problems: Problems
) -> tuple[list[Variant], Callable[[Any], Any]]:
    """Return the variants of one key of a trial and what turns one's value into a part of it."""
    if key == "model":
        return expand_model(value, path, recipe, problems), lambda v: _model(v, base_dir, recipe)
    if key in KEYS:
        return expand_gate(key, value, path, base_dir, problems), lambda v: v
    if key in ("data", "attack", "defense", "monitor"):
        kind = cast("registry.Kind", key)
        variants = expand_plugin(kind, value, path, problems)
        return variants, lambda v: plugin_at(Stage.INFERENCE, kind, v, base_dir)
    if key == "goal":
        return expand_values(value, Goal, path), lambda v: _goal(v, base_dir)
    variants = expand_values(value, field_types(Options)[key], path)
    if key == "seed":
        _check_seeds(variants, path, problems)
    return (
        variants,
        lambda v: getattr(_option(key, v, base_dir), key),
    )


def _check_seeds(variants: Sequence[Variant], path: KeyPath, problems: Problems) -> None:
    """Note a seed that stands twice: it would count as two observations of what is one model."""
    seeds = [repr(v.value) for v in variants]
    twice = next((s for s in seeds if seeds.count(s) > 1), None)
    if twice is not None:
        problems.add(path, f"holds {twice} more than once; give each seed once")


def _option(key: str, value: Any, base_dir: Path) -> Options:
    try:
        return cast("Options", construct(Options, {key: value}, base_dir))
    except InvalidError as error:  # the section is the value itself
        raise InvalidError([(path[1:], text) for path, text in error.found]) from error


def _goal(value: Any, base_dir: Path) -> Goal:
    if value is None:
        return Goal()
    if not isinstance(value, dict):
        raise UsageError("must be a mapping such as {from: CLASS, to: CLASS}")
    goal: Goal = construct(Goal, value, base_dir)
    return goal


def _model(section: Any, base_dir: Path, recipe: type) -> ModelChoice:
    """Return the model that a section describes: trained here, or the user's."""
    if section is None:
        raise UsageError(
            "is missing, but every trial has a model; give one of architecture, "
            f"{', '.join(USER_MODELS)}"
        )
    kinds = [k for k in ("architecture", *USER_MODELS) if k in section]
    if len(kinds) != 1:
        said = f"names {' and '.join(kinds)}" if kinds else "names none"
        raise UsageError(f"{said}; give one of architecture, {', '.join(USER_MODELS)}")
    rest = {k: v for k, v in section.items() if k != "recipe"}
    if kinds[0] == "factory" and section.get("recipe") is not None:
        return _own_model(rest, _recipe(section["recipe"], base_dir, recipe))
    if kinds[0] != "architecture":
        return _given_model(rest if kinds[0] == "factory" else section, kinds[0])
    architecture = build_plugin("model", rest, base_dir)
    trained = _recipe(section.get("recipe") or {}, base_dir, recipe)
    settings = {**architecture.settings, "recipe": canonical(trained)}
    return ModelChoice(settings=settings, architecture=architecture, recipe=trained)


def _recipe(given: Any, base_dir: Path, recipe: type) -> Any:
    """Return the recipe that a model section holds."""
    if not isinstance(given, dict):
        raise InvalidError([(("recipe",), "must be a mapping such as {epochs: 10}")])
    try:
        return construct(recipe, given, base_dir)
    except InvalidError as error:
        raise error.below("recipe") from error
    except UsageError as error:
        raise InvalidError([(("recipe",), str(error))]) from error


def _own_model(section: dict[str, Any], recipe: Any) -> ModelChoice:
    """Return the network of a factory that is trained here."""
    checked = _given_model(section, "factory").settings
    found: list[tuple[KeyPath, str]] = [
        ((key,), sentence)
        for key, sentence in _NOT_TRAINED_HERE.items()
        if checked[key] not in (None, False, "logits")
    ]
    if found:
        raise InvalidError(found)
    kept = {k: checked[k] for k in ("factory", "arguments", "accuracy") if checked[k] is not None}
    settings = {**kept, "recipe": canonical(recipe)}
    return ModelChoice(settings=settings, recipe=recipe, given=section)


def _given_model(section: dict[str, Any], kind: str) -> ModelChoice:
    from casemate.models.load import SECTIONS  # noqa: PLC0415 - imports torch

    try:
        checked = SECTIONS[kind].model_validate(section)
    except ValidationError as error:
        raise InvalidError(list(sentences(error, SECTIONS[kind]))) from error
    return ModelChoice(settings=checked.model_dump(mode="json"), given=section)
