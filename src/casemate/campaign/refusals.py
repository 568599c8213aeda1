"""What pydantic refused, in sentences that name the key and the remedy."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from casemate.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError

    from casemate.campaign.document import KeyPath

_KINDS = {
    "dict_type": "a mapping, with a key and a value on each line",
    "list_type": "a list, with a dash before each entry",
    "string_type": "text",
}

__all__ = ["sentences", "short"]


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
        elif item["type"] == "too_short":
            yield path, f"is empty; give at least {item['ctx']['min_length']}"
        elif item["type"] in _KINDS:
            yield path, f"{short(item['input'])} must be {_KINDS[item['type']]}"
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
