"""A trial with lists in it is a grid: this makes the single trials.

Any list expands, the last one written varies fastest, except where a parameter is itself a list (a
tuple in the plugin): that expands only if it is a list of lists.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any, get_args

from casemate import registry
from casemate.campaign.fieldtypes import field_types, list_depth
from casemate.campaign.plugins import TAGS
from casemate.campaign.refusals import short
from casemate.campaign.sections import USER_MODELS
from casemate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from casemate.campaign.document import KeyPath, Problems

__all__ = ["MOST_TRIALS", "Variant", "expand_model", "expand_plugin", "expand_values", "product"]

MOST_TRIALS = 100_000
"""More trials than this in one campaign are a slip of the pen."""


@dataclass(frozen=True)
class Variant:
    """One value that a section can take.

    Attributes:
        value: Without any list that expands.
        path: Where it stands in the document.
        inner: Where its parts stand, if not simply below `path`.
        failed: Whether nothing could be built of it; what is wrong is noted.
    """

    value: Any
    path: KeyPath
    inner: dict[KeyPath, KeyPath] = field(default_factory=dict)
    failed: bool = False

    def place(self, below: KeyPath) -> KeyPath:
        """Return the document's key path of a part of this value."""
        for n in range(len(below), 0, -1):
            if below[:n] in self.inner:
                return self.inner[below[:n]] + below[n:]
        return self.path + below


def expand_plugin(
    kind: registry.Kind, section: Any, path: KeyPath, problems: Problems
) -> list[Variant]:
    """Return the variants of a plugin's section; what is wrong goes to `problems`."""
    tag = TAGS[kind]

    def hints(values: Mapping[str, Any], where: KeyPath) -> Mapping[str, Any]:
        name = values.get(tag)
        if not isinstance(name, str):
            return {}
        try:
            return field_types(registry.get(kind, name))
        except UsageError as error:
            problems.add(where, str(error))
            raise _SkipError from error

    return _sections(section, path, tag, hints, problems)


def expand_model(section: Any, path: KeyPath, recipe: type, problems: Problems) -> list[Variant]:
    """Return the variants of the section "model", which names an architecture or a user's model."""

    def hints(values: Mapping[str, Any], where: KeyPath) -> Mapping[str, Any]:
        kinds = [k for k in USER_MODELS if k in values]
        if kinds:
            from casemate.models.load import SECTIONS  # noqa: PLC0415 - imports torch

            own = {k: f.annotation for k, f in SECTIONS[kinds[0]].model_fields.items()}
            return {**own, "recipe": recipe}
        try:
            name = values.get("architecture")
            own = field_types(registry.get("model", name)) if isinstance(name, str) else {}
        except UsageError as error:
            problems.add(where, str(error))
            raise _SkipError from error
        return {**own, "recipe": recipe}

    return _sections(section, path, "architecture", hints, problems)


def product(
    groups: Iterable[list[Variant]], path: KeyPath, problems: Problems
) -> Iterable[tuple[Variant, ...]]:
    """Return all combinations, the last group varying fastest."""
    groups = list(groups)
    count = math.prod(len(g) for g in groups)
    if count > MOST_TRIALS:
        problems.add(
            path,
            f"expands to {count:,} trials, but a campaign holds {MOST_TRIALS:,}; shorten a list",
        )
        return ()
    return itertools.product(*groups)


class _SkipError(Exception):
    """This variant cannot be expanded; the reason is noted."""


def _sections(
    section: Any,
    path: KeyPath,
    tag: str,
    hints: Callable[[Mapping[str, Any], KeyPath], Mapping[str, Any]],
    problems: Problems,
) -> list[Variant]:
    if isinstance(section, list):
        if not section:
            problems.add(path, "is an empty list, which makes no trial; remove it or fill it")
        return [
            v for i, s in enumerate(section) for v in _sections(s, (*path, i), tag, hints, problems)
        ]
    if section is None:
        return [Variant(None, path)]
    if not isinstance(section, dict):
        problems.add(path, f"is {short(section)}, but must be a mapping such as {{{tag}: ...}}")
        return []
    names = expand_values(section[tag], str, (*path, tag)) if tag in section else [None]
    found = []
    for name in names:
        values = {**section, tag: name.value} if name else section
        try:
            types = {**hints(values, name.path if name else path), tag: str}
        except _SkipError:
            continue
        found += _mapping(values, types, path, {tag: [name]} if name else {}, problems)
    return found


def _mapping(
    values: Mapping[str, Any],
    types: Mapping[str, Any],
    path: KeyPath,
    fixed: Mapping[str, list[Variant]],
    problems: Problems,
) -> list[Variant]:
    keys = list(values)
    options = [
        fixed.get(k) or expand_values(v, types.get(k, Any), (*path, k)) for k, v in values.items()
    ]
    for key, choices in zip(keys, options, strict=True):
        if not choices:
            problems.add(
                (*path, key), "is an empty list, which makes no trial; remove it or fill it"
            )
    combined = []
    for combination in product(options, path, problems):
        inner: dict[KeyPath, KeyPath] = {}
        for key, variant in zip(keys, combination, strict=True):
            if variant.path != (*path, key):
                inner[(key,)] = variant.path
            inner.update({(key, *below): where for below, where in variant.inner.items()})
        data = {k: v.value for k, v in zip(keys, combination, strict=True)}
        combined.append(Variant(data, path, inner))
    return combined


def expand_values(value: Any, annotation: Any, path: KeyPath) -> list[Variant]:
    """Return the variants of one value whose type says which lists belong to it."""
    if isinstance(value, list) and _depth(value) > list_depth(annotation):
        return [
            v for i, item in enumerate(value) for v in expand_values(item, annotation, (*path, i))
        ]
    nested = [
        a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and is_dataclass(a)
    ]
    if isinstance(value, dict) and nested:
        types = field_types(nested[0])
        options = [expand_values(v, types.get(str(k), Any), (*path, k)) for k, v in value.items()]
        if math.prod(len(o) for o in options) <= MOST_TRIALS:
            return [
                Variant(
                    {k: v.value for k, v in zip(value, combination, strict=True)},
                    path,
                    {(k,): v.path for k, v in zip(value, combination, strict=True)},
                )
                for combination in itertools.product(*options)
            ]
    return [Variant(value, path)]


def _depth(value: Any) -> int:
    return 1 + max((_depth(v) for v in value), default=0) if isinstance(value, list) else 0
