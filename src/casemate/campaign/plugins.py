"""Plugins as a campaign names them: parameters checked against the plugin's own fields."""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from casemate import registry
from casemate.campaign.fieldtypes import field_types
from casemate.campaign.parameters import parameters
from casemate.campaign.refusals import sentences
from casemate.errors import CasemateError, ParameterError, UsageError
from casemate.identity import canonical, key

if typing.TYPE_CHECKING:
    from collections.abc import Collection

    from casemate.campaign.document import KeyPath

__all__ = ["TAGS", "InvalidError", "Plugin", "build_plugin", "construct", "keys_of", "located"]

TAGS: dict[registry.Kind, str] = {
    "attack": "name",
    "defense": "name",
    "monitor": "name",
    "data": "source",
    "model": "architecture",
}
"""The key that names the plugin in each section of a campaign."""

_ONE = {
    "attack": "an attack",
    "defense": "a defense",
    "monitor": "a monitor",
    "data": "a data source",
    "model": "an architecture",
}


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One plugin with its parameters.

    Attributes:
        kind: What it is.
        name: Under which it is registered.
        value: The instance.
        settings: Tag and all parameters, defaults included, as plain JSON data.
    """

    kind: registry.Kind
    name: str
    value: Any
    settings: dict[str, Any]

    @property
    def revision(self) -> int:
        """The plugin's declared revision."""
        return int(getattr(self.value, "revision", 1))

    @cached_property
    def digest(self) -> str:
        """Hash of name, revision and parameters."""
        return key(self.kind, self.revision, self.settings)


class InvalidError(UsageError):
    """Parameters that do not fit: the key path, below the section, and a sentence for each."""

    def __init__(self, found: list[tuple[KeyPath, str]]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, path))} {text}" for path, text in found))
        self.found = found

    def below(self, key: str) -> InvalidError:
        """Return the same for a section that is one key further down."""
        return InvalidError([((key, *path), text) for path, text in self.found])


def construct(cls: type, values: dict[str, Any], base_dir: Path) -> Any:
    """Return the dataclass with these values: nested ones built, paths taken from `base_dir`.

    Raises:
        InvalidError: If a value has the wrong type or an unknown name.
        UsageError: If the class itself refuses a value.
    """
    model = parameters(cls)
    try:
        checked = model.model_validate(values)
    except ValidationError as error:
        raise InvalidError(list(sentences(error, model))) from error
    try:
        return _build(
            cls, {name: getattr(checked, name) for name in checked.model_fields_set}, base_dir
        )
    except ParameterError as error:
        raise InvalidError(located(error, keys_of(cls))) from error
    except UsageError:
        raise
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def located(error: CasemateError, known: Collection[str]) -> list[tuple[KeyPath, str]]:
    """Return key paths below a section, and for each what is wrong there.

    Args:
        error: What the section, or what was made of it, refuses.
        known: Keys of the section; an error that is about none of them is about the whole.
    """
    if isinstance(error, InvalidError):
        return error.found
    if isinstance(error, ParameterError):
        parts = [int(p) if p.isdecimal() else p for p in re.split(r"[.\[\]]+", error.key) if p]
        for i, part in enumerate(parts):
            if part in known:
                return [(tuple(parts[i:]), error.reason)]
    return [((), str(error))]


@cache
def keys_of(cls: type) -> frozenset[str]:
    """Return what the parameters of a dataclass are called in a campaign."""
    return frozenset(field.metadata.get("key", field.name) for field in fields(cls))


def build_plugin(kind: registry.Kind, section: dict[str, Any], base_dir: Path) -> Plugin:
    """Return the plugin that a section of a campaign describes.

    Raises:
        InvalidError: As `construct`.
        UsageError: As `construct`, and if there is no such plugin.
    """
    tag = TAGS[kind]
    name = section.get(tag)
    if not isinstance(name, str):
        known = ", ".join(registry.names(kind))
        raise UsageError(f"{tag} is missing; name {_ONE[kind]}, one of {known}")
    cls = registry.get(kind, name)
    given = {k: v for k, v in section.items() if k != tag}
    value = construct(cls, given, base_dir)
    # what was written, rather than where it was found, so that a report reads like its campaign
    written = {k: given[k] for k, hint in field_types(cls).items() if k in given and _is_path(hint)}
    try:
        settings = {tag: name, **canonical(value), **written}
    except TypeError as error:
        raise UsageError(f'the {kind} "{name}" cannot be part of a key: {error}') from error
    return Plugin(kind=kind, name=name, value=value, settings=settings)


@cache
def _nested(annotation: Any) -> type | None:
    """Return the dataclass in an annotation, if there is one."""
    arms = (annotation, *typing.get_args(annotation))
    return next((a for a in arms if isinstance(a, type) and is_dataclass(a)), None)


def _build(cls: type, values: dict[str, Any], base_dir: Path) -> Any:
    hints = field_types(cls)
    built = {}
    for name, value in values.items():
        nested = _nested(hints[name])
        if isinstance(value, BaseModel) and nested is not None:
            inner = {k: getattr(value, k) for k in value.model_fields_set}
            built[name] = _build(nested, inner, base_dir)
        elif value is not None and _is_path(hints[name]):
            built[name] = base_dir / Path(value).expanduser()
        else:
            built[name] = value
    return cls(**built)


@cache
def _is_path(annotation: Any) -> bool:
    return annotation is Path or Path in typing.get_args(annotation)
