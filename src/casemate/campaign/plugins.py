"""Plugins as a campaign names them: parameters checked against the plugin's own fields."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic import Field as Parameter

from casemate import registry
from casemate.campaign.fieldtypes import default_of, field_types
from casemate.campaign.numbers import Integer, Number
from casemate.errors import UsageError, did_you_mean
from casemate.identity import canonical, key

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

    from casemate.campaign.document import KeyPath

__all__ = [
    "TAGS",
    "InvalidError",
    "Plugin",
    "build_plugin",
    "construct",
    "docs",
    "parameters",
    "sentences",
    "short",
]

TAGS: dict[registry.Kind, str] = {
    "attack": "name",
    "defense": "name",
    "data": "source",
    "model": "architecture",
}
"""The key that names the plugin in each section of a campaign."""


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


@cache
def parameters(cls: type) -> type[BaseModel]:
    """Return the pydantic model of a dataclass's parameters, unknown keys refused.

    A field whose name is a word of Python's says in its metadata what the "key" is.
    """
    hints = field_types(cls)
    definitions: dict[str, Any] = {}
    for field in fields(cls):
        if field.init:
            default = default_of(field)
            definitions[field.name] = (
                _checked(hints[field.name]),
                Parameter(
                    ... if default is MISSING else default,
                    alias=field.metadata.get("key"),
                    description=docs(cls).get(field.name),
                ),
            )
    return create_model(
        cls.__name__,
        __config__=ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True),
        __doc__=(cls.__doc__ or "").strip().partition("\n")[0],
        **definitions,
    )


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
    except UsageError:
        raise
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


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
        raise UsageError(f"{tag} is missing; name a {kind}, one of {known}")
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


def sentences(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[KeyPath, str]]:
    """Yield the key path and a sentence for each thing that a pydantic model refused."""
    seen: set[KeyPath] = set()
    for item in error.errors(include_url=False):
        unknown = item["type"] == "extra_forbidden"
        path = _keys(item["loc"], model, unknown=unknown)
        if path in seen:  # another arm of a union refused the same value
            continue
        seen.add(path)
        if unknown:
            hint = did_you_mean(str(path[-1]), _known(model, path[:-1]))
            yield path, f'there is no key "{path[-1]}" here.{hint or " Remove it."}'
        elif item["type"] == "missing":
            yield path, "is missing; add it"
        else:
            reason = item["msg"].removeprefix("Value error, ")
            reason = reason.replace("Input should be", "must be").replace("Input should", "must")
            yield path, f"{short(item['input'])} {reason[:1].lower()}{reason[1:]}"


def _keys(location: tuple[str | int, ...], model: type[BaseModel], *, unknown: bool) -> KeyPath:
    """Return pydantic's location without the names of union arms."""
    path: KeyPath = ()
    last = len(location) - 1
    for i, part in enumerate(location):
        if isinstance(part, int) or part in _known(model, path) or (unknown and i == last):
            path = (*path, part)
    return path


def _known(cls: type[BaseModel], path: KeyPath) -> list[str]:
    """Return the keys that a model takes, or the nested model at a path below it."""
    model: Any = cls
    for part in path:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        arms = (field.annotation, *typing.get_args(field.annotation)) if field else ()
        nested = [a for a in arms if isinstance(a, type) and issubclass(a, BaseModel)]
        model = nested[0] if nested else model
    return [field.alias or name for name, field in model.model_fields.items()]


def short(value: Any) -> str:
    """Return a value as a message shows it."""
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a line's worth


def _checked(annotation: Any) -> Any:
    """Return the annotation with fractions for numbers, and models for nested dataclasses."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return _checked_class(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_checked(a) for a in arguments)]  # noqa: UP007 - arms are computed
    if origin is tuple:
        parts = tuple(a if a is Ellipsis else _checked(a) for a in arguments)
        return typing.Annotated[tuple.__class_getitem__(parts), Parameter(strict=False)]
    if origin is typing.Annotated:
        return typing.Annotated[(_checked(arguments[0]), *arguments[1:])]
    return annotation


def _checked_class(cls: type) -> Any:
    if cls is float or cls is int:
        return Number if cls is float else Integer
    if cls is Path or issubclass(cls, Enum):
        return typing.Annotated[cls, Parameter(strict=False)]
    return parameters(cls) if is_dataclass(cls) else cls


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


@cache
def docs(cls: type) -> dict[str, str]:
    """Return the descriptions under "Attributes:" in a class's docstring, by name."""
    import inspect  # noqa: PLC0415 - only for schema and lists

    found: dict[str, str] = {}
    name = ""
    _, _, section = (inspect.getdoc(cls) or "").partition("\nAttributes:\n")
    for line in section.splitlines():
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        if indent == 0:
            break
        head, colon, rest = line.strip().partition(": ")
        if indent == 4 and colon and head.isidentifier():  # noqa: PLR2004 - Google style
            name = head
            found[name] = rest
        elif name:
            found[name] += " " + line.strip()
    return found
