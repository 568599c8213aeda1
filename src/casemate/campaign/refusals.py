"""What pydantic refused, in sentences that name the key and the remedy."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from casemate.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import ValidationError

    from casemate.campaign.document import KeyPath

_KINDS = {
    "bool_type": "true or false",
    "dict_type": "a mapping, with a key and a value on each line",
    "list_type": "a list, with a dash before each entry",
    "path_type": "the path of a file, as text",
    "string_type": "text",
    "tuple_type": "a list",
}
_MUST = "must be "
MISSING = "is missing; add it"

__all__ = ["MISSING", "sentences", "short"]


def sentences(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[KeyPath, str]]:
    """Yield the key path and a sentence for each thing that a pydantic model refused."""
    found: dict[KeyPath, str] = {}
    for item in error.errors(include_url=False):
        path = _keys(item["loc"], model, unknown=item["type"] == "extra_forbidden")
        sentence = _sentence(item, path, model)
        if path not in found:
            found[path] = sentence
        else:  # another arm of a union refused the same value: it may be either
            _, must, kind = sentence.partition(_MUST)
            if must and _MUST in found[path] and kind not in found[path]:
                found[path] += f" or {kind}"
    yield from found.items()


def _sentence(item: Mapping[str, Any], path: KeyPath, model: type[BaseModel]) -> str:
    """Return one refusal in words, with the value and what it must be instead."""
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        hint = did_you_mean(str(path[-1]), _known(model, path[:-1]))
        return f'there is no key "{path[-1]}" here.{hint or " Remove it."}'
    if kind == "missing":
        return MISSING
    if kind == "too_short":
        return f"is empty; give at least {item['ctx']['min_length']}"
    if kind == "model_type":
        keys = _known(model, path)
        example = f"{{{next(iter(keys), 'key')}: ...}}"
        return f"{short(value)} {_MUST}a mapping of {', '.join(keys)}, such as {example}"
    if kind in _KINDS:
        return f"{short(value)} {_MUST}{_KINDS[kind]}"
    reason = item["msg"].removeprefix("Value error, ")
    reason = reason.replace("Input should be", "must be").replace("Input should", "must")
    return f"{short(value)} {reason[:1].lower()}{reason[1:]}"


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
    """Return a value as a message shows it, in YAML's words."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a line's worth
