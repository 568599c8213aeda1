"""The parameters of a plugin as a pydantic model: fractions for numbers, unknown keys refused."""

from __future__ import annotations

import inspect
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model
from pydantic import Field as Parameter

from casemate.campaign.fieldtypes import default_of, field_types
from casemate.campaign.numbers import Integer, Number

__all__ = ["docs", "parameters"]


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
def docs(cls: type) -> dict[str, str]:
    """Return the descriptions under "Attributes:" in a class's docstring, by name."""
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
