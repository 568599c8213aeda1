"""What types the fields of a plugin have, also where they are imported for type checking only."""

from __future__ import annotations

import ast
import inspect
import sys
import types
import typing
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from importlib import import_module
from typing import Any

from casemate.errors import UsageError

__all__ = ["default_of", "field_types", "list_depth"]


@cache
def field_types(cls: type) -> dict[str, Any]:
    """Return the type of each parameter of a dataclass, in order.

    Raises:
        UsageError: If the class is no dataclass or its annotations cannot be resolved.
    """
    if not is_dataclass(cls):
        raise UsageError(f"{cls.__module__}:{cls.__qualname__} is no plugin: it is not a dataclass")
    parameters = [f.name for f in fields(cls) if f.init]
    hints: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        own = {k: v for k, v in inspect.get_annotations(owner).items() if k in parameters}
        names = _imports(owner.__module__) if own else {}
        try:
            hints.update(
                typing.get_type_hints(
                    types.SimpleNamespace(__annotations__=own), globalns=names, include_extras=True
                )
            )
        except Exception as error:
            raise UsageError(
                f"the types of {owner.__module__}:{owner.__qualname__} cannot be read: {error}"
            ) from error
    return {name: hints[name] for name in parameters}


@cache
def _imports(module: str) -> dict[str, Any]:
    """Return a module's names and those that it imports under `if TYPE_CHECKING`."""
    loaded = sys.modules[module]
    names = dict(vars(loaded))
    try:
        tree = ast.parse(inspect.getsource(loaded))
    except (OSError, TypeError, SyntaxError):  # no source at hand: what is imported has to do
        return names
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                if isinstance(statement, ast.ImportFrom) and not statement.level:
                    names |= _imported(statement)
    return names


def _imported(statement: ast.ImportFrom) -> dict[str, Any]:
    """Return the names that "from module import name" binds."""
    source = import_module(statement.module or "")
    return {
        alias.asname or alias.name: getattr(source, alias.name)
        for alias in statement.names
        if hasattr(source, alias.name)
    }


def default_of(field: Field[Any]) -> Any:
    """Return a parameter's default, or `dataclasses.MISSING` if it has to be given."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def list_depth(annotation: Any) -> int:
    """Return how many lists deep a value of this type is: 0 for a number, 1 for a tuple."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return max(list_depth(a) for a in arguments)
    if origin is typing.Annotated:
        return list_depth(arguments[0])
    if origin in (tuple, list) or annotation in (tuple, list):
        return 1 + max((list_depth(a) for a in arguments if a is not Ellipsis), default=0)
    return 0
