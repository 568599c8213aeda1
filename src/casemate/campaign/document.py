"""A YAML file as plain data in which every value still knows its key path and line.

The file is untrusted: only plain YAML types are read, duplicate keys are refused, and so are
anchors that refer to themselves or multiply into more values than any campaign needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from casemate.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "Document",
    "KeyPath",
    "Problems",
    "load_document",
    "merge",
    "parse_document",
    "show_path",
]

KeyPath = tuple[str | int, ...]

# the C loader reads the same language ten times as fast
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_BYTES = 10_000_000
_MAX_VALUES = 1_000_000
_MAX_DEPTH = 50
_MERGE = "tag:yaml.org,2002:merge"
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null")
)


def show_path(path: KeyPath) -> str:
    """Return a key path as people write it: trials[0].attack.epsilon."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the file"


@dataclass(frozen=True, kw_only=True)
class Document:
    """Plain data from a file.

    Attributes:
        file: Name of the file, for messages.
        data: The top-level mapping.
        lines: Line, from 1, of each key path.
        origins: Key path in the file of values that were merged in, by their path in `data`.
    """

    file: str
    data: dict[str, Any]
    lines: dict[KeyPath, int]
    origins: dict[KeyPath, KeyPath]

    def place(self, path: KeyPath) -> str:
        """Return where a value stands: "casemate.yaml, line 7, trials[0].attack.epsilon"."""
        origin = path
        while cut := next((n for n in range(len(origin), 0, -1) if origin[:n] in self.origins), 0):
            origin = self.origins[origin[:cut]] + origin[cut:]
        line = next(
            (self.lines[origin[:n]] for n in range(len(origin), 0, -1) if origin[:n] in self.lines),
            1,
        )
        return f"{self.file}, line {line}, {show_path(origin)}"

    def with_size(self, size: str | None) -> Document:
        """Return the document with one entry of `sizes` merged over it.

        Mappings merge, anything else replaces.

        Raises:
            UsageError: If there is no such size.
        """
        sizes = self.data.get("sizes") or {}
        if size is None:
            return self
        if not isinstance(sizes, dict) or size not in sizes:
            known = [str(s) for s in sizes] if isinstance(sizes, dict) else []
            hint = did_you_mean(size, known) or " It defines no sizes; leave out --size."
            raise UsageError(f'{self.file} has no size "{size}".{hint}')
        over = sizes[size]
        if not isinstance(over, dict):
            raise UsageError(
                f"{self.place(('sizes', size))}: a size is a mapping of what it changes"
            )
        origins = dict(self.origins)
        data = merge(self.data, over, origins=origins, over_at=("sizes", size))
        return Document(file=self.file, data=data, lines=self.lines, origins=origins)


class Problems(list[str]):
    """All that is wrong with a campaign, each a sentence, listed once and raised together.

    Attributes:
        document: Where the values stand.
        noted: How often something was found wrong, the same thing again included.
    """

    def __init__(self, document: Document) -> None:
        super().__init__()
        self.document = document
        self.noted = 0

    def add(self, path: KeyPath, message: str) -> None:
        """Note what is wrong with the value at a key path of the document."""
        self.noted += 1
        sentence = f"{self.document.place(path)}: {message}"
        if sentence not in self:
            self.append(sentence)

    def check(self) -> None:
        """Raise `UsageError` with one line a problem if there is any."""
        if self:
            raise UsageError("\n".join(self))


def merge(
    base: Mapping[str, Any],
    over: Mapping[str, Any],
    *,
    origins: dict[KeyPath, KeyPath],
    at: KeyPath = (),
    base_at: KeyPath | None = None,
    over_at: KeyPath | None = None,
) -> dict[str, Any]:
    """Return `base` with `over` on top: mappings merge, anything else replaces.

    Args:
        base: The lower mapping.
        over: The upper one.
        origins: Told where in the file each value stands that now stands elsewhere.
        at: Key path of the result.
        base_at: Key path of `base` in the file, if it is not `at`.
        over_at: Key path of `over` in the file, if it is not `at`.
    """
    merged = dict(base)
    if base_at is not None:
        origins.update({(*at, key): (*base_at, key) for key in base if key not in over})
    for key, value in over.items():
        below = base.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[key] = merge(
                below,
                value,
                origins=origins,
                at=(*at, key),
                base_at=None if base_at is None else (*base_at, key),
                over_at=None if over_at is None else (*over_at, key),
            )
        else:
            merged[key] = value
            if over_at is not None:
                origins[(*at, key)] = (*over_at, key)
    return merged


