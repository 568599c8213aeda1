"""The sections of a trial that belong to one gate: plugins that act there, and what they share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from casemate.campaign.expand import Variant, expand_plugin, expand_values, product
from casemate.campaign.plugins import InvalidError, Plugin, build_plugin, construct, located
from casemate.campaign.refusals import short
from casemate.campaign.sections import HeldOut, Training
from casemate.errors import UsageError, did_you_mean
from casemate.threats import Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from casemate import registry
    from casemate.campaign.document import KeyPath, Problems

__all__ = ["TRAINING_KEYS", "built", "expand_training", "plugin_at"]

TRAINING_KEYS = ("attack", "defense", "clean")
_WHERE = {Stage.TRAINING: "under training", Stage.INFERENCE: "in the trial, beside training"}


def expand_training(
    section: Any, path: KeyPath, base_dir: Path, problems: Problems
) -> list[Variant]:
    """Return the training gates that the section "training" expands to, built."""
    if isinstance(section, list):
        if not section:
            problems.add(path, "is an empty list, which makes no trial; remove it or fill it")
        parts = [expand_training(s, (*path, i), base_dir, problems) for i, s in enumerate(section)]
        return [variant for part in parts for variant in part]
    if section is None:
        return [Variant(None, path)]
    if not isinstance(section, dict):
        problems.add(
            path, f"is {short(section)}, but must be a mapping such as {{attack: {{name: ...}}}}"
        )
        return []
    groups: dict[str, list[Variant]] = {}
    for key, value in section.items():
        if key not in TRAINING_KEYS:
            hint = did_you_mean(str(key), TRAINING_KEYS)
            problems.add((*path, key), f'there is no key "{key}" under training.{hint}')
        elif key == "clean":
            groups[key] = [
                built(v, lambda n: _clean(n, base_dir), problems)
                for v in expand_values(value, int, (*path, key))
            ]
        else:
            kind = cast("registry.Kind", key)
            groups[key] = [
                built(v, _at_training(kind, base_dir), problems)
                for v in expand_plugin(kind, value, (*path, key), problems)
            ]
    return _gates(groups, path, problems)


def _gates(groups: dict[str, list[Variant]], path: KeyPath, problems: Problems) -> list[Variant]:
    """Return a gate for each combination of what its keys can be."""
    noted = problems.noted
    found = []
    for combination in product(groups.values(), path, problems):
        chosen = dict(zip(groups, combination, strict=True))
        if any(v.failed for v in combination):
            continue
        inner: dict[KeyPath, KeyPath] = {(key,): v.path for key, v in chosen.items()}
        for key, v in chosen.items():
            inner |= {(key, *below): where for below, where in v.inner.items()}
        whole = Variant({k: v.value for k, v in chosen.items()}, path, inner)
        found.append(built(whole, lambda values: Training(**values), problems))
        if problems.noted > noted:  # the same sentence for each combination helps nobody
            break
    return found


def plugin_at(stage: Stage, kind: registry.Kind, section: Any, base_dir: Path) -> Plugin | None:
    """Return the plugin of a section, or None for none.

    Raises:
        UsageError: As `build_plugin`, and if the plugin acts at another gate.
    """
    if section is None:
        return None
    plugin = build_plugin(kind, section, base_dir)
    acts = _stage(plugin) if kind in ("attack", "defense") else stage
    if acts is not stage:
        raise UsageError(
            f"{plugin.name} acts at {acts.value}; name it {_WHERE.get(acts, 'at its own gate')}"
        )
    return plugin


def built(variant: Variant, build: Callable[[Any], Any], problems: Problems) -> Variant:
    """Return the variant with what is built of its value; what is wrong goes to `problems`."""
    try:
        return replace(variant, value=build(variant.value))
    except UsageError as error:
        for below, sentence in located(error, ()):
            problems.add(variant.place(below), sentence)
    return Variant(None, variant.path, failed=True)


def _at_training(kind: registry.Kind, base_dir: Path) -> Callable[[Any], Plugin | None]:
    return lambda section: plugin_at(Stage.TRAINING, kind, section, base_dir)


def _clean(value: Any, base_dir: Path) -> int:
    try:
        made: HeldOut = construct(HeldOut, {"clean": value}, base_dir)
    except InvalidError as error:  # the section is the value itself
        raise InvalidError([(path[1:], text) for path, text in error.found]) from error
    return made.clean


def _stage(plugin: Plugin) -> Stage:
    threat = getattr(plugin.value, "threat", None)
    stage: Stage = getattr(plugin.value, "stage", Stage.INFERENCE)
    return threat.stage if threat is not None else stage
