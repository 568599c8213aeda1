"""The sections of a trial that belong to one gate: plugins that act there, and what they share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from casemate.campaign.expand import Variant, expand_plugin, expand_values, product
from casemate.campaign.fieldtypes import field_types
from casemate.campaign.plugins import InvalidError, Plugin, build_plugin, construct, located
from casemate.campaign.refusals import short
from casemate.campaign.sections import Hardware, HeldOut, Training
from casemate.errors import UsageError, did_you_mean
from casemate.hardware.deployment import Deployment
from casemate.threats import Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from casemate import registry
    from casemate.campaign.document import KeyPath, Problems

__all__ = ["KEYS", "built", "expand_gate", "plugin_at"]

_GATES: dict[str, tuple[Stage, type, type]] = {
    "training": (Stage.TRAINING, Training, HeldOut),
    "hardware": (Stage.HARDWARE, Hardware, Deployment),
}
"""What the section of a gate is, and what of it is no plugin."""
_WHERE = {
    Stage.TRAINING: "under training",
    Stage.HARDWARE: "under hardware",
    Stage.INFERENCE: "in the trial, beside training and hardware",
}

KEYS = {name: ("attack", "defense", *field_types(plain)) for name, (_, _, plain) in _GATES.items()}
"""The keys of each gate's section."""


def expand_gate(
    gate: str, section: Any, path: KeyPath, base_dir: Path, problems: Problems
) -> list[Variant]:
    """Return what a gate's section expands to, built.

    Args:
        gate: "training" or "hardware".
        section: What the section holds.
        path: Where it stands.
        base_dir: What relative paths are relative to.
        problems: Told what is wrong.
    """
    if isinstance(section, list):
        if not section:
            problems.add(path, "is an empty list, which makes no trial; remove it or fill it")
        parts = [
            expand_gate(gate, s, (*path, i), base_dir, problems) for i, s in enumerate(section)
        ]
        return [variant for part in parts for variant in part]
    if section is None:
        return [Variant(None, path)]
    if not isinstance(section, dict):
        problems.add(
            path, f"is {short(section)}, but must be a mapping such as {{attack: {{name: ...}}}}"
        )
        return []
    stage, _, plain = _GATES[gate]
    groups: dict[str, list[Variant]] = {}
    for key, value in section.items():
        if key not in KEYS[gate]:
            hint = did_you_mean(str(key), KEYS[gate])
            problems.add((*path, key), f'there is no key "{key}" under {gate}.{hint}')
        elif key in ("attack", "defense"):
            kind = cast("registry.Kind", key)
            groups[key] = [
                built(v, _at(stage, kind, base_dir), problems)
                for v in expand_plugin(kind, value, (*path, key), problems)
            ]
        else:
            variants = expand_values(_long(key, value), field_types(plain)[key], (*path, key))
            if not variants:
                problems.add(
                    (*path, key), "holds an empty list, which makes no trial; remove it or fill it"
                )
            groups[key] = [built(v, _plain(plain, key, base_dir), problems) for v in variants]
    return _gates(gate, groups, path, problems)


def _long(key: str, value: Any) -> Any:
    """Return a section that may be written by its name alone, in full: "int8", {name: int8}."""
    if key != "format":
        return value
    if isinstance(value, list):
        return [_long(key, v) for v in value]
    return {"name": value} if isinstance(value, str) else value


def _gates(
    gate: str, groups: dict[str, list[Variant]], path: KeyPath, problems: Problems
) -> list[Variant]:
    """Return a gate for each combination of what its keys can be."""
    made = _GATES[gate][1]
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
        found.append(built(whole, lambda values: made(**values), problems))
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


def _at(stage: Stage, kind: registry.Kind, base_dir: Path) -> Callable[[Any], Plugin | None]:
    return lambda section: plugin_at(stage, kind, section, base_dir)


def _plain(cls: type, key: str, base_dir: Path) -> Callable[[Any], Any]:
    def build(value: Any) -> Any:
        try:
            return getattr(construct(cls, {key: value}, base_dir), key)
        except InvalidError as error:  # the section is the value itself
            raise InvalidError([(path[1:], text) for path, text in error.found]) from error

    return build


def _stage(plugin: Plugin) -> Stage:
    threat = getattr(plugin.value, "threat", None)
    stage: Stage = getattr(plugin.value, "stage", Stage.INFERENCE)
    return threat.stage if threat is not None else stage