def load_document(path: Path, *, name: str | None = None) -> Document:
    """Read a YAML file.

    Args:
        path: The file.
        name: What messages call it; the path if omitted.

    Raises:
        UsageError: If it cannot be read, is not YAML, or is not a mapping at the top.
    """
    file = name or str(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{file} is larger than {_MAX_BYTES // 1_000_000} MB; no campaign is")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{file} does not exist; write one with: casemate init") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{file} cannot be read ({reason}); give a YAML file") from error
    return parse_document(text, file)


def parse_document(text: str, file: str) -> Document:
    """Return the document in a text; see `load_document`."""
    lines: dict[KeyPath, int] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise UsageError(f"{file} is empty; write one with: casemate init")
        _Walk(file, lines).visit(node, ())
        data = loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        if mark and "\t" in "".join(text.splitlines()[mark.line : mark.line + 1]):
            reason += "; indent with spaces, not with a tab"
        raise UsageError(f"{file}{line} is not valid YAML: {' '.join(reason.split())}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{file} is not valid YAML: {reason}") from error
    if not isinstance(data, dict):
        raise UsageError(
            f"{file} must be a mapping with the keys casemate, name, data, model and trials"
        )
    return Document(file=file, data=data, lines=lines, origins={})


class _Walk:
    """Notes the line of every value, and refuses what must not be in a campaign."""

    def __init__(self, file: str, lines: dict[KeyPath, int]) -> None:
        self.file = file
        self.lines = lines
        self.visited = 0  # also what merge keys and aliases lead to again
        self.above: set[int] = set()

    def visit(self, node: yaml.Node, path: KeyPath) -> None:
        """Walk over a node and all below it."""
        self.visited += 1
        if id(node) in self.above:
            raise self.refusal(node, "an anchor refers to itself; write the value out")
        if self.visited > _MAX_VALUES or len(self.above) > _MAX_DEPTH:
            raise self.refusal(node, "too many or too deeply nested values for a campaign")
        self.lines.setdefault(path, node.start_mark.line + 1)
        self.above.add(id(node))
        if node.tag not in _PLAIN_TAGS:
            raise self.refusal(
                node,
                f"{show_path(path)} is read as {node.tag.rpartition(':')[2]}; put text in quotes, "
                "and use plain mappings and lists",
            )
        if isinstance(node, yaml.SequenceNode):
            for i, item in enumerate(node.value):
                self.visit(item, (*path, i))
        elif isinstance(node, yaml.MappingNode):
            self.mapping(node, path)
        self.above.discard(id(node))

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> None:
        """Walk over the entries of a mapping, of which no two may have the same key."""
        seen: set[str] = set()
        for key, value in node.value:
            plain = key.tag in _PLAIN_TAGS or key.tag == _MERGE
            if not isinstance(key, yaml.ScalarNode) or not plain:
                raise self.refusal(key, "a key must be plain text")
            if key.value in seen:
                raise self.refusal(key, f"{show_path((*path, key.value))} is given twice; keep one")
            seen.add(key.value)
            if key.tag == _MERGE:
                self.visit(value, path)
                continue
            self.lines[(*path, key.value)] = key.start_mark.line + 1
            self.visit(value, (*path, key.value))

    def refusal(self, node: yaml.Node, sentence: str) -> UsageError:
        """Return the error that a node is refused with."""
        return UsageError(f"{self.file}, line {node.start_mark.line + 1}: {sentence}")
